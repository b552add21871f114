//! Transparency of the message body: RFC 5321 4.5.2, "dot-stuffing".
//!
//! After DATA, the message is a sequence of lines, ended by a line with a single dot. A line of the message that
//! begins with a dot gets a second dot, which the receiver removes:
//!
//! ```abnf
//! message = *( line CRLF ) "." CRLF
//! line    = [ ( ".." / first ) *octet ]
//! first   = %d1-9 / %d11-12 / %d14-45 / %d47-255   ; an octet, but not "."
//! octet   = %d1-9 / %d11-12 / %d14-255             ; no LF, no CR (RFC 5321 2.3.8), no NUL (RFC 2045 2.8)
//! ```
//!
//! # Smuggling
//!
//! If two servers disagree on the end of a message, its tail becomes a second, forged message (CVE-2023-51764,
//! -51765, -51766). Some readers end at `LF.LF`, `LF.CRLF`, `CRLF.LF` or `CR.CR`. So [`DotStuffer`] writes CR and LF
//! only as the pair CRLF. A bare CR or LF becomes CRLF, because some readers treat it as a line end, and a dot after
//! it is doubled. All readers, strict and lenient, then see the same lines, and no lone dot before the end.
//! [`DotUnstuffer`] is strict, as RFC 5321 4.1.1.4 requires: only `CRLF.CRLF` ends a message.
//!
//! NUL is dropped. DATA cannot carry it: RFC 2045 2.7 and 2.8 exclude it from 7bit and 8bit data. Only BDAT with
//! BINARYMIME (RFC 3030) may carry it. Some servers drop it on arrival, and for them `CRLF NUL . CRLF` would be the
//! end.

use bytes::{BufMut, BytesMut};
use memchr::{memchr, memchr3};

/// Encodes a message for DATA: lines end in CRLF, a leading dot is doubled, and the end is marked.
///
/// The message may be split into chunks anywhere; the output is the same as for one chunk. The last line end is
/// written to `out` only when more follows. So [`finish`](Self::finish) writes `CRLF.CRLF` in one piece. Some
/// firewalls need that: Cisco PIX loses a terminator that is split over two segments.
///
/// ```
/// use bytes::BytesMut;
/// use smtp_pool::proto::DotStuffer;
///
/// let mut out = BytesMut::new();
/// let mut stuffer = DotStuffer::new();
/// stuffer.push(b"Subject: dots\n\n.one\r", &mut out);
/// stuffer.push(b"\n.", &mut out);
/// stuffer.finish(&mut out);
/// assert_eq!(out, "Subject: dots\r\n\r\n..one\r\n..\r\n.\r\n");
/// ```
#[derive(Clone, Debug, Default)]
pub struct DotStuffer {
    position: Position,
}

/// The position in a line.
#[derive(Clone, Copy, Debug, Default)]
enum Position {
    /// At the start of the message: nothing is written yet.
    #[default]
    Empty,
    /// Inside a line.
    Line,
    /// After a line whose CRLF is not written yet. An LF after a CR belongs to the same line end.
    Ended { by_cr: bool },
}

impl DotStuffer {
    /// Creates a stuffer at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next part of the message to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        out.reserve(chunk.len() + 3);
        let mut rest = chunk;
        while let [first, tail @ ..] = rest {
            match (*first, self.position) {
                (b'\n', Position::Ended { by_cr: true }) => self.position = Position::Ended { by_cr: false },
                (end @ (b'\r' | b'\n'), position) => {
                    if !matches!(position, Position::Line) {
                        self.begin_line(out);
                    }
                    self.position = Position::Ended { by_cr: end == b'\r' };
                }
                (0, _) => {}
                (_, Position::Line) => {
                    let (text, more) = rest.split_at(memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len()));
                    out.put_slice(text);
                    rest = more;
                    continue;
                }
                (octet, _) => {
                    self.begin_line(out);
                    if octet == b'.' {
                        out.put_u8(b'.');
                    }
                    self.position = Position::Line;
                    continue;
                }
            }
            rest = tail;
        }
    }

    /// Ends the message: completes its last line if necessary, and appends the terminator.
    pub fn finish(self, out: &mut BytesMut) {
        // An empty message has no line to end. The CRLF before the dot is the one of the DATA command.
        out.put_slice(if matches!(self.position, Position::Empty) { b".\r\n" } else { b"\r\n.\r\n" });
    }

    /// Writes the CRLF of the previous line, if it is not written yet.
    fn begin_line(&self, out: &mut BytesMut) {
        if matches!(self.position, Position::Ended { .. }) {
            out.put_slice(b"\r\n");
        }
    }
}

