//! Reports slow hosts, and gives them up once their lag exceeds the limit.

use std::time::Duration;

use tokio::time::Instant;

use super::state::LaneInner;
use crate::verify::{SubStatus, outcome::Outcome};

impl LaneInner {
    /// Records that the lane has a permit for a connection. Returns whether the connection is still of use.
    pub(super) fn record_permit(&mut self, mx_set: usize) -> bool {
        self.opening_permit = None;
        !self.mx_sets[mx_set].is_empty() && self.breaker.blocked(Instant::now()).is_none()
    }

    /// Records the lag of a host and publishes it in the status.
    pub(super) fn record_lag(&mut self, lag: Duration, now: Instant) {
        self.slow = Some((now + self.context.deadlines.slow_after * 2, lag));
        self.update_status(now);
        self.flush();
    }

    /// Gives up a host whose lag exceeds the limit. Its questions get the reason now, and new ones get it during the
    /// pause.
    pub(super) fn give_up_slow_host(&mut self, mx_set: usize, now: Instant) {
        let outcome = Outcome::too_slow(self.context.deadlines.per_answer);
        let known = &mut self.mx_sets[mx_set];
        known.lag().lock().reset(now);
        known.record_not_reached(SubStatus::TimeoutExceeded, now);
        let host = known.asked_host().cloned();
        tracing::debug!(host = host.as_deref(), "gave up a slow host");
        self.pause_mx_set(mx_set, host, &outcome, now);
        self.update_status(now);
        self.flush();
    }
}
