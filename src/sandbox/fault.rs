//! The faults of a host, and their place in the dialogue.

use bytes::{BufMut, BytesMut};
use fastrand::Rng;
use serde::Deserialize;

use super::{Delay, local_part::canonical};
use crate::proto::{Mailbox, Verb};

/// The octets of the line that [`Does::LongLine`] sends, 10 MB.
const LONG_LINE: usize = 10_000_000;

/// A point in the dialogue: the reply that is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named after the commands")]
#[non_exhaustive]
pub enum FaultStage {
    /// The banner.
    #[default]
    Connect,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    /// The TLS handshake: in place of the server's first messages.
    Tls,
    /// AUTH and the further lines of its dialogue.
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The reply to the message after DATA.
    Message,
    /// The reply to a chunk.
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Quit,
    /// Every reply to a command that the host can parse, and the banner.
    Any,
}

impl FaultStage {
    /// Returns true if a fault at this stage applies to `reached`.
    pub(super) fn covers(self, reached: Self) -> bool {
        self == reached || (self == Self::Any && reached != Self::Tls)
    }
}

impl From<Verb> for FaultStage {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Connect => Self::Connect,
            Verb::Ehlo => Self::Ehlo,
            Verb::Helo => Self::Helo,
            Verb::Lhlo => Self::Lhlo,
            Verb::StartTls => Self::StartTls,
            Verb::Auth | Verb::AuthResponse => Self::Auth,
            Verb::Mail => Self::Mail,
            Verb::Rcpt => Self::Rcpt,
            Verb::Data => Self::Data,
            Verb::Message => Self::Message,
            Verb::Bdat | Verb::BdatLast => Self::Bdat,
            Verb::Rset => Self::Rset,
            Verb::Noop => Self::Noop,
            Verb::Vrfy => Self::Vrfy,
            Verb::Quit => Self::Quit,
        }
    }
}

/// One fault: `{ at = "rcpt", nth = 3, does = "eof" }`. If several faults match, the first one happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fault {
    /// The stage whose reply it affects.
    #[serde(default)]
    pub at: FaultStage,
    /// The recipient, for the stages `rcpt` and `any`: a local part in any domain, or an address. Case and quoting do
    /// not matter. If absent, all recipients.
    #[serde(default)]
    pub to: Option<String>,
    /// The n-th time that `at` and `to` match on a connection, counted from 1. If absent, every time. The count
    /// continues after STARTTLS.
    #[serde(default)]
    pub nth: Option<u32>,
    /// The period of the fault. With `nth`, that time is the first: `nth = 2, every = 1` is each time except the
    /// first.
    #[serde(default)]
    pub every: Option<u32>,
    /// The effect, in place of the reply or in addition.
    pub does: Does,
}

impl Fault {
    /// Creates a fault that happens every time the stage is reached.
    #[must_use]
    pub fn new(at: FaultStage, does: Does) -> Self {
        Self { at, to: None, nth: None, every: None, does }
    }

    /// Limits the fault to the n-th time on a connection.
    #[must_use]
    pub fn nth(self, nth: u32) -> Self {
        Self { nth: Some(nth), ..self }
    }

    /// Limits the fault to every n-th time on a connection.
    #[must_use]
    pub fn every(self, every: u32) -> Self {
        Self { every: Some(every), ..self }
    }

    /// Limits the fault to one recipient.
    #[must_use]
    pub fn to(self, to: &str) -> Self {
        Self { to: Some(to.into()), ..self }
    }

    /// Returns true if the stage and the recipient match.
    pub(super) fn concerns(&self, stage: FaultStage, to: Option<&Mailbox>) -> bool {
        self.at.covers(stage) && self.to.as_deref().is_none_or(|name| to.is_some_and(|to| names(name, to)))
    }

    /// Returns true if it happens the `count`-th time that the stage and the recipient match.
    pub(super) fn happens(&self, count: u32) -> bool {
        match (self.nth, self.every) {
            (None, None) => true,
            (Some(nth), None) => count == nth,
            (nth, Some(every)) => {
                let since = count.checked_sub(nth.unwrap_or(0));
                since.is_some_and(|since| since.is_multiple_of(every))
            }
        }
    }

    /// Returns true if it can ever happen.
    pub(super) fn is_possible(&self) -> bool {
        let names_recipients = matches!(self.at, FaultStage::Rcpt | FaultStage::Any);
        self.nth != Some(0) && self.every != Some(0) && (self.to.is_none() || names_recipients)
    }
}

/// Returns true if a local part or an address is that of the mailbox.
fn names(name: &str, mailbox: &Mailbox) -> bool {
    let (local_part, domain) = match name.rsplit_once('@') {
        Some((local_part, domain)) if !domain.ends_with('"') => (local_part, Some(domain)),
        _ => (name, None),
    };
    domain.is_none_or(|domain| domain.eq_ignore_ascii_case(mailbox.domain()))
        && canonical(local_part) == canonical(mailbox.local_part())
}

/// The effect of a fault.
///
/// At [`FaultStage::Tls`] only silence, EOF and reset differ. All others send octets that are not TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Does {
    /// Sends a line that is not a reply, then continues the dialogue.
    Garbage,
    /// Sends nothing more. The connection stays open.
    Silence,
    /// Omits the reply. The command takes effect, and the dialogue continues out of step.
    Skip,
    /// Closes the connection in place of the reply.
    Eof,
    /// Resets the connection in place of the reply: RST, not FIN. Earlier replies arrive.
    Reset,
    /// Sends `250-` lines without end.
    EndlessContinuation,
    /// Sends a reply of one line of 10 MB.
    LongLine,
    /// Closes the connection in the middle of the reply.
    Truncate,
    /// Sends the reply and an unsolicited `250` in one write. At `starttls` it is a plaintext injection
    /// (CVE-2011-0411). At other stages the replies are then out of step.
    ExtraReply,
    /// Sends the reply, and `text` after it, or the same reply again without `text`. With `after`, it arrives that
    /// much later in a separate packet, between two other replies, while the dialogue continues. Without `after`, it
    /// arrives in the same packet. The connection stays open, without TLS, until it is sent.
    Surplus {
        /// The text: lines separated by CR LF. The last line end is added.
        #[serde(default)]
        text: Option<String>,
        /// The delay after the reply.
        #[serde(default)]
        after: Delay,
    },
    /// Swaps the reply with the next one. If no further reply is due within 50 ms, as for a client without
    /// pipelining, the reply is sent then.
    Swap,
    /// Sends the reply in pieces, each with this delay after the previous one. Later replies wait. Each line is split
    /// in its middle, between CR and LF, and after its end.
    Split(Delay),
    /// Sends this text in place of the reply: `does = { reply = "451 4.3.0 Temporary lookup failure" }`. Lines are
    /// separated by CR LF, the last line end is added, and their codes may differ. The command takes effect if the
    /// first code is 2yz or 3yz, so a RSET with `502` keeps the transaction. `354` starts the message even if no
    /// recipient was accepted, as some servers do.
    Reply(String),
}

/// Appends a line that is not a reply: its first octet is not a digit.
pub(super) fn garbage(rng: &mut Rng, out: &mut BytesMut) {
    out.extend((0..64).map(|_| rng.u8(0x80..)));
    out.put_slice(b"\r\n");
}

pub(super) fn long_line(out: &mut BytesMut) {
    out.put_slice(b"250 ");
    out.put_bytes(b'x', LONG_LINE - 6);
    out.put_slice(b"\r\n");
}
