//! Derives the time limits of a run from the timeouts of each SMTP step.
//!
//! | limit | from the time-outs | default |
//! |---|---|---|
//! | to open a connection to any exchanger of a set | connect + banner + 2 × greeting | 120 s |
//! | without an answer before a host is slow | a fifteenth of RCPT, from 0.5 to 2 s | 2 s |
//! | the floor: time that an answer may take on average | a fifth of RCPT | 6 s, or 10 a minute |
//! | how far a host may lag behind the floor | 4 × RCPT, at least 5 s | 120 s |

use std::time::Duration;

use crate::client::Timeouts;

/// The longest limit, so that sums of limits do not overflow `Instant`.
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A failure to connect that took longer than this is more than one lost packet: SYN was sent at 0, 1 and 3 s.
pub(in crate::verify) const ONE_LOST_PACKET: Duration = Duration::from_secs(5);
/// The pause before unreachable exchangers are tried a second time.
pub(in crate::verify) const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The time limits of a verifier; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verify) struct Deadlines {
    /// The limit to open a connection, over all exchangers of a set.
    pub(in crate::verify) exchangers: Duration,
    /// A host counts as slow after this time without an answer.
    pub(in crate::verify) slow_after: Duration,
    /// The floor: a host lags if its answers take longer than this on average.
    pub(in crate::verify) per_answer: Duration,
    /// The lag at which a host is given up.
    pub(in crate::verify) lag: Duration,
}

impl Deadlines {
    pub(in crate::verify) fn new(timeouts: &Timeouts) -> Self {
        let [connect, banner, greeting, rcpt] =
            [timeouts.connect, timeouts.banner, timeouts.greeting, timeouts.rcpt].map(|limit| limit.min(DAY));
        let least = Duration::from_millis(1);
        Self {
            exchangers: (connect + banner + greeting * 2).max(least),
            slow_after: (rcpt / 15).clamp(Duration::from_millis(500), Duration::from_secs(2)),
            per_answer: (rcpt / 5).max(least),
            lag: (rcpt * 4).max(Duration::from_secs(5)),
        }
    }

    /// Returns the time for one exchanger: an equal share of the time left for all `exchangers` still to be tried.
    ///
    /// So the last exchanger is tried as well.
    pub(in crate::verify) fn share(left: Duration, exchangers: usize) -> Duration {
        left / u32::try_from(exchangers).unwrap_or(u32::MAX).max(1)
    }

    /// Returns the time until a host with this `lag` is given up at `rate` answers per second.
    ///
    /// Returns `None` if the host keeps up.
    pub(in crate::verify) fn given_up_after(&self, lag: Duration, rate: f64) -> Option<Duration> {
        let growth = 1.0 - rate * self.per_answer.as_secs_f64();
        let left = self.lag.saturating_sub(lag).as_secs_f64();
        (growth > 0.0).then(|| Duration::try_from_secs_f64(left / growth).unwrap_or(DAY))
    }

    /// Returns the longest time that a host may take for so many addresses and attempts, without the pauses between
    /// attempts.
    pub(in crate::verify) fn longest(&self, addresses: u64, attempts: u32) -> Duration {
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX);
        let answers = self.per_answer.saturating_mul(addresses);
        let opening = ONE_LOST_PACKET + RECONNECT_PAUSE + self.exchangers;
        opening.saturating_add(self.lag).saturating_add(answers).saturating_mul(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Duration = Duration::from_secs(30);

    #[test]
    fn limits_follow_the_timeouts() {
        let seconds = Duration::from_secs;
        let default = Deadlines::new(&Timeouts::all(DEFAULT));
        let expected = Deadlines {
            exchangers: seconds(120),
            slow_after: seconds(2),
            per_answer: seconds(6),
            lag: seconds(120),
        };
        assert_eq!(default, expected);
        let short = Deadlines::new(&Timeouts::all(seconds(2)));
        assert_eq!((short.exchangers, short.lag), (seconds(8), seconds(8)));
        assert_eq!(short.slow_after, Duration::from_millis(500));
        // No timeout of a caller makes a sum overflow.
        let longest = Deadlines::new(&Timeouts::all(Duration::MAX));
        assert!(longest.longest(u64::MAX, u32::MAX) > longest.lag);
        assert!(Deadlines::new(&Timeouts::all(Duration::ZERO)).exchangers > Duration::ZERO);
    }

    #[test]
    fn each_exchanger_gets_an_equal_part_of_what_is_left() {
        let seconds = Duration::from_secs;
        assert_eq!(Deadlines::share(seconds(120), 8), seconds(15));
        assert_eq!(Deadlines::share(seconds(119), 7), seconds(17));
        assert_eq!(Deadlines::share(seconds(7), 1), seconds(7));
        assert_eq!(Deadlines::share(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn a_slow_host_is_given_up_within_what_is_told() {
        let deadlines = Deadlines::new(&Timeouts::all(DEFAULT));
        // Each answer takes 29 s, just below the timeout.
        let left = deadlines.given_up_after(Duration::ZERO, 1.0 / 29.0).unwrap();
        assert!((150..155).contains(&left.as_secs()), "{left:?}");
        assert!(left < deadlines.longest(1_000, 1));
        assert_eq!(deadlines.given_up_after(Duration::ZERO, 1.0), None, "one a second keeps up");
        // The longest case: the host stays just above the floor.
        assert_eq!(deadlines.longest(1_000, 1).as_secs(), 6 + 120 + 120 + 6_000);
    }
}
