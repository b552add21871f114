//! Decides how many connections a lane may have: as many as the provider's rule allows and its servers accept without
//! failures.

use std::time::Duration;

use tokio::time::Instant;

/// Time for which the connections open at a refused connection are the upper limit.
const CEILING_DURATION: Duration = Duration::from_secs(60);
/// The shortest time between two decreases, since one event shows on several connections.
const MIN_DECREASE_INTERVAL: Duration = Duration::from_secs(1);
/// The multiple of the best latency seen from which latency counts as too high.
const SLOW_FACTOR: u32 = 4;
/// Latencies below this never count as too high: they measure the scheduler rather than the server.
const MIN_SLOW_LATENCY: Duration = Duration::from_millis(100);

/// The windows answered since the last commit.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::verify) struct WindowLatencies {
    count: u32,
    /// The longest round trip.
    latency: Duration,
}

impl WindowLatencies {
    pub(in crate::verify) fn record(&mut self, latency: Duration) {
        self.count += 1;
        self.latency = self.latency.max(latency);
    }
}

/// Controls the number of connections of a lane: additive increase, multiplicative decrease.
///
/// Each round of windows without failures and with low latency adds one connection. A sign of trouble halves the
/// number.
#[derive(Clone, Debug)]
pub(in crate::verify) struct ConcurrencyController {
    target: f64,
    most: f64,
    ceiling: Option<(f64, Instant)>,
    decreased: Option<Instant>,
    best: Option<Duration>,
    /// The smoothed round trip.
    pub(in crate::verify) latency: Duration,
}

impl ConcurrencyController {
    pub(in crate::verify) fn new(connections: u32) -> Self {
        let most = f64::from(connections.max(1));
        Self { target: 1.0, most, ceiling: None, decreased: None, best: None, latency: Duration::ZERO }
    }

    /// Returns the number of connections allowed now.
    pub(in crate::verify) fn connections(&self, now: Instant) -> u32 {
        let most = match self.ceiling {
            Some((ceiling, until)) if now < until => ceiling,
            _ => self.most,
        };
        self.target.min(most).max(1.0) as u32
    }

    /// Records windows. `clean` tells whether they had few temporary refusals.
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
            // Each window adds its share of one connection. This is the first one's share and the sum of the others.
            let first = self.target + 1.0 / self.target;
            let target = (first * first + 2.0 * f64::from(count - 1)).sqrt();
            self.target = target.min(self.most);
        }
    }

    /// Resets the target to one connection.
    pub(in crate::verify) fn reset(&mut self) {
        self.target = 1.0;
    }

    /// Records a sign of trouble: temporary refusals, 421, or a connection that broke.
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
    use super::*;

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
