//! The servers, and what belongs to none.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Operation, PoolState, ServerMetrics, Snapshot, counts::OTHER};

/// Servers that are told apart, unless told otherwise.
const MAX_SERVERS: usize = 64;

/// Where everything is recorded; shared as `Arc<Metrics>`.
///
/// What belongs to a server is recorded in its [`ServerMetrics`], which whoever deals with the server looks up once.
/// Recording takes some nanoseconds and never blocks, not even while a snapshot is taken.
pub struct Metrics {
    since: SystemTime,
    max_servers: usize,
    servers: Mutex<BTreeMap<Arc<str>, Arc<ServerMetrics>>>,
    other: Arc<ServerMetrics>,
    unattributed: ServerMetrics,
}

impl Metrics {
    /// Metrics that tell 64 servers apart: see [`with_max_servers`](Self::with_max_servers).
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_servers(MAX_SERVERS)
    }

    /// Metrics that tell `max` servers apart, the first that come; all further ones are together the server `other`.
    ///
    /// A server has 5 KiB, and some 4 KiB more for each operation that happens, times the threads that record it, up
    /// to eight: 100 KiB is common with two threads. In Prometheus, a server has some 300 time series. So 64 of them,
    /// the default, are at home in the smallest process and the smallest Prometheus, and are more than any pool of
    /// submission servers has. A verifier meets more, and the sum over all of them is what counts there.
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

    /// Where to record about the server `name`. Takes a lock: whoever deals with a server keeps what this gives.
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

    /// Records that `operation`, of no server in particular, took `latency`, kept in µs.
    pub fn record(&self, operation: Operation, latency: Duration) {
        self.unattributed.record(operation, latency);
    }

    /// Counts a connection to `server` that did not become ready, by what failed: what
    /// [`ServerMetrics::connection_failed`] does, by name.
    pub fn record_connection_error(&self, server: &str, kind: &str) {
        self.server(server).connection_failed(kind);
    }

    /// Sets how many connections to `server`, or callers, are in `state`, in a pool of one's own. A pool of this crate
    /// is [watched](ServerMetrics::watch); its sizes are added.
    pub fn update_pool_size(&self, server: &str, state: PoolState, n: usize) {
        self.server(server).update_pool_size(state, n);
    }

    /// All that was recorded since the start, and the sizes of pools now.
    ///
    /// Whatever was recorded before the call is in it. What is recorded at the same time may be, so that one
    /// operation can be ahead of another by what went on in between.
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
