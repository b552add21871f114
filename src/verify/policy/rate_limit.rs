//! Limits the rate of a lane: recipients per minute, hour and day, as the provider's rule says.

use std::time::Duration;

use tokio::time::Instant;

use crate::verify::ProviderLimits;

/// The share of a limit that may be used at once. The rest is spread evenly. So no interval as long as that of the
/// limit sees more recipients than the limit.
const BURST: f64 = 0.1;

/// A limit of so many recipients per interval.
#[derive(Clone, Debug)]
struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    fn new(limit: u32, over: Duration, now: Instant) -> Self {
        let limit = f64::from(limit);
        // At least one whole recipient must fit, or none could ever be asked.
        let capacity = (limit * BURST).max(1.0);
        let per_second = (limit - capacity).max(limit * 0.5) / over.as_secs_f64();
        Self { capacity, per_second, tokens: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Returns the time at which there are `wanted` tokens, or the bucket is full.
    fn ready_at(&self, wanted: f64) -> Instant {
        let missing = wanted.min(self.capacity) - self.tokens;
        self.at + Duration::from_secs_f64((missing / self.per_second).max(0.0))
    }
}

/// The rate limits of a lane.
#[derive(Clone, Debug)]
pub(in crate::verify) struct RateLimiter(Vec<TokenBucket>);

impl RateLimiter {
    pub(in crate::verify) fn new(limits: &ProviderLimits, now: Instant) -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let rates = [
            (limits.per_minute, minutes(1)),
            (limits.per_hour, minutes(60)),
            (limits.per_day, minutes(24 * 60)),
        ];
        Self(
            rates.into_iter().filter_map(|(limit, over)| Some(TokenBucket::new(limit?, over, now))).collect(),
        )
    }

    /// Returns how many recipients may be asked about now.
    pub(in crate::verify) fn allowed(&mut self, now: Instant) -> u32 {
        self.0.iter_mut().for_each(|bucket| bucket.fill(now));
        self.0.iter().fold(u32::MAX, |least, bucket| least.min(bucket.tokens as u32))
    }

    /// Takes the rate of so many recipients.
    pub(in crate::verify) fn take(&mut self, recipients: u32) {
        self.0.iter_mut().for_each(|bucket| bucket.tokens -= f64::from(recipients));
    }

    /// Returns the most recipients that may be asked about at once.
    pub(in crate::verify) fn burst(&self) -> u32 {
        self.0.iter().fold(u32::MAX, |least, bucket| least.min(bucket.capacity as u32))
    }

    /// Returns whether no limit was used lately, so that a new limiter is the same.
    pub(in crate::verify) fn is_full(&mut self, now: Instant) -> bool {
        self.0.iter_mut().all(|bucket| {
            bucket.fill(now);
            bucket.tokens >= bucket.capacity
        })
    }

    /// Returns the earliest time at which so many recipients, or a full burst, may be asked about. It may be in the
    /// past.
    pub(in crate::verify) fn ready_at(&self, recipients: u32) -> Option<Instant> {
        self.0.iter().map(|bucket| bucket.ready_at(f64::from(recipients))).max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(per_minute: Option<u32>, per_hour: Option<u32>, per_day: Option<u32>) -> ProviderLimits {
        ProviderLimits { per_minute, per_hour, per_day, ..ProviderLimits::default() }
    }

    proptest! {
        /// A caller that always asks as much as is allowed exceeds no limit in any interval.
        #[test]
        fn no_stretch_of_time_sees_more_than_the_limit(
            per_minute in 1u32..500,
            per_hour in 1u32..5_000,
            per_day in 1u32..20_000,
            // Time passes in minutes, hours or days, so that each limit is the one that binds.
            scale in prop::sample::select(vec![1, 60, 24 * 60]),
            greed in prop::collection::vec((1u32..200, 1u64..20_000), 1..200),
        ) {
            let start = Instant::now();
            let mut rate_limiter = RateLimiter::new(&limits(Some(per_minute), Some(per_hour), Some(per_day)), start);
            let (mut now, mut asked) = (start, Vec::new());
            for (wanted, pause) in greed {
                let n = rate_limiter.allowed(now).min(wanted);
                rate_limiter.take(n);
                asked.push((now, n));
                now += Duration::from_millis(pause * scale);
            }
            for (limit, over) in [(per_minute, 60), (per_hour, 3_600), (per_day, 86_400)] {
                for (from, _) in &asked {
                    let until = *from + Duration::from_secs(over);
                    let sum: u32 = asked.iter().filter(|(at, _)| at >= from && *at < until).map(|(_, n)| n).sum();
                    // Recipients are whole, so a limit of one may be exceeded by one.
                    prop_assert!(sum <= limit.max(2), "{sum} of {limit} in {over} s");
                }
            }
        }
    }

    #[test]
    fn a_limiter_is_full_again_once_every_limit_has_recovered() {
        let start = Instant::now();
        let mut rate_limiter = RateLimiter::new(&limits(Some(600), None, Some(1_000)), start);
        assert!(rate_limiter.is_full(start));
        rate_limiter.take(60);
        assert!(!rate_limiter.is_full(start + Duration::from_secs(3_600)), "the limit of a day takes longer");
        assert!(rate_limiter.allowed(start + Duration::from_secs(3_600)) > 0);
        assert!(rate_limiter.is_full(start + Duration::from_secs(2 * 3_600)));
    }

    #[test]
    fn a_limit_is_used_up_in_its_time() {
        let start = Instant::now();
        let mut rate_limiter = RateLimiter::new(&limits(Some(600), None, None), start);
        let mut asked = 0;
        for second in 0..60 {
            let n = rate_limiter.allowed(start + Duration::from_secs(second));
            rate_limiter.take(n);
            asked += n;
        }
        assert!((580..=600).contains(&asked), "{asked}");
        assert!(rate_limiter.ready_at(1_000).unwrap() > start + Duration::from_secs(59));
        assert_eq!(RateLimiter::new(&limits(None, None, None), start).ready_at(5), None);
    }
}
