//! SASL for clients: the responses to challenges (RFC 4954, RFC 4422).

use std::fmt;

use thiserror::Error;

use super::{Extensions, Mechanism, ParamError, SaslResponse};

/// A user name and its secret. `Debug` shows only the name.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Credentials {
    /// A password: PLAIN (RFC 4616), or LOGIN if the server does not offer PLAIN.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2.0 bearer token: XOAUTH2, for Gmail and Microsoft 365.
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

/// Why authentication failed on the client side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The server offers no mechanism that fits the credentials.
    #[error("the server offers no mechanism for these credentials")]
    NoMechanism,
    /// The server sent a challenge that the mechanism does not expect.
    #[error("an unexpected challenge")]
    Challenge,
    /// The response does not fit in a line.
    #[error("the response cannot be sent")]
    Response(#[from] ParamError),
}

/// One SASL exchange, made from credentials and the mechanisms that the server offers.
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
    /// Selects the best mechanism that both sides support.
    ///
    /// # Errors
    /// Fails with [`SaslError::NoMechanism`] if there is none.
    pub fn new(credentials: &'a Credentials, offered: &Extensions) -> Result<Self, SaslError> {
        let known: &[&str] = match credentials {
            Credentials::Password { .. } => &["PLAIN", "LOGIN"],
            Credentials::Token { .. } => &["XOAUTH2"],
        };
        let name = known.iter().find(|name| offered.offers_auth(name)).ok_or(SaslError::NoMechanism)?;
        Ok(Self { credentials, mechanism: Mechanism::new(name)?, asked: 0 })
    }

    /// Returns the selected mechanism.
    #[must_use]
    pub fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    /// Returns the initial response, if the mechanism has one.
    ///
    /// # Errors
    /// Fails if the credentials do not fit in a line, or if they contain the separator of the mechanism.
    pub fn initial(&self) -> Result<Option<SaslResponse>, SaslError> {
        let octets = match self.credentials {
            Credentials::Password { .. } if self.mechanism.as_str() == "LOGIN" => return Ok(None),
            Credentials::Password { user, password } => {
                format!("\0{}\0{}", without('\0', user)?, without('\0', password)?)
            }
            Credentials::Token { user, token } => {
                let (user, token) = (without('\x01', user)?, without('\x01', token)?);
                format!("user={user}\x01auth=Bearer {token}\x01\x01")
            }
        };
        Ok(Some(SaslResponse::new(octets.as_bytes())?))
    }

    /// Returns the response to the next challenge (334).
    ///
    /// LOGIN sends two challenges, for the name and the password, and their text differs between servers. So their
    /// order decides. XOAUTH2 sends a challenge only to explain a refusal; the response is an empty line.
    ///
    /// # Errors
    /// Fails if the mechanism expects no further challenge. The client should then cancel with `*`.
    pub fn respond(&mut self) -> Result<SaslResponse, SaslError> {
        self.asked = self.asked.saturating_add(1);
        let octets = match (self.credentials, self.mechanism.as_str(), self.asked) {
            (Credentials::Password { user, .. }, "LOGIN", 1) => user.as_str(),
            (Credentials::Password { password, .. }, "LOGIN", 2) => password,
            (Credentials::Token { .. }, _, 1) => "",
            _ => return Err(SaslError::Challenge),
        };
        Ok(SaslResponse::new(octets.as_bytes())?)
    }
}

