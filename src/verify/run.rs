//! A run of the verifier: its two ends, [`Tasks`] and [`Events`], and [`Records`] for callers that need only records.
//!
//! The ends send messages to the engine, and keep it alive.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Event, LaneStatus, Record, Task,
    input::InputReceiver,
    lane::status::Statuses,
    run_state::{EventBatch, MAX_PENDING, Message, RunCapacity},
};

/// Octets of an address per permit, so that all addresses together hold 64 MiB at most.
const OCTETS_PER_PERMIT: usize = 256;
/// Most permits that one send takes at once.
const MAX_PERMITS_AT_ONCE: usize = MAX_PENDING / 4;
/// Tasks or events per batch. A batch is large enough that a channel operation costs little per item. It is small
/// enough that its memory comes from the allocator's free lists and not from new pages. Batches for lanes can then keep
/// their memory.
pub(super) const BATCH_SIZE: usize = 256;

/// Returns the permits that an address takes: one, and one more per 256 octets. Invalid input may have any length.
#[inline]
pub(super) fn permits_for(address: &str) -> usize {
    (1 + address.len() / OCTETS_PER_PERMIT).min(MAX_PERMITS_AT_ONCE)
}

/// The input of a run. The input ends when all clones are dropped.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<RunInput>);

/// The input of a run, which ends when it is dropped.
#[derive(Debug)]
struct RunInput {
    run: u32,
    engine: mpsc::UnboundedSender<Message>,
    capacity: Arc<RunCapacity>,
}

impl Drop for RunInput {
    fn drop(&mut self) {
        let _ = self.engine.send(Message::InputEnded(self.run));
    }
}

/// The run has ended because its [`Events`] were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run has ended")]
pub struct Ended;

impl Tasks {
    pub(super) fn new(run: u32, engine: mpsc::UnboundedSender<Message>, capacity: Arc<RunCapacity>) -> Self {
        Self(Arc::new(RunInput { run, engine, capacity }))
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
        let RunInput { run, engine, capacity } = &*self.0;
        capacity.pending.acquire_many(permits).await.map_err(|_| Ended)?.forget();
        engine.send(Message::Tasks(*run, tasks)).map_err(|_| Ended)
    }

    /// Sends the addresses of a stream as tasks, numbered from 0. Those that are ready together are sent together.
    pub(super) async fn feed_stream(self, addresses: impl Stream<Item = String>) {
        let (mut addresses, mut id, mut ended) = (pin!(addresses), 0, false);
        while !ended {
            let mut tasks = Vec::new();
            poll_fn(|cx| {
                while tasks.len() < BATCH_SIZE {
                    match addresses.as_mut().poll_next(cx) {
                        Poll::Ready(Some(address)) => {
                            tasks.push(Task { id, address, attempts: 0 });
                            id += 1;
                        }
                        Poll::Ready(None) => {
                            ended = true;
                            break;
                        }
                        Poll::Pending if tasks.is_empty() => return Poll::Pending,
                        Poll::Pending => break,
                    }
                }
                Poll::Ready(())
            })
            .await;
            if self.send(tasks).await.is_err() {
                return;
            }
        }
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

/// The output of a run. Dropping it ends the run: its addresses are no longer asked about. Other runs of the verifier
/// go on.
///
/// It is also a [`Stream`] of events.
#[derive(Debug)]
#[must_use = "nothing is verified unless the events are read"]
pub struct Events {
    received: mpsc::UnboundedReceiver<EventBatch>,
    ready: std::vec::IntoIter<Event>,
    run: u32,
    /// Keeps the engine alive.
    engine: mpsc::UnboundedSender<Message>,
    capacity: Arc<RunCapacity>,
    statuses: Statuses,
    is_over: bool,
    /// The tasks that read the input. Dropping the set aborts them.
    pub(super) tasks: JoinSet<()>,
}

impl Events {
    pub(super) fn new(
        received: mpsc::UnboundedReceiver<EventBatch>,
        run: u32,
        engine: mpsc::UnboundedSender<Message>,
        capacity: Arc<RunCapacity>,
        statuses: Statuses,
    ) -> Self {
        let (ready, tasks) = (Vec::new().into_iter(), JoinSet::new());
        Self { received, ready, run, engine, capacity, statuses, is_over: false, tasks }
    }

    /// Records that the caller needs no more events, though the run may not have told its end yet.
    pub(super) fn set_over(&mut self) {
        self.is_over = true;
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
        poll_fn(|cx| self.poll_event_batch(cx)).await
    }

    fn poll_event_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Event>>> {
        while !self.is_over {
            let Some(event_batch) = ready!(self.received.poll_recv(cx)) else { break };
            self.capacity.pending.add_permits(event_batch.permits);
            if self.capacity.backlog.take(event_batch.octets) {
                let _ = self.engine.send(Message::BacklogShrunk(self.run));
            }
            self.is_over = event_batch.is_last;
            if !event_batch.events.is_empty() {
                return Poll::Ready(Some(event_batch.events));
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.ready.next() {
                return Poll::Ready(Some(event));
            }
            match ready!(self.poll_event_batch(cx)) {
                Some(events) => self.ready = events.into_iter(),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Makes waiting senders return [`Ended`], and withdraws the questions of the run.
impl Drop for Events {
    fn drop(&mut self) {
        self.capacity.pending.close();
        if !self.is_over {
            let _ = self.engine.send(Message::Dropped(self.run));
        }
    }
}

/// A view of the lanes that a run used. Other runs of the verifier may use them too, so their answers count from the
/// first use by this run. The view is independent of the task that takes the events, and cheap to clone.
#[derive(Clone, Debug)]
pub struct Lanes(Statuses);

impl Lanes {
    /// Returns the status of each lane that was used so far, in the order of first use.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LaneStatus> {
        self.0.snapshot()
    }
}

/// The records of a run, in the order of the answers. Dropping it ends the run: its addresses are no longer asked about,
/// and no more addresses are read. Other runs of the verifier go on.
///
/// It is also a [`Stream`] of records.
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

impl Stream for Records {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Event::Done { record, .. }) => return Poll::Ready(Some(record)),
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
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
        let (engine, mut messages) = mpsc::unbounded_channel();
        let capacity = Arc::new(RunCapacity::default());
        let tasks = Tasks::new(7, engine, Arc::clone(&capacity));
        let mut received = async || loop {
            match messages.recv().await {
                Some(Message::Tasks(7, tasks)) => return tasks,
                Some(Message::InputEnded(7)) => {}
                message => panic!("{message:?}"),
            }
        };
        let sender =
            tokio::spawn(async move { tasks.send((0..100).map(|n| task(n, 1 << 20)).collect()).await });
        let (mut octets, mut next) = (0, 0);
        while let Ok(event_batch) = timeout(Duration::from_secs(1), received()).await {
            octets += event_batch.iter().map(|task| task.address.len()).sum::<usize>();
            for task in event_batch {
                assert_eq!(task.id, next);
                next += 1;
            }
        }
        assert!((48..=64).contains(&(octets >> 20)), "{octets} octets are under way");
        while next < 100 {
            // As events release them.
            capacity.pending.add_permits(MAX_PERMITS_AT_ONCE);
            let event_batch = received().await;
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
}
