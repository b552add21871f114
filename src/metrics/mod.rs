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
//! Latencies go into HDR histograms with two significant digits, so a quantile is within 1 % of the truth, however
//! long the tail.

mod counts;
mod gauges;
#[cfg(feature = "hdr-log")]
mod hdr_log;
mod operation;
mod prometheus;
mod recorder;
mod registry;
mod server;
mod snapshot;

pub use gauges::{BreakerState, Gauges, PoolState, Sizes};
#[cfg(feature = "hdr-log")]
pub use hdr_log::HdrLog;
pub use operation::Operation;
pub use prometheus::Prometheus;
pub use registry::Metrics;
pub use server::{HealthResult, ServerMetrics};
pub use snapshot::{Latency, ServerSnapshot, Snapshot};
