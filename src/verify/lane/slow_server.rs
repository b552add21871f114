//! What a lane does about hosts that are slow: they are reported, and given up once they lag too far behind.

use std::time::Duration;

use tokio::time::Instant;

use super::state::LaneInner;
use crate::verify::{SubStatus, outcome::Outcome};

impl LaneInner {
    /// Records that the lane has got a permit for a connection, and returns whether the connection is still of use.
    pub(super) fn record_permit(&mut self, mx_set: usize) -> bool {
        self.opening_permit = None;
        !self.mx_sets[mx_set].is_empty() && self.breaker.blocked(Instant::now()).is_none()
    }

    /// Records that a host lags, for those who look at the lane.
    pub(super) fn record_lag(&mut self, lag: Duration, now: Instant) {
        self.slow = Some((now + self.context.deadlines.slow_after * 2, lag));
        self.update_status(now);
        self.flush();
    }

    /// Gives a host up that lags too far behind: who waits for it gets the reason, now and for a while.
    pub(super) fn give_up_slow_host(&mut self, mx_set: usize, now: Instant) {
        let outcome = Outcome::too_slow(self.context.deadlines.per_answer);
        let known = &mut self.mx_sets[mx_set];
        known.lag.lock().reset(now);
        known.record_not_reached(SubStatus::TimeoutExceeded, now);
        let host = known.answering.clone().or_else(|| known.preferred().cloned());
        tracing::debug!(host = host.as_deref(), "given up, too slow");
        self.pause_mx_set(mx_set, host, &outcome, now);
        self.update_status(now);
        self.flush();
    }
}
