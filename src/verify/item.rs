//! An address in progress.

use std::num::NonZeroI64;

use jiff::Timestamp;

use super::DomainFacts;
use crate::proto::Mailbox;

/// An address in progress. Millions of items wait in queues and move between them, so an item has at most 64 octets,
/// one cache line.
pub(super) struct Item {
    /// The caller's number for the address.
    pub(super) id: u64,
    /// The number of its run.
    pub(super) run: u32,
    /// The address as given. It moves into the record.
    pub(super) address: String,
    /// The wire form, if it differs from the address as given.
    pub(super) wire: Option<Box<Box<str>>>,
    /// The position of `@` in the wire form, in octets.
    pub(super) at: u8,
    pub(super) needs_smtputf8: bool,
    pub(super) domain: u32,
    pub(super) facts: DomainFacts,
    /// Attempts so far. A schedule has far fewer pauses than the type allows.
    pub(super) attempts: u16,
    /// How many connections broke while this item was the next to be answered. Before it has a lane: how many look-ups
    /// of its domain failed.
    pub(super) losses: u8,
    /// The time of the first attempt, in milliseconds since 1970.
    pub(super) started: Option<NonZeroI64>,
    /// Whether it holds a permit of the run. It holds none while it waits for another attempt.
    pub(super) holds_permit: bool,
}

impl Item {
    /// Returns an address of run 0 at domain 0, with a permit and without an attempt.
    #[cfg(test)]
    pub(super) fn for_test(address: &str) -> Self {
        Self {
            id: 0,
            run: 0,
            address: address.to_owned(),
            wire: None,
            at: u8::try_from(address.rfind('@').unwrap_or_default()).unwrap_or_default(),
            needs_smtputf8: !address.is_ascii(),
            domain: 0,
            facts: DomainFacts::default(),
            attempts: 0,
            losses: 0,
            started: None,
            holds_permit: true,
        }
    }

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
