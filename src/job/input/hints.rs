//! The formats of lists, and what the user says about a list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::job::error::{JobError, Result};

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
            "json" => Ok(Self::Json),
            "xlsx" => Ok(Self::Xlsx),
            "xls" => Ok(Self::Xls),
            _ => Err(JobError::hinted(
                format_args!("{name}: unknown format"),
                "use text, csv, jsonl, json, xlsx or xls",
            )),
        }
    }
}

/// What the user specifies about the lists. Everything else is found out.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Hints {
    /// The format.
    pub format: Option<InputFormat>,
    /// The names of the columns or fields with addresses, or their numbers from 1.
    pub columns: Vec<String>,
    /// The octet between two cells of CSV: an ASCII character other than a letter, a digit or a quote.
    pub delimiter: Option<u8>,
    /// Whether a header comes before the rows.
    pub header: Option<bool>,
    /// The number of lines at the start that are not read.
    pub skip: u64,
    /// The name of the encoding, as in the WHATWG Encoding Standard.
    pub encoding: Option<String>,
    /// The name of a sheet of a workbook, or its number from 1.
    pub sheet: Option<String>,
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
        Self { columns: vec![column.to_owned()], ..self }
    }
}
