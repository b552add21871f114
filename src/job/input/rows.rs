//! The rows of all sources in order. They are counted and checked, and invalid ones are reported.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    Dialect, Hints, Recognition, Row, Shape, Source,
    open::Consumed,
    source::{self, RowReader},
};
use crate::job::{
    digest::Digest,
    error::{IoContext, JobError, Result},
};

/// The most invalid rows that are reported one by one.
const MAX_REPORTS: u64 = 20;

/// The progress of reading. Another thread may read it.
#[derive(Clone, Debug, Default)]
pub struct Tracker(Arc<TrackerState>);

/// The shared counters of a [`Tracker`].
#[derive(Debug, Default)]
struct TrackerState {
    rows: AtomicU64,
    bad: AtomicU64,
    done: AtomicBool,
    /// The size of all sources together, if each has one.
    size: Option<u64>,
    consumed: Consumed,
    failure: Mutex<Option<JobError>>,
}

impl Tracker {
    /// Returns the number of rows read.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Relaxed)
    }

    /// Returns the number of invalid rows that were not reported one by one.
    #[must_use]
    pub fn unreported(&self) -> u64 {
        self.0.bad.load(Relaxed).saturating_sub(MAX_REPORTS)
    }

    /// Returns the number of rows, and true if it is exact. Until the end it is estimated from the size.
    #[must_use]
    pub fn total(&self) -> Option<(u64, bool)> {
        let rows = self.rows();
        if self.0.done.load(Relaxed) {
            return Some((rows, true));
        }
        let consumed = self.0.consumed.get().max(1);
        let total = u128::from(rows) * u128::from(self.0.size?) / u128::from(consumed);
        Some((u64::try_from(total).ok()?.max(rows), false))
    }

    /// Returns the error that ended the reading early, if any. A second call returns None.
    #[must_use]
    pub fn failure(&self) -> Option<JobError> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Called for each of the first 20 invalid rows, with its source, its line number and the fault.
pub type RowFaultCallback = Box<dyn FnMut(&Source, u64, &str) + Send>;

/// The rows of all sources. If a source cannot be read to its end, the rows end there, and the [`Tracker`] has the
/// error.
pub struct Rows {
    sources: std::vec::IntoIter<(Source, RowReader)>,
    current: Option<(Source, RowReader)>,
    number: u32,
    shapes: Vec<Shape>,
    recognitions: Vec<Recognition>,
    /// All sources, also those that were read.
    all: Vec<Source>,
    digests: Vec<Digest>,
    tracker: Tracker,
    report: RowFaultCallback,
    /// The last line read from the current source.
    line: u64,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens every source, so that read errors appear before anything starts.
    ///
    /// # Errors
    /// Fails if a source cannot be opened, or if its format is wrong.
    pub fn open(sources: Vec<Source>, hints: &Hints, report: RowFaultCallback) -> Result<Self> {
        let consumed = Consumed::default();
        let all = sources.clone();
        let (mut opened, mut shapes, mut recognitions, mut digests) = (vec![], vec![], vec![], vec![]);
        let mut size = Some(0);
        for source in sources {
            let this = source::open(&source, hints, &consumed)?;
            size = size.zip(this.size).map(|(sum, size): (u64, u64)| sum.saturating_add(size));
            recognitions.push(Recognition::new(this.list.dialect, &this.list.check));
            opened.push((source, this.list.rows));
            shapes.push(this.list.shape);
            digests.push(this.digest);
        }
        let tracker = Tracker(Arc::new(TrackerState { size, consumed, ..TrackerState::default() }));
        let mut sources = opened.into_iter();
        let current = sources.next();
        Ok(Self { sources, current, number: 0, shapes, recognitions, all, digests, tracker, report, line: 0 })
    }

    /// Returns how the rows of each source are written.
    #[must_use]
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Returns what was understood about each source.
    #[must_use]
    pub fn recognitions(&self) -> &[Recognition] {
        &self.recognitions
    }

    /// Returns each source with what was understood about it.
    pub fn lists(&self) -> impl Iterator<Item = (&Source, &Recognition)> {
        self.all.iter().zip(&self.recognitions)
    }

    /// Returns how each source is written, as the reader understood it.
    pub fn dialects(&self) -> impl Iterator<Item = &Dialect> {
        self.recognitions.iter().map(|recognition| &recognition.dialect)
    }

    /// Returns the hashes of the files. They are complete once all rows have been read.
    pub(in crate::job) fn digests(&self) -> Vec<Digest> {
        self.digests.clone()
    }

    /// Returns a handle to the progress of reading.
    #[must_use]
    pub fn tracker(&self) -> Tracker {
        self.tracker.clone()
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        while let Some((source, rows)) = &mut self.current {
            match rows.next() {
                Some(Ok(row)) => {
                    let mut row = row.checked();
                    row.source = self.number;
                    self.line = row.line;
                    self.tracker.0.rows.fetch_add(1, Relaxed);
                    if let Some(fault) = &row.fault
                        && self.tracker.0.bad.fetch_add(1, Relaxed) < MAX_REPORTS
                    {
                        (self.report)(source, row.line, fault);
                    }
                    return Some(row);
                }
                Some(Err(error)) => {
                    // The rows so far are valid. Those after the error cannot be found.
                    let place = format!("{source}: after line {}", self.line);
                    let failure =
                        Err::<(), _>(error).context("cannot be read").map_err(|it| it.within(place));
                    *self.tracker.0.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure.err();
                    self.current = None;
                }
                None => {
                    (self.current, self.line) = (self.sources.next(), 0);
                    self.number += 1;
                }
            }
        }
        self.tracker.0.done.store(true, Relaxed);
        None
    }
}
