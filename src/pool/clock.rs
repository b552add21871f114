//! A clock that is read for nothing: the time of the last tick, in milliseconds since the pool was made.
//!
//! Checking out and giving back a connection would take half as long again if each read the clock of the system, to
//! compare it with limits of minutes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How often the maintenance sets the clock, which is how far it may be behind.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Thirty years: longer is no longer than that, and can be added to the time of now, many times over.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

#[derive(Debug)]
pub(super) struct Clock {
    epoch: Instant,
    millis: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), millis: AtomicU64::new(0) }
    }

    /// The time of the last tick.
    pub(super) fn now(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    /// Sets the clock.
    pub(super) fn tick(&self) -> u64 {
        let now = millis(self.epoch.elapsed());
        self.millis.fetch_max(now, Ordering::Relaxed);
        now
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forever_outlasts_any_process_and_can_be_reckoned_with() {
        assert!(MAX_WAIT > Duration::from_secs(20 * 365 * 86_400));
        assert!(Instant::now().checked_add(64 * MAX_WAIT).is_some());
    }
}
