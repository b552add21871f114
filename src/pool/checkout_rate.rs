//! The limit on checkouts a minute to one server: a token bucket, kept as the time at which it is full again (GCRA).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The times of checkouts to one server.
pub(super) struct CheckoutRate {
    /// The time between two checkouts.
    interval: Duration,
    /// How far checkouts may be ahead of their times: one second's worth.
    ahead: Duration,
    /// The time of the next checkout, without being ahead.
    next: Mutex<Option<Instant>>,
}

impl CheckoutRate {
    /// Returns the limit. A rate of 0 counts as 1.
    pub(super) fn new(per_minute: u32) -> Self {
        let interval = Duration::from_secs(60) / per_minute.max(1);
        let burst = (per_minute / 60).max(1);
        Self { interval, ahead: interval * (burst - 1), next: Mutex::default() }
    }

    /// Reserves the next checkout, and returns when it is due. If that is later than `until`, it reserves none, and
    /// returns the time as an error.
    pub(super) fn reserve(&self, until: Instant) -> Result<Instant, Instant> {
        let now = Instant::now();
        let mut next = self.next();
        let full = next.map_or(now, |next| next.max(now));
        let due = full.checked_sub(self.ahead).map_or(now, |due| due.max(now));
        if due > until.max(now) {
            return Err(due);
        }
        *next = Some(full + self.interval);
        Ok(due)
    }

    /// Gives back a reserved checkout that was not made.
    pub(super) fn give_back(&self) {
        let mut next = self.next();
        *next = next.and_then(|next| next.checked_sub(self.interval));
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_and_a_second_of_it_come_in_a_minute() {
        for per_minute in [1, 5, 59, 120, 6_000] {
            let rate = CheckoutRate::new(per_minute);
            // The clock does not move between these.
            let began = Instant::now();
            let within = (0..).take_while(|_| rate.reserve(began + MINUTE).is_ok()).count();
            let most = per_minute as usize + (per_minute as usize / 60).max(1);
            assert!((most - 1..=most + 1).contains(&within), "{per_minute}: {within}");
            assert!(rate.reserve(began).is_err());
        }
    }

    #[tokio::test]
    async fn a_checkout_that_may_not_wait_is_allowed_at_once() {
        let until = Instant::now();
        let rate = CheckoutRate::new(1);
        // The clock may have moved since.
        assert!(rate.reserve(until).is_ok());
        assert!(rate.reserve(until).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkout_that_was_given_back_is_free_again() {
        let rate = CheckoutRate::new(5);
        let now = Instant::now();
        assert_eq!(rate.reserve(now), Ok(now));
        assert_eq!(rate.reserve(now), Err(now + MINUTE / 5));
        rate.give_back();
        assert_eq!(rate.reserve(now), Ok(now));
        tokio::time::advance(MINUTE).await;
        assert_eq!(rate.reserve(Instant::now()), Ok(Instant::now()));
        assert!(rate.reserve(Instant::now()).is_err(), "an idle minute allows no burst");
    }
}
