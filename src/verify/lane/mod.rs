//! A lane: the connections, queues and verdicts of one provider, or of one set of exchangers.

mod address_family;
mod catch_all;
mod connection_health;
mod control;
mod fence;
mod handle;
mod lag;
pub(super) mod lifetime;
mod mx_set;
mod next;
mod next_window;
mod peer;
mod pipeline;
mod pipeline_end;
mod question;
mod queue;
mod reachability;
mod reply_cache;
mod slow_server;
pub(super) mod state;
pub(super) mod status;
#[cfg(test)]
mod testing;
mod verdicts;
mod watchdog;
mod window;
mod withdrawal;
mod worker;

pub(super) use self::worker::run;
