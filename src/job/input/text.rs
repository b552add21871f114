//! Reads plain text: one address per line, or several.

use std::io::{self, BufRead};

use super::{Row, lines::Lines, records, row::RowBatch};

/// Reads the rows of a plain text list.
pub(super) struct Text {
    lines: Lines<Box<dyn BufRead + Send>>,
    /// The number of lines at the start that are no rows.
    skipped: u64,
    batch: RowBatch,
}

impl Text {
    pub(super) fn new(lines: Lines<Box<dyn BufRead + Send>>, skipped: u64) -> Self {
        Self { lines, skipped, batch: RowBatch::default() }
    }
}

impl Iterator for Text {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            let line = match self.lines.next_filled() {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            if line.number <= self.skipped || is_comment(&line.octets) {
                continue;
            }
            let (octets, foreign) = records::utf8(line.octets, line.cut);
            let text = String::from_utf8(octets).unwrap_or_default();
            let fault = match foreign {
                Some(at) => Some(format!("not UTF-8 at byte {at}")),
                None => line.cut.then(|| "longer than any address".into()),
            };
            self.batch = match fault {
                Some(fault) => RowBatch::faulty(line.number, text, fault, Vec::new()),
                None => RowBatch::new(line.number, vec![text], Vec::new()),
            };
        }
    }
}

/// Returns true for `#` alone or followed by a space or tab. `#ann@example.com` is an address.
pub(super) fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii(), [b'#'] | [b'#', b' ' | b'\t', ..])
}
