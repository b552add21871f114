//! What goes wrong, and where in the dialogue.

use bytes::{BufMut, BytesMut};
use fastrand::Rng;
use serde::Deserialize;

use super::{Delay, local_part::canonical};
use crate::proto::{Mailbox, Verb};

/// Octets of the line that [`Does::LongLine`] sends.
const LONG_LINE: usize = 10_000_000;

/// A point in the dialogue: the reply that is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named after the commands")]
pub enum FaultStage {
    /// The banner.
    #[default]
    Connect,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    /// The TLS handshake: in place of the server's first flight.
    Tls,
    /// AUTH and the further lines of its dialogue.
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The reply to the message behind DATA.
    Message,
    /// The reply to a chunk.
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Quit,
    /// Every reply of a connection to a command that the host can read, the banner included.
    Any,
}

impl FaultStage {
    /// Whether a description that names this stage means `reached`.
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

/// One thing that goes wrong: `{ at = "rcpt", nth = 3, does = "eof" }`. Where several faults fit, the first one
/// happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose reply it concerns.
    #[serde(default)]
    pub at: FaultStage,
    /// Only RCPT for this recipient: a local part in any domain, or an address; both without regard to case and
    /// quoting. For the stages `rcpt` and `any`.
    #[serde(default)]
    pub to: Option<String>,
    /// Only the n-th time on a connection that `at` and `to` fit, counted from 1; left out: every time. The count
    /// goes on after STARTTLS.
    #[serde(default)]
    pub nth: Option<u32>,
    /// Every so many times. With `nth`, that one is the first: `nth = 2, every = 1` is each time but the first.
    #[serde(default)]
    pub every: Option<u32>,
    /// What happens in place of the reply, or with it.
    pub does: Does,
}

impl Fault {
    /// The fault, every time the stage is reached.
    #[must_use]
    pub fn new(at: FaultStage, does: Does) -> Self {
        Self { at, to: None, nth: None, every: None, does }
    }

    /// The same, only the n-th time on a connection.
    #[must_use]
    pub fn nth(self, nth: u32) -> Self {
        Self { nth: Some(nth), ..self }
    }

    /// The same, every n-th time on a connection.
    #[must_use]
    pub fn every(self, every: u32) -> Self {
        Self { every: Some(every), ..self }
    }

    /// The same, only for one recipient.
    #[must_use]
    pub fn to(self, to: &str) -> Self {
        Self { to: Some(to.into()), ..self }
    }

    /// Whether the stage and the recipient fit.
    pub(super) fn concerns(&self, stage: FaultStage, to: Option<&Mailbox>) -> bool {
        self.at.covers(stage) && self.to.as_deref().is_none_or(|name| to.is_some_and(|to| names(name, to)))
    }

    /// Whether it happens the `count`-th time that the stage and the recipient fit.
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

    /// Whether it can ever happen.
    pub(super) fn is_possible(&self) -> bool {
        let names_recipients = matches!(self.at, FaultStage::Rcpt | FaultStage::Any);
        self.nth != Some(0) && self.every != Some(0) && (self.to.is_none() || names_recipients)
    }
}

/// Whether a local part or an address is that of the mailbox.
fn names(name: &str, mailbox: &Mailbox) -> bool {
    let (local_part, domain) = match name.rsplit_once('@') {
        Some((local_part, domain)) if !domain.ends_with('"') => (local_part, Some(domain)),
        _ => (name, None),
    };
    domain.is_none_or(|domain| domain.eq_ignore_ascii_case(mailbox.domain()))
        && canonical(local_part) == canonical(mailbox.local_part())
}

/// What a server does that should not.
///
/// At [`FaultStage::Tls`] only silence, EOF and reset differ; anything else is octets that are not TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// A line of octets that are no reply, then the dialogue goes on.
    Garbage,
    /// Nothing: the connection stays open, and no octet comes any more.
    Silence,
    /// The reply alone never comes; the command takes effect, and the dialogue goes on out of step.
    Skip,
    /// The connection closes in place of the reply.
    Eof,
    /// The connection is reset in place of the reply: RST, not FIN. Replies before it arrive.
    Reset,
    /// `250-` lines without end.
    EndlessContinuation,
    /// A reply of one line of 10 MB.
    LongLine,
    /// The connection closes half-way through the reply.
    Truncate,
    /// The reply comes, and a `250` that nobody asked for with it, in one write. At `starttls` this is the injection
    /// of plaintext (CVE-2011-0411, seen from the client); anywhere else the replies are out of step.
    ExtraReply,
    /// The reply comes, and this text after it, or the same reply once more if there is no text. It comes `after`
    /// that time in a packet of its own, while the dialogue goes on: between two replies, never inside of one.
    /// Without a time it comes in the same packet. The connection does not close, nor does TLS begin, before it.
    Surplus {
        /// What comes: lines parted by CR LF, the last line end is added.
        #[serde(default)]
        text: Option<String>,
        /// How much later than the reply.
        #[serde(default)]
        after: Delay,
    },
    /// The reply and the next one change places. If no further reply is due within 50 ms, as for a client that
    /// does not pipeline, the reply comes then.
    Swap,
    /// The reply comes in pieces, each that much after the one before; later replies wait for it. Each line is cut
    /// in its middle, between CR and LF, and from the next line.
    Split(Delay),
    /// This text in place of the reply: `does = { reply = "451 4.3.0 Temporary lookup failure" }`. Lines are parted
    /// by CR LF, the last line end is added; their codes may differ. The command takes effect if the first code is
    /// 2yz or 3yz, so a RSET that gets `502` keeps the transaction; a `354` lets the message follow even if no
    /// recipient was accepted, as some servers do.
    Reply(String),
}

/// A line that is no reply, by any reading: its first octet is not a digit.
pub(super) fn garbage(rng: &mut Rng, out: &mut BytesMut) {
    out.extend((0..64).map(|_| rng.u8(0x80..)));
    out.put_slice(b"\r\n");
}

pub(super) fn long_line(out: &mut BytesMut) {
    out.put_slice(b"250 ");
    out.put_bytes(b'x', LONG_LINE - 6);
    out.put_slice(b"\r\n");
}
