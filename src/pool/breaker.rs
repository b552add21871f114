//! The circuit breaker: decides when to stop connecting to a server that cannot be reached, and when to try again.
//!
//! ```text
//!           failures in a row                 pause over
//! ┌────────┐ ───────────────▶ ┌──────┐ ───────────────────▶ ┌───────────┐
//! │ closed │                  │ open │                      │ half-open │ one connect at a time
//! └────────┘ ◀──────┐         └──────┘ ◀─────────────────── └─────┬─────┘
//!                   │                     failed: pause doubled   │
//!                   └─────────────────────────────────────────────┘ connected
//! ```

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::OpenError;
use crate::metrics::BreakerState;

/// The most times that the pause doubles.
const DOUBLINGS: u32 = 5;

/// Counts failures to connect to one server.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    pause: Duration,
    failures: u32,
    opened: u32,
    until: Option<Instant>,
    last: Option<Arc<OpenError>>,
}

impl Breaker {
    /// Opens after `threshold` failures in a row, for `pause` at first; never with a threshold of 0.
    pub(super) fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold, pause, failures: 0, opened: 0, until: None, last: None }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.until {
            None => BreakerState::Closed,
            Some(until) if until > now => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Returns how many connects may be under way. With a closed breaker it is `at_once`.
    pub(super) fn allows(&self, now: Instant, at_once: usize) -> usize {
        match self.state(now) {
            BreakerState::Closed => at_once,
            BreakerState::HalfOpen => at_once.min(1),
            BreakerState::Open => 0,
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::new(self.threshold, self.pause);
    }

    /// Records a failure; `random` is a number from 0 to 1 that spreads the pauses of many clients.
    pub(super) fn failed(&mut self, now: Instant, error: Arc<OpenError>, random: f64) {
        self.last = Some(error);
        self.failures = self.failures.saturating_add(1);
        let half_open = self.until.is_some_and(|until| until <= now);
        if half_open || (self.until.is_none() && self.threshold > 0 && self.failures >= self.threshold) {
            let pause = self.pause * 2u32.pow(self.opened.min(DOUBLINGS));
            self.until = Some(now + pause.mul_f64(1.0 + random / 4.0));
            self.opened += 1;
        }
    }

    /// Returns until when it is open, and the last failure; none if it is not open.
    pub(super) fn open(&self, now: Instant) -> Option<(Instant, Arc<OpenError>)> {
        let until = self.until.filter(|until| *until > now)?;
        Some((until, Arc::clone(self.last.as_ref()?)))
    }

    /// Returns the last failure since the last success.
    pub(super) fn last(&self) -> Option<Arc<OpenError>> {
        self.last.clone()
    }
}

/// Returns the pause before the attempt after `failures` of them. It doubles from `base` to at most 64 times that, and
/// half of it is random.
pub(super) fn backoff(base: Duration, failures: u32, random: f64) -> Duration {
    let step = base * 2u32.pow(failures.saturating_sub(1).min(6));
    step.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn error() -> Arc<OpenError> {
        Arc::new(OpenError::Timeout { after: PAUSE, is_silent: false })
    }

    #[test]
    fn opens_after_failures_in_a_row_and_half_opens_after_the_pause() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, PAUSE);
        for _ in 0..2 {
            breaker.failed(now, error(), 0.0);
        }
        breaker.succeeded();
        for _ in 0..2 {
            breaker.failed(now, error(), 0.0);
            assert_eq!((breaker.state(now), breaker.allows(now, 4)), (BreakerState::Closed, 4));
        }
        breaker.failed(now, error(), 0.0);
        assert_eq!((breaker.state(now), breaker.allows(now, 4)), (BreakerState::Open, 0));
        assert_eq!(breaker.open(now).map(|(until, _)| until - now), Some(PAUSE));
        let later = now + PAUSE;
        assert_eq!((breaker.state(later), breaker.allows(later, 4)), (BreakerState::HalfOpen, 1));
        assert!(breaker.open(later).is_none() && breaker.last().is_some());
        // Attempts that were under way when it opened count, and do not extend the pause.
        breaker.failed(now, error(), 1.0);
        assert_eq!(breaker.open(now).map(|(until, _)| until - now), Some(PAUSE));
        breaker.failed(later, error(), 0.0);
        assert_eq!(breaker.open(later).map(|(until, _)| until - later), Some(2 * PAUSE));
        breaker.succeeded();
        assert_eq!(breaker.state(later), BreakerState::Closed);
        assert!(breaker.last().is_none());
    }

    #[test]
    fn a_threshold_of_none_never_opens() {
        let mut breaker = Breaker::new(0, PAUSE);
        (0..1_000).for_each(|_| breaker.failed(Instant::now(), error(), 0.5));
        assert_eq!(breaker.state(Instant::now()), BreakerState::Closed);
    }

    proptest! {
        #[test]
        fn pauses_are_bounded(failures in 1u32..2_000, random in 0.0..=1.0f64) {
            let base = Duration::from_millis(500);
            let pause = backoff(base, failures, random);
            prop_assert!(pause >= base / 2 && pause <= 64 * base);
            let now = Instant::now();
            let mut breaker = Breaker::new(1, PAUSE);
            let mut at = now;
            for _ in 0..failures {
                breaker.failed(at, error(), random);
                let (until, _) = breaker.open(at).unwrap();
                prop_assert!(until - at >= PAUSE && until - at <= 40 * PAUSE);
                at = until;
            }
        }
    }
}
