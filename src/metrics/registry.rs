use std::{
    array,
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Operation, Snapshot, recorder::Recorder};

/// Where everything is recorded; shared as `Arc<Metrics>`.
///
/// Recording a latency takes some ten nanoseconds and never blocks, not even while a snapshot is taken.
pub struct Metrics {
    latencies: [Recorder; Operation::ALL.len()],
    connections_opened: AtomicU64,
    /// By kind. A lock will do: a connection fails after far more work than this.
    connections_failed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    /// Empty metrics. The memory of a histogram is allocated when the first value of its operation is recorded.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latencies: array::from_fn(|_| Recorder::new()),
            connections_opened: AtomicU64::new(0),
            connections_failed: Mutex::default(),
        }
    }

    /// Records that `operation` took `latency`, kept in µs.
    pub fn record(&self, operation: Operation, latency: Duration) {
        self.record_many(operation, latency, 1);
    }

    /// Records that each of `count` operations took `latency`, as the replies to one pipelined flight do.
    pub fn record_many(&self, operation: Operation, latency: Duration, count: u64) {
        if count > 0 {
            self.latencies[operation as usize].record(latency, count);
        }
    }

    /// Counts a connection that is ready for use.
    pub fn connection_opened(&self) {
        self.connections_opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that did not become ready, by what failed; a short list of kinds makes a good label.
    pub fn connection_failed(&self, kind: &'static str) {
        let mut failed = self.connections_failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed.entry(kind).or_default() += 1;
    }

    /// All that was recorded since the start.
    ///
    /// Whatever was recorded before the call is in it. What is recorded at the same time may be, so that one
    /// operation can be ahead of another by what went on in between.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            latencies: array::from_fn(|operation| self.latencies[operation].total()),
            connections_opened: self.connections_opened.load(Ordering::Relaxed),
            connections_failed: self
                .connections_failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
