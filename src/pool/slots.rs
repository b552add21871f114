//! The slots of one server: how many connections there may be, who has them, who waits for one.
//!
//! ```text
//!                  reserve                        connected
//!        ┌──────┐ ─────────▶ ┌────────────┐ ──────────────────▶ ┌──────┐   take / serve   ┌──────┐
//!        │ free │            │ connecting │                     │ idle │ ───────────────▶ │ lent │
//!        └──────┘ ◀───────── └────────────┘                     └──┬───┘ ◀─────────────── └──┬───┘
//!            ▲      failed                                         │            put          │
//!            └─────────────────────────────────────────────────────┴─────────────────────────┘
//!                                     release (shed, reaped, broken, closed)
//! ```
//!
//! `live` counts what is connecting, idle or lent, and never exceeds `max`. Nothing here knows what a connection is,
//! does I/O, spawns or reads a clock: the caller connects, and says what came of it. A connection stands for its slot:
//! when one is dropped, its `Drop` has to [release](Slots::release) the slot.
//!
//! # No lock where nobody waits
//!
//! Taking an idle connection and putting it back are a pop and a push of the queue, and a look at [`Slots::state`],
//! which is zero unless somebody waits or the slots are closed. No wakeup is lost, since who waits and who puts back
//! both *modify* `state`, and modifications of one atomic have an order:
//!
//! - a waiter raises `state`, then looks into the queue;
//! - a connection is pushed into the queue, then `state` is looked at by adding nothing to it.
//!
//! Whichever modification comes second sees what the other did before its own: either the waiter finds the connection
//! in the queue, or the one who put it there finds that somebody waits, and serves the line. The same holds of a slot
//! that is freed (`live` lowered, then `state` looked at), and of closing (`state` marked, then the queue emptied).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    idle::Idle,
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering},
    wait_queue::{Departure, WaitQueue},
};

/// Marks [`Slots::state`] of closed slots; the rest counts who waits.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A limit over the slots of all servers.
#[derive(Debug)]
pub(super) struct TotalLimit {
    used: AtomicUsize,
    max: usize,
    /// Servers with someone waiting that could connect but for this limit, and for whom none is being closed yet.
    waiters: AtomicUsize,
}

impl TotalLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, waiters: AtomicUsize::new(0) }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Records how many servers wait for a slot.
    pub(super) fn set_waiters(&self, servers: usize) {
        self.waiters.store(servers, Ordering::Release);
    }

    fn reserve(&self) -> bool {
        raise(&self.used, self.max)
    }

    fn release(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Adds one unless that exceeds `max`.
fn raise(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < max).then_some(now + 1)).is_ok()
}

/// A connection, as far as slots are concerned.
pub(super) trait Occupant {
    /// Its slot is another's from now on: there were more connections than there should be. While it says goodbye, it
    /// counts only against the limit over all servers.
    fn evict(&mut self);
}

/// Takes one off unless there are no more than `max`.
fn lower(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now > max).then(|| now - 1)).is_ok()
}

/// How many connections to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// This many slots are reserved for them.
    pub(super) connects: usize,
    /// More would be wanted, but for the limit over all servers.
    pub(super) is_at_limit: bool,
}

/// The slots of one server, for connections `T` and failures `E`.
#[derive(Debug)]
pub(super) struct Slots<T, E> {
    /// Who waits and was not served, and [`CLOSED`].
    state: AtomicUsize,
    idle: Idle<T>,
    max: AtomicUsize,
    live: AtomicUsize,
    /// The fewest that were idle since the mark was last taken.
    low_water: AtomicUsize,
    queue: Mutex<WaitQueue<Result<T, E>>>,
    /// How often the lock was taken.
    locked: AtomicUsize,
    total: Arc<TotalLimit>,
}

impl<T: Occupant, E: Clone> Slots<T, E> {
    pub(super) fn new(max: usize, total: Arc<TotalLimit>) -> Self {
        Self {
            state: AtomicUsize::new(0),
            idle: Idle::new(max),
            max: AtomicUsize::new(max),
            live: AtomicUsize::new(0),
            low_water: AtomicUsize::new(0),
            queue: Mutex::new(WaitQueue::default()),
            locked: AtomicUsize::new(0),
            total,
        }
    }

    /// An idle connection, unless somebody has been waiting for one.
    pub(super) fn take(&self) -> Option<T> {
        if self.state.load(Ordering::Acquire) == 0 { self.take_first() } else { None }
    }

