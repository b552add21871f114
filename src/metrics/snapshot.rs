//! The metrics at one point in time, by server and in total.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

use super::{BreakerState, HealthResult, Operation, Sizes, recorder};

/// The latencies of an operation, within 1 %, in whole microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// The number of values.
    pub count: u64,
    /// The arithmetic mean.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// The 90 % quantile.
    pub p90: Duration,
    /// The 99 % quantile.
    pub p99: Duration,
    /// The 99.9 % quantile.
    pub p999: Duration,
    /// The maximum.
    pub max: Duration,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let quantile = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean: Duration::from_secs_f64(histogram.mean() / 1e6),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

/// The metrics of one server, or of several together.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ServerSnapshot {
    /// The current sizes of its pools; `None` if it has none.
    pub sizes: Option<Sizes>,
    /// Connections that became ready for use.
    pub connections_opened: u64,
    /// Connections that did not become ready, by kind of failure.
    pub connection_errors: BTreeMap<Box<str>, u64>,
    /// Completed TLS handshakes, by `full` and `resumed`.
    pub tls_handshakes: BTreeMap<Box<str>, u64>,
    /// Connections that ended, by reason.
    pub connections_closed: BTreeMap<Box<str>, u64>,
    /// Callers that got no connection, by reason.
    pub checkout_errors: BTreeMap<Box<str>, u64>,
    /// Operations without an answer, by kind of failure.
    pub operation_errors: BTreeMap<(Operation, Box<str>), u64>,
    /// Commands sent again because a connection was stale.
    pub retries: u64,
    /// The time of the last health check, in whole seconds.
    pub health_last: Option<SystemTime>,
    pub(super) breaker_changes: [u64; BreakerState::ALL.len()],
    pub(super) health_results: [u64; HealthResult::ALL.len()],
    pub(super) operations: [Option<Histogram<u64>>; Operation::ALL.len()],
    pub(super) lifetime: Option<Histogram<u64>>,
    pub(super) checkout_wait: Option<Histogram<u64>>,
    pub(super) health_check_duration: Option<Histogram<u64>>,
}

impl ServerSnapshot {
    /// Returns the latencies of `operation`; `None` if it never happened.
    #[must_use]
    pub fn latency(&self, operation: Operation) -> Option<Latency> {
        self.operations[operation as usize].as_ref().map(Latency::from)
    }

    /// Returns the latencies of the operations that happened, in the order of a session.
    pub fn latencies(&self) -> impl Iterator<Item = (Operation, Latency)> + '_ {
        Operation::ALL.into_iter().filter_map(|operation| Some((operation, self.latency(operation)?)))
    }

    /// Returns the lifetimes of the connections that have ended.
    #[must_use]
    pub fn lifetime(&self) -> Option<Latency> {
        self.lifetime.as_ref().map(Latency::from)
    }

    /// Returns how long callers waited for a connection, 0 if one was idle.
    #[must_use]
    pub fn checkout_wait(&self) -> Option<Latency> {
        self.checkout_wait.as_ref().map(Latency::from)
    }

    /// Returns the number of health checks with this result.
    #[must_use]
    pub fn health_checks(&self, result: HealthResult) -> u64 {
        self.health_results[result as usize]
    }

    /// Returns the durations of health checks.
    #[must_use]
    pub fn health_check_duration(&self) -> Option<Latency> {
        self.health_check_duration.as_ref().map(Latency::from)
    }

    /// Returns how often a breaker changed to `state`.
    #[must_use]
    pub fn breaker_changes(&self, state: BreakerState) -> u64 {
        self.breaker_changes[state as usize]
    }

    /// Adds the values of `other`, as if all had been recorded for one server.
    pub fn merge(&mut self, other: &Self) {
        if let Some(sizes) = &other.sizes {
            self.sizes.get_or_insert_default().merge(sizes);
        }
        self.connections_opened += other.connections_opened;
        add_up(&mut self.connection_errors, &other.connection_errors);
        add_up(&mut self.tls_handshakes, &other.tls_handshakes);
        add_up(&mut self.connections_closed, &other.connections_closed);
        add_up(&mut self.checkout_errors, &other.checkout_errors);
        add_up(&mut self.operation_errors, &other.operation_errors);
        self.retries += other.retries;
        self.health_last = self.health_last.max(other.health_last);
        let counts = self.breaker_changes.iter_mut().chain(&mut self.health_results);
        for (total, more) in counts.zip(other.breaker_changes.iter().chain(&other.health_results)) {
            *total += more;
        }
        for (total, more) in self.histograms_mut().zip(other.histograms()) {
            recorder::merge(total, more);
        }
    }

    /// Returns the histogram of `operation`, for a job that stores it.
    #[cfg(feature = "job")]
    pub(crate) fn histogram(&self, operation: Operation) -> Option<&Histogram<u64>> {
        self.operations[operation as usize].as_ref()
    }

    pub(super) fn histograms(&self) -> impl Iterator<Item = &Option<Histogram<u64>>> {
        self.operations.iter().chain([&self.lifetime, &self.checkout_wait, &self.health_check_duration])
    }

    fn histograms_mut(&mut self) -> impl Iterator<Item = &mut Option<Histogram<u64>>> {
        self.operations.iter_mut().chain([
            &mut self.lifetime,
            &mut self.checkout_wait,
            &mut self.health_check_duration,
        ])
    }

    /// Returns true if nothing was recorded.
    fn is_empty(&self) -> bool {
        let counts = self.breaker_changes.iter().chain(&self.health_results);
        self.sizes.is_none()
            && self.connections_opened + self.retries + counts.sum::<u64>() == 0
            && self.connection_errors.is_empty()
            && self.tls_handshakes.is_empty()
            && self.connections_closed.is_empty()
            && self.checkout_errors.is_empty()
            && self.operation_errors.is_empty()
            && self.histograms().all(Option::is_none)
    }
}

