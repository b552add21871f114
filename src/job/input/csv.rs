//! Reads CSV rows: finds the delimiter, the header, and the column of addresses.

use std::{borrow::Cow, io};

use super::{
    Row, Shape,
    fields::{CsvRecord, CsvState},
    lines::{Line, Lines},
};
use crate::job::error::{IoContext, JobError, Result};

/// The octets after which a quoted field may not continue on another line.
const MAX_RECORD: usize = 64 * 1024;
/// The most lines of one record.
const MAX_LINES: usize = 1024;
/// The number of rows that are searched for addresses to find the column.
const SAMPLE: usize = 50;
/// The octets of those rows after which the search stops.
const SAMPLE_OCTETS: usize = 1 << 20;
/// The mark at the end of a row that was cut.
const CUT: &str = "…";
/// The names of address columns, the most certain first, compared without case and punctuation.
const NAMES: [&str; 9] =
    ["email", "emailaddress", "mail", "mailaddress", "useremail", "recipient", "mailbox", "to", "address"];
/// The number of names that have no other meaning. A name that contains `email` precedes the others, as in
/// `Address,Contact Email`.
const UNAMBIGUOUS: usize = 5;

/// Reads the rows of a CSV list.
pub(super) struct Csv {
    lines: Lines,
    delimiter: u8,
    column: usize,
    names: Vec<String>,
    /// The first record, if it is not a header.
    first: Option<CsvRecord>,
}

impl Csv {
    /// Reads the first lines, and the header if there is one.
    pub(super) fn new(mut lines: Lines, wanted: Option<&str>) -> Result<Self> {
        let first = lines.skip_blank().context("cannot be read")?;
        let delimiter = first.map_or(b',', |line| delimiter(&line.octets));
        let mut csv = Self { lines, delimiter, column: 0, names: Vec::new(), first: None };
        let Some(first) = csv.record().context("cannot be read")? else { return Ok(csv) };
        if first.cut {
            return Err(JobError::list(format_args!("line {}: longer than 4 MiB", first.number)));
        }
        let names: Vec<String> =
            first.fields(delimiter).map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
        let (column, header) = match wanted {
            Some(wanted) => named(&names, wanted)?,
            None => csv.detect(&names)?,
        };
        let names = match header {
            true => names,
            false => (1..=names.len()).map(|number| format!("column_{number}")).collect(),
        };
        Ok(Self { column, names, first: (!header).then_some(first), ..csv })
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::Csv { delimiter: self.delimiter, names: self.names.clone() }
    }

    /// Returns the index of the address column, and true if the first line is a header.
    fn detect(&mut self, names: &[String]) -> Result<(usize, bool)> {
        let plain: Vec<String> = names.iter().map(|name| plain(name)).collect();
        let known =
            |names: &[&str]| names.iter().find_map(|known| plain.iter().position(|name| name == known));
        if let Some(column) = known(&NAMES[..UNAMBIGUOUS]) {
            return Ok((column, true));
        }
        if let Some(column) = names.iter().position(|name| name.contains('@')) {
            return Ok((column, false));
        }
        if let Some(column) =
            plain.iter().position(|name| name.contains("email")).or_else(|| known(&NAMES[UNAMBIGUOUS..]))
        {
            return Ok((column, true));
        }
        if names.len() == 1 {
            return Ok((0, false));
        }
        let (mut hits, mut octets) = (vec![0; names.len()], 0);
        for n in 0..SAMPLE {
            let Some(line) = self.lines.peek(n).context("cannot be read")? else { break };
            octets += line.octets.len();
            if n > 0 && octets > SAMPLE_OCTETS {
                break;
            }
            let record = CsvRecord { number: 0, octets: &line.octets, literal: false, cut: line.cut };
            for (hits, field) in hits.iter_mut().zip(record.fields(self.delimiter)) {
                *hits += usize::from(field.contains(&b'@'));
            }
        }
        // The first of the columns with the most hits.
        match hits.iter().enumerate().rev().max_by_key(|(_, hits)| **hits) {
            Some((column, 1..)) => Ok((column, true)),
            _ => Err(JobError::hinted(
                "no column of addresses was found",
                format!("give its name or number: --column NAME, where NAME is {}", listed(names)),
            )),
        }
    }

