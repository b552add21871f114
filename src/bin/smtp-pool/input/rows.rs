//! The rows of all sources in their order, as the verifier takes them: counted, checked, the bad ones reported.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::{Consumed, Hints, RowReader, Source, reader};
use crate::{
    exit::{At, Failure, Result},
    progress::Screen,
};

/// Bad rows that are reported each by itself.
const MAX_REPORTS: u64 = 20;

/// What is known of the reading, for whoever does not read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker(Arc<State>);

#[derive(Debug, Default)]
struct State {
    rows: AtomicU64,
    bad: AtomicU64,
    done: AtomicBool,
    /// Of all sources together, if each has one.
    size: Option<u64>,
    consumed: Consumed,
    failure: Mutex<Option<Failure>>,
}

impl Tracker {
    pub(crate) fn rows(&self) -> u64 {
        self.0.rows.load(Relaxed)
    }

    /// Bad rows that were not reported each by itself.
    pub(crate) fn unreported(&self) -> u64 {
        self.0.bad.load(Relaxed).saturating_sub(MAX_REPORTS)
    }

    /// How many rows there are, and whether that is certain: before the end it is a guess from the size.
    pub(crate) fn total(&self) -> Option<(u64, bool)> {
        let rows = self.rows();
        if self.0.done.load(Relaxed) {
            return Some((rows, true));
        }
        let consumed = self.0.consumed.get().max(1);
        let total = u128::from(rows) * u128::from(self.0.size?) / u128::from(consumed);
        Some((u64::try_from(total).ok()?.max(rows), false))
    }

    /// Why the reading ended before the end, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives the addresses of all rows.
pub(crate) struct Rows {
    sources: std::vec::IntoIter<(Source, RowReader)>,
    current: Option<(Source, RowReader)>,
    tracker: Tracker,
    screen: Screen,
    /// Of the current source.
    line: u64,
}

impl Rows {
    /// Opens every source, so that what cannot be read is known before anything starts.
    pub(crate) fn open(sources: Vec<Source>, hints: &Hints, screen: Screen) -> Result<Self> {
        let consumed = Consumed::default();
        let mut opened = Vec::new();
        let mut size = Some(0);
        for source in sources {
            let (rows, of_this) = reader(&source, hints, &consumed)?;
            size = size.zip(of_this).map(|(sum, size): (u64, u64)| sum.saturating_add(size));
            opened.push((source, rows));
        }
        let tracker = Tracker(Arc::new(State { size, consumed, ..State::default() }));
        let mut sources = opened.into_iter();
        let current = sources.next();
        Ok(Self { sources, current, tracker, screen, line: 0 })
    }

    pub(crate) fn tracker(&self) -> Tracker {
        self.tracker.clone()
    }

    fn report(&self, source: &Source, line: u64, fault: &str) {
        if self.tracker.0.bad.fetch_add(1, Relaxed) < MAX_REPORTS {
            self.screen.say(format_args!("{source}:{line}: {fault}"));
        }
    }
}

impl Iterator for Rows {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while let Some((source, rows)) = &mut self.current {
            match rows.next() {
                Some(Ok(row)) => {
                    let row = row.checked();
                    self.line = row.line;
                    self.tracker.0.rows.fetch_add(1, Relaxed);
                    if let (Some(fault), Some((source, _))) = (row.fault, &self.current) {
                        self.report(source, row.line, &fault);
                    }
                    return Some(row.address);
                }
                Some(Err(error)) => {
                    // What was read is verified to the end; what comes behind cannot be found any more.
                    let failure =
                        Err::<(), _>(error).usage_at(format_args!("{source}: after line {}", self.line));
                    *self.tracker.0.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure.err();
                    self.current = None;
                }
                None => (self.current, self.line) = (self.sources.next(), 0),
            }
        }
        self.tracker.0.done.store(true, Relaxed);
        None
    }
}
