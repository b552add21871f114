//! A defence against directory harvesting: after too many unknown recipients, every recipient is refused.

use tokio::time::Instant;

/// Counts unknown recipients, of one connection or of all.
#[derive(Debug, Default)]
pub(super) struct HarvestCounter {
    unknown: u32,
    state: HarvestState,
}

/// The state of the defence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HarvestState {
    #[default]
    Counting,
    /// Until that time, or without end.
    Refusing(Option<Instant>),
}

impl HarvestCounter {
    /// Returns true if every recipient is refused now.
    pub(super) fn refuses(&mut self, now: Instant) -> bool {
        if let HarvestState::Refusing(Some(until)) = self.state
            && now >= until
        {
            *self = Self::default();
        }
        self.state != HarvestState::Counting
    }

    /// Counts an unknown recipient. With the `after`-th one, refusing begins and lasts until `until`. Returns true if
    /// it begins now.
    pub(super) fn record_unknown(&mut self, after: u32, until: Option<Instant>) -> bool {
        self.unknown = self.unknown.saturating_add(1);
        let begins = self.unknown >= after && self.state == HarvestState::Counting;
        if begins {
            self.state = HarvestState::Refusing(until);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn refuses_from_the_nth_unknown_recipient_until_its_time() {
        let (now, mut harvest) = (Instant::now(), HarvestCounter::default());
        let until = now + Duration::from_secs(60);
        assert!(!harvest.record_unknown(2, Some(until)) && !harvest.refuses(now));
        assert!(harvest.record_unknown(2, Some(until)) && harvest.refuses(now));
        assert!(!harvest.record_unknown(2, None) && harvest.refuses(now), "it begins once");
        assert!(!harvest.refuses(until));
        assert!(!harvest.record_unknown(2, None), "the count begins again");
        assert!(harvest.record_unknown(2, None) && harvest.refuses(until + Duration::from_secs(1_000_000)));
    }
}
