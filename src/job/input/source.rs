//! The sources of lists, and their formats.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{
    Dialect, Lines, Row, Shape,
    csv::{self, Csv},
    jsonl::{self, Jsonl},
    open::{self, Consumed},
    text::Text,
};
use crate::{
    job::{
        digest::Digest,
        error::{IoContext, JobError, Result},
        format,
    },
    proto::Mailbox,
};

/// The format of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputFormat {
    /// One address per line. Blank lines are skipped, and so are lines that begin with `#` and a space.
    #[default]
    Text,
    /// CSV with comma, semicolon, tab or another delimiter, with or without a header (RFC 4180).
    Csv,
    /// JSON Lines: one JSON object or string per line.
    Jsonl,
    /// A JSON array of objects or strings.
    Json,
    /// A workbook of Excel 2007 or later (Office Open XML).
    Xlsx,
    /// A workbook of Excel 97 to 2003.
    Xls,
}

impl InputFormat {
    /// Returns true for the formats of Excel.
    #[must_use]
    pub fn is_workbook(self) -> bool {
        matches!(self, Self::Xlsx | Self::Xls)
    }
}

impl fmt::Display for InputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Csv => "CSV",
            Self::Jsonl => "JSONL",
            Self::Json => "JSON array",
            Self::Xlsx => "xlsx",
            Self::Xls => "xls",
        })
    }
}

impl FromStr for InputFormat {
    type Err = JobError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(JobError::hinted(format_args!("{name}: unknown format"), "use text, csv or jsonl")),
        }
    }
}

/// A source of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file, compressed or not.
    File(PathBuf),
    /// Addresses from the command line.
    Addresses(Vec<String>),
}

impl Source {
    /// Sorts arguments into sources. `-` is standard input, an existing path is a file, and anything else with an `@`
    /// is an address.
    ///
    /// # Errors
    /// Fails if an argument is none of these, or if standard input is named twice.
    pub fn of_arguments(arguments: &[String]) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        for argument in arguments {
            let path = Path::new(argument);
            if argument == "-" {
                if sources.contains(&Self::Stdin) {
                    return Err(JobError::list("-: standard input can be read only once"));
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

/// What the user specifies about the lists.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Hints {
    /// The format. By default, the extension or the first line decides.
    pub format: Option<InputFormat>,
    /// The name of the address column or field, or the column number from 1. It is detected by default.
    pub column: Option<String>,
}

impl Hints {
    /// Sets the format.
    #[must_use]
    pub fn format(self, format: InputFormat) -> Self {
        Self { format: Some(format), ..self }
    }

    /// Sets the name of the address column or field, or the column number from 1.
    #[must_use]
    pub fn column(self, column: &str) -> Self {
        Self { column: Some(column.to_owned()), ..self }
    }
}

/// The rows of one source. An error ends them.
pub(super) type RowReader = Box<dyn Iterator<Item = io::Result<Row>> + Send>;

/// A source that was opened, with its format detected.
pub(super) struct OpenedSource {
    pub(super) rows: RowReader,
    pub(super) shape: Shape,
    pub(super) dialect: Dialect,
    /// The size of the file, if it has one.
    pub(super) size: Option<u64>,
    /// The hash of the octets read from the file.
    pub(super) digest: Digest,
}

/// Opens a source and determines its format.
pub(super) fn open(source: &Source, hints: &Hints, consumed: &Consumed) -> Result<OpenedSource> {
    let digest = Digest::default();
    let (text, size, named) = match source {
        Source::Addresses(addresses) => {
            let row = |(n, address): (usize, String)| Ok(Row::new(n as u64 + 1, address.into_bytes()));
            let rows = Box::new(addresses.clone().into_iter().enumerate().map(row));
            let (shape, dialect) = (Shape::Plain, Dialect::default());
            return Ok(OpenedSource { rows, shape, dialect, size: None, digest });
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
    let dialect = match &shape {
        Shape::Plain => Dialect::default(),
        Shape::Jsonl => Dialect { format: InputFormat::Jsonl, ..Dialect::default() },
        Shape::Csv { delimiter, names } => Dialect {
            format: InputFormat::Csv,
            delimiter: Some(*delimiter),
            names: names.clone(),
            ..Dialect::default()
        },
    };
    Ok(OpenedSource { rows, shape, dialect, size, digest })
}

/// Reads a list from memory, compressed or not.
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
        None => detect(&mut lines)?,
    };
    Ok(match (format, column) {
        (InputFormat::Text, Some(column)) => {
            return Err(JobError::hinted(
                format_args!("--column {column}: plain text has no columns"),
                "give its format: --format csv or --format jsonl",
            ));
        }
        (InputFormat::Text, None) => (Box::new(Text::new(lines)), Shape::Plain),
        (InputFormat::Csv, column) => {
            let csv = Csv::new(lines, column)?;
            let shape = csv.shape();
            (Box::new(csv), shape)
        }
        (_, column) => {
            let first = lines.peek(0).context("cannot be read")?;
            if first.is_some_and(|line| line.octets.trim_ascii() == b"[") {
                return Err(JobError::hinted(
                    "a JSON array; one object per line is needed",
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

/// Detects the format by the first line that is not blank.
fn detect(lines: &mut Lines) -> Result<InputFormat> {
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
