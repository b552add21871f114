//! Mailbox: RFC 5321 4.1.2, RFC 6531 3.3.

use std::sync::Arc;

use super::error::{AddressError, AddressErrorKind as Kind};
use super::literal::{self, Host};
use super::text::{Wire, text_type};
use super::{domain, local_part};

/// The most octets of a mailbox (RFC 3696 erratum 1690).
const MAX: usize = 254;

/// An e-mail address as it goes into MAIL and RCPT: RFC 5321 4.1.2, RFC 6531 3.3.
///
/// The local part is kept as written, the domain in its wire form. Two mailboxes are equal if these
/// texts are. A clone costs a reference count.
///
/// ```
/// use smtp_pool::proto::{Host, Mailbox};
///
/// let mailbox = Mailbox::parse("Jane.Doe@Bücher.Example")?;
/// assert_eq!(mailbox.as_str(), "Jane.Doe@xn--bcher-kva.example");
/// assert_eq!(mailbox.local_part(), "Jane.Doe");
/// assert_eq!(mailbox.host(), Host::Domain("xn--bcher-kva.example"));
/// assert!(!mailbox.needs_smtputf8());
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    text: Arc<str>,
    /// Where the `@` between local part and domain is.
    at: usize,
}

impl Mailbox {
    /// Parses a bare address: no display name, no `<>`, no white space around it.
    ///
    /// # Errors
    ///
    /// The first fault, and the byte at which it shows; see [`AddressErrorKind`](Kind).
    pub fn parse(input: &str) -> Result<Self, AddressError> {
        Self::parse_bare(input).map_err(|error| error.explained(input))
    }

    fn parse_bare(input: &str) -> Result<Self, AddressError> {
        let at = local_part::scan(input)?;
        let start = at + 1;
        let wire = host_wire(&input[start..]).map_err(|error| error.shifted(start))?;
        if wire.len(input, start) > MAX {
            return Err(AddressError::new(Kind::TooLong, input.floor_char_boundary(MAX)));
        }
        Ok(Self { text: wire.into_text(input, start), at })
    }

    /// The whole in its wire form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, as written: a quoted string has its quotes.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// What stands after the `@`: a name in A-labels and lower case, or a literal in its brackets.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The domain, told apart.
    pub fn host(&self) -> Host<'_> {
        Host::of_wire(self.domain())
    }

    /// Whether the local part, and so the whole, is ASCII.
    pub fn is_ascii(&self) -> bool {
        self.local_part().is_ascii()
    }

    /// Whether MAIL needs the parameter SMTPUTF8 (RFC 6531 3.4) for this address.
    ///
    /// A U-label alone does not ask for it: it went to its A-label, which any server takes.
    pub fn needs_smtputf8(&self) -> bool {
        !self.is_ascii()
    }
}

text_type!(Mailbox);

/// How a domain or a literal goes on the wire.
pub(super) fn host_wire(input: &str) -> Result<Wire, AddressError> {
    if input.starts_with('[') { literal::wire(input) } else { domain::wire(input) }
}