/// Decodes a message sent after DATA: the server's side of [`DotStuffer`].
///
/// It is strict: only CRLF ends a line, and only `CRLF.CRLF` ends the message. A bare CR, a bare LF and NUL are data.
/// The CRLF before the terminator belongs to the message.
///
/// ```
/// use bytes::BytesMut;
/// use smtp_pool::proto::DotUnstuffer;
///
/// let mut message = BytesMut::new();
/// let mut unstuffer = DotUnstuffer::new();
/// assert_eq!(unstuffer.push(b"..one\r\n.", &mut message), None);
/// assert_eq!(unstuffer.push(b"\r\nQUIT\r\n", &mut message), Some(2));
/// assert_eq!(message, ".one\r\n");
/// ```
#[derive(Clone, Debug, Default)]
pub struct DotUnstuffer {
    state: State,
}

/// The state between two octets.
///
/// ```text
/// Start ──'.'──▶ Dot ──CR──▶ DotCr ──LF──▶ end of the message
/// Start, Dot ──other──▶ Line             DotCr ──other──▶ Line (the CR was data)
/// Line ──CR──▶ Cr ──LF──▶ Start          Cr ──other──▶ Line
/// ```
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At the start of a line.
    #[default]
    Start,
    /// After the dot that begins a line: a stuffed dot, or the end of the message. It is not written.
    Dot,
    /// After that dot and a CR, which is not written yet.
    DotCr,
    /// Inside a line.
    Line,
    /// Inside a line, after a CR.
    Cr,
}

impl DotUnstuffer {
    /// Creates an unstuffer at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the part of the message in `chunk` to `message`.
    ///
    /// Returns `None` if the message continues after `chunk`. Returns `Some(n)` if the message and its terminator end
    /// with the first `n` octets of `chunk`. The octets after them are the next command, and the unstuffer is ready
    /// for the next message.
    pub fn push(&mut self, chunk: &[u8], message: &mut BytesMut) -> Option<usize> {
        message.reserve(chunk.len() + 1);
        let mut rest = chunk;
        while let [first, tail @ ..] = rest {
            self.state = match (self.state, *first) {
                (State::Start, b'.') => {
                    rest = tail;
                    State::Dot
                }
                (State::Dot, b'\r') => {
                    rest = tail;
                    State::DotCr
                }
                (State::DotCr, b'\n') => {
                    self.state = State::Start;
                    return Some(chunk.len() - tail.len());
                }
                (State::DotCr, _) => {
                    message.put_u8(b'\r');
                    State::Line
                }
                (State::Start | State::Dot | State::Line, _) => {
                    let (text, more) = rest.split_at(memchr(b'\r', rest).map_or(rest.len(), |cr| cr + 1));
                    message.put_slice(text);
                    rest = more;
                    if text.ends_with(b"\r") { State::Cr } else { State::Line }
                }
                (State::Cr, octet) => {
                    message.put_u8(octet);
                    rest = tail;
                    match octet {
                        b'\n' => State::Start,
                        b'\r' => State::Cr,
                        _ => State::Line,
                    }
                }
            };
        }
        None
    }
}

#[cfg(test)]
mod tests;
