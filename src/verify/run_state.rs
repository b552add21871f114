//! The state of a run that the engine and the caller's two ends share: limits, events and the count of open work.
//!
//! ```text
//! Tasks ── Message ─▶ router ─▶ lanes ─▶ RunBatches ─▶ RunState ── EventBatch ─▶ Events
//! ```
//!
//! A run counts its open work, and is over once the count is zero. Its input counts as one. So does each address without
//! an event, and each reported verdict that may still be reopened.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::HashMap;
use tokio::sync::{Semaphore, mpsc};

use super::{CatchAll, Event, Task, item::Item, lane::status::Statuses};

/// Addresses that may be in progress in one run, with events that were not taken: about 50 MB. After a while most of
/// them wait for slow servers. The limit is high so that the fast servers still have work.
pub(super) const MAX_PENDING: usize = 262_144;
/// Octets of replies in events that were not taken yet: 32 MiB. Above that, no server is asked for this run.
const MAX_BACKLOG: usize = 32 << 20;

/// Who stores addresses that are to be asked again, and accepts withdrawn verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOwner {
    /// The engine, in memory.
    Engine,
    /// The caller.
    Caller,
}

/// A message to the engine. A run is named by its number.
#[derive(Debug)]
pub(super) enum Message {
    /// A new run.
    Start(Arc<RunState>),
    /// Addresses of a run.
    Tasks(u32, Vec<Task>),
    /// No more addresses will follow.
    InputEnded(u32),
    /// The run has no open work.
    Finished(u32),
    /// The caller has taken events of a run that had too many of them.
    BacklogShrunk(u32),
    /// The caller has dropped its end.
    Dropped(u32),
}

/// Events for the caller, and the permits of [`MAX_PENDING`] that they release when the caller takes them.
#[derive(Debug, Default)]
pub(super) struct EventBatch {
    pub(super) events: Vec<Event>,
    pub(super) permits: usize,
    /// Octets of the replies in the events.
    pub(super) octets: usize,
    /// The open work that ends with this batch.
    pub(super) finished: usize,
    /// Whether the run ends with this batch.
    pub(super) is_last: bool,
}

impl EventBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.permits == 0 && self.finished == 0
    }
}

/// Counts the octets of replies in events that the caller has not taken. Servers decide their length, and the caller
/// decides when it takes them.
#[derive(Debug, Default)]
pub(super) struct Backlog(AtomicUsize);

impl Backlog {
    fn add(&self, octets: usize) {
        self.0.fetch_add(octets, Relaxed);
    }

    /// Subtracts octets. Returns whether the backlog falls below its limit.
    pub(super) fn take(&self, octets: usize) -> bool {
        let before = self.0.fetch_sub(octets, Relaxed);
        before >= MAX_BACKLOG && before - octets < MAX_BACKLOG
    }

    /// Returns whether the backlog is at its limit.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Relaxed) >= MAX_BACKLOG
    }
}

/// The memory limits of a run, which its sender waits for and its receiver releases.
#[derive(Debug)]
pub(super) struct RunCapacity {
    /// A permit for each address in progress. Closed once the caller has dropped [`Events`](super::Events).
    pub(super) pending: Semaphore,
    pub(super) backlog: Backlog,
}

impl Default for RunCapacity {
    fn default() -> Self {
        Self { pending: Semaphore::new(MAX_PENDING), backlog: Backlog::default() }
    }
}

/// What the engine does for a run.
#[derive(Clone, Debug)]
pub(super) struct RunOptions {
    pub(super) retry_owner: RetryOwner,
    /// The pauses between attempts.
    pub(super) schedule: Arc<[Duration]>,
    /// Whether a caller waits for the only address, so that its connections may be needed again soon.
    pub(super) is_call: bool,
}

/// A run, as the engine sees it.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) id: u32,
    pub(super) options: RunOptions,
    /// Results of catch-all tests of earlier runs, by domain.
    known: Mutex<HashMap<Box<str>, CatchAll>>,
    pub(super) capacity: Arc<RunCapacity>,
    /// The lanes that the run used.
    pub(super) statuses: Statuses,
    /// Items that wait without a permit.
    waiting_without_permit: AtomicUsize,
    event_batches: mpsc::UnboundedSender<EventBatch>,
    /// The open work.
    open: AtomicUsize,
    is_over: AtomicBool,
    engine: mpsc::WeakUnboundedSender<Message>,
}

impl RunState {
    pub(super) fn new(
        id: u32,
        options: RunOptions,
        known: HashMap<Box<str>, CatchAll>,
        event_batches: mpsc::UnboundedSender<EventBatch>,
        engine: mpsc::WeakUnboundedSender<Message>,
    ) -> Self {
        Self {
            id,
            options,
            known: Mutex::new(known),
            capacity: Arc::default(),
            statuses: Statuses::default(),
            waiting_without_permit: AtomicUsize::new(0),
            event_batches,
            // The input.
            open: AtomicUsize::new(1),
            is_over: AtomicBool::new(false),
            engine,
        }
    }

    /// Returns run 0 without an engine, and the receiver of its events.
    #[cfg(test)]
    pub(super) fn for_test(
        retry_owner: RetryOwner,
        schedule: &[Duration],
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<EventBatch>) {
        let (event_batches, received) = mpsc::unbounded_channel();
        let options = RunOptions { retry_owner, schedule: schedule.into(), is_call: false };
        let engine = mpsc::unbounded_channel().0.downgrade();
        (Arc::new(Self::new(0, options, HashMap::default(), event_batches, engine)), received)
    }