    /// Reads one record: a line, or several if a quoted field continues.
    fn record(&mut self) -> io::Result<Option<CsvRecord>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(Line { number, mut octets, mut cut }) = self.lines.next_filled()? else { return Ok(None) };
        let mut at = CsvState::Start.advance(&octets, self.delimiter);
        let (mut more, mut len) = (0, octets.len());
        // If the line was cut, its dropped part may close the quotes.
        while at == CsvState::Quoted && !cut && more < MAX_LINES && len < MAX_RECORD {
            let Some(line) = self.lines.peek(more)? else { break };
            at = at.advance(b"\n", self.delimiter).advance(&line.octets, self.delimiter);
            cut = line.cut;
            (more, len) = (more + 1, len + line.octets.len() + 1);
        }
        let literal = at == CsvState::Broken || at == CsvState::Quoted && !cut;
        if !literal {
            for _ in 0..more {
                octets.push(b'\n');
                octets.extend(self.lines.next()?.unwrap_or_default().octets);
            }
        }
        Ok(Some(CsvRecord { number, octets, literal, cut: cut && (!literal || more == 0) }))
    }
}

impl Iterator for Csv {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.record() {
            Ok(record) => record?,
            Err(error) => return Some(Err(error)),
        };
        let field = {
            let mut fields = record.fields(self.delimiter);
            let field = fields.nth(self.column).map(Cow::into_owned);
            field.map(|field| (field, fields.next().is_none()))
        };
        let row = match field {
            // Half an address may be a valid one.
            Some((field, true)) if record.cut => {
                Row::new(record.number, field).with_fault("longer than any address".into())
            }
            Some((field, _)) => Row::new(record.number, field),
            None => {
                let fault = match record.cut {
                    true => format!("longer than 4 MiB; it was cut before column {}", self.column + 1),
                    false => format!("there is no column {}", self.column + 1),
                };
                Row::new(record.number, record.octets.clone()).with_fault(fault)
            }
        };
        let mut written = record.octets;
        written.insert(0, record.literal.into());
        if record.cut {
            written.extend_from_slice(CUT.as_bytes());
        }
        Some(Ok(row.with_written(written)))
    }
}

/// Finds the column with this name or, if there is none, with this number.
fn named(names: &[String], wanted: &str) -> Result<(usize, bool)> {
    let exact = names.iter().position(|name| name == wanted);
    let same = || names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    if let Some(column) = exact.or_else(same) {
        return Ok((column, true));
    }
    match wanted.parse::<usize>() {
        Ok(number) if (1..=names.len()).contains(&number) => {
            let is_address = names[number - 1].contains('@');
            Ok((number - 1, !is_address))
        }
        _ => Err(JobError::hinted(
            format_args!("--column {wanted}: there is no such column"),
            format!("the columns are {}", listed(names)),
        )),
    }
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    const LONG: usize = 40;
    let shown = |name: &String| match name.char_indices().nth(LONG) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    };
    let mut text = names.iter().take(MOST).map(shown).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(", …");
    }
    text
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns the most frequent delimiter outside of quotes.
pub(super) fn delimiter(line: &[u8]) -> u8 {
    let count = |&delimiter: &u8| {
        let mut at = CsvState::Start;
        let is_end = |octet: &&u8| {
            at = at.step(**octet, delimiter);
            **octet == delimiter && at != CsvState::Quoted
        };
        line.iter().filter(is_end).count()
    };
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Returns true if a line looks like CSV rather than one address.
pub(super) fn looks_like(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let alone = plain(&text);
    line.contains(&delimiter(line)) || NAMES.contains(&&*alone)
}
