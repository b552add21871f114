//! Writes rows of CSV (RFC 4180) into a buffer.
//!
//! Nearly all cells of a record are short and plain. For them this costs a copy.

use std::io::Write;

/// One row of CSV at the end of a buffer.
pub(super) struct CsvRow<'a> {
    out: &'a mut Vec<u8>,
    delimiter: u8,
    /// Whether a cell stands before the next one.
    is_continued: bool,
}

impl<'a> CsvRow<'a> {
    /// Starts a row behind the octets of the buffer.
    pub(super) fn new(out: &'a mut Vec<u8>, delimiter: u8) -> Self {
        Self { out, delimiter, is_continued: false }
    }

    /// Writes a cell, in quotes if it needs them.
    pub(super) fn cell(&mut self, cell: &[u8]) {
        self.separate();
        let delimiter = self.delimiter;
        // There is no early end, so that the compiler vectorizes the loop.
        let is_special =
            |octet: u8| (octet == delimiter) | (octet == b'"') | (octet == b'\n') | (octet == b'\r');
        if !cell.iter().fold(false, |any, octet| any | is_special(*octet)) {
            self.out.extend_from_slice(cell);
            return;
        }
        self.out.push(b'"');
        for (n, part) in cell.split(|octet| *octet == b'"').enumerate() {
            if n > 0 {
                self.out.extend_from_slice(b"\"\"");
            }
            self.out.extend_from_slice(part);
        }
        self.out.push(b'"');
    }

    /// Writes a word or a number, which never needs quotes.
    pub(super) fn word(&mut self, word: &str) {
        self.separate();
        self.out.extend_from_slice(word.as_bytes());
    }

    /// Writes a number.
    pub(super) fn number(&mut self, number: u64) {
        self.separate();
        put_number(self.out, number);
    }

    /// Writes a cell by a function that writes no special octet.
    pub(super) fn plain(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.separate();
        write(self.out);
    }

    /// Ends the row.
    pub(super) fn end(self) {
        self.out.push(b'\n');
    }

    fn separate(&mut self) {
        if self.is_continued {
            self.out.push(self.delimiter);
        }
        self.is_continued = true;
    }
}

/// Writes a number in decimal digits.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=9 => out.push(b'0' + number as u8),
        // A buffer in memory takes any octets.
        _ => drop(write!(out, "{number}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_those_of_the_csv_crate(
            cells in prop::collection::vec("[a\",;\t é\r\n#]{0,6}", 2..5),
            delimiter in prop::sample::select(vec![b',', b';', b'\t']),
        ) {
            let mut out = b"before".to_vec();
            let mut row = CsvRow::new(&mut out, delimiter);
            cells.iter().for_each(|cell| row.cell(cell.as_bytes()));
            row.end();
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(b"before".to_vec());
            writer.write_record(&cells).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(writer.into_inner().unwrap()).unwrap());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        let mut out = Vec::new();
        for number in [0, 9, 10, 550, u64::MAX] {
            put_number(&mut out, number);
            out.push(b' ');
        }
        assert_eq!(out, format!("0 9 10 550 {} ", u64::MAX).as_bytes());
    }
}
