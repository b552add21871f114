//! Framing: a stream of octets in any chunks becomes whole replies, in linear time.
//!
//! Each octet is looked at once for a line end; each line is parsed once, when it is whole; the finished reply
//! is one frozen slice of the buffer. So a reply that drips in byte by byte costs what it costs in one piece.

use bytes::BytesMut;
use memchr::memchr;

use super::{DecodeError, Reply, grammar};

/// The longest line that is read, its line end included; RFC 5321 4.5.3.1.5 allows 512, servers exceed it.
pub const MAX_LINE: usize = 2 * 1024;
/// The longest reply, all its lines together.
pub const MAX_REPLY: usize = 64 * 1024;
/// The most lines in one reply.
pub const MAX_LINES: usize = 512;

/// Cuts replies out of what was read.
///
/// ```
/// use smtp_pool::proto::Decoder;
/// let mut decoder = Decoder::new();
/// decoder.buffer().extend_from_slice(b"250-mx.exam");
/// assert!(decoder.decode()?.is_none());
/// decoder.buffer().extend_from_slice(b"ple.com\r\n250 SIZE\r\n220 ");
/// assert_eq!(decoder.decode()?.map(|r| r.code()), Some(250));
/// assert_eq!(decoder.buffered(), 4);
/// # Ok::<(), smtp_pool::proto::DecodeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buf: BytesMut,
    /// Start of the line that is being read.
    line: usize,
    /// Octets known to hold no line end, from the start of the buffer.
    scanned: usize,
    /// Lines of the reply so far, blank ones before it too.
    lines: usize,
    /// Code of the first line of the reply.
    code: Option<u16>,
    malformed: bool,
}

impl Decoder {
    /// A decoder with an empty buffer, which allocates with the first octet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer, to read into. Only append to it: what it holds may have been looked at already.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// Octets that have not yet become a reply.
    ///
    /// More than none while no reply is owed means that the peer is out of step; more than none after the reply
    /// to STARTTLS is an attack (response injection, CVE-2011-0411).
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// Gives the memory of an empty buffer back, for a connection that goes idle.
    pub fn shrink(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }

    /// The next whole reply, or none until more octets come.
    ///
    /// # Errors
    /// A line that is no reply, or one of the limits exceeded. A line that is no reply is consumed, and the next
    /// call goes on behind it; a limit is final.
    pub fn decode(&mut self) -> Result<Option<Reply>, DecodeError> {
        while let Some(found) = memchr(b'\n', &self.buf[self.scanned..]) {
            let end = self.scanned + found;
            let line = self.buf[self.line..end].trim_ascii_end();
            if end - self.line >= MAX_LINE {
                return Err(DecodeError::LineTooLong);
            }
            if end >= MAX_REPLY {
                return Err(DecodeError::ReplyTooLong);
            }
            if self.lines == MAX_LINES {
                return Err(DecodeError::TooManyLines);
            }
            let parsed = grammar::reply_line(line).map(|(_, line)| (line.code, line.last));
            let blank = line.is_empty();
            (self.line, self.scanned) = (end + 1, end + 1);
            self.lines += 1;
            match (self.code, parsed) {
                (None, Ok((code, true))) => return Ok(Some(self.finish(code))),
                (None, Ok((code, false))) => self.code = Some(code),
                (None, Err(_)) if blank => self.skip(),
                (None, Err(_)) => return Err(self.refuse()),
                (Some(first), Ok((code, last))) => {
                    self.malformed |= code != first;
                    if last {
                        return Ok(Some(self.finish(first)));
                    }
                }
                (Some(_), Err(_)) => self.malformed = true,
            }
        }
        self.scanned = self.buf.len();
        if self.scanned - self.line >= MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(None) }
    }

    /// The lines so far are a reply.
    fn finish(&mut self, code: u16) -> Reply {
        let raw = self.buf.split_to(self.line).freeze();
        let malformed = self.malformed;
        (self.line, self.scanned, self.lines, self.code, self.malformed) = (0, 0, 0, None, false);
        Reply::new(raw, code, malformed)
    }

    /// Drops a blank line before a reply; it still counts as a line, so that they cannot go on forever.
    fn skip(&mut self) {
        let _ = self.buf.split_to(self.line);
        (self.line, self.scanned) = (0, 0);
    }

    /// Drops a line that is no reply, and keeps enough of it for the error.
    fn refuse(&mut self) -> DecodeError {
        let line = self.buf.split_to(self.line);
        (self.line, self.scanned, self.lines) = (0, 0, 0);
        let start = &line.trim_ascii_end()[..line.trim_ascii_end().len().min(80)];
        DecodeError::NotAReply(String::from_utf8_lossy(start).escape_debug().to_string())
    }
}

#[cfg(test)]
mod tests;
