//! A record on its way out, with everything that is written beside it.

use std::borrow::Cow;

use serde_json::Value;
use smtp_pool::{
    job::input::Shape,
    proto::Mailbox,
    verify::{Record, did_you_mean, normal_form},
};

/// What is written for one row.
pub(crate) struct Line<'a> {
    pub(crate) record: &'a Record,
    /// Facts that need no server; none if it is no address.
    pub(crate) mailbox: Option<Mailbox>,
    /// How the row is written,
    pub(crate) shape: &'a Shape,
    /// and the row.
    pub(crate) written: &'a [u8],
}

impl<'a> Line<'a> {
    pub(crate) fn new(record: &'a Record, shape: &'a Shape, written: &'a [u8]) -> Self {
        Self { record, mailbox: Mailbox::parse(&record.address).ok(), shape, written }
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

    /// The fields of the row itself.
    pub(crate) fn columns(&self) -> Vec<(Cow<'_, str>, Value)> {
        self.shape.fields(self.written)
    }
}

/// A column of the list under a name that no field of the record has.
pub(crate) fn renamed<'a>(name: &'a str, taken: impl Fn(&str) -> bool) -> Cow<'a, str> {
    if taken(name) { format!("input_{name}").into() } else { name.into() }
}
