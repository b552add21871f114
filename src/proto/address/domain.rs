//! Domain names: RFC 5321 2.3.5 and 4.1.2, RFC 1035 2.3.4, and IDNA by UTS #46.

use std::borrow::Cow;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::error::{AddressError, AddressErrorKind as Kind};
use super::text::{WireForm, text_type};

/// The most octets of a domain name as text; see the module docs of `address`.
const MAX: usize = 253;
/// The most octets of a label (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// A domain name in its wire form: A-labels, lower case, at most 253 octets, each label at most 63.
///
/// It is used for the domain of a mailbox, the name of an MX host, and the name of a client. Cloning it increments a
/// reference count.
///
/// ```
/// use smtp_pool::proto::Domain;
///
/// assert_eq!(Domain::parse("Bücher.Example")?.as_str(), "xn--bcher-kva.example");
/// assert!(Domain::parse("under_score.example").is_err());
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(pub(super) Arc<str>);

impl Domain {
    /// Parses a domain name in ASCII or with U-labels.
    ///
    /// # Errors
    ///
    /// Fails with the first fault and its byte position; see [`AddressErrorKind`](Kind).
    pub fn parse(input: &str) -> Result<Self, AddressError> {
        match wire(input) {
            Ok(wire) => Ok(Self(wire.into_text(input, 0))),
            Err(error) => Err(error.explained(input)),
        }
    }

    /// Returns the name, in A-labels and lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_type!(Domain);

/// Returns the wire form of a domain.
pub(super) fn wire(input: &str) -> Result<WireForm, AddressError> {
    let seen = scan(input)?;
    if seen & (NON_ASCII | ACE) != 0 {
        to_ascii(input).map(WireForm::Rewritten)
    } else if input.len() > MAX {
        Err(AddressError::new(Kind::DomainTooLong, MAX))
    } else if seen & UPPER != 0 {
        Ok(WireForm::LowerCase)
    } else {
        Ok(WireForm::AsWritten)
    }
}

// Classes of octets in a label, and flags of a scanned domain.
const LOWER: u8 = 1; // lower-case letter, digit, hyphen
const UPPER: u8 = 2;
const NON_ASCII: u8 = 4;
const ACE: u8 = 8; // a label that begins with "xn--"

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match octet as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => LOWER,
            b'A'..=b'Z' => UPPER,
            0x80.. => NON_ASCII,
            _ => 0,
        };
        octet += 1;
    }
    table
};

/// Checks the labels, except the length of those that are not ASCII. Returns the flags.
fn scan(input: &str) -> Result<u8, AddressError> {
    let octets = input.as_bytes();
    let (mut seen, mut start) = (0, 0);
    loop {
        let (mut label_seen, mut end) = (0, start);
        let next = loop {
            match octets.get(end) {
                Some(&octet) if CLASS[octet as usize] != 0 => {
                    label_seen |= CLASS[octet as usize];
                    end += 1;
                }
                next => break next,
            }
        };
        let fault = match &octets[start..end] {
            _ if next.is_some_and(|octet| *octet != b'.') => {
                return Err(AddressError::at_char(octets, end, Kind::DomainChar));
            }
            [] if octets.is_empty() => (Kind::EmptyDomain, 0),
            [] if start == octets.len() => (Kind::TrailingDot, start - 1),
            [] => (Kind::EmptyLabel, start),
            [b'-', ..] => (Kind::LabelHyphen, start),
            [.., b'-'] => (Kind::LabelHyphen, end - 1),
            label if label.len() > MAX_LABEL && label_seen & NON_ASCII == 0 => {
                (Kind::LabelTooLong, start + MAX_LABEL)
            }
            label => {
                seen |= label_seen;
                if let [b'x' | b'X', b'n' | b'N', b'-', b'-', ..] = label {
                    seen |= ACE;
                }
                if next.is_none() {
                    return Ok(seen);
                }
                start = end + 1;
                continue;
            }
        };
        return Err(AddressError::new(fault.0, fault.1));
    }
}

/// The dots of IDNA (UTS #46 2.3), which all become a full stop.
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{FF0E}', '\u{FF61}'];

/// Converts U-labels to A-labels and verifies A-labels.
#[cold]
fn to_ascii(input: &str) -> Result<String, AddressError> {
    // Punycode uses at least one octet for a character of four. So a longer domain cannot fit, and its conversion
    // takes quadratic time.
    if input.len() > 4 * MAX {
        return Err(AddressError::new(Kind::DomainTooLong, input.floor_char_boundary(4 * MAX)));
    }
    let Ok(ascii) = uts46(input) else {
        // If the rule spans all labels (RFC 5893: bidi), no single label is at fault.
        let culprit = input.split(DOTS).position(|label| uts46(label).is_err());
        let kind = match culprit.and_then(|n| input.split(DOTS).nth(n)) {
            Some(label) if label.is_ascii() => Kind::ALabel,
            _ => Kind::ULabel,
        };
        return Err(AddressError::new(kind, label_start(input, culprit.unwrap_or(0))));
    };
    // The mapping may make a label empty or too long, or put a hyphen at its edge. The error names the original
    // label.
    let blame = |kind, at: usize| {
        AddressError::new(
            kind,
            label_start(input, ascii[..at].bytes().filter(|octet| *octet == b'.').count()),
        )
    };
    scan(&ascii).map_err(|error| blame(error.kind(), error.at()))?;
    if ascii.len() > MAX {
        return Err(blame(Kind::DomainTooLong, MAX));
    }
    Ok(ascii.into_owned())
}

/// Applies UTS #46 ToASCII, non-transitional. The caller checks lengths and empty labels.
fn uts46(input: &str) -> Result<Cow<'_, str>, idna::Errors> {
    let hyphens = Hyphens::CheckFirstLast;
    Uts46::new().to_ascii(input.as_bytes(), AsciiDenyList::STD3, hyphens, DnsLength::Ignore)
}

/// Returns the position where the `n`th label begins.
fn label_start(input: &str, n: usize) -> usize {
    let dot_before = n.checked_sub(1).and_then(|n| input.match_indices(DOTS).nth(n));
    dot_before.map_or(0, |(at, dot)| at + dot.len())
}
