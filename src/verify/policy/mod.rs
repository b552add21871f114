//! How much may be asked of a server, and when no more: decisions without I/O that know no lane.

pub(super) mod breaker;
pub(super) mod concurrency;
pub(super) mod deadlines;
pub(super) mod harvest_defence;
pub(super) mod provider;
pub(super) mod rate_limit;
mod refusal_run;
pub(super) mod rejection_budget;
pub(super) mod rejection_rate;
