//! How fast a lane may go: as many recipients a minute, an hour and a day as the provider's rule says, and as many
//! connections as it bears without a groan.

use std::time::Duration;

use tokio::time::Instant;

use crate::verify::Limits;

/// A share of a limit that may be used at once; the rest comes evenly. So that no stretch of time as long as the
/// limit's own, wherever it begins, sees more than the limit.
const BURST: f64 = 0.1;

/// One limit of so many recipients in a time.
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
        // At least one whole recipient at once, or there would never be any.
        let capacity = (limit * BURST).max(1.0);
        let per_second = (limit - capacity).max(limit * 0.5) / over.as_secs_f64();
        Self { capacity, per_second, tokens: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// When there will be `wanted` tokens, or as many as there can be.
    fn ready_at(&self, wanted: f64) -> Instant {
        let missing = wanted.min(self.capacity) - self.tokens;
        self.at + Duration::from_secs_f64((missing / self.per_second).max(0.0))
    }
}

/// The rates of a lane.
#[derive(Clone, Debug)]
pub(in crate::verify) struct RateLimiter(Vec<TokenBucket>);

impl RateLimiter {
    pub(in crate::verify) fn new(limits: &Limits, now: Instant) -> Self {
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

    /// How many recipients may be asked about now.
    pub(in crate::verify) fn allowed(&mut self, now: Instant) -> u32 {
        self.0.iter_mut().for_each(|bucket| bucket.fill(now));
        self.0.iter().fold(u32::MAX, |least, bucket| least.min(bucket.tokens as u32))
    }

    /// Records that so many are asked about.
    pub(in crate::verify) fn take(&mut self, recipients: u32) {
        self.0.iter_mut().for_each(|bucket| bucket.tokens -= f64::from(recipients));
    }

    /// The most recipients that may be asked about at once.
    pub(in crate::verify) fn burst(&self) -> u32 {
        self.0.iter().fold(u32::MAX, |least, bucket| least.min(bucket.capacity as u32))
    }

    /// When so many may be asked about, or as many as may be at once; now at the soonest.
    pub(in crate::verify) fn ready_at(&self, recipients: u32) -> Option<Instant> {
        self.0.iter().map(|bucket| bucket.ready_at(f64::from(recipients))).max()
    }
}

/// For how long no more connections are tried than a server bore when it refused one more.
const CEILING_DURATION: Duration = Duration::from_secs(60);
/// Decreases follow each other no faster, since one event shows on several connections.
const MIN_DECREASE_INTERVAL: Duration = Duration::from_secs(1);
/// Latency that counts as rising, as a multiple of the best that was seen.
const SLOW_FACTOR: u32 = 4;
/// Latencies below it never count as rising: there, schedulers are what is measured.
const MIN_SLOW_LATENCY: Duration = Duration::from_millis(100);

/// Windows that were answered.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::verify) struct WindowLatencies {
    count: u32,
    /// How long they took, the longest.
    latency: Duration,
}

impl WindowLatencies {
    pub(in crate::verify) fn record(&mut self, latency: Duration) {
        self.count += 1;
        self.latency = self.latency.max(latency);
    }
}

/// How many connections a lane has: one more for each round of clean and quick windows, half as many after a sign of
/// trouble (additive increase, multiplicative decrease).
#[derive(Clone, Debug)]
pub(in crate::verify) struct ConcurrencyController {
    target: f64,
    most: f64,
    ceiling: Option<(f64, Instant)>,
    decreased: Option<Instant>,
    best: Option<Duration>,
    /// Smoothed over some windows.
    pub(in crate::verify) latency: Duration,
}

impl ConcurrencyController {
    pub(in crate::verify) fn new(connections: u32) -> Self {
        let most = f64::from(connections.max(1));
        Self { target: 1.0, most, ceiling: None, decreased: None, best: None, latency: Duration::ZERO }
    }

    /// The connections that there may be now.
    pub(in crate::verify) fn connections(&self, now: Instant) -> u32 {
        let most = match self.ceiling {
            Some((ceiling, until)) if now < until => ceiling,
            _ => self.most,
        };
        self.target.min(most).max(1.0) as u32
    }

    /// Records windows, and whether they were free of temporary refusals.
    pub(in crate::verify) fn record_windows(&mut self, windows: WindowLatencies, clean: bool, now: Instant) {
        let WindowLatencies { count, latency } = windows;
        if count == 0 {
            if !clean {
                self.record_trouble(now);
            }
            return;
        }
        self.latency = if self.latency.is_zero() { latency } else { (self.latency * 7 + latency) / 8 };
        let best = self.best.map_or(latency, |best| best.min(latency));
        self.best = Some(best);
        let slow = MIN_SLOW_LATENCY.max(best * SLOW_FACTOR);
        if !clean || self.latency > slow {
            self.record_trouble(now);
        } else if latency <= slow {
            // A share of one connection for each window: the first, and what the others come to.
            let first = self.target + 1.0 / self.target;
            let target = (first * first + 2.0 * f64::from(count - 1)).sqrt();
            self.target = target.min(self.most);
        }
    }

