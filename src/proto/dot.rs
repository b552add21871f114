//! Transparency of the message body: RFC 5321 4.5.2, "dot-stuffing".
//!
//! After DATA the message is a run of lines, ended by a line that holds a single dot. A line of the
//! message that begins with a dot gets one more, which the receiver takes away again:
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
//! Where two servers disagree on what ends a message, its tail is a second, forged message
//! (CVE-2023-51764, -51765, -51766). Some readers end at `LF.LF`, `LF.CRLF`, `CRLF.LF` or `CR.CR`.
//! [`DotStuffer`] therefore writes CR and LF only as the pair CRLF: a bare CR and a bare LF are line
//! ends that somebody else might see, so they become CRLF, and the dot after them is doubled. All
//! readers, the strict and the lax, then see the same lines, and none of them a lone dot before the
//! end. [`DotUnstuffer`] is strict, as RFC 5321 4.1.1.4 wants: only `CRLF.CRLF` ends a message.
//!
//! NUL is left out. DATA cannot carry it (RFC 2045 2.7 and 2.8 exclude it from 7bit and 8bit data;
//! only BDAT with BINARYMIME, RFC 3030, may), and servers differ: some drop it as it comes in, and for
//! them `CRLF NUL . CRLF` would be the end. What no reader may see is better not sent.

use bytes::{BufMut, BytesMut};
use memchr::{memchr, memchr3};

/// Makes a message transparent for DATA: lines end in CRLF, a leading dot is doubled, the end is marked.
///
/// The message may come in chunks cut anywhere; the output is the same as for one chunk. It is written
/// to `out` with one exception: the last line end is held back until more follows, so that
/// [`finish`](Self::finish) writes `CRLF.CRLF` in one piece, which some firewalls need (Cisco PIX
/// loses a terminator split over two segments).
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
    place: Place,
}

/// Where in a line the stuffer stands.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// Nothing written yet: at the start of a line, and no line end is owed.
    #[default]
    Empty,
    /// Inside a line.
    Line,
    /// A line has ended; its CRLF is still owed. After a CR, an LF belongs to the same line end.
    Ended { by_cr: bool },
}

impl DotStuffer {
    /// A stuffer at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next part of the message to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        out.reserve(chunk.len() + 3);
        let mut rest = chunk;
        while let [first, tail @ ..] = rest {
            match (*first, self.place) {
                (b'\n', Place::Ended { by_cr: true }) => self.place = Place::Ended { by_cr: false },
                (end @ (b'\r' | b'\n'), place) => {
                    if !matches!(place, Place::Line) {
                        self.begin_line(out);
                    }
                    self.place = Place::Ended { by_cr: end == b'\r' };
                }
                (0, _) => {}
                (_, Place::Line) => {
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
                    self.place = Place::Line;
                    continue;
                }
            }
            rest = tail;
        }
    }

    /// Ends the message: completes its last line if need be, and appends the terminator.
    pub fn finish(self, out: &mut BytesMut) {
        // An empty message has no line to end: the CRLF before the dot is that of the DATA command.
        out.put_slice(if matches!(self.place, Place::Empty) { b".\r\n" } else { b"\r\n.\r\n" });
    }

    /// Pays the CRLF owed by the line before.
    fn begin_line(&self, out: &mut BytesMut) {
        if matches!(self.place, Place::Ended { .. }) {
            out.put_slice(b"\r\n");
        }
    }
}

/// Reads a message sent after DATA: the server's side of [`DotStuffer`].
///
/// Strict: a line ends at CRLF and nothing else, the message at `CRLF.CRLF` and nothing else. A bare
/// CR, a bare LF and NUL are data. The CRLF before the terminator belongs to the message.
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

/// What the octets so far may yet turn out to be.
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
    /// After the dot that begins a line: stuffing, or the end of the message. Not written.
    Dot,
    /// After that dot and a CR, which is not written yet.
    DotCr,
    /// Inside a line.
    Line,
    /// Inside a line, after a CR.
    Cr,
}

impl DotUnstuffer {
    /// An unstuffer at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what `chunk` holds of the message to `message`.
    ///
    /// `None`: all of `chunk` was part of the message, which goes on. `Some(n)`: the message and its
    /// terminator end with the first `n` octets of `chunk`; what follows is the next command, and the
    /// unstuffer is ready for the next message.
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
