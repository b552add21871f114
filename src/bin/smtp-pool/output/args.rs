//! How records are written, for all commands that write them.

use clap::{Args, ValueEnum};

use super::vocab::Vocab;

/// How records are written.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RecordArgs {
    /// Use the field names and values of another service
    #[arg(long, value_enum, value_name = "SERVICE", help_heading = "Output")]
    pub(crate) vocab: Option<Vocab>,
    /// Write the columns of the list first, and the fields of the record behind them
    #[arg(long, help_heading = "Output")]
    pub(crate) append: bool,
    /// What separates the cells of CSV [default: comma, in TSV tab]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Output")]
    pub(crate) csv_delimiter: Option<CsvDelimiter>,
    /// Write a byte order mark in front of CSV, by which Excel recognises UTF-8
    #[arg(long, help_heading = "Output")]
    pub(crate) bom: bool,
    /// Write `'` in front of formulas also in the columns of your list
    ///
    /// CSV always does so for text from servers. Spreadsheets run cells that begin with `=`, `+`, `-`, `@`, a tab or a
    /// line end. To restore the text, remove a `'` in front of one of these. JSONL is never changed.
    #[arg(long, help_heading = "Output")]
    pub(crate) escape_formulas: bool,
}

impl RecordArgs {
    /// Returns the options that are given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let Self { vocab, append, csv_delimiter, bom, escape_formulas } = self;
        let given = [
            (vocab.is_some(), "--vocab"),
            (*append, "--append"),
            (csv_delimiter.is_some(), "--csv-delimiter"),
            (*bom, "--bom"),
            (*escape_formulas, "--escape-formulas"),
        ];
        given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag).collect()
    }
}

/// The character between two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CsvDelimiter {
    Comma,
    Semicolon,
    Tab,
    Pipe,
}

impl CsvDelimiter {
    pub(super) fn octet(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}
