//! Errors of addresses, with their positions.

/// Why a text is not an address, and the byte position of the fault.
///
/// ```
/// use smtp_pool::proto::{AddressErrorKind, Mailbox};
///
/// let error = Mailbox::parse("jane@example..org").unwrap_err();
/// assert_eq!((error.kind(), error.at()), (AddressErrorKind::EmptyLabel, 13));
/// assert_eq!(error.to_string(), "empty label in the domain at byte 13");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct AddressError {
    kind: AddressErrorKind,
    at: usize,
}

/// The kind of fault in an address. `Display` names it, as the first half of the [`AddressError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AddressErrorKind {
    /// The text is empty.
    #[error("empty address")]
    Empty,
    /// White space before or after the address.
    #[error("white space around the address")]
    SurroundingWhitespace,
    /// `Jane <jane@example.org>` or `<jane@example.org>` in place of the bare address.
    #[error("display name or angle brackets around the address")]
    DisplayName,
    /// `@relay.example:jane@example.org` (RFC 5321 appendix C: deprecated, to be ignored).
    #[error("source route before the address")]
    SourceRoute,
    /// A comment in parentheses, which only header fields may have (RFC 5322 3.2.2).
    #[error("comment in the address")]
    Comment,
    /// A control character, C0 or C1, including CR and LF.
    #[error("control character in the address")]
    Control,
    /// More than 254 octets on the wire.
    #[error("address longer than 254 octets")]
    TooLong,

    /// The text ends before any `@`.
    #[error("missing '@'")]
    MissingAt,
    /// Nothing before the `@`.
    #[error("empty local part")]
    EmptyLocalPart,
    /// A dot first, last, or after a dot, in a local part without quotes.
    #[error("misplaced dot in the local part")]
    EmptyAtom,
    /// A character that needs quotes in a local part.
    #[error("character that needs quotes in the local part")]
    LocalPartChar,
    /// More than 64 octets before the `@`.
    #[error("local part longer than 64 octets")]
    LocalPartTooLong,
    /// A quoted local part without its closing quote. The position is that of the opening quote.
    #[error("unterminated quoted string")]
    UnterminatedQuote,
    /// A backslash before a character that is not printable ASCII.
    #[error("invalid quoted pair")]
    QuotedPair,
    /// Something other than `@` after the closing quote.
    #[error("text after the quoted string")]
    TextAfterQuote,

    /// Nothing after the `@`.
    #[error("empty domain")]
    EmptyDomain,
    /// A dot first, or after a dot, in the domain.
    #[error("empty label in the domain")]
    EmptyLabel,
    /// A dot last in the domain.
    #[error("trailing dot in the domain")]
    TrailingDot,
    /// An ASCII character other than letter, digit, hyphen and dot in the domain.
    #[error("invalid character in the domain")]
    DomainChar,
    /// An `@` in the domain.
    #[error("'@' in the domain")]
    AtInDomain,
    /// A hyphen first or last in a label.
    #[error("hyphen at the edge of a label")]
    LabelHyphen,
    /// A label of more than 63 octets, as an A-label.
    #[error("label longer than 63 octets")]
    LabelTooLong,
    /// A domain of more than 253 octets in A-labels, or a literal of more than 255.
    #[error("domain too long")]
    DomainTooLong,
    /// A label with `xn--` that is not a valid A-label (RFC 5890 2.3.2.1).
    #[error("invalid A-label")]
    ALabel,
    /// A label outside of ASCII that IDNA does not allow (UTS #46 4.1).
    #[error("invalid U-label")]
    ULabel,

    /// A literal without its closing bracket. The position is that of the opening bracket.
    #[error("unterminated address literal")]
    UnterminatedLiteral,
    /// Text after the closing bracket.
    #[error("text after the address literal")]
    TextAfterLiteral,
    /// A literal without a tag that is not an IPv4 address.
    #[error("invalid IPv4 address in the literal")]
    Ipv4Literal,
    /// A literal tagged `IPv6:` that is not an IPv6 address.
    #[error("invalid IPv6 address in the literal")]
    Ipv6Literal,
    /// An IPv6 address without the tag `IPv6:`.
    #[error("IPv6 address without its tag in the literal")]
    UntaggedIpv6,
    /// A tag that is empty, ends in a hyphen, or has other characters than letters, digits and hyphens.
    #[error("invalid tag in the literal")]
    LiteralTag,
    /// A tagged literal that is empty or has other characters than printable ASCII without `[`, `\`, `]`.
    #[error("invalid content in the literal")]
    LiteralContent,
}

impl AddressError {
    /// Returns the kind of fault.
    pub fn kind(&self) -> AddressErrorKind {
        self.kind
    }

    /// Returns the byte offset of the fault in the input: at most its length, and on a character boundary.
    pub fn at(&self) -> usize {
        self.at
    }

    pub(super) fn new(kind: AddressErrorKind, at: usize) -> Self {
        Self { kind, at }
    }

    /// Makes the error of the character at `at`. The kind is `kind` unless the character shows a more specific one.
    #[cold]
    pub(super) fn at_char(octets: &[u8], at: usize, kind: AddressErrorKind) -> Self {
        let kind = match octets[at..] {
            [0..0x20 | 0x7F, ..] | [0xC2, 0x80..0xA0, ..] => AddressErrorKind::Control,
            [b'(', ..] => AddressErrorKind::Comment,
            [b'@', ..] => AddressErrorKind::AtInDomain,
            _ => kind,
        };
        Self { kind, at }
    }

    /// Returns the same error with its position moved by `by` octets.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self { at: self.at + by, ..self }
    }

    /// Returns the error that explains `input` best. If the input is more than a bare address, the first invalid
    /// character says little.
    #[cold]
    pub(super) fn explained(self, input: &str) -> Self {
        let trimmed = input.trim_end();
        if input.starts_with(char::is_whitespace) {
            Self::new(AddressErrorKind::SurroundingWhitespace, 0)
        } else if trimmed.len() < input.len() {
            Self::new(AddressErrorKind::SurroundingWhitespace, trimmed.len())
        } else if self.kind == AddressErrorKind::Control {
            self // the more serious fault: it may be an injection
        } else if let (Some(open), true) = (input.rfind('<'), input.ends_with('>')) {
            Self::new(AddressErrorKind::DisplayName, open)
        } else if input.starts_with('@') && input.contains(':') && input.rfind('@') > Some(0) {
            Self::new(AddressErrorKind::SourceRoute, 0)
        } else {
            self
        }
    }
}
