//! One row of a list, and the rows that one line or record gives.

use std::borrow::Cow;

use super::cell::{self, CellAddress, MAX_ADDRESSES};
use crate::{
    proto::Mailbox,
    verify::{MAX_TEXT, shortened},
};

/// One row: an address, or the text in its place. A cell with several addresses gives several rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The number of its source, from 0.
    pub source: u32,
    /// The number of its first line, from 1. Rows of one cell have the same number.
    pub line: u64,
    /// The address as given, without spaces around it. An invalid one is cut to
    /// [`MAX_TEXT`](crate::verify::MAX_TEXT) octets.
    pub address: String,
    /// The text that the verifier gets, if it is not `address`: the address without a name or quotes around it. See
    /// [`CellAddress`].
    pub question: Option<String>,
    /// The parsed address. None if it is invalid.
    pub mailbox: Option<Mailbox>,
    /// Why the address is invalid.
    pub fault: Option<String>,
    /// The whole row as written, in UTF-8, if it holds more than the address; see [`Shape`](super::Shape).
    pub written: Vec<u8>,
}

impl Row {
    pub(super) fn new(line: u64, cell: String) -> Self {
        let address = cell.trim();
        let address = if address.len() == cell.len() { cell } else { address.to_owned() };
        Self { line, address, ..Self::default() }
    }

    pub(super) fn with_fault(self, fault: Option<String>) -> Self {
        Self { fault, ..self }
    }

    /// Returns the text that the verifier gets.
    #[must_use]
    pub fn question(&self) -> &str {
        self.question.as_deref().unwrap_or(&self.address)
    }

    /// Finds the address. The text of a row with a fault is changed if it happens to hold one. Examples are half a JSON
    /// object, or a cell whose end was cut.
    pub(super) fn checked(mut self) -> Self {
        let cell = CellAddress::of(&self.address);
        if self.fault.is_some() {
            // The verifier would ask about a misleading address as well.
            match cell.mailbox.is_some() || Mailbox::parse(&self.address).is_ok() {
                true => self.address.insert(0, ' '),
                false => self.shorten(),
            }
            return self;
        }
        let CellAddress { mailbox, text, fault, .. } = cell;
        let text = if text == self.address { None } else { Some(text.into_owned()) };
        (self.mailbox, self.fault) = (mailbox, fault);
        match (&self.mailbox, text) {
            (Some(_), Some(text)) if self.address.len() > MAX_TEXT => self.address = text,
            (Some(_), text) => self.question = text,
            (None, _) => {
                self.shorten();
                let question = cell::question(&self.address);
                self.question = (question != self.address).then(|| question.into_owned());
            }
        }
        self
    }

    /// Shortens an invalid address, since a cell may have any length. No valid address ends with the mark of a cut.
    fn shorten(&mut self) {
        if let Cow::Owned(short) = shortened(&self.address) {
            self.address = short;
        }
    }
}

/// The rows of one line or record. They share what is written.
#[derive(Debug, Default)]
pub(super) struct RowBatch {
    line: u64,
    cells: std::vec::IntoIter<String>,
    fault: Option<String>,
    written: Vec<u8>,
}

impl RowBatch {
    /// Returns a row for each address of these cells, and one row if there is none. Empty cells beside others are no
    /// rows.
    pub(super) fn new(line: u64, mut cells: Vec<String>, written: Vec<u8>) -> Self {
        if cells.len() > 1 {
            cells.retain(|cell| !cell.trim().is_empty());
        }
        let mut fault = None;
        let mut parts = Vec::with_capacity(cells.len().max(1));
        for cell in cells {
            match cell::split(&cell) {
                several if several.len() > MAX_ADDRESSES => {
                    fault = Some(format!("more than {MAX_ADDRESSES} addresses in a cell"));
                    parts = vec![cell];
                    break;
                }
                several if several.len() > 1 => parts.extend(several.into_iter().map(str::to_owned)),
                _ => parts.push(cell),
            }
        }
        if parts.is_empty() {
            parts.push(String::new());
        }
        Self { line, cells: parts.into_iter(), fault, written }
    }

    /// Returns one row with a fault.
    pub(super) fn faulty(line: u64, cell: String, fault: String, written: Vec<u8>) -> Self {
        Self { line, cells: vec![cell].into_iter(), fault: Some(fault), written }
    }
}

impl Iterator for RowBatch {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let cell = self.cells.next()?;
        let is_last = self.cells.len() == 0;
        let written = if is_last { std::mem::take(&mut self.written) } else { self.written.clone() };
        Some(Row { written, ..Row::new(self.line, cell).with_fault(self.fault.clone()) })
    }
}
