//! Records in the words of other services, so that what was written for them keeps working.
//!
//! Field names and values are those that each service documents for its answers. What a service tells and we do not
//! (a name, a gravatar, an age) is there and empty.

mod kickbox;
mod neverbounce;
mod reacher;
mod zerobounce;

use clap::ValueEnum;
use serde_json::Value;

use super::row::OutputRow;

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vocab {
    /// Those of check-if-email-exists, also known as Reacher
    Reacher,
    /// Those of ZeroBounce, API v2
    Zerobounce,
    /// Those of Kickbox, API v2
    Kickbox,
    /// Those of NeverBounce, API v4
    Neverbounce,
}

impl Vocab {
    /// The object for one row.
    pub(super) fn object(self, line: &OutputRow<'_>) -> Value {
        match self {
            Self::Reacher => reacher::object(line),
            Self::Zerobounce => zerobounce::object(line),
            Self::Kickbox => kickbox::object(line),
            Self::Neverbounce => neverbounce::object(line),
        }
    }

    /// Whether the field at a path is the address, a part of it, or made of it. All others may hold words of servers.
    pub(super) fn is_from_list(self, path: &str) -> bool {
        match self {
            Self::Reacher => reacher::FROM_LIST,
            Self::Zerobounce => zerobounce::FROM_LIST,
            Self::Kickbox => kickbox::FROM_LIST,
            Self::Neverbounce => neverbounce::FROM_LIST,
        }
        .contains(&path)
    }

    /// The columns of CSV, each the path of a field of the object.
    pub(super) fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Reacher => reacher::COLUMNS,
            Self::Zerobounce => zerobounce::COLUMNS,
            Self::Kickbox => kickbox::COLUMNS,
            Self::Neverbounce => neverbounce::COLUMNS,
        }
    }
}
