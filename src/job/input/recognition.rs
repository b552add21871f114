//! What was understood about a list, for the user.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Dialect, InputFormat, layout::CellCheck};

/// What was understood about a list before its first row was read.
///
/// Its text is one line:
///
/// ```
/// use smtp_pool::job::input::{Dialect, InputFormat, Recognition};
/// let mut recognition = Recognition::default();
/// (recognition.cells, recognition.addresses) = (1_000, 992);
/// recognition.dialect.format = InputFormat::Csv;
/// recognition.dialect.delimiter = Some(b';');
/// recognition.dialect.header = true;
/// recognition.dialect.names = vec!["id".into(), "E-Mail".into()];
/// recognition.dialect.columns = vec![1];
/// assert_eq!(
///     recognition.line(Some(12_034)),
///     "CSV, semicolon, UTF-8, header, 12,034 rows, addresses in column 2 \"E-Mail\" (99.2 % look like addresses)"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recognition {
    /// How the list is written.
    pub dialect: Dialect,
    /// The cells with addresses in the first rows, at most a thousand a column, without empty ones.
    pub cells: u64,
    /// Those that are an address or look like a damaged one.
    pub addresses: u64,
}

impl Recognition {
    pub(super) fn new(dialect: Dialect, check: &CellCheck) -> Self {
        Self { dialect, cells: check.cells, addresses: check.addresses }
    }

    /// Returns the line about a list with this number of rows.
    #[must_use]
    pub fn line(&self, rows: Option<u64>) -> String {
        let mut line = self.dialect.to_string();
        match rows {
            None => {}
            Some(1) => line.push_str(", 1 row"),
            Some(rows) => line.push_str(&format!(", {} rows", Grouped(rows))),
        }
        let kind = match self.dialect.format {
            InputFormat::Text => None,
            InputFormat::Jsonl | InputFormat::Json => Some("field"),
            _ => Some("column"),
        };
        if let Some(kind) = kind {
            let several = if self.dialect.columns.len() == 1 { "" } else { "s" };
            line.push_str(&format!(", addresses in {kind}{several}"));
            let names = self.dialect.columns.iter().zip(self.dialect.address_columns());
            for (number, (column, name)) in names.enumerate() {
                line.push_str(if number == 0 { " " } else { " and " });
                if kind == "column" {
                    line.push_str(&format!("{} ", column + 1));
                }
                let short: String = name.chars().take(60).collect();
                line.push_str(&format!("{short:?}"));
            }
        }
        if let Some(tenths) = (self.addresses * 1_000).checked_div(self.cells) {
            let share = match tenths % 10 {
                0 => format!("{}", tenths / 10),
                tenth => format!("{}.{tenth}", tenths / 10),
            };
            line.push_str(&format!(" ({share} % look like addresses)"));
        }
        line
    }
}

/// A number with a comma between each three digits.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}
