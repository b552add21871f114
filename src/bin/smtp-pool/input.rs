//! Lists of addresses, row by row and in constant memory.
//!
//! Whatever a row looks like, it becomes exactly one address for the verifier, which makes a record of it. What is no
//! address is reported here, where its line number is known, and handed on as it is, so that its record says so.

mod csv;
mod fields;
mod jsonl;
mod lines;
mod open;
mod rows;
mod text;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use smtp_pool::proto::Mailbox;

pub(crate) use self::{
    lines::{Line, Lines},
    open::Consumed,
    rows::{Rows, Tracker},
};
use crate::{
    exit::{At, Failure, Result},
    format,
};

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// An address a line
    Text,
    /// With comma, semicolon or tab
    Csv,
    /// A JSON object or string a line
    Jsonl,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    /// From the command line.
    Addresses(Vec<String>),
}

impl Source {
    /// Sorts the arguments: whatever has an `@` and is no file is an address.
    pub(crate) fn of_arguments(arguments: &[String]) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        for argument in arguments {
            let path = Path::new(argument);
            if argument == "-" {
                if sources.contains(&Self::Stdin) {
                    return Err(Failure::usage("-: standard input can be read once only"));
                }
                sources.push(Self::Stdin);
            } else if path.exists() {
                sources.push(Self::File(path.into()));
            } else if !argument.contains('@') {
                return Err(Failure::usage(format_args!("{argument}: no such file"))
                    .hint("an address has an @; `-` is standard input"));
            } else if let Some(Self::Addresses(addresses)) = sources.last_mut() {
                addresses.push(argument.clone());
            } else {
                sources.push(Self::Addresses(vec![argument.clone()]));
            }
        }
        Ok(sources)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Addresses(_) => f.write_str("argument"),
        }
    }
}

/// What the user says about the lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) format: Option<Format>,
    pub(crate) column: Option<String>,
}

/// One row: an address, or what is there in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) address: String,
    /// Why it is no address.
    pub(crate) fault: Option<String>,
}

impl Row {
    fn new(line: u64, octets: Vec<u8>) -> Self {
        let (text, fault) = match String::from_utf8(octets) {
            Ok(text) => (text, None),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let at = error.utf8_error().valid_up_to();
                (text, Some(format!("not UTF-8 at byte {at}")))
            }
        };
        let address = text.trim();
        let address = if address.len() == text.len() { text } else { address.to_owned() };
        Self { line, address, fault }
    }

    fn of_line(line: Line) -> Self {
        let row = Self::new(line.number, line.octets);
        if line.cut { row.with_fault("longer than any address".into()) } else { row }
    }

    fn with_fault(self, fault: String) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// Finds out whether the address is one, and makes sure that a row with a fault cannot pass for one: half an
    /// object of JSON, or text with U+FFFD for what was not UTF-8, may happen to be a valid address.
    fn checked(mut self) -> Self {
        match (Mailbox::parse(&self.address), &self.fault) {
            (Err(error), None) => self.fault = Some(error.to_string()),
            (Ok(_), Some(_)) => self.address.insert(0, ' '),
            _ => {}
        }
        self
    }
}

type RowReader = Box<dyn Iterator<Item = io::Result<Row>> + Send>;

/// Opens a source, and settles its format; the size is that of the file, where there is one.
fn reader(source: &Source, hints: &Hints, consumed: &Consumed) -> Result<(RowReader, Option<u64>)> {
    let (text, size, named) = match source {
        Source::Addresses(addresses) => {
            let row = |(n, address): (usize, String)| Ok(Row::new(n as u64 + 1, address.into_bytes()));
            return Ok((Box::new(addresses.clone().into_iter().enumerate().map(row)), None));
        }
        Source::Stdin => (open::stdin(consumed)?, None, None),
        Source::File(path) => {
            let (text, size) = open::file(path, consumed)?;
            (text, size, by_extension(path))
        }
    };
    let rows = rows_of(Lines::new(text) as Lines, hints.format.or(named), hints.column.as_deref());
    Ok((rows.map_err(|failure| failure.within(source))?, size))
}

fn rows_of(mut lines: Lines, format: Option<Format>, column: Option<&str>) -> Result<RowReader> {
    let format = match format {
        Some(format) => format,
        None => guess(&mut lines)?,
    };
    Ok(match (format, column) {
        (Format::Text, Some(column)) => {
            return Err(Failure::usage(format_args!("--column {column}: plain text has no columns"))
                .hint("say what it is: --format csv or --format jsonl"));
        }
        (Format::Text, None) => Box::new(text::Text::new(lines)),
        (Format::Csv, column) => Box::new(csv::Csv::new(lines, column)?),
        (Format::Jsonl, column) => {
            let first = lines.peek(0).failed_at("cannot be read")?;
            if first.is_some_and(|line| line.octets.trim_ascii() == b"[") {
                return Err(Failure::usage("a JSON array, where an object a line is wanted")
                    .hint("turn it into lines: jq -c '.[]'"));
            }
            Box::new(jsonl::Jsonl::new(lines, column))
        }
    })
}

fn by_extension(path: &Path) -> Option<Format> {
    match &*format::of(path).0 {
        "csv" | "tsv" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "txt" => Some(Format::Text),
        _ => None,
    }
}

/// Goes by the first line that is not blank.
fn guess(lines: &mut Lines) -> Result<Format> {
    let mut n = 0;
    while let Some(line) = lines.peek(n).failed_at("cannot be read")? {
        if !line.is_blank() {
            let first = line.octets.trim_ascii();
            let is_address = str::from_utf8(first).is_ok_and(|text| Mailbox::parse(text).is_ok());
            return Ok(match first {
                _ if is_address => Format::Text,
                [b'#', ..] => Format::Text,
                _ if jsonl::looks_like(first) => Format::Jsonl,
                _ if csv::looks_like(first) => Format::Csv,
                _ => Format::Text,
            });
        }
        n += 1;
    }
    Ok(Format::Text)
}
