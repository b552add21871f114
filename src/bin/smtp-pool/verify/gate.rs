//! The limit for the projected bounce rate of a list: `--gate bounce=5%`.

use std::str::FromStr;

use smtp_pool::verify::Status;

use crate::{exit::Exit, progress::Screen, summary::VerdictCounts};

/// A limit for the share of addresses that would bounce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BounceGate {
    percent: f64,
}

impl FromStr for BounceGate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = text.strip_prefix("bounce=").and_then(|limit| limit.strip_suffix('%'));
        match percent.and_then(|percent| percent.parse().ok()) {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self { percent }),
            _ => Err("not a limit from 0 to 100 per cent, as in bounce=5%"),
        }
    }
}

impl BounceGate {
    /// Returns [`Exit::Gate`] and says why if the rate is above the limit, and `exit` if it is not.
    pub(super) fn check(self, counts: &VerdictCounts, exit: Exit, screen: &Screen) -> Exit {
        let rate = bounce_rate(counts);
        if rate <= self.percent {
            return exit;
        }
        screen.print_line("");
        screen.print_line(format_args!(
            "the projected bounce rate is {rate:.1} %, which is above the limit of {} %; clean the list first",
            self.percent
        ));
        Exit::Gate
    }
}

/// Returns the share of undeliverable rows among those with a verdict that is certain, in per cent. Unknown rows say
/// nothing about it.
fn bounce_rate(counts: &VerdictCounts) -> f64 {
    let (mut bounced, mut certain) = (0, 0);
    for (sub_status, count) in counts.verdicts() {
        match sub_status.status() {
            Status::Unknown => {}
            Status::Undeliverable => (bounced, certain) = (bounced + count, certain + count),
            Status::Deliverable | Status::Risky => certain += count,
        }
    }
    100.0 * bounced as f64 / certain.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_percentages() {
        for (text, percent) in
            [("bounce=5%", 5.0), ("bounce=0%", 0.0), ("bounce=2.5%", 2.5), ("bounce=100%", 100.0)]
        {
            assert_eq!(text.parse(), Ok(BounceGate { percent }), "{text}");
        }
        for text in ["", "5%", "bounce=5", "bounce=%", "bounce=-1%", "bounce=101%", "bounce=NaN%", "rate=5%"]
        {
            assert!(text.parse::<BounceGate>().is_err(), "{text}");
        }
    }
}
