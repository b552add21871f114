//! The parts of commands. Each constructor refuses text that must not reach the wire.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Why a part of a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParamError {
    /// The part is empty.
    #[error("empty")]
    Empty,
    /// The grammar of the part does not allow this octet. The number is its position.
    #[error("an invalid octet at byte {0}")]
    Octet(usize),
    /// Longer than the limit, in octets.
    #[error("longer than {0} octets")]
    TooLong(usize),
}

/// Checks length and octets of a part.
fn check(text: &[u8], max: usize, allowed: impl Fn(u8) -> bool) -> Result<(), ParamError> {
    match text.iter().position(|&b| !allowed(b)) {
        _ if text.is_empty() => Err(ParamError::Empty),
        _ if text.len() > max => Err(ParamError::TooLong(max)),
        Some(at) => Err(ParamError::Octet(at)),
        None => Ok(()),
    }
}

/// The argument of VRFY: any text without control characters, up to 500 octets (RFC 5321 4.5.3.1.4). It has no space
/// at its edges, because a server would drop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument(Box<str>);

impl Argument {
    /// Makes an argument from the text.
    ///
    /// # Errors
    /// Fails if the text is empty or too long, contains a control character, or has a space at an edge.
    pub fn new(text: &str) -> Result<Self, ParamError> {
        check(text.as_bytes(), 500, |_| true)?;
        // C1 controls too, as in addresses: some readers treat U+0085 as a line end.
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(ParamError::Octet(at));
        }
        match (text.starts_with(' '), text.ends_with(' ')) {
            (true, _) => Err(ParamError::Octet(0)),
            (_, true) => Err(ParamError::Octet(text.len() - 1)),
            _ => Ok(Self(text.into())),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a SASL mechanism, in upper case: `sasl-mech = 1*20mech-char` (RFC 4422 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mechanism(Box<str>);

impl Mechanism {
    /// Makes a mechanism from a name in any case.
    ///
    /// # Errors
    /// Fails if the name is empty, has over 20 octets, or has anything but letters, digits, hyphens and underscores.
    pub fn new(name: &str) -> Result<Self, ParamError> {
        check(name.as_bytes(), 20, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')?;
        Ok(Self(name.to_ascii_uppercase().into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A response of the client in a SASL dialogue, in base64 on the wire (RFC 4954 4). `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslResponse(Box<str>);

impl SaslResponse {
    /// The longest line of a SASL dialogue, CR LF included (RFC 4954 4).
    pub const MAX_LINE: usize = 12_288;

    /// Encodes the response of a mechanism.
    ///
    /// # Errors
    /// Fails if it does not fit in a line of [`Self::MAX_LINE`] octets that begins with `AUTH` and a mechanism.
    pub fn new(octets: &[u8]) -> Result<Self, ParamError> {
        let text = BASE64_STANDARD.encode(octets);
        let max = Self::MAX_LINE - "AUTH  \r\n".len() - 20;
        if text.len() > max { Err(ParamError::TooLong(max)) } else { Ok(Self(text.into())) }
    }

    /// Decodes a line of the dialogue. `=` is the empty initial response.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ParamError> {
        let octets = if text == b"=" { Ok(Vec::new()) } else { BASE64_STANDARD.decode(text) };
        octets.map_err(|_| ParamError::Octet(0)).and_then(|octets| Self::new(&octets))
    }

    /// Returns the octets before base64, for the server's side.
    #[must_use]
    pub fn decode(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(self.0.as_bytes()).unwrap_or_default()
    }

    /// Appends the response as a line of its own.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.0.as_bytes());
        out.put_slice(b"\r\n");
    }

    /// Returns the response as the argument of AUTH, where an empty one is written `=`.
    pub(super) fn as_initial(&self) -> &str {
        if self.0.is_empty() { "=" } else { &self.0 }
    }
}

impl fmt::Debug for SaslResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaslResponse(…)")
    }
}

/// Parameters of MAIL.
///
/// ```
/// use smtp_pool::proto::{Body, MailParams};
/// let params = MailParams::default().size(2_000).body(Body::EightBitMime);
/// assert_eq!(params.size, Some(2_000));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailParams {
    /// SIZE: the estimated size of the message in octets (RFC 1870 6).
    pub size: Option<u64>,
    /// BODY: the kind of octets in the message (RFC 6152, RFC 3030).
    pub body: Option<Body>,
    /// SMTPUTF8: a mailbox or a header is UTF-8 (RFC 6531 3.4).
    pub smtputf8: bool,
    /// RET: which part of the message a bounce contains (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// ENVID: the sender's identifier of the envelope (RFC 3461 4.4).
    pub envid: Option<EnvelopeId>,
    /// REQUIRETLS: no hop without TLS (RFC 8689 2).
    pub require_tls: bool,
}

impl MailParams {
    /// Sets SIZE, in octets.
    #[must_use]
    pub fn size(self, octets: u64) -> Self {
        Self { size: Some(octets), ..self }
    }

    /// Sets BODY.
    #[must_use]
    pub fn body(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Sets SMTPUTF8.
    #[must_use]
    pub fn smtputf8(self) -> Self {
        Self { smtputf8: true, ..self }
    }

    /// Sets RET.
    #[must_use]
    pub fn ret(self, ret: Ret) -> Self {
        Self { ret: Some(ret), ..self }
    }

    /// Sets ENVID.
    #[must_use]
    pub fn envid(self, id: EnvelopeId) -> Self {
        Self { envid: Some(id), ..self }
    }

    /// Sets REQUIRETLS.
    #[must_use]
    pub fn require_tls(self) -> Self {
        Self { require_tls: true, ..self }
    }
}

/// The value of BODY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Lines of 7-bit octets.
    SevenBit,
    /// Lines of 8-bit octets (RFC 6152).
    EightBitMime,
    /// Any octets, which only BDAT can carry (RFC 3030 3).
    BinaryMime,
}

impl Body {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        }
    }
}

/// The value of RET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Only its headers.
    Headers,
}

impl Ret {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// The value of ENVID: printable ASCII, at most 100 octets as xtext (RFC 3461 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeId(Box<str>);

impl EnvelopeId {
    /// Makes an envelope identifier. `id` is not encoded yet.
    ///
    /// # Errors
    /// Fails if it is empty, is not printable ASCII, or has over 100 octets once encoded.
    pub fn new(id: &str) -> Result<Self, ParamError> {
        check(id.as_bytes(), 100, |b| (b' '..=b'~').contains(&b))?;
        xtext(id, 100).map(Self)
    }

    /// Returns the identifier as xtext, as it is sent.
    #[must_use]
    pub fn as_xtext(&self) -> &str {
        &self.0
    }

    pub(super) fn from_xtext(text: &str) -> Result<Self, ParamError> {
        Self::new(&unxtext(text)?)
    }
}

/// Parameters of RCPT.
///
/// ```
/// use smtp_pool::proto::{Notify, RcptParams};
/// let params = RcptParams::default().notify(Notify::Never);
/// assert_eq!(params.orcpt, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RcptParams {
    /// NOTIFY: when to send a delivery status notification (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// ORCPT: the recipient that the sender originally specified (RFC 3461 4.2).
    pub orcpt: Option<OriginalRecipient>,
}

impl RcptParams {
    /// Sets NOTIFY.
    #[must_use]
    pub fn notify(self, notify: Notify) -> Self {
        Self { notify: Some(notify), ..self }
    }

    /// Sets ORCPT.
    #[must_use]
    pub fn orcpt(self, recipient: OriginalRecipient) -> Self {
        Self { orcpt: Some(recipient), ..self }
    }
}

/// The value of NOTIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Never.
    Never,
    /// On each condition that is true; with none, the parameter is not sent.
    On {
        /// When the message was delivered.
        success: bool,
        /// When the delivery failed.
        failure: bool,
        /// When the delivery is delayed.
        delay: bool,
    },
}

/// The value of ORCPT: a type and an address, at most 500 octets as xtext (RFC 3461 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    addr_type: Box<str>,
    address: Box<str>,
}

impl OriginalRecipient {
    /// Makes the value from an address and its type, mostly `rfc822`.
    ///
    /// # Errors
    /// Fails if the type has other characters than letters, digits and hyphens, or if the address is not printable
    /// ASCII. Also fails if both together have over 500 octets once encoded.
    pub fn new(addr_type: &str, address: &str) -> Result<Self, ParamError> {
        check(addr_type.as_bytes(), 64, |b| b.is_ascii_alphanumeric() || b == b'-')?;
        check(address.as_bytes(), 500, |b| (b' '..=b'~').contains(&b))?;
        let address = xtext(address, 500 - addr_type.len() - 1)?;
        Ok(Self { addr_type: addr_type.into(), address })
    }

    pub(super) fn from_xtext(text: &str) -> Result<Self, ParamError> {
        let (addr_type, address) = text.split_once(';').ok_or(ParamError::Empty)?;
        Self::new(addr_type, &unxtext(address)?)
    }
}

impl MailParams {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut param = |name: &str, value: &str| {
            out.put_slice(b" ");
            out.put_slice(name.as_bytes());
            out.put_slice(value.as_bytes());
        };
        if let Some(size) = self.size {
            param("SIZE=", &size.to_string());
        }
        if let Some(body) = self.body {
            param("BODY=", body.as_str());
        }
        if self.smtputf8 {
            param("SMTPUTF8", "");
        }
        if let Some(ret) = self.ret {
            param("RET=", ret.as_str());
        }
        if let Some(envid) = &self.envid {
            param("ENVID=", envid.as_xtext());
        }
        if self.require_tls {
            param("REQUIRETLS", "");
        }
    }
}

impl RcptParams {
    pub(super) fn is_empty(&self) -> bool {
        self.notify.is_none() && self.orcpt.is_none()
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self.notify {
            Some(Notify::Never) => out.put_slice(b" NOTIFY=NEVER"),
            Some(Notify::On { success, failure, delay }) => {
                let mut sep: &[u8] = b" NOTIFY=";
                for name in [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")] {
                    if name.0 {
                        out.put_slice(sep);
                        out.put_slice(name.1.as_bytes());
                        sep = b",";
                    }
                }
            }
            None => {}
        }
        if let Some(orcpt) = &self.orcpt {
            out.put_slice(b" ORCPT=");
            out.put_slice(orcpt.addr_type.as_bytes());
            out.put_slice(b";");
            out.put_slice(orcpt.address.as_bytes());
        }
    }
}

/// Encodes `xtext` of RFC 3461 4: `+`, `=`, spaces and other octets become `+` and two hexadecimal digits.
fn xtext(text: &str, max: usize) -> Result<Box<str>, ParamError> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '!'..='~' if c != '+' && c != '=' => out.push(c),
            _ => out.push_str(&format!("+{:02X}", u32::from(c))),
        }
    }
    if out.len() > max { Err(ParamError::TooLong(max)) } else { Ok(out.into()) }
}

fn unxtext(text: &str) -> Result<String, ParamError> {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('+');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let at = ParamError::Octet(out.len());
        let (hex, tail) = part.split_at_checked(2).ok_or(at)?;
        let octet = u8::from_str_radix(hex, 16).map_err(|_| at)?;
        out.push(char::from(octet));
        out.push_str(tail);
    }
    Ok(out)
}
