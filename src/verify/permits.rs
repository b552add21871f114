//! Permits for connections or DNS queries. While others wait, slow hosts hold only a share of them.
//!
//! ```text
//!            quick ─▶ first come, first served ─┐
//! waiting                                       ├─▶ held ─▶ released
//!            slow ──▶ only within the share ────┘    │
//!                     while a quick one waits        └─ asked back: idle, or slow and beyond the share
//! ```
//!
//! A host turns out to be slow only while a connection to it waits. A slow host may then have to release its permit.
//! The last host that turned slow releases first. Hosts within the share keep their permits, so each slow host is
//! served after a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::sync::Notify;

/// A fixed number of permits; see the [module](self).
#[derive(Debug)]
pub(super) struct Permits(Mutex<PermitTable>);

/// A permit, or a place in the queue for one. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    id: u64,
    signal: Arc<Signal>,
}

impl Permits {
    /// Returns `most` permits. Slow hosts may hold `share` of them, and at least one, while others wait.
    pub(super) fn new(most: usize, share: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(PermitTable::new(most, share))))
    }

    /// Waits for a permit. `slow` tells whether the host is known to be slow.
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn acquire(self: &Arc<Self>, slow: bool) -> Permit {
        let signal = Arc::new(Signal::default());
        let id = self.lock().join(slow, Arc::clone(&signal));
        let permit = Permit { permits: Arc::clone(self), id, signal };
        permit.signal.reached(PermitState::Held).await;
        permit
    }

    fn lock(&self) -> MutexGuard<'_, PermitTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Records whether the host is slow.
    pub(super) fn set_slow(&self, slow: bool) {
        self.permits.lock().set_slow(self.id, slow);
    }

    /// Records whether the connection is idle.
    pub(super) fn set_idle(&self, idle: bool) {
        self.permits.lock().set_idle(self.id, idle);
    }

    /// Returns whether the permit is to be released, because others wait for it.
    #[cfg(test)]
    fn is_asked_back(&self) -> bool {
        self.signal.has_reached(PermitState::AskedBack)
    }

    /// Waits until the permit is to be released, because others wait for it.
    ///
    /// Nothing is lost if the future is dropped.
    pub(super) async fn asked_back(&self) {
        self.signal.reached(PermitState::AskedBack).await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.lock().release(self.id);
    }
}

/// The state of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum PermitState {
    Waiting,
    Held,
    AskedBack,
}

/// Notifies the holder of a permit of its state.
#[derive(Debug, Default)]
struct Signal {
    state: AtomicU8,
    changed: Notify,
}

