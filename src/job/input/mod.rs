//! Reads lists of addresses row by row, in constant memory.
//!
//! Each row becomes exactly one address for the verifier, which makes a record of it. An invalid address is reported
//! here with its line number. It is passed on unchanged, so that its record shows it.
//!
//! ```text
//! rows ▶ source ▶ open ▶ compressed, slow_input · charset
//!        source ▶ detect ▶ layout ▶ names, cell
//!        source ▶ text · csv ▶ records ▶ fields, lines · json ▶ elements, object · workbook ▶ workbook_check ▶ row ▶ cell
//! ```
//!
//! * `open` tells text from workbooks by their contents, and `charset` decodes text.
//! * `detect` and `layout` find out how the rows are written ([`Dialect`]), and the readers make rows of them.
//! * `cell` finds the address in a cell.
//! * `columns` ([`Shape`]) splits a stored row into its fields again.
//! * `raw` ([`RawLines`]) copies lines as they are.

mod cell;
mod charset;
mod columns;
mod compressed;
mod csv;
mod detect;
mod dialect;
mod elements;
mod fields;
mod hints;
mod json;
mod layout;
mod limits;
mod lines;
mod names;
mod object;
mod open;
mod raw;
mod recognition;
mod records;
mod row;
mod rows;
mod slow_input;
mod source;
mod text;
mod workbook;
mod workbook_check;

#[cfg(test)]
mod tests;

pub(super) use self::cell::question;
#[cfg(any(test, fuzzing))]
pub(super) use self::source::read;
pub use self::{
    cell::CellAddress,
    columns::Shape,
    dialect::{Dialect, LineEnd, Quoting},
    hints::{Hints, InputFormat},
    lines::{Line, Lines},
    raw::RawLines,
    recognition::Recognition,
    row::Row,
    rows::{RowFaultCallback, Rows, Tracker},
    source::Source,
};
