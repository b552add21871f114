//! What the rest measures: latencies of operations, and counts.
//!
//! One [`Metrics`] is made at start and handed around in an [`Arc`](std::sync::Arc); there are no globals and no
//! macros. Whoever does something says so with one call. Whoever wants to know takes a [`Snapshot`], the one
//! source of every table, log line and exposition; snapshots of several processes can be merged.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use smtp_pool::metrics::{Metrics, Operation};
//!
//! let metrics = Arc::new(Metrics::new());
//! let server = metrics.server("mx.example.com");
//! server.record(Operation::Ehlo, Duration::from_millis(12));
//! server.record_many(Operation::Rcpt, Duration::from_millis(20), 100);
//! let snapshot = metrics.snapshot();
//! let rcpt = snapshot.latency(Operation::Rcpt).expect("there were some");
//! assert_eq!(rcpt.count, 100);
//! assert!(rcpt.p99 >= Duration::from_millis(20));
//! assert_eq!(snapshot.latency(Operation::Quit), None);
//! ```
//!
//! # Metrics
//!
//! What there is, as [`Snapshot::prometheus`] names it. Everything is kept by server, and so has the label `server`;
//! a [`Snapshot`] has it by server and in total.
//!
//! | metric | type | labels | meaning |
//! |---|---|---|---|
//! | `smtp_pool_connections` | gauge | `server`, `state` | connections that are `idle`, `active` or `connecting`, and callers that are `waiting` |
//! | `smtp_pool_max_connections` | gauge | `server` | how many connections there may be |
//! | `smtp_breaker_state` | gauge | `server`, `state` | 1 for the state that the breaker is in (`closed`, `half_open`, `open`), 0 for the others |
//! | `smtp_breaker_changes_total` | counter | `server`, `state` | changes of the breaker to a state |
//! | `smtp_connections_opened_total` | counter | `server` | connections that became ready for use |
//! | `smtp_connection_errors_total` | counter | `server`, `kind` | connections that did not, by what failed |
//! | `smtp_tls_handshakes_total` | counter | `server`, `kind` | TLS handshakes that were completed, `full` or `resumed` |
//! | `smtp_connections_closed_total` | counter | `server`, `reason` | connections that ended, by why |
//! | `smtp_connection_lifetime_seconds` | histogram | `server` | how long those existed |
//! | `smtp_checkout_wait_seconds` | histogram | `server` | how long callers waited for a connection, with 0 for those who did not |
//! | `smtp_checkout_errors_total` | counter | `server`, `kind` | callers who were given none, by why |
//! | `smtp_operation_duration_seconds` | histogram | `server`, `operation` | how long an [`Operation`] took to its answer, a refusal being one |
//! | `smtp_operation_errors_total` | counter | `server`, `operation`, `kind` | operations without an answer, by what happened instead |
//! | `smtp_retries_total` | counter | `server` | commands sent once more because a connection had gone stale |
//! | `smtp_health_check_results_total` | counter | `server`, `result` | health checks that found the server `healthy`, `unhealthy` or `unreachable` |
//! | `smtp_health_check_duration_seconds` | histogram | `server` | how long those took |
//! | `smtp_health_check_last_timestamp_seconds` | gauge | `server` | when the last one was, in seconds since 1970 |
//!
//! Times are in seconds there, and [`Duration`](std::time::Duration)s here. No label has unboundedly many values: the
//! servers beyond [a bound](Metrics::with_max_servers), and the kinds and reasons beyond 24 for each server, are `other`.
//!
//! # Precision and cost
//!
//! Latencies go into HDR histograms with two significant digits, from 1 µs to a day, so a quantile is within 1 % of the
//! truth, however long the tail. To record one takes a few nanoseconds and one atomic addition, in memory that the
//! thread shares with no other up to the eighth; there is no lock to wait for, and a snapshot that is being taken holds
//! nobody up. The memory of a histogram comes with its values, 1 KiB for each doubling that they cover.

mod counts;
mod gauges;
#[cfg(feature = "hdr-log")]
mod hdr_log;
mod health;
mod operation;
mod prometheus;
mod recorder;
mod registry;
mod server;
mod snapshot;

pub use gauges::{BreakerState, Gauges, PoolState, Sizes};
#[cfg(feature = "hdr-log")]
pub use hdr_log::HdrLog;
pub use health::HealthResult;
pub use operation::Operation;
pub use prometheus::Prometheus;
pub use registry::Metrics;
pub use server::ServerMetrics;
pub use snapshot::{Latency, ServerSnapshot, Snapshot};
