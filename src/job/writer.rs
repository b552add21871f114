//! Keeps what comes out of the engine: the answers, and with them in one transaction that their addresses are done.

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
    progress::ProgressBoard,
    results,
    store::{Changes, Postponed, Span, Store},
};
use crate::verify::{Event, Events, Record};

/// How long an answer waits to be kept, at most. What is lost by a kill is asked again.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// Answers that are kept at once, at most,
const BATCH_ROWS: usize = 65_536;
/// and octets of them.
const BATCH_OCTETS: usize = 16 << 20;

pub(super) struct ResultWriter<S> {
    store: S,
    spans: Vec<Span>,
    /// Rows that repeat the address of an earlier row, by the earlier one.
    repeats: Vec<(u32, u32)>,
    in_flight: Arc<InFlight>,
    board: Arc<ProgressBoard>,
    changes: Changes,
    encoders: HashMap<u32, EntryEncoder>,
    /// Answers of each chunk that are not yet kept.
    answered: HashMap<u32, u32>,
    again: u32,
    /// Rows that are not yet kept, and octets of them.
    unkept: usize,
    octets: usize,
}

impl<S: Store> ResultWriter<S> {
    pub(super) fn new(store: S, in_flight: Arc<InFlight>, board: Arc<ProgressBoard>) -> Result<Self> {
        let mut repeats = Vec::new();
        for packed in store.repeats()? {
            repeats.extend(import::repeats(&packed)?);
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
            again: 0,
            unkept: 0,
            octets: 0,
        })
    }

    /// Keeps everything until the run is over, or is given up. Blocks the thread.
    pub(super) fn run(
        mut self,
        mut events: Events,
        runtime: &Handle,
        given_up: impl Fn() -> bool,
    ) -> Result<()> {
        let mut last = Instant::now();
        while !given_up() {
            let patience = WRITE_INTERVAL.saturating_sub(last.elapsed());
            let next = runtime.block_on(async { timeout(patience, events.next_many()).await });
            match next {
                Ok(Some(events)) => self.take(events)?,
                Ok(None) => break,
                Err(_) => {}
            }
            if self.is_full() || last.elapsed() >= WRITE_INTERVAL {
                self.keep()?;
                last = Instant::now();
            }
        }
        self.keep()?;
        // How it went to the end, also where the last answers were kept before.
        self.store.commit(&Changes { values: self.board.values()?, ..Changes::default() })
    }

    fn take(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::Done { id, record } => {
                    let (chunk, row) = in_flight::task(id);
                    self.answer(chunk, row, &record, true)?;
                    if chunk.is_none() {
                        self.changes.settled.push(row);
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
        self.settle_chunks();
        Ok(())
    }

    /// Keeps an answer for the row, and for those that repeat it.
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
            // A whole list may repeat one address. The row that stands for them is kept last: as long as it is not, all of
            // them are asked about again.
            if self.is_full() {
                self.keep()?;
            }
        }
        self.put(row, |encoder, row| encoder.put(row, record, is_final))?;
        self.board.record_answer(record, rows, is_final, chunk.is_none());
        match chunk {
            Some(chunk) => *self.answered.entry(chunk).or_default() += 1,
            None => self.again += 1,
        }
        Ok(())
    }

    fn put(&mut self, row: u32, put: impl FnOnce(&mut EntryEncoder, u32)) -> Result<()> {
        let span = span(&self.spans, row)?;
        let encoder = self.encoders.entry(span.segment).or_default();
        let before = encoder.octets.len();
        put(encoder, row - span.first);
        self.octets += encoder.octets.len() - before;
        self.unkept += 1;
        if encoder.is_full() {
            self.changes.batches.push(std::mem::take(encoder).into_batch(span.segment)?);
        }
        Ok(())
    }

    /// Whether there is enough for a transaction.
    fn is_full(&self) -> bool {
        self.unkept >= BATCH_ROWS || self.octets >= BATCH_OCTETS
    }

    /// Makes room for more of the same domains at once, although nothing is kept yet.
    fn settle_chunks(&self) {
        let mut in_flight = self.in_flight.lock();
        for chunk in self.answered.keys() {
            in_flight.answered(*chunk, self.answered[chunk]);
        }
        drop(in_flight);
        self.in_flight.changed();
    }

    /// Takes verdicts back, and has their addresses asked again.
    fn reopen(&mut self, ids: Vec<u64>) -> Result<()> {
        let mut rows: Vec<u32> = ids.into_iter().map(|id| in_flight::task(id).1).collect();
        rows.sort_unstable();
        rows.dedup();
        // The verdicts may be among those not yet kept.
        self.keep()?;
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
            let packed = decompress(&self.store.rows(span.segment)?)?;
            let mut from = OctetReader(&packed);
            let mut wanted = of_segment.iter().peekable();
            for row in span.first..span.first + span.rows {
                let address = from.text()?;
                from.octets()?;
                if wanted.next_if_eq(&&row).is_none() {
                    continue;
                }
                let Some(Entry::Final(record)) = known.get(&(row - span.first)) else { continue };
                let (due, address) = (now(), address.to_owned());
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

    /// One transaction.
    fn keep(&mut self) -> Result<()> {
        let mut changes = std::mem::take(&mut self.changes);
        for (segment, encoder) in self.encoders.drain().filter(|(_, encoder)| encoder.count > 0) {
            changes.batches.push(encoder.into_batch(segment)?);
        }
        {
            let mut in_flight = self.in_flight.lock();
            for (chunk, count) in self.answered.drain() {
                match in_flight.kept(chunk, count) {
                    ChunkProgress::Finished => changes.finished.push(chunk),
                    ChunkProgress::Touched => changes.touched.push(chunk),
                    ChunkProgress::Further => {}
                }
            }
        }
        if self.unkept > 0 || !changes.catch_all.is_empty() {
            changes.values = self.board.values()?;
            self.store.commit(&changes)?;
        }
        self.in_flight.lock().release(&changes.finished, std::mem::take(&mut self.again));
        self.in_flight.changed();
        (self.unkept, self.octets) = (0, 0);
        Ok(())
    }
}

fn span(spans: &[Span], row: u32) -> Result<Span> {
    let behind = spans.partition_point(|span| span.first <= row);
    let span = behind.checked_sub(1).and_then(|at| spans.get(at)).copied();
    span.filter(|span| row - span.first < span.rows).ok_or(JobError::Damaged)
}
