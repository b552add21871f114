//! Mailbox: RFC 5321 4.1.2, RFC 6531 3.3.

use std::{borrow::Cow, sync::Arc};

use super::error::{AddressError, AddressErrorKind as Kind};
use super::literal::{self, Host};
use super::text::{WireForm, text_type};
use super::{domain, local_part};

/// The most octets of a mailbox (RFC 3696 erratum 1690).
const MAX: usize = 254;

/// An e-mail address as it goes into MAIL and RCPT: RFC 5321 4.1.2, RFC 6531 3.3.
///
/// The local part is kept as written, the domain in its wire form. Two mailboxes are equal if these
/// texts are. `T` is where the text lies: a shared place by default, so that a clone costs a reference
/// count; a `Mailbox<&str>` is [borrowed](Self::borrowed).
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox<T = Arc<str>> {
    text: T,
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
        let (at, wire) = parse(input)?;
        Ok(Self { text: wire.into_text(input, at + 1), at })
    }
}

impl<'a> Mailbox<Cow<'a, str>> {
    /// As [`Mailbox::parse`], of a text that is lent, and is left where it is if it is in its wire form already.
    ///
    /// # Errors
    ///
    /// As [`Mailbox::parse`].
    pub fn parse_lent(input: &'a str) -> Result<Self, AddressError> {
        let (at, wire) = parse(input)?;
        Ok(Self { text: wire.into_cow(input, at + 1), at })
    }

    /// As [`parse_lent`](Self::parse_lent), where what stands behind the `@` at `at` is known to be a host in its wire form:
    /// most addresses of a list are at a domain met before. None if anything else is at fault.
    #[cfg(feature = "verify")]
    pub(crate) fn parse_at(input: &'a str, at: usize) -> Option<Self> {
        let whole = input.len() <= MAX && local_part::scan(input).ok()? == at;
        whole.then_some(Self { text: Cow::Borrowed(input), at })
    }
}

/// Where the `@` is, and how the host goes on the wire.
fn parse(input: &str) -> Result<(usize, WireForm), AddressError> {
    let parse = || {
        let at = local_part::scan(input)?;
        let start = at + 1;
        let wire = host_wire(&input[start..]).map_err(|error| error.shifted(start))?;
        if wire.len(input, start) > MAX {
            return Err(AddressError::new(Kind::TooLong, input.floor_char_boundary(MAX)));
        }
        Ok((at, wire))
    };
    parse().map_err(|error: AddressError| error.explained(input))
}

#[cfg(feature = "verify")]
impl<T> Mailbox<T> {
    /// The text, and where its `@` is.
    pub(crate) fn into_parts(self) -> (T, usize) {
        (self.text, self.at)
    }

    /// Of what another mailbox was [taken apart](Self::into_parts) into.
    pub(crate) fn from_parts(text: T, at: usize) -> Self {
        Self { text, at }
    }
}

impl<T: AsRef<str>> Mailbox<T> {
    /// The same, borrowed.
    pub fn borrowed(&self) -> Mailbox<&str> {
        Mailbox { text: self.as_str(), at: self.at }
    }

    /// The same, in a place of its own.
    pub fn shared(&self) -> Mailbox {
        Mailbox { text: self.as_str().into(), at: self.at }
    }

    /// The whole in its wire form.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.text.as_ref()
    }

    /// What stands before the `@`, as written: a quoted string has its quotes.
    pub fn local_part(&self) -> &str {
        &self.as_str()[..self.at]
    }

    /// What stands after the `@`: a name in A-labels and lower case, or a literal in its brackets.
    pub fn domain(&self) -> &str {
        &self.as_str()[self.at + 1..]
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

text_type!(Mailbox, [T: AsRef<str>] Mailbox<T>);

/// How a domain or a literal goes on the wire.
pub(super) fn host_wire(input: &str) -> Result<WireForm, AddressError> {
    if input.starts_with('[') { literal::wire(input) } else { domain::wire(input) }
}