impl Signal {
    fn set(&self, state: PermitState) {
        self.state.store(state as u8, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn has_reached(&self, state: PermitState) -> bool {
        self.state.load(Ordering::Acquire) >= state as u8
    }

    async fn reached(&self, state: PermitState) {
        while !self.has_reached(state) {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.has_reached(state) {
                return;
            }
            changed.await;
        }
    }
}

/// The entry of a permit in the table.
#[derive(Debug)]
struct PermitEntry {
    state: PermitState,
    idle: bool,
    slow: bool,
    /// Its position in [`PermitTable::slow`].
    since: u64,
    signal: Arc<Signal>,
}

/// All permits and their queues. It uses no clock and never waits.
#[derive(Debug)]
struct PermitTable {
    free: usize,
    share: usize,
    next: u64,
    /// Permits that wait or are held, by number.
    entries: BTreeMap<u64, PermitEntry>,
    quick_waiting: VecDeque<u64>,
    slow_waiting: VecDeque<u64>,
    /// Permits that slow hosts hold.
    slow_held: usize,
    /// Permits of slow hosts that were not asked back, in the order in which the hosts turned slow.
    slow: BTreeSet<(u64, u64)>,
    /// Permits that are held, idle, and not asked back.
    idle: BTreeSet<u64>,
    /// Permits that were asked back and are not yet released.
    asked: usize,
}

impl PermitTable {
    fn new(most: usize, share: usize) -> Self {
        let most = most.max(1);
        Self {
            free: most,
            share: share.max(1),
            next: 0,
            entries: BTreeMap::new(),
            quick_waiting: VecDeque::new(),
            slow_waiting: VecDeque::new(),
            slow_held: 0,
            slow: BTreeSet::new(),
            idle: BTreeSet::new(),
            asked: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn join(&mut self, slow: bool, signal: Arc<Signal>) -> u64 {
        let id = self.number();
        self.entries
            .insert(id, PermitEntry { state: PermitState::Waiting, idle: false, slow, since: 0, signal });
        if slow { &mut self.slow_waiting } else { &mut self.quick_waiting }.push_back(id);
        self.balance();
        id
    }

    fn release(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        match entry.state {
            PermitState::Waiting => {
                let queue = if entry.slow { &mut self.slow_waiting } else { &mut self.quick_waiting };
                queue.retain(|waiting| *waiting != id);
            }
            PermitState::Held | PermitState::AskedBack => {
                self.free += 1;
                self.asked -= usize::from(entry.state == PermitState::AskedBack);
                self.slow_held -= usize::from(entry.slow);
                self.slow.remove(&(entry.since, id));
                self.idle.remove(&id);
            }
        }
        self.balance();
    }

    fn set_slow(&mut self, id: u64, slow: bool) {
        let since = self.number();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.slow == slow || entry.state == PermitState::Waiting {
            return;
        }
        entry.slow = slow;
        if slow {
            entry.since = since;
            self.slow_held += 1;
            if entry.state == PermitState::Held {
                self.slow.insert((since, id));
            }
        } else {
            self.slow_held -= 1;
            self.slow.remove(&(entry.since, id));
        }
        self.balance();
    }

    fn set_idle(&mut self, id: u64, idle: bool) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.idle = idle;
        if idle && entry.state == PermitState::Held {
            self.idle.insert(id);
            self.balance();
        } else {
            self.idle.remove(&id);
        }
    }

    /// Grants free permits, and asks back permits that others need more.
    fn balance(&mut self) {
        while self.free > 0
            && let Some(id) = self.next_in_queue()
        {
            self.grant(id);
        }
        self.ask_back();
    }

    /// Removes the next waiter that may hold a permit from its queue.
    fn next_in_queue(&mut self) -> Option<u64> {
        let slow_may = self.slow_held < self.share || self.quick_waiting.is_empty();
        let slow = self.slow_waiting.front().copied().filter(|_| slow_may);
        let quick = self.quick_waiting.front().copied();
        match (quick, slow) {
            (Some(quick), Some(slow)) if slow < quick => self.slow_waiting.pop_front(),
            (Some(_), _) => self.quick_waiting.pop_front(),
            (None, Some(_)) => self.slow_waiting.pop_front(),
            (None, None) => None,
        }
    }

    fn grant(&mut self, id: u64) {
        let since = self.number();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.free -= 1;
        entry.state = PermitState::Held;
        if entry.slow {
            entry.since = since;
            self.slow_held += 1;
            self.slow.insert((since, id));
        }
        entry.signal.set(PermitState::Held);
    }

    fn ask_back(&mut self) {
        if self.free > 0 {
            return;
        }
        let slow_may = self.slow_waiting.len().min(self.share.saturating_sub(self.slow_held));
        while self.asked < self.quick_waiting.len() + slow_may
            && let Some(id) = self.idle.pop_first()
        {
            self.ask(id);
        }
        while self.asked < self.quick_waiting.len()
            && self.slow.len() > self.share
            && let Some((_, id)) = self.slow.pop_last()
        {
            self.ask(id);
        }
    }

    fn ask(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.state = PermitState::AskedBack;
        self.asked += 1;
        self.slow.remove(&(entry.since, id));
        self.idle.remove(&id);
        entry.signal.set(PermitState::AskedBack);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    /// Polls once. Returns the output, or the pending future.
    fn now<F: Future>(future: F) -> Result<F::Output, std::pin::Pin<Box<F>>> {
        let mut future = Box::pin(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => Err(future),
        }
    }

    fn held(permits: &Arc<Permits>, slow: bool) -> Permit {
        now(permits.acquire(slow)).unwrap_or_else(|_| panic!("none is free"))
    }

    macro_rules! waits {
        ($permits:expr, $slow:expr) => {
            match now($permits.acquire($slow)) {
                Err(future) => future,
                Ok(_) => panic!("one was free"),
            }
        };
    }

    macro_rules! is_served {
        ($waiter:expr) => {
            now($waiter).unwrap_or_else(|_| panic!("still in the queue"))
        };
    }

    #[test]
    fn slow_hosts_hold_all_permits_while_no_one_waits() {
        let permits = Permits::new(8, 2);
        let slow: Vec<_> = (0..8).map(|_| held(&permits, true)).collect();
        assert!(slow.iter().all(|permit| !permit.is_asked_back()));
    }

    #[test]
    fn permits_beyond_the_share_are_asked_back_newest_first() {
        let permits = Permits::new(8, 2);
        let slow: Vec<_> = (0..8).map(|_| held(&permits, true)).collect();
        let asked = || slow.iter().map(Permit::is_asked_back).collect::<Vec<_>>();
        let first = waits!(permits, false);
        assert_eq!(asked(), [false, false, false, false, false, false, false, true]);
        let others: Vec<_> = (0..20).map(|_| waits!(permits, false)).collect();
        assert_eq!(asked(), [false, false, true, true, true, true, true, true], "their share stays");
        let mut slow = slow;
        slow.truncate(7);
        let first = is_served!(first);
        assert!(!first.is_asked_back());
        drop((others, slow));
    }

    #[test]
    fn a_host_that_turns_slow_beyond_the_share_releases_its_permit() {
        let permits = Permits::new(8, 2);
        let holders: Vec<_> = (0..8).map(|_| held(&permits, false)).collect();
        let waiter = waits!(permits, false);
        holders[3].set_slow(true);
        holders[5].set_slow(true);
        assert!(holders.iter().all(|permit| !permit.is_asked_back()), "two are the share");
        holders[1].set_slow(true);
        assert!(holders[1].is_asked_back() && !holders[3].is_asked_back());
        holders[6].set_slow(true);
        assert!(!holders[6].is_asked_back(), "one waits, and one was asked");
        // The host answers at last. Then another turns slow, within the share.
        drop(waiter);
        holders[3].set_slow(false);
        holders[6].set_slow(false);
        let _waiter = waits!(permits, false);
        holders[6].set_slow(true);
        assert!(!holders[6].is_asked_back());
    }

    #[test]
    fn a_slow_host_waits_beyond_the_share_and_is_served_within_it() {
        let permits = Permits::new(8, 2);
        let mut quick: Vec<_> = (0..6).map(|_| held(&permits, false)).collect();
        let slow: Vec<_> = (0..2).map(|_| held(&permits, true)).collect();
        let third = waits!(permits, true);
        let behind = waits!(permits, false);
        quick.pop();
        let behind = is_served!(behind);
        let Err(third) = now(third) else { panic!("beyond the share") };
        // A permit of the share is free again, so the first in the queue gets it.
        let last = waits!(permits, false);
        drop(slow);
        let third = is_served!(third);
        let last = is_served!(last);
        drop((behind, third, last));
    }

    #[test]
    fn an_idle_permit_is_asked_back_before_a_slow_one() {
        let permits = Permits::new(4, 1);
        let holders: Vec<_> = (0..4).map(|_| held(&permits, false)).collect();
        holders[0].set_slow(true);
        holders[1].set_slow(true);
        holders[2].set_idle(true);
        assert!(!holders[2].is_asked_back(), "nobody waits");
        let _waiter = waits!(permits, false);
        assert!(holders[2].is_asked_back() && !holders[1].is_asked_back());
        let _other = waits!(permits, false);
        assert!(holders[1].is_asked_back(), "the second needs another");
    }

    #[test]
    fn a_single_permit_is_the_share() {
        let permits = Permits::new(1, 1);
        let slow = held(&permits, true);
        let waiter = waits!(permits, false);
        assert!(!slow.is_asked_back(), "one is the share at the least");
        drop(slow);
        is_served!(waiter);
    }

    #[tokio::test]
    async fn an_asked_back_holder_is_woken() {
        let permits = Permits::new(1, 1);
        let idle = permits.acquire(false).await;
        let waiter = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { drop(permits.acquire(false).await) }
        });
        idle.set_idle(true);
        idle.asked_back().await;
        drop(idle);
        waiter.await.unwrap();
    }

    proptest! {
        /// In any order of events, no permit is lost or added. While fast hosts wait, slow ones keep no more than their
        /// share, except permits already asked back. No one waits while a permit is free.
        #[test]
        fn permits_are_conserved(most in 1usize..12, share in 0usize..4, steps in prop::collection::vec((0u8..6, any::<u16>()), 0..200)) {
            let mut core = PermitTable::new(most, share);
            let mut ids = Vec::new();
            for (step, which) in steps {
                let id = (!ids.is_empty()).then(|| ids[which as usize % ids.len()]);
                match (step, id) {
                    (0 | 1, _) => ids.push(core.join(step == 1, Arc::default())),
                    (2, Some(id)) => {
                        core.release(id);
                        ids.retain(|other| *other != id);
                    }
                    (3 | 4, Some(id)) => core.set_slow(id, step == 3),
                    (5, Some(id)) => core.set_idle(id, which % 2 == 0),
                    _ => {}
                }
                let of = |state| core.entries.values().filter(|entry| entry.state == state).count();
                let (held, asked) = (of(PermitState::Held), of(PermitState::AskedBack));
                prop_assert_eq!(core.free + held + asked, most);
                prop_assert_eq!(core.asked, asked);
                let slow = |entry: &&PermitEntry| entry.slow && entry.state != PermitState::Waiting;
                prop_assert_eq!(core.slow_held, core.entries.values().filter(slow).count());
                let waiting = of(PermitState::Waiting);
                prop_assert_eq!(core.quick_waiting.len() + core.slow_waiting.len(), waiting);
                prop_assert!(core.free == 0 || waiting == 0);
                if core.quick_waiting.len() > asked {
                    prop_assert!(core.slow.len() <= core.share && core.idle.is_empty());
                }
            }
        }
    }
}
