//! What is known of the domains of a run, by their numbers.

use std::mem;

use foldhash::HashMap;
use tokio::time::Instant;

use crate::verify::{item::Item, outcome::Outcome};

/// Domains that are remembered: some 300 octets each.
pub(super) const MAX_DOMAINS: usize = 131_072;

/// What is known of a domain.
pub(super) enum DomainState {
    /// Its way is being looked up; these wait.
    Resolving(Vec<Item>),
    /// The number of its [`LaneRef`](super::LaneRef), until this time.
    Routed(usize, Instant),
    /// Nobody to ask, until this time or ever.
    Unroutable(Outcome, Option<Instant>),
}

/// What is known of the domains, by their numbers. No number is given twice, since lanes know domains by it.
#[derive(Default)]
pub(super) struct DomainTable {
    /// From this number on.
    first: u32,
    recent: Vec<DomainState>,
    /// Those before it that were being looked up when the others were forgotten.
    old: HashMap<u32, DomainState>,
}

impl DomainTable {
    /// Those met since the others were forgotten.
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }

    /// The number of a new domain.
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

    /// Sets what is known of a domain, and gives what was.
    pub(super) fn set(&mut self, domain: u32, known: DomainState) -> Option<DomainState> {
        match self.get_mut(domain) {
            Some(before) => Some(mem::replace(before, known)),
            None => self.old.insert(domain, known),
        }
    }

    /// Forgets all but those that are being looked up.
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
