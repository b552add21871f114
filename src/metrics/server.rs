//! The metrics of one server.

use std::{
    array, fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    BreakerState, Gauges, HealthResult, Operation, PoolState, ServerSnapshot, Sizes, counts::Counts,
    gauges::GaugeSources, recorder::Recorder,
};

/// The metrics of one server; from [`Metrics::server`](super::Metrics::server).
///
/// Every method except [`watch`](Self::watch) takes some nanoseconds and never blocks, not even while a snapshot is
/// taken. A kind or a reason becomes a label value, so use a short fixed list. Beyond 24 of them, the rest is counted
/// as `other`.
///
/// ```
/// use std::time::Duration;
/// use smtp_pool::metrics::{Metrics, Operation};
///
/// let metrics = Metrics::new();
/// let server = metrics.server("mx.example.com");
/// server.connection_opened();
/// server.record(Operation::Ehlo, Duration::from_millis(12));
/// server.connection_closed(Duration::from_secs(90), "idle_timeout");
/// let snapshot = metrics.snapshot();
/// let seen = snapshot.server("mx.example.com").expect("something was recorded");
/// assert_eq!(seen.connections_closed["idle_timeout"], 1);
/// assert_eq!(seen.lifetime().expect("one has ended").count, 1);
/// ```
pub struct ServerMetrics {
    name: Arc<str>,
    operations: [Recorder; Operation::ALL.len()],
    operation_errors: [Counts; Operation::ALL.len()],
    opened: AtomicU64,
    errors: Counts,
    tls_handshakes: Counts,
    lifetime: Recorder,
    closed: Counts,
    checkout_wait: Recorder,
    checkout_errors: Counts,
    retries: AtomicU64,
    breaker_changes: [AtomicU64; BreakerState::ALL.len()],
    health_results: [AtomicU64; HealthResult::ALL.len()],
    health_check_duration: Recorder,
    /// In seconds since 1970; 0 means never.
    health_last: AtomicU64,
    /// The sizes set by [`update_pool_size`](super::Metrics::update_pool_size), by [`PoolState`].
    set: [AtomicUsize; PoolState::ALL.len()],
    /// True once a size was set.
    was_set: AtomicBool,
    watch: GaugeSources,
}

impl ServerMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            operations: array::from_fn(|_| Recorder::default()),
            operation_errors: array::from_fn(|_| Counts::default()),
            opened: AtomicU64::default(),
            errors: Counts::default(),
            tls_handshakes: Counts::default(),
            lifetime: Recorder::default(),
            closed: Counts::default(),
            checkout_wait: Recorder::default(),
            checkout_errors: Counts::default(),
            retries: AtomicU64::default(),
            breaker_changes: Default::default(),
            health_results: Default::default(),
            health_check_duration: Recorder::default(),
            health_last: AtomicU64::default(),
            set: Default::default(),
            was_set: AtomicBool::default(),
            watch: GaugeSources::default(),
        }
    }

    /// Returns the name of the server, or `other` beyond the bound.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Records that `operation` took `latency`, in µs.
    pub fn record(&self, operation: Operation, latency: Duration) {
        self.operations[operation as usize].record(latency, 1);
    }

    /// Records that each of `count` operations took `latency`, such as the replies to one pipelined group.
    pub fn record_many(&self, operation: Operation, latency: Duration, count: u64) {
        if count > 0 {
            self.operations[operation as usize].record(latency, count);
        }
    }

    /// Counts an operation without an answer, by kind of failure. A refusal is an answer.
    pub fn operation_failed(&self, operation: Operation, kind: &str) {
        self.operation_errors[operation as usize].add(kind);
    }

    /// Counts a connection that is ready for use.
    pub fn connection_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that did not become ready, by kind of failure.
    pub fn connection_failed(&self, kind: &str) {
        self.errors.add(kind);
    }

    /// Counts a completed TLS handshake: full, or `resumed` from an earlier session.
    pub fn tls_handshake(&self, resumed: bool) {
        self.tls_handshakes.add(if resumed { "resumed" } else { "full" });
    }

    /// Records how long a connection existed and why it ended.
    pub fn connection_closed(&self, lifetime: Duration, reason: &str) {
        self.lifetime.record(lifetime, 1);
        self.closed.add(reason);
    }

    /// Records how long a caller waited for a connection; zero if one was idle.
    pub fn checkout(&self, wait: Duration) {
        self.checkout_wait.record(wait, 1);
    }

    /// Counts a caller that got no connection, by reason.
    pub fn checkout_failed(&self, kind: &str) {
        self.checkout_errors.add(kind);
    }

    /// Records the result, the duration and the time of a health check.
    pub fn health_check(&self, result: HealthResult, took: Duration) {
        self.health_results[result as usize].fetch_add(1, Ordering::Relaxed);
        self.health_check_duration.record(took, 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.health_last.fetch_max(now.as_secs(), Ordering::Relaxed);
    }

    /// Counts a command that was sent again on another connection, because the first one was stale.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a change of a breaker to `state`. Its current state comes from [`Sizes::breaker`].
    pub fn breaker(&self, state: BreakerState) {
        self.breaker_changes[state as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a pool whose sizes each snapshot reads, as long as it exists. Several pools add up. Takes a lock that
    /// snapshots also take.
    pub fn watch(&self, source: Weak<dyn Gauges>) {
        self.watch.add(source);
    }

    pub(super) fn update_pool_size(&self, state: PoolState, n: usize) {
        self.set[state as usize].store(n, Ordering::Relaxed);
        self.was_set.store(true, Ordering::Release);
    }

    pub(super) fn snapshot(&self) -> ServerSnapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let health_last = count(&self.health_last);
        let mut operation_errors = Vec::new();
        for operation in Operation::ALL {
            let errors = self.operation_errors[operation as usize].total();
            operation_errors.extend(errors.into_iter().map(|(kind, count)| ((operation, kind), count)));
        }
        ServerSnapshot {
            sizes: self.sizes(),
            connections_opened: count(&self.opened),
            connection_errors: self.errors.total(),
            tls_handshakes: self.tls_handshakes.total(),
            connections_closed: self.closed.total(),
            checkout_errors: self.checkout_errors.total(),
            operation_errors: operation_errors.into_iter().collect(),
            retries: count(&self.retries),
            breaker_changes: self.breaker_changes.each_ref().map(count),
            health_results: self.health_results.each_ref().map(count),
            health_last: (health_last > 0).then(|| UNIX_EPOCH + Duration::from_secs(health_last)),
            operations: self.operations.each_ref().map(Recorder::total),
            lifetime: self.lifetime.total(),
            checkout_wait: self.checkout_wait.total(),
            health_check_duration: self.health_check_duration.total(),
        }
    }

    /// Returns the sum of watched and set sizes.
    fn sizes(&self) -> Option<Sizes> {
        let mut sizes = self.watch.sizes();
        if self.was_set.load(Ordering::Acquire) {
            let [idle, active, connecting, waiting] =
                PoolState::ALL.map(|state| self.set[state as usize].load(Ordering::Relaxed));
            let set = Sizes { idle, active, connecting, waiting, ..Sizes::default() };
            sizes.get_or_insert_default().merge(&set);
        }
        sizes
    }
}

impl fmt::Debug for ServerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetrics").field("name", &self.name).finish_non_exhaustive()
    }
}
