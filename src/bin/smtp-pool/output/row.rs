//! A record with everything that is written beside it.

use std::borrow::Cow;

use smtp_pool::{
    job::input::CellAddress,
    proto::Mailbox,
    verify::{CatchAll, Record, Status, SubStatus, did_you_mean, normal_form},
};

/// One row of the output.
pub(crate) struct OutputRow<'a> {
    pub(crate) record: &'a Record,
    /// Facts about the address that need no server. `None` if the row is no address.
    pub(crate) mailbox: Option<Mailbox>,
    /// The address that was asked, without a name or quotes around it. `None` if the row is no address.
    pub(crate) asked: Option<String>,
    /// The address that was probably meant by a damaged one.
    meant: Option<String>,
    /// The number of the list that the row is from.
    pub(crate) source: u32,
    /// The row as it is written in the list.
    pub(crate) written: &'a [u8],
}

impl<'a> OutputRow<'a> {
    pub(crate) fn new(record: &'a Record, source: u32, written: &'a [u8]) -> Self {
        let CellAddress { mailbox, text, did_you_mean, .. } = CellAddress::of(&record.address);
        let asked = mailbox.is_some().then(|| text.into_owned());
        Self { record, mailbox, asked, meant: did_you_mean, source, written }
    }

    pub(crate) fn local_part(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::local_part)
    }

    pub(crate) fn domain(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::domain)
    }

    pub(crate) fn normal_form(&self) -> Option<Cow<'_, str>> {
        self.mailbox.as_ref().map(normal_form)
    }

    /// Returns the address that the user probably meant.
    pub(crate) fn did_you_mean(&self) -> Option<String> {
        if self.meant.is_some() {
            return self.meant.clone();
        }
        let domain = did_you_mean(self.domain())?;
        Some(format!("{}@{domain}", self.local_part()))
    }

    /// Returns whether a server of the domain was found.
    pub(super) fn has_mx(&self) -> bool {
        self.mailbox.is_some()
            && !matches!(
                (self.record.sub_status, &self.record.mx_host),
                (SubStatus::NoDnsEntries, _) | (SubStatus::DoesNotAcceptMail, None)
            )
    }

    /// Returns whether a server answered about the address.
    pub(super) fn was_reached(&self) -> bool {
        self.record.smtp_code.is_some()
    }

    /// Returns whether the domain accepts any address.
    pub(super) fn accepts_all(&self) -> bool {
        self.record.catch_all == CatchAll::Accepted || self.record.sub_status == SubStatus::CatchAll
    }

    /// Returns whether the server accepted the mailbox. For a catch-all domain this proves little.
    pub(super) fn was_accepted(&self) -> bool {
        self.record.status == Status::Deliverable
            || matches!(
                self.record.sub_status,
                SubStatus::CatchAll | SubStatus::RoleBased | SubStatus::Disposable
            )
    }
}
