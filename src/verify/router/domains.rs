//! The states of the domains of a run, by number.

use std::mem;

use foldhash::HashMap;
use tokio::time::Instant;

use crate::verify::{item::Item, outcome::Outcome};

/// Domains that are remembered, at about 300 octets each.
pub(super) const MAX_DOMAINS: usize = 131_072;

/// The state of a domain.
pub(super) enum DomainState {
    /// The look-up is in progress. These items wait for it.
    Resolving(Vec<Item>),
    /// The index of its [`LaneRef`](super::LaneRef), and when that expires.
    Routed(usize, Instant),
    /// No server to ask, and when that expires. `None` means never.
    Unroutable(Outcome, Option<Instant>),
}

/// The states of the domains, by number. No number is used twice, because lanes identify domains by it.
#[derive(Default)]
pub(super) struct DomainTable {
    /// The number of the first of the recent domains.
    first: u32,
    recent: Vec<DomainState>,
    /// Earlier domains whose look-up was in progress when the others were forgotten.
    old: HashMap<u32, DomainState>,
}

impl DomainTable {
    /// Returns the number of domains since the last call of [`forget`](Self::forget).
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }

    /// Adds a domain, and returns its number.
    pub(super) fn add(&mut self, known: DomainState) -> u32 {
        self.recent.push(known);
        u32::try_from(self.recent.len() - 1).unwrap_or(u32::MAX).saturating_add(self.first)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, domain: u32) -> Option<&mut DomainState> {
        match domain.checked_sub(self.first) {
            Some(at) => self.recent.get_mut(at as usize),
            None => self.old.get_mut(&domain),
        }
    }

    /// Sets the state of a domain, and returns the earlier one.
    pub(super) fn set(&mut self, domain: u32, known: DomainState) -> Option<DomainState> {
        match self.get_mut(domain) {
            Some(before) => Some(mem::replace(before, known)),
            None => self.old.insert(domain, known),
        }
    }

    /// Forgets all domains except those whose look-up is in progress.
    pub(super) fn forget(&mut self) {
        let recent = mem::take(&mut self.recent);
        let next = self.first.saturating_add(u32::try_from(recent.len()).unwrap_or(u32::MAX));
        self.old.extend((self.first..).zip(recent));
        self.old.retain(|_, known| matches!(known, DomainState::Resolving(_)));
        self.first = next;
    }

    pub(super) fn is_known(&self, domain: u32) -> bool {
        domain >= self.first || self.old.contains_key(&domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_given_twice() {
        let mut domains = DomainTable::default();
        let soon = || DomainState::Resolving(Vec::new());
        let nowhere = || DomainState::Unroutable(Outcome::not_asked(), None);
        assert_eq!((domains.add(nowhere()), domains.add(soon()), domains.add(nowhere())), (0, 1, 2));
        domains.forget();
        assert_eq!((domains.len(), domains.add(nowhere())), (0, 3));
        assert!(domains.get_mut(0).is_none() && domains.get_mut(2).is_none());
        assert!(
            matches!(domains.get_mut(1), Some(DomainState::Resolving(_))) && domains.get_mut(3).is_some()
        );
        assert!(matches!(domains.set(1, nowhere()), Some(DomainState::Resolving(_))));
        domains.forget();
        assert!(domains.get_mut(1).is_none() && domains.get_mut(3).is_none());
        assert_eq!(domains.add(soon()), 4);
    }
}
