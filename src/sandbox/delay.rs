//! A delay: a fixed time, or a range to draw from.

use std::{fmt, str::FromStr, time::Duration};

use fastrand::Rng;
use serde::Deserialize;
use thiserror::Error;

/// A delay, such as `"5ms"`, or a range to draw from, such as `"5ms..200ms"`. Units are `ms`, `s`, `m` and `h`.
///
/// ```
/// use std::time::Duration;
/// use smtp_pool::sandbox::Delay;
/// assert_eq!("1.5s".parse(), Ok(Delay::from(Duration::from_millis(1500))));
/// assert_eq!("5ms..1s".parse::<Delay>()?.max(), Duration::from_secs(1));
/// # Ok::<(), smtp_pool::sandbox::DelayError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Delay {
    min: Duration,
    max: Duration,
}

/// The text is not a [`Delay`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{0}\" is not a delay: use \"5ms\", \"1.5s\", \"2m\", \"1h\" or a range \"5ms..200ms\"")]
pub struct DelayError(String);

impl Delay {
    /// No delay.
    pub const ZERO: Self = Self { min: Duration::ZERO, max: Duration::ZERO };

    /// Returns a delay between `min` and `max`, uniformly distributed.
    #[must_use]
    pub fn between(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min) }
    }

    /// Returns the shortest delay.
    #[must_use]
    pub fn min(self) -> Duration {
        self.min
    }

    /// Returns the longest delay.
    #[must_use]
    pub fn max(self) -> Duration {
        self.max
    }

    /// Returns true if there is never a delay.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.max.is_zero()
    }

    pub(super) fn draw(self, rng: &mut Rng) -> Duration {
        // A fixed delay does not use the generator.
        if self.min == self.max { self.min } else { self.min + (self.max - self.min).mul_f64(rng.f64()) }
    }
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        Self::between(delay, delay)
    }
}

impl FromStr for Delay {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        match (duration(min), duration(max)) {
            (Some(min), Some(max)) if min <= max => Ok(Self { min, max }),
            _ => Err(DelayError(text.into())),
        }
    }
}

impl TryFrom<String> for Delay {
    type Error = DelayError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => write!(f, "{:?}", self.min),
            false => write!(f, "{:?}..{:?}", self.min, self.max),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let seconds = match &text[unit..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(text[..unit].trim().parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_its_own_format_and_nothing_else() {
        assert_eq!(" 2 m .. 1h ".parse::<Delay>().unwrap().to_string(), "120s..3600s");
        for bad in ["", "5", "ms", "5 parsecs", "2s..1s", "-1s", "1e99h", "1s..", "infs", "nans"] {
            assert_eq!(bad.parse::<Delay>(), Err(DelayError(bad.into())), "{bad}");
        }
    }

    #[test]
    fn draws_within_the_range_and_by_the_seed() {
        let delay: Delay = "5ms..200ms".parse().unwrap();
        let draw = |seed| delay.draw(&mut Rng::with_seed(seed));
        assert!((0..100).all(|seed| draw(seed) >= delay.min() && draw(seed) <= delay.max()));
        assert_eq!(draw(3), draw(3));
    }
}
