//! What is to be asked next: first what is due again, then chunk after chunk, passing over domains that have enough
//! under way.

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

/// Tasks that are fetched at once.
const MAX_DUE: u32 = 1_024;
/// How often the store is looked at for what somebody else put there.
const LOOK: Duration = Duration::from_secs(1);
/// What is postponed is kept a little after its time was set, and must not be passed over.
const MARGIN: i64 = 200;

/// Returns the milliseconds since 1970. The system clock is read once: setting it back during a run delays nothing.
pub(super) fn now() -> i64 {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let start = || (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now());
    let (since, at) = START.get_or_init(start);
    i64::try_from(since.saturating_add(at.elapsed()).as_millis()).unwrap_or(i64::MAX)
}

pub(super) struct Feeder<S> {
    store: S,
    spans: Vec<Span>,
    in_flight: Arc<InFlight>,
    /// Not yet fed, in their order.
    chunks: std::collections::VecDeque<ChunkHead>,
    /// The number from which on chunks are unknown.
    unknown: u32,
    /// The last that was fed of what is postponed.
    fed: (i64, u32),
}

const NOTHING_FED: (i64, u32) = (i64::MIN, 0);

impl<S: Store> Feeder<S> {
    pub(super) fn new(store: S, in_flight: Arc<InFlight>) -> Result<Self> {
        let (spans, unknown) = (store.spans()?, store.next_chunk()?);
        let chunks = store.chunks(0)?.into();
        Ok(Self { store, spans, in_flight, chunks, unknown, fed: NOTHING_FED })
    }

    /// Feeds until everything is answered and kept, or the flight is stopped. Blocks the thread.
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
                        // Whoever takes events has gone, and says why.
                        return Ok(());
                    }
                }
                None if self.is_finished()? => return Ok(()),
                None => self.rest()?,
            }
        }
    }

    fn due(&mut self) -> Result<Option<Vec<Task>>> {
        let due = self.store.due(now() - MARGIN, self.fed, MAX_DUE)?;
        let Some(last) = due.last() else { return Ok(None) };
        self.fed = (last.due, last.row);
        self.in_flight.lock().lease_again(due.len() as u32);
        let task = |it: super::store::Postponed| Task {
            id: task_id(None, it.row),
            address: it.address,
            attempts: it.attempts,
        };
        Ok(Some(due.into_iter().map(task).collect()))
    }

    fn chunk(&mut self) -> Result<Option<Vec<Task>>> {
        loop {
            let found = {
                let in_flight = self.in_flight.lock();
                self.chunks.iter().position(|chunk| in_flight.has_room(chunk.domain.as_deref()))
            };
            let Some(chunk) = found.and_then(|found| self.chunks.remove(found)) else { return Ok(None) };
            let Some(packed) = self.store.addresses(chunk.id)? else { continue };
            let span = *self.spans.get(chunk.segment as usize).ok_or(JobError::Damaged)?;
            let mut addresses = addresses(&packed)?;
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

    /// Whether there is nothing left to ask, and nothing under way that may come back.
    fn is_finished(&mut self) -> Result<bool> {
        if !self.in_flight.lock().is_empty() {
            return Ok(false);
        }
        // What was just kept may be there again, if its time was shorter than the keeping.
        self.fed = NOTHING_FED;
        self.look()?;
        Ok(self.chunks.is_empty() && self.store.next_due(self.fed)?.is_none())
    }

    /// Records what somebody else wants asked.
    fn look(&mut self) -> Result<()> {
        let chunks = self.store.chunks(self.unknown)?;
        if let Some(last) = chunks.last() {
            self.unknown = last.id + 1;
            self.chunks.extend(chunks);
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        let due = self.store.next_due(self.fed)?;
        let until = due.map_or(LOOK, |due| {
            Duration::from_millis(due.saturating_add(MARGIN).saturating_sub(now()).max(1).unsigned_abs())
        });
        let shared = Arc::clone(&self.in_flight);
        let in_flight = shared.lock();
        if !in_flight.stopped && !self.chunks.iter().any(|chunk| in_flight.has_room(chunk.domain.as_deref()))
        {
            shared.wait(in_flight, until.min(LOOK));
        }
        self.look()
    }
}
