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
#[non_exhaustive]
pub enum TlsPolicy {
    /// Never.
    Off,
    /// With STARTTLS if the server offers it, otherwise without encryption (RFC 7435).
    ///
    /// It is the default, because it fits port 25. Many servers offer STARTTLS, but few have a certificate that a
    /// client could verify. An attacker who can remove the offer can read the mail in both cases.
    #[default]
    Opportunistic,
    /// With STARTTLS (RFC 3207), or no connection.
    Required,
    /// From the first byte, before the banner, as on port 465 (RFC 8314 3.3).
    Implicit,
}

/// The port of submission over implicit TLS (RFC 8314 7.3).
const IMPLICIT_TLS_PORT: u16 = 465;

impl TlsPolicy {
    /// Returns true if the server's certificate is verified, unless [`TlsConfig`](super::TlsConfig) says otherwise.
    ///
    /// It is false if an unencrypted connection would be accepted too. To refuse a doubtful certificate in favour of
    /// no encryption protects nothing (RFC 7435 3).
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::Required | Self::Implicit)
    }

    /// Returns the policy for a port.
    ///
    /// Port 465 has implicit TLS (RFC 8314 3.3), so the policy is [`Implicit`](Self::Implicit) there, unless it is
    /// [`Off`](Self::Off). For every other port, such as 25 and 587, it is `self`. A server at port 465 waits for TLS and sends no banner in the
    /// clear. Whether the certificate is verified stays as [`verifies`](Self::verifies) says of `self`.
    ///
    /// ```
    /// use smtp_pool::net::TlsPolicy;
    /// assert_eq!(TlsPolicy::Opportunistic.at_port(465), TlsPolicy::Implicit);
    /// assert_eq!(TlsPolicy::Opportunistic.at_port(587), TlsPolicy::Opportunistic);
    /// assert_eq!(TlsPolicy::Off.at_port(465), TlsPolicy::Off);
    /// ```
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        match self {
            Self::Opportunistic | Self::Required if port == IMPLICIT_TLS_PORT => Self::Implicit,
            policy => policy,
        }
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

/// The text is not a policy.
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
