//! One row of a list.

use std::borrow::Cow;

use super::Line;
use crate::{proto::Mailbox, verify::shortened};

/// One row: an address, or what is there in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Which of the sources it is of, from 0.
    pub source: u32,
    /// The number of its first line, from 1.
    pub line: u64,
    /// The address as it was written, without spaces around it. What is no address is cut to
    /// [`MAX_TEXT`](crate::verify::MAX_TEXT) octets.
    pub address: String,
    /// The same, understood; none if it is no address.
    pub mailbox: Option<Mailbox>,
    /// Why it is no address.
    pub fault: Option<String>,
    /// The whole row as it was written, where it is more than the address: see [`Shape`](super::Shape).
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

    /// Finds out whether the address is one, and makes sure that a row with a fault cannot pass for one: half an
    /// object of JSON, or text with U+FFFD for what was not UTF-8, may happen to be a valid address.
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

    /// Cuts what is no address: a list decides how long its cells are. No valid address ends with the mark of a cut.
    fn shorten(&mut self) {
        if let Cow::Owned(short) = shortened(&self.address) {
            self.address = short;
        }
    }
}
