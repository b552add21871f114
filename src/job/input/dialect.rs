//! How a list is written, as the reader understood it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InputFormat;
use crate::job::format::Compression;

/// How a list is written: what it takes to read it again in the same way, or to write another list like it.
///
/// A job stores it with its list. Rows are counted without blank lines, and columns from 0.
///
/// ```
/// use smtp_pool::job::input::{Dialect, InputFormat};
/// let mut dialect = Dialect::default();
/// (dialect.format, dialect.delimiter) = (InputFormat::Csv, Some(b';'));
/// assert_eq!(dialect.to_string(), "CSV, semicolon, UTF-8, no header");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Dialect {
    /// The format.
    pub format: InputFormat,
    /// How the file is compressed.
    pub compression: Option<Compression>,
    /// The name of the encoding, as in the WHATWG Encoding Standard: `UTF-8`, `UTF-16LE`, `windows-1252`; and
    /// `UTF-32LE` and `UTF-32BE`. A workbook has `UTF-8`.
    pub encoding: String,
    /// Whether a byte order mark comes first.
    pub bom: bool,
    /// The line end of the first line that has one.
    pub line_end: LineEnd,
    /// The octet between two cells. None if the format has no delimiter.
    pub delimiter: Option<u8>,
    /// How a quote within quotes is written.
    pub quoting: Quoting,
    /// The number of lines before the header, or before the first row if there is no header. They hold a preamble or
    /// `sep=;`.
    pub skipped: u64,
    /// Whether a header comes before the rows.
    pub header: bool,
    /// The names of the columns, each once. Columns without a header are `column_1`, `column_2` and so on. JSON lists
    /// only the fields with addresses.
    pub names: Vec<String>,
    /// The columns with addresses, counted from 0.
    pub columns: Vec<usize>,
    /// The name of the sheet of a workbook.
    pub sheet: Option<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            format: InputFormat::Text,
            compression: None,
            encoding: "UTF-8".into(),
            bom: false,
            line_end: LineEnd::Lf,
            delimiter: None,
            quoting: Quoting::Doubled,
            skipped: 0,
            header: false,
            names: Vec::new(),
            columns: Vec::new(),
            sheet: None,
        }
    }
}

impl Dialect {
    /// Returns the names of the columns with addresses.
    pub fn address_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter_map(|column| self.names.get(*column)).map(String::as_str)
    }
}

/// Shows the format, the delimiter, the encoding and whether there is a header. Names of the list are not shown.
impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.format.fmt(f)?;
        if let Some(compression) = self.compression {
            write!(f, " in {compression}")?;
        }
        match self.delimiter {
            None => {}
            Some(b',') => f.write_str(", comma")?,
            Some(b';') => f.write_str(", semicolon")?,
            Some(b'\t') => f.write_str(", tab")?,
            Some(b'|') => f.write_str(", pipe")?,
            Some(b'^') => f.write_str(", caret")?,
            Some(other) => write!(f, ", {:?}", char::from(other))?,
        }
        if !self.format.is_workbook() {
            write!(f, ", {}", self.encoding)?;
        }
        if matches!(self.format, InputFormat::Csv | InputFormat::Xlsx | InputFormat::Xls) {
            f.write_str(if self.header { ", header" } else { ", no header" })?;
        }
        match self.skipped {
            0 => Ok(()),
            1 => f.write_str(" after 1 line"),
            lines => write!(f, " after {lines} lines"),
        }
    }
}

/// The end of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnd {
    /// LF, as Unix has it.
    #[default]
    Lf,
    /// CR LF, as Windows has it.
    CrLf,
    /// CR, as old Macintosh programs have it.
    Cr,
}

impl LineEnd {
    /// Returns the octets of the line end.
    #[must_use]
    pub fn octets(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
            Self::Cr => b"\r",
        }
    }
}

/// How a quote within quotes is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quoting {
    /// As two quotes (RFC 4180).
    #[default]
    Doubled,
    /// As a backslash and a quote.
    Backslash,
}