fn add_up<K: Ord + Clone>(total: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (kind, count) in more {
        *total.entry(kind.clone()).or_default() += count;
    }
}

/// Writes one line for a log.
impl fmt::Display for ServerSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = self.checkout_wait();
        write!(
            f,
            "{} checkouts={} wait_p99={:?} opened={} errors={} closed={} retries={}",
            self.sizes.unwrap_or_default(),
            wait.map_or(0, |wait| wait.count),
            wait.map_or(Duration::ZERO, |wait| wait.p99),
            self.connections_opened,
            self.connection_errors.values().sum::<u64>(),
            self.connections_closed.values().sum::<u64>(),
            self.retries,
        )
    }
}

impl fmt::Debug for ServerSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSnapshot")
            .field("sizes", &self.sizes)
            .field("latencies", &self.latencies().collect::<Vec<_>>())
            .field("connections_opened", &self.connections_opened)
            .field("connection_errors", &self.connection_errors)
            .finish_non_exhaustive()
    }
}

/// The content of [`Metrics`](super::Metrics) at one point in time. It holds the histograms, so that merged snapshots
/// give the quantiles of all values. An average of quantiles would not. `Display` writes one line for a log:
///
/// ```
/// use smtp_pool::metrics::{Metrics, PoolState};
/// let metrics = Metrics::new();
/// metrics.update_pool_size("smtp.example.com", PoolState::Active, 5);
/// metrics.server("smtp.example.com").connection_opened();
/// assert_eq!(
///     metrics.snapshot().to_string(),
///     "active=5 idle=0 connecting=0 waiting=0 max=0 breaker=closed \
///      checkouts=0 wait_p99=0ns opened=1 errors=0 closed=0 retries=0 servers=1",
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
    servers: BTreeMap<Arc<str>, ServerSnapshot>,
    /// Values without a server.
    pub(super) unattributed: ServerSnapshot,
    total: ServerSnapshot,
}

impl Default for Snapshot {
    /// Returns an empty snapshot, which can be merged with any other.
    fn default() -> Self {
        Self::new(SystemTime::now(), UNIX_EPOCH, ServerSnapshot::default())
    }
}

impl Snapshot {
    pub(super) fn new(since: SystemTime, until: SystemTime, unattributed: ServerSnapshot) -> Self {
        Self { since, until, servers: BTreeMap::new(), total: unattributed.clone(), unattributed }
    }

    /// Adds a server, unless nothing was recorded for it.
    pub(super) fn add(&mut self, name: &Arc<str>, server: &ServerSnapshot) {
        if !server.is_empty() {
            self.total.merge(server);
            self.servers.entry(Arc::clone(name)).or_default().merge(server);
        }
    }

    /// Returns the sum of all servers and of the values without one.
    #[must_use]
    pub fn total(&self) -> &ServerSnapshot {
        &self.total
    }

