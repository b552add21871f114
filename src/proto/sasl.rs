//! SASL for clients: what to answer to which challenge (RFC 4954, RFC 4422).

use std::fmt;

use thiserror::Error;

use super::{Extensions, Mechanism, ParamError, SaslResponse};

/// A name and the secret that proves it. `Debug` shows the name alone.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Credentials {
    /// A password: PLAIN (RFC 4616), or LOGIN where the server knows nothing better.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2.0 bearer token: XOAUTH2, as Gmail and Microsoft 365 take it.
    Token {
        /// The user name.
        user: String,
        /// The access token.
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Password { user, .. } | Self::Token { user, .. }) = self;
        write!(f, "Credentials({user:?}, …)")
    }
}

/// Why authentication cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The server offers no mechanism that fits the credentials.
    #[error("the server offers no mechanism for these credentials")]
    NoMechanism,
    /// A challenge where the mechanism expects none.
    #[error("an unexpected challenge")]
    Challenge,
    /// The answer does not fit a line.
    #[error("the answer cannot be sent")]
    Response(#[from] ParamError),
}

/// One SASL exchange: made from credentials and what the server offers, then asked at each challenge.
///
/// ```
/// use smtp_pool::proto::{Credentials, Extensions, Reply, Sasl};
/// let offered = Extensions::parse(&Reply::parse(b"250-mx\r\n250 AUTH LOGIN PLAIN")?);
/// let credentials = Credentials::Password { user: "tim".into(), password: "tanstaaftanstaaf".into() };
/// let sasl = Sasl::new(&credentials, &offered)?;
/// assert_eq!(sasl.mechanism().as_str(), "PLAIN");
/// assert_eq!(sasl.initial()?.unwrap().decode(), b"\0tim\0tanstaaftanstaaf");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sasl<'a> {
    credentials: &'a Credentials,
    mechanism: Mechanism,
    asked: u8,
}

impl<'a> Sasl<'a> {
    /// Picks the best mechanism that both sides know.
    ///
    /// # Errors
    /// [`SaslError::NoMechanism`].
    pub fn new(credentials: &'a Credentials, offered: &Extensions) -> Result<Self, SaslError> {
        let known: &[&str] = match credentials {
            Credentials::Password { .. } => &["PLAIN", "LOGIN"],
            Credentials::Token { .. } => &["XOAUTH2"],
        };
        let name = known.iter().find(|name| offered.offers_auth(name)).ok_or(SaslError::NoMechanism)?;
        Ok(Self { credentials, mechanism: Mechanism::new(name)?, asked: 0 })
    }

    /// The mechanism picked.
    #[must_use]
    pub fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    /// The initial response, where the mechanism has one.
    ///
    /// # Errors
    /// The credentials do not fit a line.
    pub fn initial(&self) -> Result<Option<SaslResponse>, SaslError> {
        let octets = match self.credentials {
            Credentials::Password { .. } if self.mechanism.as_str() == "LOGIN" => return Ok(None),
            Credentials::Password { user, password } => format!("\0{user}\0{password}"),
            Credentials::Token { user, token } => format!("user={user}\x01auth=Bearer {token}\x01\x01"),
        };
        Ok(Some(SaslResponse::new(octets.as_bytes())?))
    }

    /// The answer to the next challenge (334).
    ///
    /// LOGIN asks twice, for the name and for the password, in words that differ from server to server; so it goes
    /// by the order. XOAUTH2 sends a challenge only to explain a refusal, to be answered with an empty line.
    ///
    /// # Errors
    /// The mechanism expects no (further) challenge: the client should cancel with `*`.
    pub fn respond(&mut self) -> Result<SaslResponse, SaslError> {
        self.asked += 1;
        let octets = match (self.credentials, self.mechanism.as_str(), self.asked) {
            (Credentials::Password { user, .. }, "LOGIN", 1) => user.as_str(),
            (Credentials::Password { password, .. }, "LOGIN", 2) => password,
            (Credentials::Token { .. }, _, 1) => "",
            _ => return Err(SaslError::Challenge),
        };
        Ok(SaslResponse::new(octets.as_bytes())?)
    }
}
