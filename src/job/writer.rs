//! Stores the answers of the engine. One transaction stores answers and marks their addresses as done.
//!
//! ```text
//! Events ▶ take ─┬─ Done, Later ▶ answer ▶ put, once for each row with the address ▶ encoder of the segment
//!                ├─ CatchAll, Lane ▶ changes, progress board
//!                └─ Reopened ▶ reopen: voids stored results and postpones their addresses to now
//! flush ▶ Store::commit ▶ the feeder may send further addresses
//! ```
//!
//! An answer is for an address. A result is for a row, and several rows may have the same address. The feeder sends
//! addresses of a chunk together. A segment is a part of the list whose results are stored together.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;
use tokio::{runtime::Handle, time::timeout};

use super::{
    encoding::{Entry, EntryEncoder, OctetReader, decompress},
    error::{JobError, Result},
    feeder::now,
    import,
    in_flight::{self, ChunkProgress, InFlight},
    input::question,
    progress::ProgressBoard,
    results,
    store::{Changes, Postponed, Span, Store},
};
use crate::verify::{Event, Events, Record};

/// The longest time that an answer waits to be stored. A kill loses such answers, and their addresses are asked
/// again.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// Results in a transaction. With more, it is committed.
const TRANSACTION_RESULTS: usize = 65_536;
/// Octets of results in a transaction. With more, it is committed.
const TRANSACTION_OCTETS: usize = 16 << 20;

/// Collects the results of the engine, and stores them in transactions.
pub(super) struct ResultWriter<S> {
    store: S,
    /// The rows of each segment, in the order of the rows.
    spans: Vec<Span>,
    /// Pairs of the first row of an address and a row that repeats it, sorted.
    repeats: Vec<(u32, u32)>,
    /// The addresses that the feeder has sent to the engine.
    in_flight: Arc<InFlight>,
    board: Arc<ProgressBoard>,
    /// The changes of the next transaction, with the batches of results that are full.
    changes: Changes,
    /// The results of the next transaction that fill no batch yet, by segment.
    encoders: HashMap<u32, EntryEncoder>,
    /// The number of answers of each chunk that are not stored yet.
    answered: HashMap<u32, u32>,
    /// The number of answers to postponed tasks that are not stored yet.
    answered_postponed: u32,
    /// The number of results that are not stored yet.
    unstored: usize,
    /// The octets of the results that are not stored yet.
    octets: usize,
}

impl<S: Store> ResultWriter<S> {
    pub(super) fn new(store: S, in_flight: Arc<InFlight>, board: Arc<ProgressBoard>) -> Result<Self> {
        let mut repeats = Vec::new();
        for encoded in store.repeats()? {
            repeats.extend(import::repeats(&encoded)?);
        }
        repeats.sort_unstable();
        Ok(Self {
            spans: store.spans()?,
            store,
            repeats,
            in_flight,
            board,
            changes: Changes::default(),
            encoders: HashMap::default(),
            answered: HashMap::default(),
            answered_postponed: 0,
            unstored: 0,
            octets: 0,
        })
    }

    /// Stores results until the run ends, or until `given_up` returns true because the job is stopped. Results that
    /// arrived before are stored. Blocks the thread.
    pub(super) fn run(
        mut self,
        mut events: Events,
        runtime: &Handle,
        given_up: impl Fn() -> bool,
    ) -> Result<()> {
        let mut last = Instant::now();
        while !given_up() {
            let remaining = WRITE_INTERVAL.saturating_sub(last.elapsed());
            let next = runtime.block_on(async { timeout(remaining, events.next_many()).await });
            match next {
                Ok(Some(events)) => self.take(events)?,
                Ok(None) => break,
                Err(_) => {}
            }
            if self.is_full() || last.elapsed() >= WRITE_INTERVAL {
                self.flush()?;
                last = Instant::now();
            }
        }
        self.flush()?;
        // Store the final statistics, even if the last answers were stored before.
        self.store.commit(&Changes { values: self.board.values()?, ..Changes::default() })
    }

