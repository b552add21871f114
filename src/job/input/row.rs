//! One row of a list.

use std::borrow::Cow;

use super::Line;
use crate::{proto::Mailbox, verify::shortened};

/// One row: an address, or the text in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The number of its source, from 0.
    pub source: u32,
    /// The number of its first line, from 1.
    pub line: u64,
    /// The address as written, without spaces around it. An invalid one is cut to
    /// [`MAX_TEXT`](crate::verify::MAX_TEXT) octets.
    pub address: String,
    /// The parsed address. None if it is invalid.
    pub mailbox: Option<Mailbox>,
    /// Why the address is invalid.
    pub fault: Option<String>,
    /// The whole row as written, if it holds more than the address; see [`Shape`](super::Shape).
    pub written: Vec<u8>,
}

impl Row {
    pub(super) fn new(line: u64, octets: Vec<u8>) -> Self {
        let (text, fault) = match String::from_utf8(octets) {
            Ok(text) => (text, None),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let at = error.utf8_error().valid_up_to();
                (text, Some(format!("not UTF-8 at byte {at}")))
            }
        };
        let address = text.trim();
        let address = if address.len() == text.len() { text } else { address.to_owned() };
        Self { line, address, fault, ..Self::default() }
    }

    pub(super) fn of_line(line: Line) -> Self {
        let row = Self::new(line.number, line.octets);
        if line.cut { row.with_fault("longer than any address".into()) } else { row }
    }

    pub(super) fn with_fault(self, fault: String) -> Self {
        Self { fault: Some(fault), ..self }
    }

    pub(super) fn with_written(self, written: Vec<u8>) -> Self {
        Self { written, ..self }
    }

    /// Parses the address. The address of a row with a fault is changed if it happens to be valid. Examples are half
    /// a JSON object, or text with U+FFFD in place of octets that are not UTF-8.
    pub(super) fn checked(mut self) -> Self {
        match (Mailbox::parse(&self.address), &self.fault) {
            (Ok(mailbox), None) => self.mailbox = Some(mailbox),
            (Err(error), None) => {
                self.fault = Some(error.to_string());
                self.shorten();
            }
            (Ok(_), Some(_)) => self.address.insert(0, ' '),
            (Err(_), Some(_)) => self.shorten(),
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
