//! An address in progress in a run.

use std::num::NonZeroI64;

use jiff::Timestamp;

use super::DomainFacts;
use crate::proto::Mailbox;

/// An address in progress. Millions of items wait in queues and move between them, so an item has at most 64 octets,
/// one cache line.
pub(super) struct Item {
    pub(super) id: u64,
    /// The address as given. It moves into the record.
    pub(super) address: String,
    /// The wire form, if it differs from the address as given.
    pub(super) wire: Option<Box<Box<str>>>,
    /// The position of `@` in the wire form, in octets.
    pub(super) at: u8,
    pub(super) needs_smtputf8: bool,
    pub(super) domain: u32,
    pub(super) facts: DomainFacts,
    pub(super) attempts: u32,
    /// How many connections broke while this item was the next to be answered.
    pub(super) losses: u8,
    /// The time of the first attempt, in milliseconds since 1970.
    pub(super) started: Option<NonZeroI64>,
    /// Whether it holds a permit of the run. It holds none while it waits for another attempt.
    pub(super) holds_permit: bool,
}

impl Item {
    pub(super) fn mailbox(&self) -> Mailbox<&str> {
        self.mailbox_of(&self.address)
    }

    /// Records the time of the first attempt. Later attempts do not change it.
    pub(super) fn record_start(&mut self, at: Timestamp) {
        self.started = self.started.or(NonZeroI64::new(at.as_millisecond()));
    }

    /// Returns the mailbox. `address` is the address as given, which may already be in the record.
    pub(super) fn mailbox_of<'a>(&'a self, address: &'a str) -> Mailbox<&'a str> {
        Mailbox::from_parts(self.wire.as_deref().map_or(address, |wire| wire), self.at.into())
    }
}
