//! Reads plain text: one address per line.

use std::io;

use super::{Row, lines::Lines};

/// Reads the rows of a plain text list.
pub(super) struct Text {
    lines: Lines,
}

impl Text {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl Iterator for Text {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.lines.next_filled() {
                Ok(Some(line)) if is_comment(&line.octets) => {}
                Ok(line) => return Some(Ok(Row::of_line(line?))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns true for `#` alone or followed by a space or tab. `#ann@example.com` is an address.
fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii(), [b'#'] | [b'#', b' ' | b'\t', ..])
}
