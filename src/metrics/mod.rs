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
//! metrics.record(Operation::Ehlo, Duration::from_millis(12));
//! metrics.record_many(Operation::Rcpt, Duration::from_millis(20), 100);
//! let snapshot = metrics.snapshot();
//! let rcpt = snapshot.latency(Operation::Rcpt).expect("there were some");
//! assert_eq!(rcpt.count, 100);
//! assert!(rcpt.p99 >= Duration::from_millis(20));
//! assert_eq!(snapshot.latency(Operation::Quit), None);
//! ```
//!
//! Latencies go into HDR histograms with three significant digits, so a quantile is within 0.1 % of the truth,
//! however long the tail.

mod operation;
mod recorder;
mod registry;
mod snapshot;

pub use operation::Operation;
pub use registry::Metrics;
pub use snapshot::{Latency, Snapshot};
