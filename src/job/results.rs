//! What is known so far, in the order of the rows, while a run may be going on.

use std::ops::Range;

use jiff::Timestamp;

use super::{
    encoding::{Entry, EntryDecoder, OctetReader, decompress, size},
    error::{JobError, Result},
    store::{MAX_ROWS, Span, Store},
};
use crate::verify::{CatchAll, Record, SubStatus};

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
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
    pub state: RowState,
    /// The record, with the address as it was written; where nothing is known, one that says so.
    pub record: Record,
}

/// Octets of results that are in memory at once, before compression; where a segment has more, it is read in pieces.
const PIECE: usize = 32 << 20;

/// All rows of a segment in their order, in pieces. An error, that the store fails or is damaged, ends them.
pub(super) fn pieces(store: &dyn Store, span: Span) -> impl Iterator<Item = Result<Vec<JobRow>>> + '_ {
    pieces_of(store, span, PIECE)
}

fn pieces_of(store: &dyn Store, span: Span, octets: usize) -> impl Iterator<Item = Result<Vec<JobRow>>> + '_ {
    let (pieces, error) = match open(store, span, octets) {
        Ok(pieces) => (Some(pieces), None),
        Err(error) => (None, Some(Err(error))),
    };
    pieces.into_iter().flatten().chain(error)
}

fn open(
    store: &dyn Store,
    span: Span,
    octets: usize,
) -> Result<impl Iterator<Item = Result<Vec<JobRow>>> + '_> {
    let mut all = 0;
    store.results(span.segment, &mut |batch| {
        all += size(batch)?;
        Ok(())
    })?;
    // Results lie in the order of the answers, so that a piece is found by going through all of them.
    let pieces = u32::try_from(all / octets).unwrap_or(u32::MAX).saturating_add(1);
    let len = span.rows.div_ceil(pieces).max(1);
    let rows = decompress(&store.rows(span.segment)?)?;
    let (mut at, mut from) = (0, 0);
    Ok(std::iter::from_fn(move || {
        (from < span.rows).then(|| {
            let piece = from..span.rows.min(from.saturating_add(len));
            from = piece.end;
            let mut packed = OctetReader(rows.get(at..).unwrap_or_default());
            let found = read(store, span, piece, &mut packed);
            at = rows.len() - packed.0.len();
            if found.is_err() {
                from = span.rows;
            }
            found
        })
    }))
}

/// Rows with what is known of them, given the packed rows from there on.
fn read(
    store: &dyn Store,
    span: Span,
    piece: Range<u32>,
    packed: &mut OctetReader<'_>,
) -> Result<Vec<JobRow>> {
    let is_last = piece.end == span.rows;
    let mut known = vec![None; piece.len()];
    scan(store, span, |row, entry| {
        if let Some(known) = row.checked_sub(piece.start).and_then(|at| known.get_mut(at as usize)) {
            *known = Some(entry);
        }
    })?;
    let mut found = Vec::with_capacity(known.len());
    for (row, entry) in piece.zip(known) {
        let address = packed.text()?.to_owned();
        let written = packed.octets()?.to_vec();
        let (state, mut record) = match entry {
            Some(Entry::Final(record)) => (RowState::Verdict, record),
            Some(Entry::Interim(record)) => (RowState::Interim, record),
            Some(Entry::Void) | None => (RowState::Nothing, nothing()),
        };
        record.address = address;
        found.push(JobRow { row: span.first + row, source: span.source, written, state, record });
    }
    // Behind the last row there is nothing.
    match is_last && !packed.is_empty() {
        false => Ok(found),
        true => Err(JobError::Damaged.within(format_args!("segment {}", span.segment))),
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

/// Tells all that was said of the rows of a segment, counted from its first: of each row the last counts.
pub(super) fn scan(store: &dyn Store, span: Span, mut tell: impl FnMut(u32, Entry)) -> Result<()> {
    store.results(span.segment, &mut |batch| {
        for (number, entry) in EntryDecoder::new(&decompress(batch)?).enumerate() {
            let (row, entry) = entry?;
            if row >= span.rows || number >= MAX_ENTRIES {
                return Err(JobError::Damaged.within(format_args!("results of segment {}", span.segment)));
            }
            tell(row, entry);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::{
        encoding::{EntryEncoder, compress, put_octets},
        sqlite::Sqlite,
        store::{Changes, Segment},
    };

    #[test]
    fn a_segment_is_read_in_pieces_where_its_results_are_long() {
        const ROWS: u32 = 100;
        let mut store = Sqlite::in_memory().unwrap();
        let mut rows = Vec::new();
        for row in 0..ROWS {
            put_octets(&mut rows, format!("user{row}@x.test").as_bytes());
            put_octets(&mut rows, format!("row {row}").as_bytes());
        }
        let span = Span { segment: 0, source: 3, first: 1_000, rows: ROWS };
        let repeats = Vec::new();
        store.add(&Segment { span, rows: compress(&rows).unwrap(), repeats }, &[]).unwrap();
        let mut encoder = EntryEncoder::default();
        // Backwards, and every third of them twice.
        for row in (0..ROWS).rev().chain((0..ROWS).step_by(3)) {
            let reply: Arc<str> = format!("{row} {}", "x".repeat(row as usize)).into();
            encoder.put(row, &Record { reply: Some(reply), ..nothing() }, row % 3 == 0);
        }
        let batches = vec![encoder.into_batch(0).unwrap()];
        store.commit(&Changes { batches, ..Changes::default() }).unwrap();
        for (octets, count) in [(1 << 20, 1), (4_000, 2), (600, 15), (1, 100)] {
            let pieces: Vec<_> = pieces_of(&store, span, octets).map(Result::unwrap).collect();
            assert!(pieces.len().abs_diff(count) < 3, "{} pieces of {octets} octets", pieces.len());
            let found: Vec<_> = pieces.into_iter().flatten().collect();
            assert_eq!(found.len(), ROWS as usize);
            for (row, found) in (0..ROWS).zip(&found) {
                assert_eq!((found.row, found.source), (1_000 + row, 3));
                assert_eq!(found.written, format!("row {row}").as_bytes());
                assert_eq!(found.record.address, format!("user{row}@x.test"));
                assert_eq!(
                    found.record.reply.as_ref().unwrap().len(),
                    row.to_string().len() + 1 + row as usize
                );
                assert_eq!(found.state == RowState::Verdict, row % 3 == 0);
            }
        }
    }
}
