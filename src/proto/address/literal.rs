//! Address literals: RFC 5321 4.1.3.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::{AddressError, AddressErrorKind as Kind};
use super::text::WireForm;

/// The most octets of a literal (RFC 5321 4.5.3.1.2, "domain name or number").
const MAX: usize = 255;

/// The part after the `@` of a mailbox: a name, or a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A domain name, in A-labels and lower case.
    Domain(&'a str),
    /// `[192.0.2.1]`
    Ipv4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`
    Ipv6(Ipv6Addr),
    /// `[tag:content]`, of a kind that is not standardised yet.
    General {
        /// The Standardized-tag before the colon.
        tag: &'a str,
        /// The content after the colon.
        content: &'a str,
    },
}

impl<'a> Host<'a> {
    /// Parses the wire form of a host.
    pub(super) fn of_wire(wire: &'a str) -> Self {
        let Some(literal) = wire.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return Self::Domain(wire);
        };
        let (tag, content) = literal.split_once(':').unwrap_or(("", literal));
        match (content.parse(), content.parse()) {
            (Ok(ipv4), _) if tag.is_empty() => Self::Ipv4(ipv4),
            (_, Ok(ipv6)) if tag == "IPv6" => Self::Ipv6(ipv6),
            _ => Self::General { tag, content },
        }
    }
}

/// Returns the wire form of a literal. `input` begins with its bracket.
pub(super) fn wire(input: &str) -> Result<WireForm, AddressError> {
    let close = input.find(']').ok_or(AddressError::new(Kind::UnterminatedLiteral, 0))?;
    if close + 1 < input.len() {
        return Err(AddressError::at_char(input.as_bytes(), close + 1, Kind::TextAfterLiteral));
    }
    let literal = &input[1..close];
    let text = match literal.split_once(':') {
        None => match ipv4(literal) {
            Some(ip) => format!("[{ip}]"),
            None => return Err(AddressError::new(Kind::Ipv4Literal, 1)),
        },
        Some((tag, content)) if tag.eq_ignore_ascii_case("IPv6") => match ipv6(content) {
            Some(ip) => format!("[IPv6:{ip}]"),
            None => return Err(AddressError::new(Kind::Ipv6Literal, 2 + tag.len())),
        },
        Some(_) if ipv6(literal).is_some() => return Err(AddressError::new(Kind::UntaggedIpv6, 1)),
        Some((tag, content)) => {
            general(tag, content).map_err(|error| error.shifted(1))?;
            if input.len() > MAX {
                return Err(AddressError::new(Kind::DomainTooLong, MAX));
            }
            return Ok(WireForm::AsWritten);
        }
    };
    Ok(if text == input { WireForm::AsWritten } else { WireForm::Rewritten(text) })
}

/// Parses `Snum 3("." Snum)`. The standard parser refuses leading zeros, which Snum may have.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut snums = text.split('.');
    for octet in &mut octets {
        let snum = snums.next().filter(|snum| snum.len() <= 3 && snum.bytes().all(|c| c.is_ascii_digit()))?;
        *octet = snum.parse().ok()?;
    }
    snums.next().is_none().then(|| octets.into())
}

/// Parses `IPv6-addr`: full or compressed, with or without IPv4 as its last 32 bits. "::" replaces at least two
/// groups.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let (text, ipv4_groups) = match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => (Cow::Owned(format!("{head}:{}", ipv4(tail)?)), 1),
        _ => (Cow::Borrowed(text), 0),
    };
    let groups = text.split(':').filter(|group| !group.is_empty()).count() + ipv4_groups;
    let compressed = text.contains("::");
    text.parse().ok().filter(|_| !compressed || groups <= 6)
}

/// Checks `Standardized-tag ":" 1*dcontent`. `]` cannot occur, because it ends the literal.
fn general(tag: &str, content: &str) -> Result<(), AddressError> {
    let is_tag = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_dcontent = |c: char| c.is_ascii_graphic() && !matches!(c, '[' | '\\');
    if let Some(at) = tag.find(|c| !is_tag(c)) {
        Err(AddressError::at_char(tag.as_bytes(), at, Kind::LiteralTag))
    } else if tag.is_empty() || tag.ends_with('-') {
        Err(AddressError::new(Kind::LiteralTag, tag.len().saturating_sub(1)))
    } else if content.is_empty() {
        Err(AddressError::new(Kind::LiteralContent, tag.len() + 1))
    } else if let Some(at) = content.find(|c| !is_dcontent(c)) {
        Err(AddressError::at_char(content.as_bytes(), at, Kind::LiteralContent).shifted(tag.len() + 1))
    } else {
        Ok(())
    }
}
