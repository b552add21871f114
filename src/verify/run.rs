//! A run: the two ends that the caller holds, and the simple one for those who only want the records.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};

use super::{Event, LaneStatus, Record, Task, input::InputReceiver, lane::status::Statuses};

/// Permits for addresses that are under way, events not yet taken included: some 50 MB of them. Most wait for the slow
/// servers after a while, and the others should not run dry for that.
pub(super) const MAX_PENDING: usize = 262_144;
/// Octets of an address to a permit, so that all of them together hold 64 MiB of addresses at the most.
const OCTETS_PER_PERMIT: usize = 256;
/// Permits that tasks take at once, at the most.
const MAX_PERMITS_AT_ONCE: usize = MAX_PENDING / 4;
/// Octets of replies in events that were not yet taken, 32 MiB: while there are more, no server is asked.
const MAX_BACKLOG: usize = 32 << 20;

/// Tasks and events that travel together: enough that the way costs little, and so few that the memory for them comes
/// from the allocator's own and not from the system, page by page, and that batches for lanes can keep theirs.
pub(super) const BATCH_SIZE: usize = 256;

/// Events on their way, and the permits among [`MAX_PENDING`] that become free when they are taken.
#[derive(Debug, Default)]
pub(super) struct EventBatch {
    pub(super) events: Vec<Event>,
    pub(super) permits: usize,
    /// Octets of the replies in them.
    pub(super) octets: usize,
}

/// The permits that an address takes: one, and one more for each 256 octets. What is no address may have any length.
#[inline]
pub(super) fn permits_for(address: &str) -> usize {
    (1 + address.len() / OCTETS_PER_PERMIT).min(MAX_PERMITS_AT_ONCE)
}

/// The replies in events that were not yet taken. Servers decide how much they write, and the caller when it takes the
/// events.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    octets: AtomicUsize,
    /// Told when there is room again.
    shrunk: Notify,
}

impl Backlog {
    pub(super) fn add(&self, octets: usize) {
        self.octets.fetch_add(octets, Relaxed);
    }

    fn take(&self, octets: usize) {
        let before = self.octets.fetch_sub(octets, Relaxed);
        if before >= MAX_BACKLOG && before - octets < MAX_BACKLOG {
            self.shrunk.notify_waiters();
        }
    }

    /// Waits until the caller has taken enough events for more to be asked.
    ///
    /// Cancellation-safe.
    #[inline]
    pub(super) async fn wait_for_capacity(&self) {
        while self.octets.load(Relaxed) >= MAX_BACKLOG {
            // Told from here on, whether it is polled or not.
            let shrunk = self.shrunk.notified();
            if self.octets.load(Relaxed) >= MAX_BACKLOG {
                shrunk.await;
            }
        }
    }
}

/// Where the tasks of a run go in. Dropping all of its clones ends the input.
#[derive(Clone, Debug)]
pub struct Tasks {
    sender: mpsc::UnboundedSender<Vec<Task>>,
    pending: Arc<Semaphore>,
}

/// The run is over: its [`Events`] were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run is over")]
pub struct Ended;

impl EventBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.permits == 0
    }
}

impl Tasks {
    pub(super) fn new(pending: Arc<Semaphore>) -> (Self, mpsc::UnboundedReceiver<Vec<Task>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, pending }, receiver)
    }

    /// Hands tasks over, and waits while too many are under way: 262,144, events that were not taken yet included. What is
    /// longer than an address counts for more, one for each 256 octets.
    ///
    /// # Errors
    /// Nobody takes the events any more.
    ///
    /// # Cancellation safety
    /// If the future is dropped, a first part of the tasks may have been handed over: send no more than 256 at
    /// once, or what should not be lost.
    pub async fn send(&self, tasks: Vec<Task>) -> Result<(), Ended> {
        let wanted = tasks.iter().map(|task| permits_for(&task.address)).sum();
        // Large batches do not wait for the run to be empty.
        if tasks.len() <= BATCH_SIZE && wanted <= MAX_PERMITS_AT_ONCE {
            return self.send_at_once(tasks, wanted).await;
        }
        let (mut part, mut wanted) = (Vec::new(), 0);
        for task in tasks {
            let more = permits_for(&task.address);
            if part.len() == BATCH_SIZE || wanted + more > MAX_PERMITS_AT_ONCE {
                self.send_at_once(std::mem::take(&mut part), std::mem::take(&mut wanted)).await?;
            }
            part.push(task);
            wanted += more;
        }
        self.send_at_once(part, wanted).await
    }

    async fn send_at_once(&self, tasks: Vec<Task>, permits: usize) -> Result<(), Ended> {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        // Given back with the event of each task.
        self.pending.acquire_many(permits).await.map_err(|_| Ended)?.forget();
        self.sender.send(tasks).map_err(|_| Ended)
    }

    /// Passes on what is read.
    pub(super) async fn feed(self, mut input: InputReceiver) {
        let mut id = 0;
        while let Some(addresses) = input.take().await {
            let tasks = addresses.into_iter().map(|address| {
                id += 1;
                Task { id: id - 1, address, attempts: 0 }
            });
            let mut tasks = tasks.peekable();
            while tasks.peek().is_some() {
                if self.send(tasks.by_ref().take(BATCH_SIZE).collect()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What comes out of a run. Dropping it abandons the run.
#[derive(Debug)]
pub struct Events {
    received: mpsc::UnboundedReceiver<EventBatch>,
    ready: std::vec::IntoIter<Event>,
    pending: Arc<Semaphore>,
    backlog: Arc<Backlog>,
    statuses: Statuses,
    /// Aborted when dropped.
    pub(super) tasks: JoinSet<()>,
}

impl Events {
    pub(super) fn new(
        received: mpsc::UnboundedReceiver<EventBatch>,
        pending: Arc<Semaphore>,
        backlog: Arc<Backlog>,
        statuses: Statuses,
    ) -> Self {
        Self { received, ready: Vec::new().into_iter(), pending, backlog, statuses, tasks: JoinSet::new() }
    }

    /// The next event, or none when the input has ended and every task had its own.
    ///
    /// # Cancellation safety
    /// Nothing is lost if the future is dropped.
    #[inline]
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.next() {
                return Some(event);
            }
            self.ready = self.next_event_batch().await?.into_iter();
        }
    }

    /// The next events, those that came together: a few hundred where answers come quickly. None as [`next`](Self::next).
    ///
    /// # Cancellation safety
    /// As [`next`](Self::next).
    pub async fn next_many(&mut self) -> Option<Vec<Event>> {
        match self.ready.as_slice() {
            [] => self.next_event_batch().await,
            _ => Some(std::mem::take(&mut self.ready).collect()),
        }
    }

    /// How the lanes are doing: one cheap look, for a screen. See [`Lanes`] for one to keep elsewhere.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        Lanes(self.statuses.clone())
    }

    async fn next_event_batch(&mut self) -> Option<Vec<Event>> {
        loop {
            let event_batch = self.received.recv().await?;
            self.pending.add_permits(event_batch.permits);
            self.backlog.take(event_batch.octets);
            if !event_batch.events.is_empty() {
                return Some(event_batch.events);
            }
        }
    }
}

/// Nobody waits for a permit any more.
impl Drop for Events {
    fn drop(&mut self) {
        self.pending.close();
    }
}

/// Looks at the lanes of a run, whoever takes its events.
#[derive(Clone, Debug)]
pub struct Lanes(Statuses);

impl Lanes {
    /// How each lane is doing that was needed so far, in the order of their first need.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LaneStatus> {
        self.0.snapshot()
    }
}

