//! Connections that are kept: opened when they are needed, lent, taken back, looked after.
//!
//! ```text
//!                        ┌── Pool ───────────────────────────────────────────────┐
//!  get("smtp.example") ─▶│ Server (one a Key): Slots = idle queue + line         │─▶ PooledConnection
//!        ▲               │    │ demand            ▲ connected                    │        │
//!        │ put back      │    └─▶ connect (detached, backoff, breaker)           │        │
//!        └───────────────│ maintenance: goodbyes, lifetimes, low water, min_idle │◀───────┘ drop
//!                        └───────────────────────────────────────────────────────┘
//! ```
//!
//! - [`Pool`] is what one holds, [`Pool::get`] what one calls; [`PooledConnection`] goes back when it is dropped.
//! - An uncontended checkout and return take no lock, make no system call and cost no round trip.
//! - Who has to wait is served in the order of coming, by whatever arrives first: a connection given back, or a new one.
//! - A connection that is not in step with its server is closed, never lent again.
//! - Failures to connect are repeated with growing pauses, told to those who wait if nothing else can come, and stop for
//!   a while when they go on ([`Config::breaker_failures`]).
//! - [`HealthManager`] asks the servers now and then.
//!
//! # From the original specification
//!
//! | there | here |
//! |---|---|
//! | `SMTPConnectionPoolAsync` | [`Pool`] |
//! | `SMTPConnectionPool` | [`blocking::Pool`](../blocking/struct.Pool.html) (feature `blocking`) |
//! | `get_connection` | [`Pool::get`] |
//! | `SMTP_CONFIG`, its six keys | [`Config`], with the same names and defaults |
//! | `HealthManager(check_interval).start()` | [`HealthManager::new`]`(&pool, check_interval)`[`.start()`](HealthManager::start) |
//! | `SMTPMetrics.record_connection_error` | [`Metrics::record_connection_error`](crate::metrics::Metrics::record_connection_error) |
//! | `SMTPMetrics.update_pool_size`, `SMTP_POOL_SIZE` | [`Metrics::update_pool_size`](crate::metrics::Metrics::update_pool_size); the pool's own sizes are there without it |
//! | `conn.verify_email` | [`Session::verify_email`](crate::client::Session::verify_email), [`Pool::verify_email`] |
//! | `SMTPException` | [`CheckoutError`], [`OperationError`], [`SessionError`](crate::client::SessionError) |
//!
//! # How large?
//!
//! A connection does one round trip at a time, or a window of pipelined commands: at 20 ms a round trip, ten
//! connections are 500 commands a second one by one. More connections than that to one server are more than most
//! postmasters like to see from one client; spread over servers, `max_total_connections` and the limit of open files
//! (`ulimit -n`) are what counts. If `smtp_pool_connections{state="waiting"}` is more than 0 for long, there are too few;
//! if `idle` never falls to 0, there are more than needed, and the pool closes them by itself.

mod breaker;
mod builder;
mod capacity;
mod checkout;
mod clock;
mod config;
mod connect;
mod environment;
mod error;
mod guard;
mod health;
mod health_report;
mod idle;
mod key;
mod leaks;
mod maintenance;
mod normal;
#[cfg(feature = "verify")]
mod open;
mod operations;
#[expect(clippy::module_inception, reason = "the layer is named for the type that it is about")]
mod pool;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod registry;
mod route;
mod server;
mod server_map;
mod shared;
mod slots;
mod sync;
mod todos;
mod wait_queue;

pub use self::{
    builder::Builder,
    config::{Config, ConfigError},
    error::{BuildError, CheckoutError, CheckoutStage, ConnectionLimit, Exhausted, Holder, OpenError},
    guard::PooledConnection,
    health::{HealthHandle, HealthManager},
    health_report::{Checked, Health, HealthError, HealthReport, ServerHealth},
    key::{InvalidServer, Key, ToKey},
    operations::{Delivery, Envelope, OperationError, Verification},
    pool::{Pool, PoolStatus},
    route::{Route, RouteFuture},
};

#[cfg(test)]
mod tests;
