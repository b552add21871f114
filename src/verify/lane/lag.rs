//! Measures the lag of a host behind the least acceptable rate of answers.
//!
//! ```text
//! lag     ▁▂▃▄▅▆▇█ grows by the time for which a connection waits for the host
//! answer  ▇▁       reduces it by the time that an answer may take, at most to zero
//! ```
//!
//! The lag is bounded. So a host can hold connections for at most the limit plus the allowed time of each answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The lag of a host, shared by the watchdogs of its connections.
#[derive(Clone, Debug)]
pub(super) struct SharedLag(Arc<Mutex<Lag>>);

impl SharedLag {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Lag::new(now))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Lag> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lag of one host or MX set over all its connections; see the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Lag {
    /// Connections that wait for an answer of the host.
    waiting: u32,
    since: Instant,
    lag: Duration,
    /// Whether the last connection took long to open.
    pub(super) opens_slowly: bool,
}

impl Lag {
    pub(super) fn new(now: Instant) -> Self {
        Self { waiting: 0, since: now, lag: Duration::ZERO, opens_slowly: false }
    }

    /// Records that one more connection waits for the host.
    pub(super) fn record_wait(&mut self, now: Instant) {
        self.grow(now);
        self.waiting += 1;
    }

    /// Records that a connection no longer waits.
    pub(super) fn record_wait_over(&mut self, now: Instant) {
        self.grow(now);
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Records `answers`, each of which may take `per_answer`.
    pub(super) fn record_answers(&mut self, answers: u64, per_answer: Duration, now: Instant) {
        self.grow(now);
        let answers = u32::try_from(answers).unwrap_or(u32::MAX);
        self.lag = self.lag.saturating_sub(per_answer.saturating_mul(answers));
    }

    /// Returns whether the host is slow: it lags, or its last connection took long to open.
    pub(super) fn is_slow(&self, slow_after: Duration, now: Instant) -> bool {
        self.opens_slowly || self.at(now) >= slow_after
    }

    /// Resets the lag to zero.
    pub(super) fn reset(&mut self, now: Instant) {
        (self.since, self.lag) = (now, Duration::ZERO);
    }

    /// Returns the lag at `now`.
    pub(super) fn at(&self, now: Instant) -> Duration {
        match self.waiting {
            0 => self.lag,
            _ => self.lag + now.saturating_duration_since(self.since),
        }
    }

    fn grow(&mut self, now: Instant) {
        (self.lag, self.since) = (self.at(now), now.max(self.since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_ANSWER: Duration = Duration::from_secs(6);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn lag_grows_only_while_a_connection_waits() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        assert_eq!(lag.at(after(start, 100)), Duration::ZERO);
        lag.record_wait(after(start, 100));
        assert_eq!(lag.at(after(start, 110)).as_secs(), 10);
        // Two connections that wait at the same time count once.
        lag.record_wait(after(start, 110));
        lag.record_wait_over(after(start, 120));
        lag.record_wait_over(after(start, 130));
        assert_eq!(lag.at(after(start, 1_000)).as_secs(), 30);
    }

    #[test]
    fn answers_reduce_the_lag_and_not_below_zero() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        lag.record_wait(start);
        lag.record_answers(1_000_000, PER_ANSWER, after(start, 20));
        assert_eq!(lag.at(after(start, 20)), Duration::ZERO);
        lag.record_answers(1, PER_ANSWER, after(start, 40));
        assert_eq!(lag.at(after(start, 40)).as_secs(), 14);
    }

    /// The time for which any host is waited for is bounded by the limit and its answers.
    #[test]
    fn the_time_under_a_limit_is_bounded_by_the_answers() {
        let limit = Duration::from_secs(120);
        for seconds_an_answer in [1, 5, 6, 7, 10, 29, 500] {
            let start = Instant::now();
            let mut lag = Lag::new(start);
            lag.record_wait(start);
            let (mut now, mut answers) = (start, 0);
            while lag.at(now) < limit && answers < 1_000 {
                now += Duration::from_secs(1);
                if now.duration_since(start).as_secs().is_multiple_of(seconds_an_answer) {
                    lag.record_answers(1, PER_ANSWER, now);
                    answers += 1;
                }
            }
            let most = limit + PER_ANSWER * (answers + 1);
            assert!(
                now.duration_since(start) <= most,
                "{seconds_an_answer}: {:?}",
                now.duration_since(start)
            );
            assert_eq!(seconds_an_answer <= 6, answers == 1_000, "{seconds_an_answer} s an answer");
        }
    }
}
