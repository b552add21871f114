//! The registry of servers, and the values without a server.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Operation, PoolState, ServerMetrics, Snapshot, counts::OTHER};

/// The default number of servers with their own metrics.
const MAX_SERVERS: usize = 64;

/// The registry of all metrics; shared as `Arc<Metrics>`.
///
/// Values of a server are recorded in its [`ServerMetrics`]. Look it up once for each server. Recording takes some
/// nanoseconds and never blocks, not even while a snapshot is taken.
pub struct Metrics {
    since: SystemTime,
    max_servers: usize,
    servers: Mutex<BTreeMap<Arc<str>, Arc<ServerMetrics>>>,
    other: Arc<ServerMetrics>,
    unattributed: ServerMetrics,
}

impl Metrics {
    /// Creates metrics for 64 separate servers: see [`with_max_servers`](Self::with_max_servers).
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_servers(MAX_SERVERS)
    }

    /// Creates metrics for `max` separate servers, the first that appear. All further ones together are the server
    /// `other`.
    ///
    /// A server takes 5 KiB, and about 4 KiB more for each operation that happens, for each of up to eight threads.
    /// 100 KiB is common with two threads. In Prometheus, a server has about 300 time series. The default of 64 fits
    /// the smallest process and the smallest Prometheus. It is more than any pool of submission servers has. A
    /// verifier meets more servers, and there the sum over all of them matters.
    #[must_use]
    pub fn with_max_servers(max: usize) -> Self {
        Self {
            since: SystemTime::now(),
            max_servers: max,
            servers: Mutex::default(),
            other: Arc::new(ServerMetrics::new(OTHER.into())),
            unattributed: ServerMetrics::new("".into()),
        }
    }

    /// Returns the metrics of the server `name`. Takes a lock, so store the result.
    #[must_use]
    pub fn server(&self, name: &str) -> Arc<ServerMetrics> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(name) {
            return Arc::clone(server);
        }
        if servers.len() >= self.max_servers || name == OTHER {
            return Arc::clone(&self.other);
        }
        let name: Arc<str> = name.into();
        let server = Arc::new(ServerMetrics::new(Arc::clone(&name)));
        servers.insert(name, Arc::clone(&server));
        server
    }

    /// Records that `operation` took `latency`, without a server, in µs.
    pub fn record(&self, operation: Operation, latency: Duration) {
        self.unattributed.record(operation, latency);
    }

    /// Counts a connection to `server` that did not become ready, by kind of failure. It is
    /// [`ServerMetrics::connection_failed`] by name.
    pub fn record_connection_error(&self, server: &str, kind: &str) {
        self.server(server).connection_failed(kind);
    }

    /// Sets the number of connections to `server`, or callers, in `state`, for a pool outside of this crate. The
    /// sizes of this crate's pools are [watched](ServerMetrics::watch) and added.
    pub fn update_pool_size(&self, server: &str, state: PoolState, n: usize) {
        self.server(server).update_pool_size(state, n);
    }

    /// Returns everything recorded since the start, and the current sizes of pools.
    ///
    /// It contains everything recorded before the call. It may contain values recorded during the call, so one
    /// operation may be slightly ahead of another.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let servers: Vec<_> = {
            let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.values().chain([&self.other]).cloned().collect()
        };
        let mut snapshot = Snapshot::new(self.since, SystemTime::now(), self.unattributed.snapshot());
        for server in servers {
            snapshot.add(server.name(), &server.snapshot());
        }
        snapshot
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

#[cfg(test)]
mod tests;
