//! Results of health checks, as labels.

/// What a look at a server's health found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HealthResult {
    /// It answers as it should.
    Healthy,
    /// It was reached, and did not answer as it should, or not in time.
    Unhealthy,
    /// No connection could be opened.
    Unreachable,
}

impl HealthResult {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Unhealthy, Self::Unreachable];

    /// The name in snake case, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
        }
    }
}