    /// Returns the metrics of one server; `None` if nothing was recorded for it.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&ServerSnapshot> {
        self.servers.get(name)
    }

    /// Returns the servers by name; those beyond the bound are `other`.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &ServerSnapshot)> + Clone {
        self.servers.iter().map(|(name, server)| (&**name, server))
    }

    /// Returns the latencies of `operation` over all servers; `None` if it never happened.
    #[must_use]
    pub fn latency(&self, operation: Operation) -> Option<Latency> {
        self.total.latency(operation)
    }

    /// Returns the latencies of the operations that happened, in the order of a session.
    pub fn latencies(&self) -> impl Iterator<Item = (Operation, Latency)> + '_ {
        self.total.latencies()
    }

    /// Returns the number of connections that became ready for use.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.total.connections_opened
    }

    /// Returns the number of connections that did not become ready, by kind of failure.
    #[must_use]
    pub fn connections_failed(&self) -> &BTreeMap<Box<str>, u64> {
        &self.total.connection_errors
    }

    /// Adds the values of `other`, as if all had been recorded together.
    pub fn merge(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.unattributed.merge(&other.unattributed);
        self.total.merge(&other.unattributed);
        for (name, server) in &other.servers {
            self.add(name, server);
        }
    }
}

/// Writes one line for a log.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} servers={}", self.total, self.servers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_flight_counts_each_reply() {
        let metrics = Metrics::new();
        let server = metrics.server("mx.example.com");
        server.record_many(Operation::Rcpt, 20 * MS, 99);
        server.record(Operation::Rcpt, 80 * MS);
        server.record_many(Operation::Mail, MS, 0);
        let snapshot = metrics.snapshot();
        assert_eq!(
            snapshot.latencies().map(|(operation, _)| operation).collect::<Vec<_>>(),
            [Operation::Rcpt]
        );
        let rcpt = snapshot.latency(Operation::Rcpt).unwrap();
        assert_eq!(rcpt.count, 100);
        let near = |found: Duration, truth: Duration| found.abs_diff(truth) <= truth / 100;
        assert!(near(rcpt.p50, 20 * MS) && near(rcpt.p99, 20 * MS), "{rcpt:?}");
        assert!(near(rcpt.p999, 80 * MS) && near(rcpt.max, 80 * MS), "{rcpt:?}");
        assert!(near(rcpt.mean, Duration::from_micros(20_600)), "{rcpt:?}");
    }

    #[test]
    fn merged_is_as_recorded_together() {
        let (one, other, both) = (Metrics::new(), Metrics::new(), Metrics::new());
        for step in 1..=1_000 {
            let metrics = if step % 3 == 0 { &one } else { &other };
            let server = ["a", "b"][step as usize % 2];
            metrics.server(server).record(Operation::Tls, step * MS);
            both.server(server).record(Operation::Tls, step * MS);
        }
        other.record(Operation::Dns, MS);
        both.record(Operation::Dns, MS);
        for metrics in [&one, &both] {
            metrics.server("a").connection_opened();
            metrics.server("b").connection_failed("refused");
            metrics.server("b").tls_handshake(true);
            metrics.server("b").health_check(HealthResult::Unhealthy, MS);
        }
        for metrics in [&other, &both] {
            metrics.record_connection_error("b", "refused");
            metrics.server("c").connection_failed("tls");
            metrics.server("c").operation_failed(Operation::Tls, "timed_out");
            metrics.server("c").breaker(BreakerState::Open);
            metrics.server("c").tls_handshake(false);
            metrics.server("b").tls_handshake(true);
        }

        let mut merged = one.snapshot();
        merged.merge(&other.snapshot());
        let both = both.snapshot();
        let names =
            |snapshot: &Snapshot| snapshot.servers().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&merged), ["a", "b", "c"]);
        assert_eq!(names(&merged), names(&both));
        for name in ["a", "b", "c"] {
            let (merged, both) = (merged.server(name).unwrap(), both.server(name).unwrap());
            assert!(merged.histograms().eq(both.histograms()), "{name}");
        }
        let (merged, both) = (merged.total(), both.total());
        assert!(merged.histograms().eq(both.histograms()));
        assert_eq!(merged.connections_opened, 1);
        assert_eq!(merged.connection_errors, both.connection_errors);
        assert_eq!(merged.connection_errors["refused"], 2);
        assert_eq!(merged.tls_handshakes, both.tls_handshakes);
        assert_eq!((merged.tls_handshakes["full"], merged.tls_handshakes["resumed"]), (1, 2));
        assert_eq!(merged.operation_errors, both.operation_errors);
        assert_eq!(
            (merged.health_results, merged.breaker_changes),
            (both.health_results, both.breaker_changes)
        );
    }
}
