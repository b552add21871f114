//! Reverse-path: the argument of MAIL (RFC 5321 4.1.1.2, 4.1.2).

use std::fmt;
use std::str::FromStr;

use super::{AddressError, Mailbox};

/// The address for bounces: a mailbox, or none, as for bounces themselves (RFC 5321 4.5.5).
///
/// `Display` writes the text between `<` and `>`, which is empty for the null path.
///
/// ```
/// use smtp_pool::proto::ReversePath;
///
/// assert_eq!("<>".parse(), Ok(ReversePath::Null));
/// let path: ReversePath = "jane@Example.org".parse()?;
/// assert_eq!(format!("MAIL FROM:<{path}>"), "MAIL FROM:<jane@example.org>");
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReversePath {
    /// `<>`
    #[default]
    Null,
    /// `<jane@example.org>`
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Returns the text between `<` and `>`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// Returns true if MAIL needs the parameter SMTPUTF8 for this path.
    pub fn needs_smtputf8(&self) -> bool {
        !self.as_str().is_ascii()
    }
}

impl From<Mailbox> for ReversePath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    fn from_str(input: &str) -> Result<Self, AddressError> {
        match input {
            "" | "<>" => Ok(Self::Null),
            _ => Mailbox::parse(input).map(Self::Mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
