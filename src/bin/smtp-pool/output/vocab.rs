//! Records in the format of other services, for software that was written for them.
//!
//! Field names and values are those that each service documents for its answers. A field that smtp-pool knows nothing
//! about (a name, a gravatar, an age) is present and empty.

mod kickbox;
mod neverbounce;
mod reacher;
mod zerobounce;

use clap::ValueEnum;
use serde_json::Value;

use super::row::OutputRow;

/// The service whose field names and values are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vocab {
    /// check-if-email-exists, also known as Reacher
    Reacher,
    /// ZeroBounce, API v2
    Zerobounce,
    /// Kickbox, API v2
    Kickbox,
    /// NeverBounce, API v4
    Neverbounce,
}

impl Vocab {
    /// Returns the object for one row.
    pub(super) fn object(self, line: &OutputRow<'_>) -> Value {
        match self {
            Self::Reacher => reacher::object(line),
            Self::Zerobounce => zerobounce::object(line),
            Self::Kickbox => kickbox::object(line),
            Self::Neverbounce => neverbounce::object(line),
        }
    }

    /// Returns whether the field at a path is the address, a part of it, or made of it. All other fields may hold text
    /// from servers.
    pub(super) fn is_from_list(self, path: &str) -> bool {
        match self {
            Self::Reacher => reacher::FROM_LIST,
            Self::Zerobounce => zerobounce::FROM_LIST,
            Self::Kickbox => kickbox::FROM_LIST,
            Self::Neverbounce => neverbounce::FROM_LIST,
        }
        .contains(&path)
    }

    /// Returns the columns of CSV, each with the path of a field of the object.
    pub(super) fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Reacher => reacher::COLUMNS,
            Self::Zerobounce => zerobounce::COLUMNS,
            Self::Kickbox => kickbox::COLUMNS,
            Self::Neverbounce => neverbounce::COLUMNS,
        }
    }

    /// Returns the columns that every version has written, by which an earlier output is recognised.
    pub(super) fn first_columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Zerobounce => &zerobounce::COLUMNS[..zerobounce::FIRST_COLUMNS],
            Self::Reacher | Self::Kickbox | Self::Neverbounce => self.columns(),
        }
    }
}
