//! A record on its way out, with everything that is written beside it.

use smtp_pool::{
    proto::Mailbox,
    verify::{Record, did_you_mean, normal_form},
};

/// What is written for one row.
pub(crate) struct Line<'a> {
    pub(crate) record: &'a Record,
    /// Facts that need no server; none if it is no address.
    pub(crate) mailbox: Option<Mailbox>,
    /// Which of the lists the row is of,
    pub(crate) source: u32,
    /// and the row as it was written there.
    pub(crate) written: &'a [u8],
}

impl<'a> Line<'a> {
    pub(crate) fn new(record: &'a Record, source: u32, written: &'a [u8]) -> Self {
        Self { record, mailbox: Mailbox::parse(&record.address).ok(), source, written }
    }

    pub(crate) fn local_part(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::local_part)
    }

    pub(crate) fn domain(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::domain)
    }

    pub(crate) fn normal_form(&self) -> Option<String> {
        self.mailbox.as_ref().map(normal_form)
    }

    /// The address that was probably meant.
    pub(crate) fn did_you_mean(&self) -> Option<String> {
        let domain = did_you_mean(self.domain())?;
        Some(format!("{}@{domain}", self.local_part()))
    }
}
