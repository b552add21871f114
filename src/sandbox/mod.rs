//! A small world of mail servers on loopback: for dry runs, tests and benchmarks.
//!
//! A [`World`] says which MX hosts there are, how each of them behaves, and which domains and mailboxes they serve.
//! [`Sandbox::start`] brings it to life: one listening socket per host, speaking real SMTP. What an address *is*
//! ([`Sandbox::expected`]) and what a client *did* ([`Sandbox::stats`]) can be asked, so that a test compares
//! verdicts with the truth and proves that no limit was broken.
//!
//! ```toml
//! seed = 1                                  # decides everything that looks like chance
//!
//! [[host]]                                  # see HostConfig; every behaviour is one field
//! name = "mx.good.test"
//! latency = "5ms..20ms"                     # a delay, or a range to draw from
//! errors = { soft = 10, hard = 20, delay = "1s", junk = 100 }
//! faults = [{ at = "rcpt", nth = 3, does = "eof" }]
//!
//! [[domain]]                                # see DomainConfig
//! name = "good.test"
//! hosts = ["mx.good.test"]                  # in order of preference; left out: the first host
//! users = ["ann", "bob"]
//! ```
//!
//! A host or domain with `count` stands for many of them, numbered from 0 at the `{}` in the name, so that a world
//! of 1,000 hosts and 20,000 domains takes ten lines.
//!
//! Two runs of a world with the same dialogues give the same replies: chance is drawn from the seed, and the only
//! clock is tokio's, which tests may pause.
//!
//! | file | what it is |
//! |---|---|
//! | `world`, `host`, `fault`, `delay` | the description, as TOML or as values |
//! | `directory`, `greylist` | which mailboxes exist; who has been seen before |
//! | `server`, `tls`, `stats` | sockets, certificates, counters |
//! | `connection`, `wire` | one connection: octets, delays, faults |
//! | `session` | the SMTP server without I/O |

mod chance;
mod connection;
mod delay;
mod directory;
mod fault;
mod greylist;
mod host;
mod server;
mod session;
mod stats;
mod tls;
mod wire;
mod world;

#[cfg(test)]
mod tests;

pub use self::{
    delay::{Delay, DelayError},
    directory::Truth,
    fault::{Does, Fault, Stage},
    host::{Blocked, ErrorLimits, Extension, HostConfig, Tarpit},
    server::{Route, Sandbox},
    stats::HostStats,
    world::{DomainConfig, World, WorldError},
};