    /// Returns the pause after this number of attempts, or `None` after the last.
    pub(super) fn pause(&self, attempts: u16) -> Option<Duration> {
        self.options.schedule.get(usize::from(attempts).checked_sub(1)?).copied()
    }

    /// Returns the result of an earlier run for a domain.
    pub(super) fn known(&self, domain: &str) -> Option<CatchAll> {
        self.lock_known().get(domain).copied()
    }

    fn lock_known(&self) -> MutexGuard<'_, HashMap<Box<str>, CatchAll>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds open work.
    pub(super) fn add_open(&self, count: usize) {
        self.open.fetch_add(count, Relaxed);
    }

    /// Ends open work. Tells the engine when none is left.
    pub(super) fn finish(&self, count: usize) {
        // All events before the last end of work must be sent before the engine ends the run.
        if count > 0
            && self.open.fetch_sub(count, Ordering::AcqRel) == count
            && let Some(engine) = self.engine.upgrade()
        {
            let _ = engine.send(Message::Finished(self.id));
        }
    }

    /// Sends events to the caller. They are discarded if the caller has dropped its end.
    pub(super) fn deliver(&self, event_batch: EventBatch) {
        let finished = event_batch.finished;
        self.capacity.backlog.add(event_batch.octets);
        let _ = self.event_batches.send(event_batch);
        self.finish(finished);
    }

    /// Returns whether the run has ended, or its caller has dropped it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Records that the run is over, and releases what only the run needs.
    pub(super) fn set_over(&self) {
        self.is_over.store(true, Relaxed);
        drop(mem::take(&mut *self.lock_known()));
    }

    /// Tells the caller that the run is over.
    pub(super) fn end(&self) {
        let _ = self.event_batches.send(EventBatch { is_last: true, ..EventBatch::default() });
    }

    /// Records that an item without a permit has its event.
    pub(super) fn end_wait_without_permit(&self) {
        self.waiting_without_permit.fetch_sub(1, Relaxed);
    }

    /// Releases the permit of an address that waits for another attempt. At most [`MAX_PENDING`] addresses wait without
    /// a permit, since they also take memory.
    pub(super) fn release_permit(&self, item: &mut Item) {
        if !item.holds_permit {
            return;
        }
        if self.waiting_without_permit.fetch_add(1, Relaxed) < MAX_PENDING {
            item.holds_permit = false;
            self.capacity.pending.add_permits(1);
        } else {
            self.waiting_without_permit.fetch_sub(1, Relaxed);
        }
    }
}

/// The runs that are not over, by number.
#[derive(Debug, Default)]
pub(super) struct RunTable(Mutex<HashMap<u32, Arc<RunState>>>);

impl RunTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<RunState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, run: u32) -> Option<Arc<RunState>> {
        self.lock().get(&run).cloned()
    }

    pub(super) fn add(&self, run: Arc<RunState>) {
        self.lock().insert(run.id, run);
    }

    /// Removes a run, which is over.
    pub(super) fn remove(&self, run: u32) -> Option<Arc<RunState>> {
        let run = self.lock().remove(&run)?;
        run.set_over();
        Some(run)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn has_only_calls(&self) -> bool {
        self.lock().values().all(|run| run.options.is_call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_tells_when_it_falls_below_its_limit() {
        let backlog = Backlog::default();
        backlog.add(MAX_BACKLOG - 1);
        assert!(!backlog.is_full());
        backlog.add(1_000);
        assert!(backlog.is_full() && !backlog.take(500));
        assert!(backlog.is_full() && backlog.take(500));
        assert!(!backlog.is_full() && !backlog.take(500));
    }

    #[test]
    fn a_run_is_over_once_its_input_and_every_address_have_ended() {
        let (engine, mut messages) = mpsc::unbounded_channel();
        let (event_batches, mut received) = mpsc::unbounded_channel();
        let options = RunOptions { retry_owner: RetryOwner::Engine, schedule: [].into(), is_call: false };
        let run = RunState::new(7, options, HashMap::default(), event_batches, engine.downgrade());
        run.add_open(2);
        run.deliver(EventBatch { finished: 1, ..EventBatch::default() });
        run.finish(1);
        assert!(messages.try_recv().is_err(), "one address is open");
        run.deliver(EventBatch { finished: 1, ..EventBatch::default() });
        assert!(matches!(messages.try_recv(), Ok(Message::Finished(7))));
        run.end();
        let batches: Vec<_> = std::iter::from_fn(|| received.try_recv().ok()).collect();
        assert_eq!(batches.iter().map(|batch| batch.is_last).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn as_many_wait_without_a_permit_as_there_are_permits() {
        let (run, _received) = RunState::for_test(RetryOwner::Engine, &[]);
        let pending = &run.capacity.pending;
        for _ in 0..MAX_PENDING {
            let mut item = Item::for_test("");
            run.release_permit(&mut item);
            assert!(!item.holds_permit);
        }
        let mut next = Item::for_test("");
        run.release_permit(&mut next);
        assert!(next.holds_permit, "it keeps its permit");
        assert_eq!(pending.available_permits(), 2 * MAX_PENDING);
        run.end_wait_without_permit();
        run.release_permit(&mut next);
        assert!(!next.holds_permit);
    }
}
