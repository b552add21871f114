//! Sends addresses to the engine: first those that are due again, then chunk by chunk. It skips domains that have
//! enough addresses under way.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::runtime::Handle;

use super::{
    error::{JobError, Result},
    import::addresses,
    in_flight::{InFlight, task_id},
    results,
    store::{ChunkHead, Span, Store},
};
use crate::verify::{Task, Tasks};

/// The most postponed tasks fetched at once.
const MAX_DUE: u32 = 1_024;
/// How often the feeder looks in the store for chunks that another process added.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Milliseconds by which a due task is sent later. A postponed task is stored shortly after its due time is set;
/// without the margin, the feeder could skip it.
const DUE_MARGIN: i64 = 200;

/// Returns the milliseconds since 1970. The system clock is read once, so setting it back during a run delays
/// nothing.
pub(super) fn now() -> i64 {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let start = || (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now());
    let (since, at) = START.get_or_init(start);
    i64::try_from(since.saturating_add(at.elapsed()).as_millis()).unwrap_or(i64::MAX)
}

/// Reads the addresses to be asked from the store, and sends them to the engine.
pub(super) struct Feeder<S> {
    store: S,
    spans: Vec<Span>,
    in_flight: Arc<InFlight>,
    /// Chunks not sent yet, in order.
    chunks: std::collections::VecDeque<ChunkHead>,
    /// The first chunk number that the feeder has not read from the store.
    next_chunk: u32,
    /// The due time and row of the last postponed task that was sent.
    last_sent: (i64, u32),
}

/// The value of `last_sent` before the first postponed task.
const NOTHING_SENT: (i64, u32) = (i64::MIN, 0);

impl<S: Store> Feeder<S> {
    pub(super) fn new(store: S, in_flight: Arc<InFlight>) -> Result<Self> {
        let (spans, next_chunk) = (store.spans()?, store.next_chunk()?);
        let chunks = store.chunks(0)?.into();
        Ok(Self { store, spans, in_flight, chunks, next_chunk, last_sent: NOTHING_SENT })
    }

    /// Sends tasks until all addresses have stored answers, or the run is stopped. Blocks the thread.
    pub(super) fn run(mut self, tasks: Tasks, runtime: &Handle) -> Result<()> {
        loop {
            if self.in_flight.lock().stopped {
                return Ok(());
            }
            let next = match self.due()? {
                Some(next) => Some(next),
                None => self.chunk()?,
            };
            match next {
                Some(next) => {
                    if runtime.block_on(tasks.send(next)).is_err() {
                        // The receiver of events has ended, and reports why.
                        return Ok(());
                    }
                }
                None if self.is_finished()? => return Ok(()),
                None => self.wait_for_work()?,
            }
        }
    }

    /// Returns the next postponed tasks that are due.
    fn due(&mut self) -> Result<Option<Vec<Task>>> {
        let due = self.store.due(now() - DUE_MARGIN, self.last_sent, MAX_DUE)?;
        let Some(last) = due.last() else { return Ok(None) };
        self.last_sent = (last.due, last.row);
        self.in_flight.lock().lease_postponed(due.len() as u32);
        let task = |it: super::store::Postponed| Task {
            id: task_id(None, it.row),
            address: it.address,
            attempts: it.attempts,
        };
        Ok(Some(due.into_iter().map(task).collect()))
    }

    /// Returns the tasks of the next chunk whose domain has room, without answered addresses.
    fn chunk(&mut self) -> Result<Option<Vec<Task>>> {
        loop {
            let found = {
                let in_flight = self.in_flight.lock();
                self.chunks.iter().position(|chunk| in_flight.has_room(chunk.domain.as_deref()))
            };
            let Some(chunk) = found.and_then(|found| self.chunks.remove(found)) else { return Ok(None) };
            let Some(encoded) = self.store.addresses(chunk.id)? else { continue };
            let span = *self.spans.get(chunk.segment as usize).ok_or(JobError::Damaged)?;
            let mut addresses = addresses(&encoded)?;
            if addresses.iter().any(|(row, _)| *row >= span.rows) {
                return Err(JobError::Damaged.within(format_args!("chunk {}", chunk.id)));
            }
            if chunk.touched {
                let mut answered = vec![false; span.rows as usize];
                results::scan(&self.store, span, |row, entry| answered[row as usize] = entry.is_answer())?;
                addresses.retain(|(row, _)| answered.get(*row as usize) != Some(&true));
            }
            let count = addresses.len() as u32;
            if count > 0 {
                let domain = chunk.domain.as_deref();
                self.in_flight.lock().lease(chunk.id, domain, count, chunk.touched);
                let task = |(row, address)| Task {
                    id: task_id(Some(chunk.id), span.first + row),
                    address,
                    attempts: 0,
                };
                return Ok(Some(addresses.into_iter().map(task).collect()));
            }
        }
    }

    /// Returns true if nothing is left to ask and nothing is under way that could be postponed.
    fn is_finished(&mut self) -> Result<bool> {
        if !self.in_flight.lock().is_empty() {
            return Ok(false);
        }
        // A task stored just now may be due already, if its delay was shorter than the storing.
        self.last_sent = NOTHING_SENT;
        self.read_new_chunks()?;
        Ok(self.chunks.is_empty() && self.store.next_due(self.last_sent)?.is_none())
    }

    /// Reads the chunks that another process has added.
    fn read_new_chunks(&mut self) -> Result<()> {
        let chunks = self.store.chunks(self.next_chunk)?;
        if let Some(last) = chunks.last() {
            self.next_chunk = last.id + 1;
            self.chunks.extend(chunks);
        }
        Ok(())
    }

    /// Waits until a task is due, room appears or [`POLL_INTERVAL`] passes. Then looks for new chunks.
    fn wait_for_work(&mut self) -> Result<()> {
        let due = self.store.next_due(self.last_sent)?;
        let until = due.map_or(POLL_INTERVAL, |due| {
            Duration::from_millis(due.saturating_add(DUE_MARGIN).saturating_sub(now()).max(1).unsigned_abs())
        });
        let shared = Arc::clone(&self.in_flight);
        let in_flight = shared.lock();
        if !in_flight.stopped && !self.chunks.iter().any(|chunk| in_flight.has_room(chunk.domain.as_deref()))
        {
            shared.wait(in_flight, until.min(POLL_INTERVAL));
        }
        self.read_new_chunks()
    }
}
