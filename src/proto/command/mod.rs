//! Commands: typed, encoded, and decoded for the server's side (RFC 5321 4.1).
//!
//! A value of `Command` can always be sent. Its parts refuse CR, LF, NUL and excess length when they are made, so
//! encoding cannot fail and one command is one line.
//!
//! | file | content |
//! |---|---|
//! | `params` | the parts of commands and their limits |
//! | `decode` | [`Command::parse`] |

mod decode;
mod params;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{BufMut, BytesMut};

pub use self::{
    decode::CommandError,
    params::{
        Argument, Body, EnvelopeId, MailParams, Mechanism, Notify, OriginalRecipient, ParamError, RcptParams,
        Ret, SaslResponse,
    },
};
use super::{ClientName, Mailbox, ReversePath};

/// A command of the client.
///
/// ```
/// use bytes::BytesMut;
/// use smtp_pool::proto::{Command, Mailbox, RcptParams};
/// let rcpt = Command::Rcpt { to: Mailbox::parse("ann@example.com")?, params: RcptParams::default() };
/// let mut wire = BytesMut::new();
/// rcpt.encode(&mut wire);
/// assert_eq!(wire, "RCPT TO:<ann@example.com>\r\n");
/// assert_eq!(Command::parse(b"rcpt to:<ann@example.com>")?, rcpt);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// EHLO: greet, and request the extensions (RFC 5321 4.1.1.1).
    Ehlo(ClientName),
    /// HELO: greet a server that does not support EHLO.
    Helo(ClientName),
    /// LHLO: greet an LMTP server (RFC 2033 4.1).
    Lhlo(ClientName),
    /// STARTTLS (RFC 3207 4).
    StartTls,
    /// AUTH (RFC 4954 4).
    Auth {
        /// The SASL mechanism.
        mechanism: Mechanism,
        /// The initial response, if the mechanism has one.
        initial: Option<SaslResponse>,
    },
    /// MAIL FROM: begin a transaction (RFC 5321 4.1.1.2).
    Mail {
        /// The address for bounces.
        from: ReversePath,
        /// Parameters of extensions.
        params: MailParams,
    },
    /// RCPT TO: one more recipient (RFC 5321 4.1.1.3).
    Rcpt {
        /// The recipient.
        to: Mailbox,
        /// Parameters of extensions.
        params: RcptParams,
    },
    /// DATA: the message follows after the reply 354 (RFC 5321 4.1.1.4).
    Data,
    /// BDAT: a chunk of `size` octets follows at once (RFC 3030 2).
    Bdat {
        /// Octets in the chunk.
        size: u64,
        /// True if the message ends with this chunk.
        last: bool,
    },
    /// RSET: abandon the transaction.
    Rset,
    /// NOOP: do nothing.
    Noop,
    /// VRFY: ask about a user; few servers answer.
    Vrfy(Argument),
    /// QUIT: end the session.
    Quit,
}

/// The subject of a reply: a command, or another event that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the commands")]
#[non_exhaustive]
pub enum Verb {
    /// The opening of the connection, which the banner answers.
    Connect,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    Auth,
    /// A further line of a SASL dialogue.
    AuthResponse,
    Mail,
    Rcpt,
    Data,
    /// The message after DATA, with its final dot.
    Message,
    /// A BDAT that is not the last.
    Bdat,
    /// BDAT LAST, which ends the transaction.
    BdatLast,
    Rset,
    Noop,
    Vrfy,
    Quit,
}

/// Writes the verb as on the wire, or words if it is not a command.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::Lhlo => "LHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::AuthResponse => "the answer to a challenge",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Message => "the message",
            Self::Bdat | Self::BdatLast => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Quit => "QUIT",
        })
    }
}

impl Command {
    /// Returns the verb that the reply answers.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Ehlo(_) => Verb::Ehlo,
            Self::Helo(_) => Verb::Helo,
            Self::Lhlo(_) => Verb::Lhlo,
            Self::StartTls => Verb::StartTls,
            Self::Auth { .. } => Verb::Auth,
            Self::Mail { .. } => Verb::Mail,
            Self::Rcpt { .. } => Verb::Rcpt,
            Self::Data => Verb::Data,
            Self::Bdat { last: false, .. } => Verb::Bdat,
            Self::Bdat { last: true, .. } => Verb::BdatLast,
            Self::Rset => Verb::Rset,
            Self::Noop => Verb::Noop,
            Self::Vrfy(_) => Verb::Vrfy,
            Self::Quit => Verb::Quit,
        }
    }

    /// Appends the command as one line with CR LF.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ehlo(name) => line(out, "EHLO ", name.as_str()),
            Self::Helo(name) => line(out, "HELO ", name.as_str()),
            Self::Lhlo(name) => line(out, "LHLO ", name.as_str()),
            Self::StartTls => line(out, "STARTTLS", ""),
            Self::Auth { mechanism, initial } => {
                out.put_slice(b"AUTH ");
                out.put_slice(mechanism.as_str().as_bytes());
                if let Some(initial) = initial {
                    out.put_slice(b" ");
                    out.put_slice(initial.as_initial().as_bytes());
                }
                out.put_slice(b"\r\n");
            }
            Self::Mail { from, params } => encode_mail(from, params, out),
            Self::Rcpt { to, params } => encode_rcpt(to, params, out),
            Self::Data => line(out, "DATA", ""),
            Self::Bdat { size, last } => {
                let last = if *last { " LAST" } else { "" };
                line(out, "BDAT ", &format!("{size}{last}"));
            }
            Self::Rset => line(out, "RSET", ""),
            Self::Noop => line(out, "NOOP", ""),
            Self::Vrfy(argument) => line(out, "VRFY ", argument.as_str()),
            Self::Quit => line(out, "QUIT", ""),
        }
    }
}

/// Encodes `MAIL FROM:<…>` without building a [`Command`], for the pipelined path.
pub(crate) fn encode_mail(from: &ReversePath, params: &MailParams, out: &mut BytesMut) {
    out.put_slice(b"MAIL FROM:<");
    out.put_slice(from.as_str().as_bytes());
    out.put_slice(b">");
    params.encode(out);
    out.put_slice(b"\r\n");
}

/// Encodes `RCPT TO:<…>` without building a [`Command`], for the pipelined path.
#[inline]
pub(crate) fn encode_rcpt<T: AsRef<str>>(to: &Mailbox<T>, params: &RcptParams, out: &mut BytesMut) {
    out.put_slice(b"RCPT TO:<");
    out.put_slice(to.as_str().as_bytes());
    if params.is_empty() {
        out.put_slice(b">\r\n");
        return;
    }
    out.put_slice(b">");
    params.encode(out);
    out.put_slice(b"\r\n");
}

fn line(out: &mut BytesMut, verb: &str, argument: &str) {
    out.put_slice(verb.as_bytes());
    out.put_slice(argument.as_bytes());
    out.put_slice(b"\r\n");
}

/// Writes the line as it would be sent, without its end. The secrets of AUTH are omitted.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Auth { mechanism, initial } = self {
            return write!(f, "AUTH {}{}", mechanism.as_str(), if initial.is_some() { " …" } else { "" });
        }
        let mut out = BytesMut::new();
        self.encode(&mut out);
        f.write_str(String::from_utf8_lossy(&out).trim_end_matches("\r\n"))
    }
}