    /// An idle connection, whoever has been waiting for one.
    pub(super) fn take_first(&self) -> Option<T> {
        let item = self.idle.pop();
        let low = self.low_water.load(Ordering::Relaxed);
        // Asked only where it may matter: whoever else pops and pushes is disturbed by it.
        if low > 0 {
            let left = self.idle.len();
            if left < low {
                self.low_water.fetch_min(left, Ordering::Relaxed);
            }
        }
        item
    }

    /// Puts a connection back that was taken, or that is new.
    ///
    /// Given back if it is not wanted any more.
    pub(super) fn put(&self, mut item: T) -> Result<(), T> {
        if self.is_unwanted(&mut item) {
            return Err(item);
        }
        self.publish(item)?;
        self.signal();
        Ok(())
    }

    /// Whether there is no place for a connection any more: the slots are closed, there are too many, or another server
    /// needs it more.
    fn is_unwanted(&self, item: &mut T) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & CLOSED != 0 || self.evict(item) || (state == 0 && self.total.has_waiters())
    }

    /// Takes the slot from a connection if there are too many.
    fn evict(&self, item: &mut T) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let evicted = self.live.load(Ordering::Relaxed) > max && lower(&self.live, max);
        if evicted {
            item.evict();
        }
        evicted
    }

    pub(super) fn publish(&self, item: T) -> Result<(), T> {
        self.idle.push(item)
    }

    /// Sees to whoever waits for what was published.
    pub(super) fn signal(&self) {
        let state = self.state.fetch_add(0, Ordering::AcqRel);
        if state != 0 {
            self.settle(0);
        }
    }

    /// Serves the line, now that so many have arrived; empties the queue if it was closed meanwhile.
    fn settle(&self, arrived: usize) {
        // Dropped last, when the lock is no longer held.
        let mut unwanted = Vec::new();
        let mut queue = self.lock();
        queue.connecting = queue.connecting.saturating_sub(arrived);
        if self.is_closed() {
            unwanted.extend(std::iter::from_fn(|| self.idle.pop()));
        }
        let wakers = self.serve(&mut queue);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn serve(&self, queue: &mut WaitQueue<Result<T, E>>) -> VecDeque<Waker> {
        let mut wakers = VecDeque::new();
        while queue.unserved() > 0
            && let Some(item) = self.idle.pop()
        {
            match queue.serve(Ok(item)) {
                Ok(waker) => {
                    self.state.fetch_sub(1, Ordering::AcqRel);
                    wakers.extend(waker);
                }
                // Cannot be: the line is locked, and somebody is in it.
                Err(Ok(item)) => drop(self.idle.push(item)),
                Err(Err(_)) => {}
            }
        }
        wakers
    }

    /// Gets in line; `None` if the slots are closed. [`demand`](Self::demand) is to be looked at next.
    pub(super) fn join(&self) -> Option<Waiter<'_, T, E>> {
        let mut queue = self.lock();
        if self.is_closed() {
            return None;
        }
        let ticket = queue.join();
        self.state.fetch_add(1, Ordering::AcqRel);
        let wakers = self.serve(&mut queue);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        Some(Waiter { slots: self, ticket, taken: false })
    }

    /// Reserves slots for connections that those in line need, of which `at_once` may be on their way together.
    pub(super) fn demand(&self, at_once: usize) -> Demand {
        let mut demand = Demand::default();
        let mut queue = self.lock();
        while !self.is_closed() && queue.connecting < queue.unserved().min(at_once) {
            match self.reserve() {
                Ok(()) => (queue.connecting, demand.connects) = (queue.connecting + 1, demand.connects + 1),
                Err(is_at_limit) => {
                    demand.is_at_limit = is_at_limit;
                    break;
                }
            }
        }
        demand
    }

    /// Reserves a slot for a connection that nobody waits for.
    pub(super) fn reserve_spare(&self) -> bool {
        let mut queue = self.lock();
        let reserved = !self.is_closed() && self.reserve().is_ok();
        queue.connecting += usize::from(reserved);
        reserved
    }

    /// Whether it was the limit over all servers that stood in the way.
    fn reserve(&self) -> Result<(), bool> {
        if !raise(&self.live, self.max.load(Ordering::Acquire)) {
            return Err(false);
        }
        if !self.total.reserve() {
            self.live.fetch_sub(1, Ordering::AcqRel);
            return Err(true);
        }
        Ok(())
    }

    /// A connection on its way has arrived; as [`put`](Self::put). [`demand`](Self::demand) is to be looked at next.
    pub(super) fn connected(&self, mut item: T) -> Result<(), T> {
        let put = if self.is_unwanted(&mut item) { Err(item) } else { self.publish(item) };
        // On its way until somebody has it: else a newcomer would have another opened for whoever it is for.
        self.settle(1);
        put
    }

    /// A connection on its way will not arrive. If there is none left that those in line could wait for, `error` is
    /// what they get.
    pub(super) fn failed(&self, error: &E) {
        let mut wakers = Vec::new();
        let mut queue = self.lock();
        queue.connecting = queue.connecting.saturating_sub(1);
        self.total.release();
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            wakers = self.fail_all(&mut queue, error);
        }
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A connection on its way was given up, for no fault of the server: others may be opened in its place.
    pub(super) fn abandoned(&self) {
        let mut queue = self.lock();
        queue.connecting = queue.connecting.saturating_sub(1);
        drop(queue);
        self.live.fetch_sub(1, Ordering::AcqRel);
        self.total.release();
    }

    fn fail_all(&self, queue: &mut WaitQueue<Result<T, E>>, error: &E) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Ok(waker) = queue.serve(Err(error.clone())) {
            self.state.fetch_sub(1, Ordering::AcqRel);
            wakers.extend(waker);
        }
        wakers
    }

    /// Fails all who wait, if there is nothing that they could wait for.
    pub(super) fn give_up(&self, error: &E) {
        let mut queue = self.lock();
        let wakers = if self.live() == 0 { self.fail_all(&mut queue, error) } else { Vec::new() };
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A connection is no more, whose slot was free before if it was `evicted`. Tells whether somebody may be waiting
    /// for what is free now, who then has to be seen to by [`demand`](Self::demand).
    pub(super) fn release(&self, evicted: bool) -> bool {
        if !evicted {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
        self.total.release();
        self.state.fetch_add(0, Ordering::AcqRel) != 0 || self.total.has_waiters()
    }

    /// Takes idle connections for which `unwanted` says so, and those that are too many. The others keep their order.
    pub(super) fn reap(&self, mut unwanted: impl FnMut(&mut T) -> bool) -> Vec<T> {
        let mut reaped = Vec::new();
        for _ in 0..self.idle.len() {
            let Some(mut item) = self.idle.pop() else { break };
            if self.is_unwanted(&mut item) || unwanted(&mut item) {
                reaped.push(item);
            } else if let Err(item) = self.publish(item) {
                reaped.push(item);
            } else {
                self.signal();
            }
        }
        reaped
    }

    /// The fewest that were idle since the last call.
    pub(super) fn take_low_water(&self) -> usize {
        self.low_water.swap(self.idle.len(), Ordering::Relaxed).min(self.idle.len())
    }

    /// Sets how many there may be; what is idle and too many is given back.
    pub(super) fn resize(&self, max: usize) -> Vec<T> {
        let queue = self.lock();
        self.idle.grow(max);
        self.max.store(max, Ordering::Release);
        drop(queue);
        self.reap(|_| false)
    }

    /// Closes for good: everybody in line gets `error`, and what is idle is given back.
    pub(super) fn close(&self, error: &E) -> Vec<T> {
        let mut queue = self.lock();
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        let wakers = self.fail_all(&mut queue, error);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        std::iter::from_fn(|| self.idle.pop()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, WaitQueue<Result<T, E>>> {
        self.locked.fetch_add(1, Ordering::Relaxed);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> Slots<T, E> {
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Connections that are idle, lent or on their way.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Acquire)
    }

    /// Those in line who were not served.
    pub(super) fn waiting(&self) -> usize {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    pub(super) fn connecting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).connecting
    }

    /// How often the lock was taken, for a test that the way without it is the usual one.
    #[cfg(all(test, feature = "sandbox"))]
    pub(super) fn locked(&self) -> usize {
        self.locked.load(Ordering::Relaxed)
    }
}

/// A place in line. Dropping it leaves the line; what was put aside for it goes to the next.
#[derive(Debug)]
pub(super) struct Waiter<'a, T: Occupant, E: Clone> {
    slots: &'a Slots<T, E>,
    ticket: u64,
    taken: bool,
}

impl<T: Occupant, E: Clone> Future for Waiter<'_, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.slots.lock().poll(self.ticket, context.waker());
        match polled {
            Poll::Ready(Some(outcome)) => {
                self.taken = true;
                Poll::Ready(outcome)
            }
            // Polled again after it was done, as no future should be.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Occupant, E: Clone> Drop for Waiter<'_, T, E> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let left = self.slots.lock().leave(self.ticket);
        match left {
            Some(Departure::Unserved) => {
                self.slots.state.fetch_sub(1, Ordering::AcqRel);
            }
            Some(Departure::Served(Ok(item))) => drop(self.slots.put(item)),
            Some(Departure::Served(Err(_))) | None => {}
        }
    }
}
