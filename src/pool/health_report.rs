//! Results of health checks.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use thiserror::Error;

use super::OpenError;
use crate::metrics::BreakerState;

/// The result of a health check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// The server.
    pub server: Arc<str>,
    /// The result.
    pub outcome: Result<Checked, HealthError>,
    /// How long it took.
    pub took: Duration,
    /// When it ended.
    pub at: SystemTime,
}

/// How a check found a healthy server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checked {
    /// An idle connection answered. One that had enough NOOPs was open.
    Idle,
    /// A connection was opened.
    Fresh,
    /// All connections were in use.
    Busy,
}

/// A server is not healthy.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HealthError {
    /// No connection could be opened.
    #[error("cannot connect")]
    Open(#[source] Arc<OpenError>),
}

/// `smtp.example.com: ok in 1.2ms`
impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(_) => write!(f, "{}: ok in {:?}", self.server, self.took),
            Err(error) => write!(f, "{}: {error} after {:?}", self.server, self.took),
        }
    }
}

/// Whether a pool can be used: the answer of a readiness endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Whether the pool is open, no circuit breaker is open, and no server failed its last check. The first failed check
    /// makes it false. It is true before the first check.
    pub ready: bool,
    /// Each server that the pool knows, the [configured](super::Config::server) one from the start.
    pub servers: Vec<ServerHealth>,
}

/// Whether a server can be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerHealth {
    /// The server.
    pub server: Arc<str>,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Its last health check, if there was one.
    pub last: Option<HealthReport>,
}
