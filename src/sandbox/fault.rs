//! What goes wrong, and where in the dialogue.

use bytes::{BufMut, BytesMut};
use fastrand::Rng;
use serde::Deserialize;

use crate::proto::Verb;

/// Octets of the line that [`Does::LongLine`] sends.
const LONG_LINE: usize = 10_000_000;

/// A point in the dialogue: the reply that is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named after the commands")]
pub enum Stage {
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
}

impl Stage {
    pub(super) const COUNT: usize = Self::Quit as usize + 1;
}

impl From<Verb> for Stage {
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

/// One thing that goes wrong: `{ at = "rcpt", nth = 3, does = "eof" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose reply it concerns.
    #[serde(default)]
    pub at: Stage,
    /// Only the n-th time on a connection that the stage is reached, counted from 1; left out: every time.
    #[serde(default)]
    pub nth: Option<u32>,
    /// What happens in place of the reply, or with it.
    pub does: Does,
}

impl Fault {
    /// The fault, every time the stage is reached.
    #[must_use]
    pub fn new(at: Stage, does: Does) -> Self {
        Self { at, nth: None, does }
    }

    /// The same, only the n-th time on a connection.
    #[must_use]
    pub fn nth(self, nth: u32) -> Self {
        Self { nth: Some(nth), ..self }
    }
}

/// What a server does that should not.
///
/// At [`Stage::Tls`] only silence and EOF differ; anything else is octets that are not TLS.
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
    /// `250-` lines without end.
    EndlessContinuation,
    /// A reply of one line of 10 MB.
    LongLine,
    /// The connection closes half-way through the reply.
    Truncate,
    /// The reply comes, and a `250` that nobody asked for with it, in one write. At `starttls` this is the injection
    /// of plaintext (CVE-2011-0411, seen from the client); anywhere else the replies are out of step.
    ExtraReply,
    /// This text in place of the reply: `does = { reply = "451 4.3.0 Temporary lookup failure" }`. Lines are parted
    /// by CR LF, the last line end is added. The command takes effect if the code is below 400; a `354` lets the
    /// message follow even if no recipient was accepted, as some servers do.
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