    /// Handles the events of the engine. The identifier of a task holds its row and its chunk. A postponed task has no
    /// chunk.
    fn take(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::Done { id, record } => {
                    let (chunk, row) = in_flight::task(id);
                    self.answer(chunk, row, &record, true)?;
                    if chunk.is_none() {
                        self.changes.resolved.push(row);
                    }
                }
                Event::Later { id, record, after } => {
                    let (chunk, row) = in_flight::task(id);
                    self.answer(chunk, row, &record, false)?;
                    let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                    let due = now().saturating_add(after);
                    let (attempts, address) = (record.attempts, record.address);
                    self.changes.postponed.push(Postponed { row, due, attempts, address });
                }
                Event::CatchAll { domain, answer } => self.changes.catch_all.push((domain, answer)),
                Event::Reopened { ids } => self.reopen(ids)?,
                Event::Lane(status) => self.board.report_lane(&status),
            }
        }
        self.free_in_flight();
        Ok(())
    }

    /// Adds an answer for the row and for the rows that repeat its address.
    fn answer(&mut self, chunk: Option<u32>, row: u32, record: &Record, is_final: bool) -> Result<()> {
        let mut rows = 1;
        let from = self.repeats.partition_point(|(first, _)| *first < row);
        for at in from..self.repeats.len() {
            let (first, repeat) = self.repeats[at];
            if first != row {
                break;
            }
            self.put(repeat, |encoder, row| encoder.put(row, record, is_final))?;
            rows += 1;
            // A whole list may repeat one address. The first row is stored last. Until then, the address is asked
            // again after a kill, and its new results replace those stored here.
            if self.is_full() {
                self.flush()?;
            }
        }
        self.put(row, |encoder, row| encoder.put(row, record, is_final))?;
        self.board.record_answer(record, rows, is_final, chunk.is_none());
        match chunk {
            Some(chunk) => *self.answered.entry(chunk).or_default() += 1,
            None => self.answered_postponed += 1,
        }
        Ok(())
    }

    /// Adds one result to the encoder of its segment. `put` receives the row within the segment.
    fn put(&mut self, row: u32, put: impl FnOnce(&mut EntryEncoder, u32)) -> Result<()> {
        let span = span(&self.spans, row)?;
        let encoder = self.encoders.entry(span.segment).or_default();
        let before = encoder.octets.len();
        put(encoder, row - span.first);
        self.octets += encoder.octets.len() - before;
        self.unstored += 1;
        if encoder.is_full() {
            self.changes.batches.push(std::mem::take(encoder).into_batch(span.segment)?);
        }
        Ok(())
    }

    /// Returns true if there are enough results for a transaction.
    fn is_full(&self) -> bool {
        self.unstored >= TRANSACTION_RESULTS || self.octets >= TRANSACTION_OCTETS
    }

    /// Sets how many answers of each chunk wait to be stored. An answered address counts no longer against the limit of
    /// its domain.
    fn free_in_flight(&self) {
        let mut in_flight = self.in_flight.lock();
        for chunk in self.answered.keys() {
            in_flight.record_answers(*chunk, self.answered[chunk]);
        }
        drop(in_flight);
        self.in_flight.notify_changed();
    }

    /// Voids refusals that proved nothing, as after a block, so that their addresses are asked again.
    fn reopen(&mut self, ids: Vec<u64>) -> Result<()> {
        let mut rows: Vec<u32> = ids.into_iter().map(|id| in_flight::task(id).1).collect();
        rows.sort_unstable();
        rows.dedup();
        // Some of these verdicts may not be stored yet.
        self.flush()?;
        let mut rest = &rows[..];
        while let Some(first) = rest.first() {
            let span = span(&self.spans, *first)?;
            let (of_segment, others) =
                rest.split_at(rest.partition_point(|row| row - span.first < span.rows));
            rest = others;
            let mut known = HashMap::default();
            results::scan(&self.store, span, |row, entry| {
                if of_segment.binary_search(&(span.first + row)).is_ok() {
                    known.insert(row, entry);
                }
            })?;
            let encoded = decompress(&self.store.rows(span.segment)?)?;
            let mut from = OctetReader(&encoded);
            let mut wanted = of_segment.iter().peekable();
            for row in span.first..span.first + span.rows {
                let address = from.text()?;
                // The other columns of the row.
                from.octets()?;
                if wanted.next_if_eq(&&row).is_none() {
                    continue;
                }
                // A row without a final result is asked again anyway.
                let Some(Entry::Final(record)) = known.get(&(row - span.first)) else { continue };
                let (due, address) = (now(), question(address).into_owned());
                self.changes.postponed.push(Postponed { row, due, attempts: 0, address });
                let mut rows = vec![row];
                let from = self.repeats.partition_point(|(first, _)| *first < row);
                let repeats = self.repeats[from..].iter().take_while(|(first, _)| *first == row);
                rows.extend(repeats.map(|(_, repeat)| *repeat));
                self.board.record_void(record, rows.len() as u64);
                for row in rows {
                    self.put(row, EntryEncoder::put_void)?;
                }
            }
        }
        Ok(())
    }

    /// Stores everything in one transaction.
    fn flush(&mut self) -> Result<()> {
        let mut changes = std::mem::take(&mut self.changes);
        for (segment, encoder) in self.encoders.drain().filter(|(_, encoder)| encoder.count > 0) {
            changes.batches.push(encoder.into_batch(segment)?);
        }
        {
            let mut in_flight = self.in_flight.lock();
            for (chunk, count) in self.answered.drain() {
                // A failed commit ends the job, so the count may be set before it.
                match in_flight.record_stored(chunk, count) {
                    ChunkProgress::Finished => changes.finished.push(chunk),
                    ChunkProgress::Touched => changes.touched.push(chunk),
                    ChunkProgress::Further => {}
                }
            }
        }
        // Every other change comes with a result.
        if self.unstored > 0 || !changes.catch_all.is_empty() {
            changes.values = self.board.values()?;
            self.store.commit(&changes)?;
        }
        self.in_flight.lock().release(&changes.finished, std::mem::take(&mut self.answered_postponed));
        self.in_flight.notify_changed();
        (self.unstored, self.octets) = (0, 0);
        Ok(())
    }
}

/// Returns the span that contains the row.
fn span(spans: &[Span], row: u32) -> Result<Span> {
    let begun = spans.partition_point(|span| span.first <= row);
    let span = begun.checked_sub(1).and_then(|at| spans.get(at)).copied();
    span.filter(|span| row - span.first < span.rows).ok_or(JobError::Damaged)
}
