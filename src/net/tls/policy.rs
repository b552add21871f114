use std::{fmt, str::FromStr};

use thiserror::Error;

/// When a connection is encrypted.
///
/// ```
/// use smtp_pool::net::TlsPolicy;
/// assert_eq!("required".parse(), Ok(TlsPolicy::Required));
/// assert_eq!(TlsPolicy::default().to_string(), "opportunistic");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsPolicy {
    /// Never.
    Off,
    /// With STARTTLS where the server offers it, in clear where not (RFC 7435).
    ///
    /// The default, since it is what port 25 can promise: many servers offer STARTTLS, few have a certificate
    /// that anybody could verify, and whoever can strip the offer can read the mail either way.
    #[default]
    Opportunistic,
    /// With STARTTLS (RFC 3207), or not at all.
    Required,
    /// From the first byte, before the greeting, as on port 465 (RFC 8314 3.3).
    Implicit,
}

impl TlsPolicy {
    /// Whether the certificate of the server is verified unless [`TlsConfig`](super::TlsConfig) says otherwise.
    ///
    /// Not if clear text would be accepted as well: refusing a doubtful certificate in favour of no encryption
    /// protects nobody (RFC 7435 3).
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::Required | Self::Implicit)
    }
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
            Self::Implicit => "implicit",
        })
    }
}

/// The text is none of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not one of off, opportunistic, required, implicit")]
pub struct ParseTlsPolicyError;

impl FromStr for TlsPolicy {
    type Err = ParseTlsPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "opportunistic" => Ok(Self::Opportunistic),
            "required" => Ok(Self::Required),
            "implicit" => Ok(Self::Implicit),
            _ => Err(ParseTlsPolicyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for policy in [TlsPolicy::Off, TlsPolicy::Opportunistic, TlsPolicy::Required, TlsPolicy::Implicit] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("".parse::<TlsPolicy>(), Err(ParseTlsPolicyError));
    }
}
