//! An address on its way through a run.

use std::num::NonZeroI64;

use jiff::Timestamp;

use super::DomainFacts;
use crate::proto::Mailbox;

/// An address on its way. Millions wait and move from queue to queue, so it is held to a line of the cache: 64 octets.
pub(super) struct Item {
    pub(super) id: u64,
    /// As it was given. Its record takes it away.
    pub(super) address: String,
    /// In its wire form, where that is another.
    pub(super) wire: Option<Box<Box<str>>>,
    /// Where the `@` is in the wire form.
    pub(super) at: u8,
    pub(super) needs_smtputf8: bool,
    pub(super) domain: u32,
    pub(super) facts: DomainFacts,
    pub(super) attempts: u32,
    /// How often a connection broke when this was next.
    pub(super) losses: u8,
    /// When it was first asked about, in milliseconds since 1970.
    pub(super) started: Option<NonZeroI64>,
    /// Whether it holds a permit of the run; not while it waits for another attempt.
    pub(super) holds_permit: bool,
}

impl Item {
    pub(super) fn mailbox(&self) -> Mailbox<&str> {
        self.mailbox_of(&self.address)
    }

    /// Records the first time that it is asked about.
    pub(super) fn record_start(&mut self, at: Timestamp) {
        self.started = self.started.or(NonZeroI64::new(at.as_millisecond()));
    }

    /// The mailbox, given the address that may be in the record by now.
    pub(super) fn mailbox_of<'a>(&'a self, address: &'a str) -> Mailbox<&'a str> {
        Mailbox::from_parts(self.wire.as_deref().map_or(address, |wire| wire), self.at.into())
    }
}
