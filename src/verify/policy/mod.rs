//! Decides how much a server may be asked, and when no more. There is no I/O here, and nothing that depends on a lane.

pub(super) mod breaker;
pub(super) mod concurrency;
pub(super) mod deadlines;
pub(super) mod harvest_defence;
pub(super) mod provider;
pub(super) mod rate_limit;
mod refusal_run;
pub(super) mod rejection_budget;
pub(super) mod rejection_rate;
