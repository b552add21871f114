//! Reads lists of addresses row by row, in constant memory.
//!
//! Each row becomes exactly one address for the verifier, which makes a record of it. An invalid address is reported
//! here with its line number. It is passed on unchanged, so that its record shows it.
//!
//! ```text
//! source ▶ open ▶ lines ▶ text · csv ▶ fields · jsonl ▶ row ▶ rows
//! ```
//!
//! `columns` ([`Shape`]) splits a stored row into its fields again. `raw` ([`RawLines`]) copies lines as they are.

mod columns;
mod csv;
mod dialect;
mod fields;
mod jsonl;
mod lines;
mod open;
mod raw;
mod row;
mod rows;
mod source;
mod text;

#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(super) use self::source::read;
pub use self::{
    columns::Shape,
    dialect::{Dialect, LineEnd, Quoting},
    lines::{Line, Lines},
    raw::RawLines,
    row::Row,
    rows::{RowFaultCallback, Rows, Tracker},
    source::{Hints, InputFormat, Source},
};