/// Refuses a part that contains the separator, because it would turn one name into another (RFC 4616 2).
fn without(separator: char, part: &str) -> Result<&str, ParamError> {
    part.find(separator).map_or(Ok(part), |at| Err(ParamError::Octet(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Reply;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    fn offered(mechanisms: &str) -> Extensions {
        Extensions::parse(&Reply::parse(format!("250-mx\r\n250 AUTH {mechanisms}").as_bytes()).unwrap())
    }

    #[test]
    fn the_best_mechanism_of_both_sides_is_picked() {
        let token = Credentials::Token { user: "tim".into(), token: "t0ken".into() };
        let pick = |credentials: &Credentials, mechanisms: &str| {
            Sasl::new(credentials, &offered(mechanisms)).map(|sasl| sasl.mechanism().as_str().to_owned())
        };
        let tim = password("tim", "secret");
        assert_eq!(pick(&tim, "LOGIN PLAIN XOAUTH2").as_deref(), Ok("PLAIN"));
        assert_eq!(pick(&tim, "cram-md5 login").as_deref(), Ok("LOGIN"));
        assert_eq!(pick(&token, "PLAIN XOAUTH2").as_deref(), Ok("XOAUTH2"));
        assert_eq!(pick(&tim, "CRAM-MD5 XOAUTH2"), Err(SaslError::NoMechanism));
        assert_eq!(pick(&token, "PLAIN LOGIN"), Err(SaslError::NoMechanism));
        assert_eq!(pick(&tim, ""), Err(SaslError::NoMechanism));
    }

    #[test]
    fn plain_says_all_at_once_and_expects_no_challenge() {
        // RFC 4616 4, example 1
        let tim = password("tim", "tanstaaftanstaaf");
        let mut sasl = Sasl::new(&tim, &offered("PLAIN")).unwrap();
        assert_eq!(sasl.initial().unwrap().unwrap().decode(), b"\0tim\0tanstaaftanstaaf");
        assert_eq!(sasl.respond(), Err(SaslError::Challenge));
    }

    #[test]
    fn login_answers_twice_and_no_more() {
        let tim = password("tim", "secret");
        let mut sasl = Sasl::new(&tim, &offered("LOGIN")).unwrap();
        assert_eq!(sasl.initial(), Ok(None));
        let mut line = bytes::BytesMut::new();
        let name = sasl.respond().unwrap();
        name.encode(&mut line);
        assert_eq!((name.decode(), &line[..]), (b"tim".to_vec(), &b"dGlt\r\n"[..]));
        assert_eq!(sasl.respond().unwrap().decode(), b"secret");
        for _ in 0..1000 {
            assert_eq!(sasl.respond(), Err(SaslError::Challenge), "however often it is asked");
        }
    }

    #[test]
    fn xoauth2_answers_the_explanation_of_a_refusal_with_an_empty_line() {
        let token = Credentials::Token { user: "tim@example.com".into(), token: "ya29.vF9".into() };
        let mut sasl = Sasl::new(&token, &offered("XOAUTH2")).unwrap();
        let initial = sasl.initial().unwrap().unwrap();
        assert_eq!(initial.decode(), b"user=tim@example.com\x01auth=Bearer ya29.vF9\x01\x01");
        assert_eq!(sasl.respond().unwrap().decode(), b"");
        assert_eq!(sasl.respond(), Err(SaslError::Challenge));
    }

    #[test]
    fn a_separator_inside_a_credential_is_refused() {
        // RFC 4616 2: no NUL in authcid and passwd, since it would turn one name into another.
        for (user, secret) in [("admin\0tim", "secret"), ("tim", "secret\0")] {
            let credentials = password(user, secret);
            let sasl = Sasl::new(&credentials, &offered("PLAIN")).unwrap();
            assert!(matches!(sasl.initial(), Err(SaslError::Response(ParamError::Octet(_)))));
        }
        let token = Credentials::Token { user: "tim\x01auth=x".into(), token: "t".into() };
        let sasl = Sasl::new(&token, &offered("XOAUTH2")).unwrap();
        assert_eq!(sasl.initial(), Err(SaslError::Response(ParamError::Octet(3))));
    }

    #[test]
    fn a_secret_that_fits_no_line_is_refused() {
        let long = password("tim", &"x".repeat(9200));
        assert!(matches!(
            Sasl::new(&long, &offered("PLAIN")).unwrap().initial(),
            Err(SaslError::Response(ParamError::TooLong(_)))
        ));
    }

    #[test]
    fn debug_shows_no_secret() {
        let tim = password("tim", "tanstaaftanstaaf");
        let token = Credentials::Token { user: "tim".into(), token: "tanstaaf".into() };
        let sasl = Sasl::new(&tim, &offered("PLAIN")).unwrap();
        let shown = format!("{tim:?} {token:?} {sasl:?} {:?}", sasl.initial());
        assert!(!shown.contains("tanstaaf") && !shown.contains("dGFuc3RhYW"), "{shown}");
        assert!(shown.contains("tim"));
    }
}
