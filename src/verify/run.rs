//! A run: the two ends that the caller holds, and the simple one for those who only want the records.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{Event, LaneStatus, Record, Task, intake::Intake, status::Statuses};

/// Addresses that may be under way at once, events not yet taken included: some 50 MB of them. Most wait for the slow
/// servers after a while, and the others should not run dry for that.
pub(super) const MAX_PENDING: usize = 262_144;

/// Tasks and events that travel together: enough that the way costs little, and so few that the memory for them comes
/// from the allocator's own and not from the system, page by page, and that parcels for lanes can keep theirs.
pub(super) const TOGETHER: usize = 256;

/// Events on their way, and the places among [`MAX_PENDING`] that become free when they are taken.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) events: Vec<Event>,
    pub(super) places: usize,
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

impl Lot {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.places == 0
    }
}

impl Tasks {
    pub(super) fn new(pending: Arc<Semaphore>) -> (Self, mpsc::UnboundedReceiver<Vec<Task>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, pending }, receiver)
    }

    /// Hands tasks over, and waits while too many are under way: 262,144, events that were not taken yet included.
    ///
    /// # Errors
    /// Nobody takes the events any more.
    ///
    /// # Cancellation safety
    /// If the future is dropped, a first part of the tasks may have been handed over: send no more than 256 at
    /// once, or what should not be lost.
    pub async fn send(&self, tasks: Vec<Task>) -> Result<(), Ended> {
        // Large batches do not wait for the run to be empty.
        if tasks.len() <= TOGETHER {
            return self.send_at_once(tasks).await;
        }
        let mut tasks = tasks.into_iter();
        while !tasks.as_slice().is_empty() {
            self.send_at_once(tasks.by_ref().take(TOGETHER).collect()).await?;
        }
        Ok(())
    }

    async fn send_at_once(&self, tasks: Vec<Task>) -> Result<(), Ended> {
        let places = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        // Given back by the events, one for each task.
        self.pending.acquire_many(places).await.map_err(|_| Ended)?.forget();
        self.sender.send(tasks).map_err(|_| Ended)
    }

    /// Passes on what is read.
    pub(super) async fn feed(self, mut input: Intake) {
        let mut id = 0;
        while let Some(addresses) = input.take().await {
            let tasks = addresses.into_iter().map(|address| {
                id += 1;
                Task { id: id - 1, address, attempts: 0 }
            });
            let mut tasks = tasks.peekable();
            while tasks.peek().is_some() {
                if self.send(tasks.by_ref().take(TOGETHER).collect()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What comes out of a run. Dropping it abandons the run.
#[derive(Debug)]
pub struct Events {
    received: mpsc::UnboundedReceiver<Lot>,
    ready: std::vec::IntoIter<Event>,
    pending: Arc<Semaphore>,
    statuses: Statuses,
    /// Aborted when dropped.
    pub(super) tasks: JoinSet<()>,
}

impl Events {
    pub(super) fn new(
        received: mpsc::UnboundedReceiver<Lot>,
        pending: Arc<Semaphore>,
        statuses: Statuses,
    ) -> Self {
        Self { received, ready: Vec::new().into_iter(), pending, statuses, tasks: JoinSet::new() }
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
            self.ready = self.next_lot().await?.into_iter();
        }
    }

    /// The next events, those that came together: a few hundred where answers come quickly. None as [`next`](Self::next).
    ///
    /// # Cancellation safety
    /// As [`next`](Self::next).
    pub async fn next_many(&mut self) -> Option<Vec<Event>> {
        match self.ready.as_slice() {
            [] => self.next_lot().await,
            _ => Some(std::mem::take(&mut self.ready).collect()),
        }
    }

    /// How the lanes are doing: one cheap look, for a screen. See [`Lanes`] for one to keep elsewhere.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        Lanes(self.statuses.clone())
    }

    async fn next_lot(&mut self) -> Option<Vec<Event>> {
        loop {
            let lot = self.received.recv().await?;
            self.pending.add_permits(lot.places);
            if !lot.events.is_empty() {
                return Some(lot.events);
            }
        }
    }
}

/// Nobody waits for a place any more.
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
                None => self.0.ready = self.0.next_lot().await?.into_iter(),
            }
        }
    }

    /// How the lanes are doing.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        self.0.lanes()
    }
}
