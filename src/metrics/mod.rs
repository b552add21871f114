//! The metrics of all layers: latencies of operations, and counts.
//!
//! One [`Metrics`] is made at start and passed on in an [`Arc`](std::sync::Arc); there are no globals and no macros.
//! Each event is recorded with one call. A [`Snapshot`] is the only source of tables, log lines and exposition.
//! Snapshots of several processes can be merged.
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
//! The names are those of [`Snapshot::prometheus`]. Everything is recorded by server, and has the label `server`. A
//! [`Snapshot`] has it by server and in total.
//!
//! | metric | type | labels | meaning |
//! |---|---|---|---|
//! | `smtp_pool_connections` | gauge | `server`, `state` | connections that are `idle`, `active` or `connecting`, and callers that are `waiting` |
//! | `smtp_pool_max_connections` | gauge | `server` | the most connections allowed |
//! | `smtp_breaker_state` | gauge | `server`, `state` | 1 for the state that the breaker is in (`closed`, `half_open`, `open`), 0 for the others |
//! | `smtp_breaker_changes_total` | counter | `server`, `state` | changes of the breaker to a state |
//! | `smtp_connections_opened_total` | counter | `server` | connections that became ready for use |
//! | `smtp_connection_errors_total` | counter | `server`, `kind` | connections that did not become ready, by kind of failure |
//! | `smtp_tls_handshakes_total` | counter | `server`, `kind` | completed TLS handshakes, `full` or `resumed` |
//! | `smtp_connections_closed_total` | counter | `server`, `reason` | connections that ended, by reason |
//! | `smtp_connection_lifetime_seconds` | histogram | `server` | lifetime of those connections |
//! | `smtp_checkout_wait_seconds` | histogram | `server` | how long callers waited for a connection, 0 if one was idle |
//! | `smtp_checkout_errors_total` | counter | `server`, `kind` | callers that got none, by reason |
//! | `smtp_operation_duration_seconds` | histogram | `server`, `operation` | time from an [`Operation`] to its answer; a refusal is an answer |
//! | `smtp_operation_errors_total` | counter | `server`, `operation`, `kind` | operations without an answer, by kind of failure |
//! | `smtp_retries_total` | counter | `server` | commands sent again because a connection was stale |
//! | `smtp_health_check_results_total` | counter | `server`, `result` | health checks that found the server `healthy`, `unhealthy` or `unreachable` |
//! | `smtp_health_check_duration_seconds` | histogram | `server` | duration of the health checks |
//! | `smtp_health_check_last_timestamp_seconds` | gauge | `server` | time of the last health check, in seconds since 1970 |
//!
//! Times are in seconds there, and [`Duration`](std::time::Duration)s here. The number of label values is bounded.
//! Servers beyond [a bound](Metrics::with_max_servers) are `other`, and so are kinds and reasons beyond 24 for each
//! server.
//!
//! # Precision and cost
//!
//! Latencies are stored in HDR histograms with two significant digits, from 1 µs to a day. So a quantile is within 1
//! % of the true value, even in a long tail. Recording takes a few nanoseconds and one atomic addition. Each of the
//! first eight threads has its own memory. Recording takes no lock and does not wait for a snapshot. A histogram
//! takes 1 KiB for each doubling that its values cover.
//!
//! # Files
//!
//! `registry` ([`Metrics`]) ▶ `server` ([`ServerMetrics`]) ▶ `recorder` (histograms), `counts`, `gauges`, `health`;
//! `snapshot` ▶ `prometheus`, `hdr_log`; `operation` names the operations.

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
