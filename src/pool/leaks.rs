//! Where lent connections were taken, and when. It is recorded only with `leak_after`.

use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Holder;

/// The connections of one server that are lent.
#[derive(Debug, Default)]
pub(super) struct LeakTracker(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    next: u64,
    open: BTreeMap<u64, OpenCheckout>,
}

#[derive(Debug)]
struct OpenCheckout {
    since: Instant,
    taken_at: &'static Location<'static>,
    warned: bool,
}

impl LeakTracker {
    /// Records that a connection was lent. Returns the number of the checkout.
    pub(super) fn record(&self, taken_at: &'static Location<'static>) -> u64 {
        let mut numbered = self.lock();
        let number = numbered.next;
        numbered.next += 1;
        numbered.open.insert(number, OpenCheckout { since: Instant::now(), taken_at, warned: false });
        number
    }

    /// Records that a connection was given back.
    pub(super) fn settle(&self, number: u64) {
        self.lock().open.remove(&number);
    }

    /// Returns the holders of connections, the longest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        self.lock().open.values().map(OpenCheckout::holder).collect()
    }

    /// Returns those that have held a connection for longer than `limit`, each one once.
    pub(super) fn overdue(&self, limit: Duration) -> Vec<Holder> {
        let mut numbered = self.lock();
        let overdue = numbered
            .open
            .values_mut()
            .filter(|checkout| !checkout.warned && checkout.since.elapsed() >= limit);
        overdue
            .map(|checkout| {
                checkout.warned = true;
                checkout.holder()
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCheckout {
    fn holder(&self) -> Holder {
        Holder { taken_at: self.taken_at, held: self.since.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_overdue_holder_is_told_once_and_who_gave_back_is_none() {
        let tracker = LeakTracker::default();
        let [first, second] = [(); 2].map(|()| tracker.record(Location::caller()));
        assert_eq!(tracker.overdue(Duration::from_secs(60)), []);
        tracker.settle(first);
        assert_eq!(tracker.holders().len(), 1);
        assert_eq!(tracker.overdue(Duration::ZERO).len(), 1);
        assert_eq!(tracker.overdue(Duration::ZERO), []);
        assert_eq!(tracker.holders().len(), 1, "told, and still a holder");
        tracker.settle(second);
        assert_eq!(tracker.holders(), []);
    }
}
