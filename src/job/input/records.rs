//! Reads CSV records: a line, or several lines if a quoted field continues.

use std::{
    borrow::Cow,
    io::{self, BufRead, Cursor},
};

use encoding_rs::WINDOWS_1252;

use super::{
    LineEnd,
    fields::{CsvRecord, CsvState, QuoteRules},
    lines::{Line, Lines},
};

/// The octets after which a quoted field may not continue on another line.
const MAX_RECORD: usize = 64 * 1024;
/// The most lines of one record.
const MAX_LINES: usize = 1024;

/// Reads the records of a CSV list.
pub(super) struct CsvRecords<R> {
    lines: Lines<R>,
    pub(super) delimiter: u8,
    rules: QuoteRules,
}

impl<R: BufRead> CsvRecords<R> {
    pub(super) fn new(lines: Lines<R>, delimiter: u8, rules: QuoteRules) -> Self {
        Self { lines, delimiter, rules }
    }

    /// Returns the next record that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<CsvRecord>> {
        let Some(Line { number, mut octets, mut end, mut cut }) = self.lines.next_filled()? else {
            return Ok(None);
        };
        let is_open = |state| matches!(state, CsvState::Quoted | CsvState::Escape);
        let mut state = CsvState::Start.advance(&octets, self.delimiter, self.rules);
        let (mut more, mut len) = (0, octets.len());
        // If the line was cut, its dropped part may close the quotes.
        while is_open(state) && !cut && more < MAX_LINES && len < MAX_RECORD {
            let Some(line) = self.lines.peek(more)? else { break };
            // An escape may stand before the line end.
            state = state.advance(b"\n", self.delimiter, self.rules);
            state = state.advance(&line.octets, self.delimiter, self.rules);
            cut = line.cut;
            (more, len) = (more + 1, len + line.octets.len() + 1);
        }
        let is_unclosed = is_open(state) && !cut;
        if !is_unclosed {
            for _ in 0..more {
                octets.extend_from_slice(end.unwrap_or(LineEnd::Lf).octets());
                let line = self.lines.next()?.unwrap_or_default();
                octets.extend(line.octets);
                end = line.end;
            }
        }
        let rules = if is_unclosed { self.rules.unclosed() } else { self.rules };
        Ok(Some(CsvRecord { number, octets, rules, cut: cut && (!is_unclosed || more == 0) }))
    }
}

/// Returns the records of a text in memory, at most `limit`. The last one of a text that goes on is not returned,
/// unless it is the only one.
pub(super) fn sample(
    text: &[u8],
    is_complete: bool,
    delimiter: u8,
    rules: QuoteRules,
    skip: u64,
    limit: usize,
) -> Vec<CsvRecord> {
    let mut records = CsvRecords::new(Lines::new(Cursor::new(text)), delimiter, rules);
    let mut found = Vec::new();
    while found.len() < limit {
        match records.next() {
            Ok(Some(record)) if record.number <= skip => {}
            Ok(Some(record)) => found.push(record),
            Ok(None) | Err(_) => {
                if !is_complete && found.len() > 1 {
                    found.pop();
                }
                break;
            }
        }
    }
    found
}

/// Returns a text in UTF-8, and the place of the first octet that is not. Such a text is read as windows-1252, because a
/// list may be put together from others. `cut` means that the last character may be half.
pub(super) fn utf8(octets: Vec<u8>, cut: bool) -> (Vec<u8>, Option<usize>) {
    let Err(error) = std::str::from_utf8(&octets) else { return (octets, None) };
    let at = error.valid_up_to();
    if cut && error.error_len().is_none() {
        let mut octets = octets;
        octets.truncate(at);
        return (octets, None);
    }
    match WINDOWS_1252.decode_without_bom_handling(&octets).0 {
        Cow::Owned(text) => (text.into_bytes(), Some(at)),
        Cow::Borrowed(_) => (octets, Some(at)),
    }
}
