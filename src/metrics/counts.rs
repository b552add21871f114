//! Counters by kind, with a bound on the number of kinds.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use once_cell::race::OnceBox;

/// The most kinds that are counted separately. The crate itself has fewer. Each may become a label value, and so a
/// time series.
const MAX_KINDS: usize = 24;

/// The name for all kinds and servers beyond the bound.
pub(super) const OTHER: &str = "other";

/// Counters by kind, without locks. Kinds are never removed.
#[derive(Default)]
pub(super) struct Counts {
    /// Filled from the front.
    kinds: [OnceBox<(Box<str>, AtomicU64)>; MAX_KINDS],
    other: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, kind: &str) {
        for slot in &self.kinds {
            // The first thread sets the slot, perhaps for another kind.
            let (name, count) = slot.get_or_init(|| Box::new((kind.into(), AtomicU64::new(0))));
            if **name == *kind {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> BTreeMap<Box<str>, u64> {
        let mut total = BTreeMap::new();
        for (kind, count) in self.kinds.iter().map_while(OnceBox::get) {
            total.insert(kind.clone(), count.load(Ordering::Relaxed));
        }
        let other = self.other.load(Ordering::Relaxed);
        if other > 0 {
            *total.entry(OTHER.into()).or_default() += other;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn kinds_beyond_the_bound_are_one() {
        let counts = Counts::default();
        for kind in 0..1_000 {
            counts.add(&kind.to_string());
            counts.add("0");
        }
        let total = counts.total();
        assert_eq!(total.len(), MAX_KINDS + 1);
        assert_eq!((total["0"], total["1"]), (1_001, 1));
        assert_eq!(total[OTHER], 1_000 - MAX_KINDS as u64);
    }

    #[test]
    fn threads_agree_on_who_has_which_slot() {
        let counts = Counts::default();
        thread::scope(|scope| {
            for first in 0..4 {
                let counts = &counts;
                scope.spawn(move || {
                    for step in 0..8_000 {
                        counts.add(["a", "b", "c", "d"][(first + step) % 4]);
                    }
                });
            }
        });
        let total = counts.total();
        assert_eq!(total.len(), 4);
        assert!(total.values().all(|count| *count == 8_000), "{total:?}");
    }
}
