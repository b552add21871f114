//! A pool of connections: it opens them on demand, lends them, takes them back and checks them.
//!
//! ```text
//!                        ┌── Pool ───────────────────────────────────────────────┐
//!  get("smtp.example") ─▶│ Server (one a Key): Slots = idle queue + waiters      │─▶ PooledConnection
//!        ▲               │    │ demand            ▲ connected                    │        │
//!        │ put back      │    └─▶ connect (detached, backoff, breaker)           │        │
//!        └───────────────│ maintenance: QUIT, lifetimes, low water, min_idle     │◀───────┘ drop
//!                        └───────────────────────────────────────────────────────┘
//! ```
//!
//! - [`Pool`] is the handle, and [`Pool::get`] the checkout. A [`PooledConnection`] goes back when it is dropped.
//! - An uncontended checkout and return take no lock, make no system call and cost no round trip.
//! - Waiting callers are served in the order of arrival, with the first connection that is given back or opened.
//! - A connection that is not in step with its server is closed, never lent again.
//! - Failed attempts to connect are repeated with growing pauses. Waiting callers get the error if no connection is left
//!   to wait for. After several failures in a row, attempts stop for a while ([`Config::breaker_failures`]).
//! - [`Hooks`] see each connection when it is opened, lent and closed. [`PooledConnection::detach`] takes one out.
//! - [`HealthManager`] checks the servers at intervals.
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
//! | `SMTPMetrics.update_pool_size` | [`Metrics::update_pool_size`](crate::metrics::Metrics::update_pool_size); the pool's own sizes are there without it |
//! | `SMTP_POOL_SIZE.labels(server, state)` | the metric `smtp_pool_connections{server, state}` |
//! | `conn.verify_email` | [`Session::verify_email`](crate::client::Session::verify_email), [`Pool::verify_email`] |
//! | `SMTPException` | [`CheckoutError`], [`OperationError`], [`SessionError`](crate::client::SessionError) |
//!
//! # How large?
//!
//! A connection does one round trip at a time, or one window of pipelined commands. At 20 ms, ten connections do 500
//! single commands a second. Few postmasters accept more connections from one client. With many servers, the limits are
//! `max_total_connections` and the limit of open files (`ulimit -n`).
//!
//! If `smtp_pool_connections{state="waiting"}` stays above 0, there are too few. If `idle` never falls to 0, there are
//! more than needed, and the pool closes them.

mod breaker;
mod builder;
mod capacity;
mod checkout;
mod checkout_rate;
mod clock;
mod config;
mod connect;
mod envelope;
mod environment;
mod error;
mod guard;
mod health;
mod health_report;
mod hooks;
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
#[cfg(feature = "tower")]
mod tower;
mod wait_queue;

pub use crate::client::Verification;

pub use self::{
    builder::Builder,
    config::{Config, ConfigError},
    envelope::{Delivery, Envelope, NoRecipients, SendError},
    error::{
        BuildError, CheckoutError, CheckoutStage, ConnectionLimit, Exhausted, Holder, OpenError,
        OperationError,
    },
    guard::PooledConnection,
    health::{HealthHandle, HealthManager},
    health_report::{Checked, Health, HealthError, HealthReport, ServerHealth},
    hooks::{ClosedConnection, HookError, HookFuture, Hooks},
    key::{InvalidServer, Key, ToKey},
    pool::{Pool, PoolStatus},
    route::{Route, RouteFuture},
};

#[cfg(test)]
mod tests;
