//! Mailbox: RFC 5321 4.1.2, RFC 6531 3.3.

use std::{borrow::Cow, sync::Arc};

use super::error::{AddressError, AddressErrorKind as Kind};
use super::literal::{self, Host};
use super::text::{WireForm, text_type};
use super::{domain, local_part};

/// The most octets of a mailbox (RFC 3696 erratum 1690).
const MAX: usize = 254;

/// An e-mail address for MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3).
///
/// The local part is stored as written, the domain in its wire form. Two mailboxes are equal if these texts are
/// equal. `T` holds the text. By default it is shared, so that cloning increments a reference count; a
/// `Mailbox<&str>` is [borrowed](Self::borrowed).
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
    /// The position of the `@` between local part and domain.
    at: usize,
}

impl Mailbox {
    /// Parses a bare address: no display name, no `<>`, no white space around it.
    ///
    /// # Errors
    ///
    /// Fails with the first fault and its byte position; see [`AddressErrorKind`](Kind).
    pub fn parse(input: &str) -> Result<Self, AddressError> {
        let (at, wire) = parse(input)?;
        Ok(Self { text: wire.into_text(input, at + 1), at })
    }
}

impl<'a> Mailbox<Cow<'a, str>> {
    /// Like [`Mailbox::parse`], but borrows the text if it is in its wire form already.
    ///
    /// # Errors
    ///
    /// Fails as [`Mailbox::parse`] does.
    pub fn parse_lent(input: &'a str) -> Result<Self, AddressError> {
        let (at, wire) = parse(input)?;
        Ok(Self { text: wire.into_cow(input, at + 1), at })
    }

    /// Like [`parse_lent`](Self::parse_lent), for a text whose part after the `@` at `at` is known to be a host in
    /// its wire form. Most addresses of a list share a domain with an earlier one. Returns None for any other fault.
    #[cfg(feature = "verify")]
    pub(crate) fn parse_at(input: &'a str, at: usize) -> Option<Self> {
        let whole = input.len() <= MAX && local_part::scan(input).ok()? == at;
        whole.then_some(Self { text: Cow::Borrowed(input), at })
    }
}

/// Returns the position of the `@` and the wire form of the host.
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
    /// Returns the text and the position of its `@`.
    pub(crate) fn into_parts(self) -> (T, usize) {
        (self.text, self.at)
    }

    /// Makes a mailbox from the [parts](Self::into_parts) of another one.
    pub(crate) fn from_parts(text: T, at: usize) -> Self {
        Self { text, at }
    }
}

impl<T: AsRef<str>> Mailbox<T> {
    /// Returns a borrowed copy.
    pub fn borrowed(&self) -> Mailbox<&str> {
        Mailbox { text: self.as_str(), at: self.at }
    }

    /// Returns an owned copy.
    pub fn shared(&self) -> Mailbox {
        Mailbox { text: self.as_str().into(), at: self.at }
    }

    /// Returns the wire form.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.text.as_ref()
    }

    /// Returns the part before the `@`, as written; a quoted string keeps its quotes.
    pub fn local_part(&self) -> &str {
        &self.as_str()[..self.at]
    }

    /// Returns the part after the `@`: a name in A-labels and lower case, or a literal in brackets.
    pub fn domain(&self) -> &str {
        &self.as_str()[self.at + 1..]
    }

    /// Returns the parsed domain.
    pub fn host(&self) -> Host<'_> {
        Host::of_wire(self.domain())
    }

    /// Returns true if the local part, and so the whole, is ASCII.
    pub fn is_ascii(&self) -> bool {
        self.local_part().is_ascii()
    }

    /// Returns true if MAIL needs the parameter SMTPUTF8 (RFC 6531 3.4) for this address.
    ///
    /// A U-label alone does not need it: it became an A-label, which any server accepts.
    pub fn needs_smtputf8(&self) -> bool {
        !self.is_ascii()
    }
}

text_type!(Mailbox, [T: AsRef<str>] Mailbox<T>);

/// Returns the wire form of a domain or a literal.
pub(super) fn host_wire(input: &str) -> Result<WireForm, AddressError> {
    if input.starts_with('[') { literal::wire(input) } else { domain::wire(input) }
}
