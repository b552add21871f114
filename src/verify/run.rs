//! A run of the verifier: its two ends, [`Tasks`] and [`Events`], and [`Records`] for callers that need only records.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};

use super::{Event, LaneStatus, Record, Task, input::InputReceiver, lane::status::Statuses};

/// Addresses that may be in progress in one run, with events that were not taken: about 50 MB. After a while most of
/// them wait for slow servers. The limit is high so that the fast servers still have work.
pub(super) const MAX_PENDING: usize = 262_144;
/// Octets of an address per permit, so that all addresses together hold 64 MiB at most.
const OCTETS_PER_PERMIT: usize = 256;
/// Most permits that one send takes at once.
const MAX_PERMITS_AT_ONCE: usize = MAX_PENDING / 4;
/// Octets of replies in events that were not taken yet: 32 MiB. Above that, no server is asked.
const MAX_BACKLOG: usize = 32 << 20;

/// Tasks or events per batch. A batch is large enough that a channel operation costs little per item. It is small
/// enough that its memory comes from the allocator's free lists and not from new pages. Batches for lanes can then keep
/// their memory.
pub(super) const BATCH_SIZE: usize = 256;

/// Events for the caller, and the permits of [`MAX_PENDING`] that they release when the caller takes them.
#[derive(Debug, Default)]
pub(super) struct EventBatch {
    pub(super) events: Vec<Event>,
    pub(super) permits: usize,
    /// Octets of the replies in the events.
    pub(super) octets: usize,
}

/// Returns the permits that an address takes: one, and one more per 256 octets. Invalid input may have any length.
#[inline]
pub(super) fn permits_for(address: &str) -> usize {
    (1 + address.len() / OCTETS_PER_PERMIT).min(MAX_PERMITS_AT_ONCE)
}

/// Counts the octets of replies in events that the caller has not taken. Servers decide their length, and the caller
/// decides when it takes them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    octets: AtomicUsize,
    /// Notified when the backlog falls below its limit.
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

    /// Waits until the backlog of events is below its limit.
    ///
    /// Cancellation-safe.
    #[inline]
    pub(super) async fn wait_for_capacity(&self) {
        while self.octets.load(Relaxed) >= MAX_BACKLOG {
            // From here on it receives notifications, even before its first poll.
            let shrunk = self.shrunk.notified();
            if self.octets.load(Relaxed) >= MAX_BACKLOG {
                shrunk.await;
            }
        }
    }
}

/// The input of a run. The input ends when all clones are dropped.
#[derive(Clone, Debug)]
pub struct Tasks {
    sender: mpsc::UnboundedSender<Vec<Task>>,
    pending: Arc<Semaphore>,
}

/// The run has ended because its [`Events`] were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run has ended")]
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

    /// Sends tasks to the run, and waits while too many addresses are in progress. The limit is 262,144, and events
    /// that were not taken count. An input longer than 255 octets counts once more per 256 octets.
    ///
    /// # Errors
    /// Returns [`Ended`] if [`Events`] was dropped.
    ///
    /// # Cancellation safety
    /// Not cancellation-safe for large batches. If the future is dropped, the run may already have the first tasks of
    /// the batch. Up to 256 tasks of ordinary length are sent together or not at all.
    pub async fn send(&self, tasks: Vec<Task>) -> Result<(), Ended> {
        let wanted = tasks.iter().map(|task| permits_for(&task.address)).sum();
        // A large batch is sent in parts, so that it does not wait until the run is empty.
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
        // The event of each task releases its permits.
        self.pending.acquire_many(permits).await.map_err(|_| Ended)?.forget();
        self.sender.send(tasks).map_err(|_| Ended)
    }

    /// Sends the addresses that were read as tasks, numbered from 0.
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

/// The output of a run. Dropping it aborts the run.
#[derive(Debug)]
#[must_use = "nothing is verified unless the events are read"]
pub struct Events {
    received: mpsc::UnboundedReceiver<EventBatch>,
    ready: std::vec::IntoIter<Event>,
    pending: Arc<Semaphore>,
    backlog: Arc<Backlog>,
    statuses: Statuses,
    /// The tasks of the run. Dropping the set aborts them.
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

    /// Returns the next event. Returns `None` once the input has ended and every task has its event.
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

    /// Returns the next events that arrived together: a few hundred while answers are fast. Returns `None` as
    /// [`next`](Self::next) does.
    ///
    /// # Cancellation safety
    /// As [`next`](Self::next).
    pub async fn next_many(&mut self) -> Option<Vec<Event>> {
        match self.ready.as_slice() {
            [] => self.next_event_batch().await,
            _ => Some(std::mem::take(&mut self.ready).collect()),
        }
    }

    /// Returns a view of the lanes, for a display. See [`Lanes`].
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

/// Makes waiting senders return [`Ended`].
impl Drop for Events {
    fn drop(&mut self) {
        self.pending.close();
    }
}

/// A view of the lanes of a run. It is independent of the task that takes the events, and cheap to clone.
#[derive(Clone, Debug)]
pub struct Lanes(Statuses);

impl Lanes {
    /// Returns the status of each lane that was used so far, in the order of first use.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LaneStatus> {
        self.0.snapshot()
    }
}

/// The records of a run, in the order of the answers. Dropping it aborts the run.
#[derive(Debug)]
#[must_use = "nothing is verified unless the records are read"]
pub struct Records(pub(super) Events);

impl Records {
    /// Returns the next record. Returns `None` once every address has its record.
    ///
    /// # Cancellation safety
    /// Nothing is lost if the future is dropped.
    #[inline]
    pub async fn next(&mut self) -> Option<Record> {
        self.next_numbered().await.map(|(_, record)| record)
    }

    /// Returns the next record, and the position of its address in the input, from 0.
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

    /// Returns the next record if it arrived together with the last one, and the position of its address. `None` does
    /// not mean the end: [`next_numbered`](Self::next_numbered) waits for more.
    ///
    /// Records arrive in batches of up to a few hundred. A caller that selects between several futures saves most of
    /// its polls if it first takes all records that are there.
    ///
    /// ```
    /// # async fn example(verifier: smtp_pool::verify::Verifier) {
    /// let mut records = verifier.verify_all(["ann@example.com".to_owned()]);
    /// while let Some(first) = records.next_numbered().await {
    ///     let mut numbered = Some(first);
    ///     while let Some((number, record)) = numbered {
    ///         println!("{number}: {}", record.status);
    ///         numbered = records.next_ready();
    ///     }
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn next_ready(&mut self) -> Option<(u64, Record)> {
        loop {
            if let Event::Done { id, record } = self.0.ready.next()? {
                return Some((id, record));
            }
        }
    }

    /// Returns a view of the lanes, for a display.
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
    fn an_address_takes_a_permit_for_each_256_octets() {
        assert_eq!(
            [0, 255, 256, 1_023, 1_024].map(|octets| permits_for(&"x".repeat(octets))),
            [1, 1, 2, 4, 5]
        );
        assert_eq!(permits_for(&"x".repeat(OCTETS_PER_PERMIT * MAX_PENDING)), MAX_PERMITS_AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn long_input_takes_permits_by_its_octets() {
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
            // As events release them.
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
    async fn no_server_is_asked_while_too_many_replies_were_not_taken() {
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
