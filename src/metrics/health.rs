//! Results of health checks, as labels.

/// The result of a health check of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HealthResult {
    /// The server gave the expected reply.
    Healthy,
    /// The server was reached, but gave another reply, or none in time.
    Unhealthy,
    /// No connection could be opened.
    Unreachable,
}

impl HealthResult {
    /// All results.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Unhealthy, Self::Unreachable];

    /// Returns the name in snake case, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
        }
    }
}
