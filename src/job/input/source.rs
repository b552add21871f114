//! Where lists come from, and how they are written.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    Lines, Row, Shape,
    csv::{self, Csv},
    jsonl::{self, Jsonl},
    open::{self, Consumed},
    text::Text,
};
use crate::{
    job::{
        digest::Digest,
        error::{FileErrorContext, JobError, Result},
        format,
    },
    proto::Mailbox,
};

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    /// An address a line. Blank lines are no rows, nor are lines that begin with `#` and a space.
    Text,
    /// With comma, semicolon or tab, with or without a header (RFC 4180).
    Csv,
    /// A JSON object or string a line.
    Jsonl,
}

impl FromStr for InputFormat {
    type Err = JobError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(JobError::hinted(format_args!("{name}: no such format"), "text, csv or jsonl")),
        }
    }
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file, compressed or not.
    File(PathBuf),
    /// From the command line.
    Addresses(Vec<String>),
}

impl Source {
    /// Sorts arguments: whatever has an `@` and is no file is an address, and `-` is standard input.
    ///
    /// # Errors
    /// An argument is neither; or standard input is there twice.
    pub fn of_arguments(arguments: &[String]) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        for argument in arguments {
            let path = Path::new(argument);
            if argument == "-" {
                if sources.contains(&Self::Stdin) {
                    return Err(JobError::list("-: standard input can be read once only"));
                }
                sources.push(Self::Stdin);
            } else if path.exists() {
                sources.push(Self::File(path.into()));
            } else if !argument.contains('@') {
                let fault = format_args!("{argument}: no such file").to_string();
                return Err(JobError::hinted(fault, "an address has an @; `-` is standard input"));
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
pub struct Hints {
    /// How they are written; by default told by their extension or first line.
    pub format: Option<InputFormat>,
    /// The name of the column or field with the addresses, or the number of the column from 1; guessed by default.
    pub column: Option<String>,
}

pub(super) type RowReader = Box<dyn Iterator<Item = io::Result<Row>> + Send>;

/// A source that was opened, and understood.
pub(super) struct Opened {
    pub(super) rows: RowReader,
    pub(super) shape: Shape,
    /// Of the file, where there is one.
    pub(super) size: Option<u64>,
    /// Of what is read of the file.
    pub(super) digest: Digest,
}

/// Opens a source, and settles its format.
pub(super) fn open(source: &Source, hints: &Hints, consumed: &Consumed) -> Result<Opened> {
    let digest = Digest::default();
    let (text, size, named) = match source {
        Source::Addresses(addresses) => {
            let row = |(n, address): (usize, String)| Ok(Row::new(n as u64 + 1, address.into_bytes()));
            let rows = Box::new(addresses.clone().into_iter().enumerate().map(row));
            return Ok(Opened { rows, shape: Shape::Plain, size: None, digest });
        }
        Source::Stdin => (open::stdin(consumed), None, None),
        Source::File(path) => match open::file(path, consumed, &digest) {
            Ok((text, size)) => (Ok(text), size, by_extension(path)),
            Err(error) => (Err(error), None, None),
        },
    };
    let rows =
        text.and_then(|text| rows_of(Lines::new(text), hints.format.or(named), hints.column.as_deref()));
    let (rows, shape) = rows.map_err(|error| error.within(source))?;
    Ok(Opened { rows, shape, size, digest })
}

/// The rows of a list in memory, compressed or not.
#[cfg(any(test, fuzzing))]
pub(in crate::job) fn read(
    list: impl io::Read + Send + 'static,
    format: Option<InputFormat>,
    column: Option<&str>,
) -> Result<impl Iterator<Item = io::Result<Row>>> {
    let text = open::text(list, None, &Consumed::default())?;
    let (rows, _) = rows_of(Lines::new(text), format, column)?;
    Ok(rows.map(|row| row.map(Row::checked)))
}

pub(super) fn rows_of(
    mut lines: Lines,
    format: Option<InputFormat>,
    column: Option<&str>,
) -> Result<(RowReader, Shape)> {
    let format = match format {
        Some(format) => format,
        None => guess(&mut lines)?,
    };
    Ok(match (format, column) {
        (InputFormat::Text, Some(column)) => {
            return Err(JobError::hinted(
                format_args!("--column {column}: plain text has no columns"),
                "say what it is: --format csv or --format jsonl",
            ));
        }
        (InputFormat::Text, None) => (Box::new(Text::new(lines)), Shape::Plain),
        (InputFormat::Csv, column) => {
            let csv = Csv::new(lines, column)?;
            let shape = csv.shape();
            (Box::new(csv), shape)
        }
        (InputFormat::Jsonl, column) => {
            let first = lines.peek(0).context("cannot be read")?;
            if first.is_some_and(|line| line.octets.trim_ascii() == b"[") {
                return Err(JobError::hinted(
                    "a JSON array, where an object a line is wanted",
                    "turn it into lines: jq -c '.[]'",
                ));
            }
            (Box::new(Jsonl::new(lines, column)), Shape::Jsonl)
        }
    })
}

fn by_extension(path: &Path) -> Option<InputFormat> {
    match &*format::of(path).0 {
        "csv" | "tsv" => Some(InputFormat::Csv),
        "jsonl" | "ndjson" | "json" => Some(InputFormat::Jsonl),
        "txt" => Some(InputFormat::Text),
        _ => None,
    }
}

/// Goes by the first line that is not blank.
fn guess(lines: &mut Lines) -> Result<InputFormat> {
    let Some(line) = lines.skip_blank().context("cannot be read")? else { return Ok(InputFormat::Text) };
    let first = line.octets.trim_ascii();
    let is_address = str::from_utf8(first).is_ok_and(|text| Mailbox::parse(text).is_ok());
    Ok(match first {
        _ if is_address => InputFormat::Text,
        [b'#', ..] => InputFormat::Text,
        _ if jsonl::looks_like(first) => InputFormat::Jsonl,
        _ if csv::looks_like(first) => InputFormat::Csv,
        _ => InputFormat::Text,
    })
}
