//! Reads the rows of CSV: the addresses in the columns that were found.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

use super::{Row, fields::CsvRecord, records, records::CsvRecords, row::RowBatch};

/// The mark at the end of a row that was cut.
const CUT: &str = "…";
/// The most records that may be a footer.
const MAX_FOOTER: usize = 5;
/// The words that a footer begins with, in lower case.
const FOOTER_WORDS: [&str; 16] = [
    "total",
    "subtotal",
    "sum",
    "count",
    "gesamt",
    "summe",
    "anzahl",
    "total:",
    "totale",
    "somme",
    "suma",
    "end",
    "ende",
    "generated",
    "exported",
    "page",
];

/// Reads the rows of a CSV list.
pub(super) struct Csv {
    records: CsvRecords<Box<dyn BufRead + Send>>,
    /// The columns with addresses.
    columns: Vec<usize>,
    /// The number of lines before the header, or before the first row.
    skipped: u64,
    /// True until the header was read.
    header: bool,
    /// True if a record of one cell at the end is a footer.
    has_footer: bool,
    /// CsvRecords that are a footer if no other record follows.
    held: VecDeque<CsvRecord>,
    /// A record behind those.
    behind: Option<CsvRecord>,
    /// The line after the last record.
    next_line: u64,
    batch: RowBatch,
}

impl Csv {
    pub(super) fn new(
        records: CsvRecords<Box<dyn BufRead + Send>>,
        columns: Vec<usize>,
        skipped: u64,
        header: bool,
        width: usize,
    ) -> Self {
        let has_footer = width > 1;
        let (held, batch) = (VecDeque::new(), RowBatch::default());
        Self { records, columns, skipped, header, has_footer, held, behind: None, next_line: 1, batch }
    }

    /// Returns the next record that is a row.
    fn record(&mut self) -> io::Result<Option<CsvRecord>> {
        if self.behind.is_some()
            && let Some(held) = self.held.pop_front()
        {
            return Ok(Some(held));
        }
        if let Some(behind) = self.behind.take() {
            return Ok(Some(behind));
        }
        loop {
            let Some(record) = self.records.next()? else { return Ok(None) };
            if record.number <= self.skipped {
                continue;
            }
            let after_blank = record.number > self.next_line;
            let lines = memchr::memchr2_iter(b'\n', b'\r', &record.octets).count() as u64;
            self.next_line = record.number + 1 + lines;
            if std::mem::take(&mut self.header) {
                continue;
            }
            let may_end = self.has_footer && self.held.len() < MAX_FOOTER;
            if may_end && self.looks_like_footer(&record, after_blank) {
                self.held.push_back(record);
                continue;
            }
            let Some(first) = self.held.pop_front() else { return Ok(Some(record)) };
            self.behind = Some(record);
            return Ok(Some(first));
        }
    }

    /// Returns true for a record of one cell, after a blank line or with a word of footers. It holds no address.
    fn looks_like_footer(&self, record: &CsvRecord, after_blank: bool) -> bool {
        if record.octets.len() > 1_024 || record.octets.contains(&b'@') {
            return false;
        }
        let cells: Vec<_> = record.fields(self.records.delimiter).collect();
        let is_empty = |column: &usize| cells.get(*column).is_none_or(|cell| cell.trim_ascii().is_empty());
        let filled = cells.iter().filter(|cell| !cell.trim_ascii().is_empty()).count();
        let first = String::from_utf8_lossy(cells.first().map_or(b"", |cell| cell)).to_lowercase();
        let first = first.trim().trim_start_matches(['(', '-', ' ']);
        let word = first.split([' ', ':', ',']).next().unwrap_or_default();
        let is_count = first.trim_end_matches([')', '.']).ends_with(" rows") && word.parse::<u64>().is_ok();
        let is_word = FOOTER_WORDS.contains(&word);
        self.columns.iter().all(is_empty)
            && (filled == 1 && cells.len() == 1 && (after_blank || !self.held.is_empty() || is_count)
                || is_word && filled <= 2)
    }

    fn rows(&self, record: CsvRecord) -> RowBatch {
        let CsvRecord { number, octets, rules, cut } = record;
        let (octets, foreign) = records::utf8(octets, cut);
        let record = CsvRecord { number, octets, rules, cut };
        let mut cells = vec![None; self.columns.len()];
        let last = self.columns.iter().max().copied().unwrap_or(0);
        let mut width = 0;
        {
            let mut fields = record.fields(self.records.delimiter);
            for (column, field) in fields.by_ref().take(last + 1).enumerate() {
                width = column + 1;
                for (cell, wanted) in cells.iter_mut().zip(&self.columns) {
                    if *wanted == column {
                        *cell = Some(String::from_utf8_lossy(&field).into_owned());
                    }
                }
            }
            width += usize::from(fields.next().is_some());
        }
        let fault = match foreign {
            Some(at) if cells.iter().flatten().any(|cell| !cell.is_ascii()) => {
                Some(format!("not UTF-8 at byte {at}"))
            }
            // Half an address may be a valid one.
            _ if cut && width <= last + 1 && width > last => Some("longer than any address".into()),
            _ => None,
        };
        let missing = match *self.columns {
            [column] if cells[0].is_none() => Some(match cut {
                true => format!("longer than 4 MiB; it was cut before column {}", column + 1),
                false => format!("there is no column {}", column + 1),
            }),
            _ => None,
        };
        let cells: Vec<String> = cells.into_iter().flatten().collect();
        let whole = || String::from_utf8_lossy(&record.octets).into_owned();
        let (text, fault) = match (missing, fault) {
            (Some(missing), _) => (whole(), Some(missing)),
            (None, fault) => (cells.join(" "), fault),
        };
        let mut written = Vec::with_capacity(record.octets.len() + 1);
        written.push(rules.0);
        written.extend_from_slice(&record.octets);
        if cut {
            written.extend_from_slice(CUT.as_bytes());
        }
        match fault {
            Some(fault) => RowBatch::faulty(number, text, fault, written),
            None => RowBatch::new(number, cells, written),
        }
    }
}

impl Iterator for Csv {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            self.batch = match self.record() {
                Ok(record) => self.rows(record?),
                Err(error) => return Some(Err(error)),
            };
        }
    }
}
