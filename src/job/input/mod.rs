//! Lists of addresses, row by row and in constant memory.
//!
//! Whatever a row looks like, it becomes exactly one address for the verifier, which makes a record of it. What is no
//! address is reported here, where its line number is known, and handed on as it is, so that its record says so.

mod columns;
mod csv;
mod fields;
mod jsonl;
mod lines;
mod open;
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
    lines::{Line, Lines},
    row::Row,
    rows::{RowFaultCallback, Rows, Tracker},
    source::{Hints, InputFormat, Source},
};
