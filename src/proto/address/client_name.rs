//! The argument of EHLO and HELO: RFC 5321 4.1.1.1.

use std::net::IpAddr;
use std::sync::Arc;

use super::mailbox::host_wire;
use super::text::text_type;
use super::{AddressError, Domain, Host};

/// The name that a client greets with: its domain or, without one, an address literal (RFC 5321 4.1.1.1, 4.1.4).
///
/// ```
/// use std::net::{IpAddr, Ipv6Addr};
/// use smtp_pool::proto::ClientName;
///
/// assert_eq!(ClientName::parse("Mail.Example.org")?.as_str(), "mail.example.org");
/// assert_eq!(ClientName::from(IpAddr::V6(Ipv6Addr::LOCALHOST)).as_str(), "[IPv6:::1]");
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// Parses a domain name, or an address literal in brackets.
    ///
    /// # Errors
    ///
    /// Fails with the first fault and its byte position; see [`AddressErrorKind`](super::AddressErrorKind).
    pub fn parse(input: &str) -> Result<Self, AddressError> {
        match host_wire(input) {
            Ok(wire) => Ok(Self(wire.into_text(input, 0))),
            Err(error) => Err(error.explained(input)),
        }
    }

    /// Returns the name in its wire form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the parsed name.
    pub fn host(&self) -> Host<'_> {
        Host::of_wire(&self.0)
    }
}

text_type!(ClientName);

impl From<Domain> for ClientName {
    fn from(domain: Domain) -> Self {
        Self(domain.0)
    }
}

impl From<IpAddr> for ClientName {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(format!("[{ip}]").into()),
            IpAddr::V6(ip) => Self(format!("[IPv6:{ip}]").into()),
        }
    }
}