    /// Begins anew, with one connection.
    pub(in crate::verify) fn reset(&mut self) {
        self.target = 1.0;
    }

    /// Records a sign of trouble: temporary refusals, 421, a connection that broke.
    pub(in crate::verify) fn record_trouble(&mut self, now: Instant) {
        if self.decreased.is_none_or(|at| now.saturating_duration_since(at) >= MIN_DECREASE_INTERVAL) {
            self.decreased = Some(now);
            self.target = (self.target / 2.0).max(1.0);
        }
    }

    /// Records that the server refused one more connection beside `open` others.
    pub(in crate::verify) fn record_refusal(&mut self, open: u32, now: Instant) {
        self.record_trouble(now);
        self.ceiling = Some((f64::from(open.max(1)), now + CEILING_DURATION));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(per_minute: Option<u32>, per_hour: Option<u32>, per_day: Option<u32>) -> Limits {
        Limits { per_minute, per_hour, per_day, ..Limits::default() }
    }

    proptest! {
        /// Whoever asks as much as may be asked, whenever it may be, never breaks a limit in any stretch of time.
        #[test]
        fn no_stretch_of_time_sees_more_than_the_limit(
            per_minute in 1u32..500,
            per_hour in 1u32..5_000,
            per_day in 1u32..20_000,
            // Through minutes, hours or days, of which one stretch is like the other but for the limit that binds.
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
                    // A limit of one or two cannot be cut finer than by whole recipients.
                    prop_assert!(sum <= limit.max(2), "{sum} of {limit} in {over} s");
                }
            }
        }
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

    fn windows(count: u32, latency: Duration) -> WindowLatencies {
        WindowLatencies { count, latency }
    }

    #[test]
    fn connections_open_up_slowly_and_halve_at_trouble() {
        let now = Instant::now();
        let mut controller = ConcurrencyController::new(8);
        assert_eq!(controller.connections(now), 1);
        let quick = Duration::from_millis(20);
        (0..100).for_each(|_| controller.record_windows(windows(1, quick), true, now));
        assert_eq!(controller.connections(now), 8);
        controller.record_windows(windows(1, quick), false, now);
        assert_eq!(controller.connections(now), 4);
        controller.record_trouble(now);
        assert_eq!(controller.connections(now), 4, "one event shows on several connections");
        let later = now + MIN_DECREASE_INTERVAL;
        controller.record_refusal(3, later);
        (0..100).for_each(|_| controller.record_windows(windows(1, quick), true, later));
        assert_eq!(controller.connections(later), 3);
        assert_eq!(controller.connections(later + CEILING_DURATION), 8, "and tried again");
        (0..50).for_each(|_| {
            controller.record_windows(windows(1, quick * 30), true, later + MIN_DECREASE_INTERVAL)
        });
        assert_eq!(controller.connections(later + CEILING_DURATION), 4);
    }

    #[test]
    fn windows_count_one_by_one_or_together() {
        let now = Instant::now();
        let (mut one_by_one, mut together) =
            (ConcurrencyController::new(100), ConcurrencyController::new(100));
        let quick = Duration::from_millis(20);
        one_by_one.record_windows(windows(1, quick), true, now);
        assert_eq!(one_by_one.connections(now), 2, "a round of one");
        (1..256).for_each(|_| one_by_one.record_windows(windows(1, quick), true, now));
        together.record_windows(windows(256, quick), true, now);
        assert_eq!(one_by_one.connections(now), 22);
        assert_eq!(together.connections(now), 22);
    }

    #[test]
    fn slow_windows_open_nothing_up_before_they_count_as_trouble() {
        let now = Instant::now();
        let mut controller = ConcurrencyController::new(100);
        controller.record_windows(windows(4, Duration::from_millis(100)), true, now);
        let before = controller.connections(now);
        (0..5).for_each(|_| controller.record_windows(windows(256, Duration::from_millis(500)), true, now));
        assert_eq!(controller.connections(now), before);
        (0..20).for_each(|_| controller.record_windows(windows(256, Duration::from_millis(500)), true, now));
        assert!(controller.connections(now) < before);
    }

    #[test]
    fn trouble_without_a_whole_window_counts_too() {
        let now = Instant::now();
        let mut controller = ConcurrencyController::new(8);
        controller.record_windows(windows(100, Duration::from_millis(20)), true, now);
        controller.record_windows(WindowLatencies::default(), true, now);
        assert_eq!(controller.connections(now), 8);
        controller.record_windows(WindowLatencies::default(), false, now);
        assert_eq!(controller.connections(now), 4);
    }
}