/// The records of a run, as they come. Dropping it abandons the run.
#[derive(Debug)]
pub struct Records(pub(super) Events);

impl Records {
    /// The next record, or none when every address has its record.
    ///
    /// # Cancellation safety
    /// Nothing is lost if the future is dropped.
    #[inline]
    pub async fn next(&mut self) -> Option<Record> {
        self.next_numbered().await.map(|(_, record)| record)
    }

    /// The next record, and the number of its address among those that went in, from 0.
    ///
    /// # Cancellation safety
    /// As [`next`](Self::next).
    #[inline]
    pub async fn next_numbered(&mut self) -> Option<(u64, Record)> {
        loop {
            match self.0.ready.next() {
                Some(Event::Done { id, record }) => return Some((id, record)),
                Some(_) => {}
                None => self.0.ready = self.0.next_event_batch().await?.into_iter(),
            }
        }
    }

    /// How the lanes are doing.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        self.0.lanes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn task(id: u64, octets: usize) -> Task {
        Task { id, address: "x".repeat(octets), attempts: 0 }
    }

    #[test]
    fn an_address_takes_a_place_for_each_256_octets() {
        assert_eq!(
            [0, 255, 256, 1_023, 1_024].map(|octets| permits_for(&"x".repeat(octets))),
            [1, 1, 2, 4, 5]
        );
        assert_eq!(permits_for(&"x".repeat(OCTETS_PER_PERMIT * MAX_PENDING)), MAX_PERMITS_AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_address_is_let_in_by_its_octets() {
        let pending = Arc::new(Semaphore::new(MAX_PENDING));
        let (tasks, mut received) = Tasks::new(Arc::clone(&pending));
        let sender =
            tokio::spawn(async move { tasks.send((0..100).map(|n| task(n, 1 << 20)).collect()).await });
        let (mut octets, mut next) = (0, 0);
        while let Ok(Some(event_batch)) = timeout(Duration::from_secs(1), received.recv()).await {
            octets += event_batch.iter().map(|task| task.address.len()).sum::<usize>();
            for task in event_batch {
                assert_eq!(task.id, next);
                next += 1;
            }
        }
        assert!((48..=64).contains(&(octets >> 20)), "{octets} octets are under way");
        while next < 100 {
            // As events give them back.
            pending.add_permits(MAX_PERMITS_AT_ONCE);
            let event_batch = received.recv().await.unwrap();
            assert!(
                event_batch.iter().map(|task| permits_for(&task.address)).sum::<usize>()
                    <= MAX_PERMITS_AT_ONCE
            );
            for task in event_batch {
                assert_eq!(task.id, next);
                next += 1;
            }
        }
        assert!(sender.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_while_too_many_replies_were_not_taken() {
        let backlog = Backlog::default();
        backlog.add(MAX_BACKLOG - 1);
        backlog.wait_for_capacity().await;
        backlog.add(1_000);
        assert!(timeout(Duration::from_secs(60), backlog.wait_for_capacity()).await.is_err());
        let taken = async {
            tokio::task::yield_now().await;
            backlog.take(500);
            tokio::task::yield_now().await;
            backlog.take(500);
        };
        tokio::join!(backlog.wait_for_capacity(), backlog.wait_for_capacity(), taken);
        assert_eq!(backlog.octets.load(Relaxed), MAX_BACKLOG - 1);
    }
}
