//! Reads the results so far, in row order, even during a run.

use std::ops::Range;

use jiff::Timestamp;

use super::{
    encoding::{Entry, EntryDecoder, OctetReader, decompress, size},
    error::{JobError, Result},
    store::{MAX_ROWS, Span, Store},
};
use crate::verify::{CatchAll, Record, SubStatus};

/// The kind of result that a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// No result yet.
    Nothing,
    /// An interim result: the verdict if the address were not asked again.
    Interim,
    /// The final verdict.
    Verdict,
}

/// One row of a job with its result.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobRow {
    /// The row number over all sources, from 0.
    pub row: u32,
    /// The number of its source, from 0.
    pub source: u32,
    /// The whole row as it was written; see [`Shape`](super::input::Shape).
    pub written: Vec<u8>,
    /// Whether the record is final, interim, or a placeholder.
    pub state: RowState,
    /// The result. `address` is as written in the list. Without a result, the other fields hold placeholders.
    pub record: Record,
}

/// Octets of uncompressed results in memory at once. A segment with more is read in pieces.
const PIECE: usize = 32 << 20;

/// Returns all rows of a segment in order, in pieces. The first error ends them.
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
    // Results are stored in the order of the answers, so each piece scans all of them.
    let pieces = u32::try_from(all / octets).unwrap_or(u32::MAX).saturating_add(1);
    let len = span.rows.div_ceil(pieces).max(1);
    let rows = decompress(&store.rows(span.segment)?)?;
    let (mut at, mut from) = (0, 0);
    Ok(std::iter::from_fn(move || {
        (from < span.rows).then(|| {
            let piece = from..span.rows.min(from.saturating_add(len));
            from = piece.end;
            let mut encoded = OctetReader(rows.get(at..).unwrap_or_default());
            let found = read(store, span, piece, &mut encoded);
            at = rows.len() - encoded.0.len();
            if found.is_err() {
                from = span.rows;
            }
            found
        })
    }))
}

/// Returns the rows of a piece with their results. `encoded` begins at the first encoded row of the piece.
fn read(
    store: &dyn Store,
    span: Span,
    piece: Range<u32>,
    encoded: &mut OctetReader<'_>,
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
        let address = encoded.text()?.to_owned();
        let written = encoded.octets()?.to_vec();
        let (state, mut record) = match entry {
            Some(Entry::Final(record)) => (RowState::Verdict, record),
            Some(Entry::Interim(record)) => (RowState::Interim, record),
            Some(Entry::Void) | None => (RowState::Nothing, placeholder()),
        };
        record.address = address;
        found.push(JobRow { row: span.first + row, source: span.source, written, state, record });
    }
    // No data may follow the last row.
    match is_last && !encoded.is_empty() {
        false => Ok(found),
        true => Err(JobError::Damaged.within(format_args!("segment {}", span.segment))),
    }
}

fn placeholder() -> Record {
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

/// The most results in a batch. It allows for several of each row.
const MAX_ENTRIES: usize = 8 * MAX_ROWS as usize;

/// Calls `report` for each stored result of a segment, with rows counted from its first. The last result of a row is
/// valid.
pub(super) fn scan(store: &dyn Store, span: Span, mut report: impl FnMut(u32, Entry)) -> Result<()> {
    store.results(span.segment, &mut |batch| {
        for (number, entry) in EntryDecoder::new(&decompress(batch)?).enumerate() {
            let (row, entry) = entry?;
            if row >= span.rows || number >= MAX_ENTRIES {
                return Err(JobError::Damaged.within(format_args!("results of segment {}", span.segment)));
            }
            report(row, entry);
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
        // In reverse order, and every third row twice.
        for row in (0..ROWS).rev().chain((0..ROWS).step_by(3)) {
            let reply: Arc<str> = format!("{row} {}", "x".repeat(row as usize)).into();
            encoder.put(row, &Record { reply: Some(reply), ..placeholder() }, row % 3 == 0);
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
