//! What is known so far, in the order of the rows, while a run may be going on.

use jiff::Timestamp;

use super::{
    error::{JobError, Result},
    pack::{Entry, Unpack, Unpacker, decompress},
    store::{MAX_ROWS, Span, Store},
};
use crate::verify::{CatchAll, Record, SubStatus};

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    Nothing,
    /// What the verdict would be if nobody asked again.
    Interim,
    /// The verdict, for good.
    Verdict,
}

/// One row of a job, with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// Its number over all sources, from 0.
    pub row: u32,
    /// Which of the sources it is of.
    pub source: u32,
    /// The whole row, as it was written: see [`Shape`](super::input::Shape).
    pub written: Vec<u8>,
    /// What the record is worth.
    pub known: Known,
    /// The record, with the address as it was written; where nothing is known, one that says so.
    pub record: Record,
}

/// All rows of a segment.
///
/// # Errors
/// The store fails, or is damaged.
pub(super) fn segment(store: &dyn Store, span: Span) -> Result<Vec<JobRow>> {
    let entries = entries(store, span)?;
    let rows = decompress(&store.rows(span.segment)?)?;
    let mut from = Unpack(&rows);
    let mut found = Vec::with_capacity(entries.len());
    for (row, entry) in (span.first..).zip(entries) {
        let address = from.text()?.to_owned();
        let written = from.octets()?.to_vec();
        let (known, mut record) = match entry {
            Some(Entry::Final(record)) => (Known::Verdict, record),
            Some(Entry::Interim(record)) => (Known::Interim, record),
            Some(Entry::Void) | None => (Known::Nothing, nothing()),
        };
        record.address = address;
        found.push(JobRow { row, source: span.source, written, known, record });
    }
    match from.is_empty() {
        true => Ok(found),
        false => Err(JobError::Damaged.within(format_args!("segment {}", span.segment))),
    }
}

fn nothing() -> Record {
    let sub_status = SubStatus::Other;
    Record {
        address: String::new(),
        status: sub_status.status(),
        sub_status,
        blame: None,
        catch_all: CatchAll::NotRun,
        role: false,
        disposable: false,
        free: false,
        mx_host: None,
        smtp_code: None,
        enhanced_code: None,
        reply: None,
        attempts: 0,
        tls: None,
        duration_ms: 0,
        checked_at: Timestamp::default(),
    }
}

/// The most results that a batch has: each row several times.
const MAX_ENTRIES: usize = 8 * MAX_ROWS as usize;

/// What is known of each row of a segment: the last that was said.
pub(super) fn entries(store: &dyn Store, span: Span) -> Result<Vec<Option<Entry>>> {
    let mut known = vec![None; span.rows as usize];
    for batch in store.results(span.segment)? {
        for (number, entry) in Unpacker::new(&decompress(&batch)?).enumerate() {
            let (row, entry) = entry?;
            if number >= MAX_ENTRIES {
                return Err(JobError::Damaged.within(format_args!("results of segment {}", span.segment)));
            }
            *known.get_mut(row as usize).ok_or(JobError::Damaged)? = Some(entry);
        }
    }
    Ok(known)
}
