//! The slots of one server: the connections that exist, and the callers that wait for one.
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
//! `live` counts what is connecting, idle or lent, and never exceeds `max`. This module does no I/O, spawns nothing and
//! reads no clock. The caller connects, and reports the result. A connection has a slot: its `Drop` must
//! [release](Slots::release) it.
//!
//! # No lock without waiting callers
//!
//! To take an idle connection is a pop of the queue, and to put it back is a push. Both read [`Slots::state`], which is
//! zero unless a caller waits or the slots are closed. No wakeup is lost: a waiter and a return both *modify* `state`,
//! and the modifications of one atomic have an order:
//!
//! - a waiter raises `state`, then looks into the queue;
//! - a return pushes the connection into the queue, then reads `state` by adding nothing to it.
//!
//! The second modification sees what happened before the first one. If the waiter is second, it finds the connection in
//! the queue. If the return is second, it finds a waiter, and serves it. The same holds for a slot that is freed (`live`
//! is lowered, then `state` read), and for closing (`state` is marked, then the queue emptied).

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

/// The bit of [`Slots::state`] for closed slots. The other bits count waiting callers.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A limit over the slots of all servers.
#[derive(Debug)]
pub(super) struct TotalLimit {
    used: AtomicUsize,
    max: usize,
    /// Servers with a waiting caller that only this limit stops, and for which no connection is being closed yet.
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

/// A connection in a slot.
pub(super) trait Occupant {
    /// Records that its slot is free for another one, because there were too many connections. During QUIT, it counts only
    /// against the limit over all servers.
    fn evict(&mut self);
}

/// Takes one off unless there are no more than `max`.
fn lower(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now > max).then(|| now - 1)).is_ok()
}

/// The number of connections to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// The number of slots that are reserved for them.
    pub(super) connects: usize,
    /// The limit over all servers allows no more.
    pub(super) is_at_limit: bool,
}

/// The slots of one server, for connections `T` and failures `E`.
#[derive(Debug)]
pub(super) struct Slots<T, E> {
    /// The number of callers that wait and were not served, and [`CLOSED`].
    state: AtomicUsize,
    idle: Idle<T>,
    max: AtomicUsize,
    live: AtomicUsize,
    /// The fewest idle connections since the mark was last taken.
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

    /// Takes an idle connection, unless a caller waits for one.
    pub(super) fn take(&self) -> Option<T> {
        if self.state.load(Ordering::Acquire) == 0 { self.take_first() } else { None }
    }

    /// Takes an idle connection, also if a caller waits for one.
    pub(super) fn take_first(&self) -> Option<T> {
        let item = self.idle.pop();
        let low = self.low_water.load(Ordering::Relaxed);
        // Read only where it may matter, because it disturbs other threads that pop and push.
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
    /// Returns it if it has no place any more.
    pub(super) fn put(&self, mut item: T) -> Result<(), T> {
        if self.is_unwanted(&mut item) {
            return Err(item);
        }
        self.publish(item)?;
        self.signal();
        Ok(())
    }

    /// Returns whether a connection has no place any more. Then the slots are closed, there are too many, or another
    /// server waits for the limit over all servers.
    fn is_unwanted(&self, item: &mut T) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & CLOSED != 0 || self.evict(item) || (state == 0 && self.total.has_waiters())
    }

    /// Takes its slot from a connection if there are too many. Returns whether it did.
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

    /// Serves callers that wait for what was published.
    pub(super) fn signal(&self) {
        let state = self.state.fetch_add(0, Ordering::AcqRel);
        if state != 0 {
            self.settle(0);
        }
    }

    /// Serves the waiting callers, after `arrived` connections were opened. If the slots were closed meanwhile, it drops
    /// what is idle.
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
                // Cannot be: the queue is locked, and a caller is in it.
                Err(Ok(item)) => drop(self.idle.push(item)),
                Err(Err(_)) => {}
            }
        }
        wakers
    }

    /// Joins the queue. Returns `None` if the slots are closed. The caller then calls [`demand`](Self::demand).
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

    /// Reserves slots for connections that waiting callers need. At most `at_once` are opened at the same time.
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

    /// Reserves a slot for a connection without a waiting caller. Returns whether there was one.
    pub(super) fn reserve_spare(&self) -> bool {
        let mut queue = self.lock();
        let reserved = !self.is_closed() && self.reserve().is_ok();
        queue.connecting += usize::from(reserved);
        reserved
    }

    /// Reserves a slot. The error says whether the limit over all servers was the reason.
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

    /// Takes a connection that was opened, as [`put`](Self::put) does. The caller then calls [`demand`](Self::demand).
    pub(super) fn connected(&self, mut item: T) -> Result<(), T> {
        let put = if self.is_unwanted(&mut item) { Err(item) } else { self.publish(item) };
        // It counts as connecting until a caller has it. Otherwise a new caller would open another one for the same one.
        self.settle(1);
        put
    }

    /// Records that a connection was not opened. If no connection is left to wait for, waiting callers get `error`.
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

    /// Records that an attempt was given up without a fault of the server. Another one may take its place.
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

    /// Fails all waiting callers, if no connection is left to wait for.
    pub(super) fn give_up(&self, error: &E) {
        let mut queue = self.lock();
        let wakers = if self.live() == 0 { self.fail_all(&mut queue, error) } else { Vec::new() };
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Frees the slot of a connection that ended; an `evicted` one had none. Returns whether a caller may wait for the
    /// slot. Then the caller of this function calls [`demand`](Self::demand).
    pub(super) fn release(&self, evicted: bool) -> bool {
        if !evicted {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
        self.total.release();
        self.state.fetch_add(0, Ordering::AcqRel) != 0 || self.total.has_waiters()
    }

    /// Takes the idle connections that are `unwanted`, and surplus ones. The others keep their order.
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

    /// Returns the fewest idle connections since the last call.
    pub(super) fn take_low_water(&self) -> usize {
        self.low_water.swap(self.idle.len(), Ordering::Relaxed).min(self.idle.len())
    }

    /// Sets the most connections. Returns idle ones that are surplus.
    pub(super) fn resize(&self, max: usize) -> Vec<T> {
        let queue = self.lock();
        self.idle.grow(max);
        self.max.store(max, Ordering::Release);
        drop(queue);
        self.reap(|_| false)
    }

    /// Closes for good. Waiting callers get `error`, and the idle connections are returned.
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

    /// Returns how many connections are idle, lent or being opened.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Acquire)
    }

    /// Returns how many callers wait and were not served.
    pub(super) fn waiting(&self) -> usize {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    pub(super) fn connecting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).connecting
    }

    /// Returns how often the lock was taken, for a test that a checkout takes none.
    #[cfg(all(test, feature = "sandbox"))]
    pub(super) fn locked(&self) -> usize {
        self.locked.load(Ordering::Relaxed)
    }
}

/// A place in the queue. Dropping it leaves the queue, and its item goes to the next caller.
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
            // Polled again after it was ready, which no caller should do.
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
