//! Framing: turns a stream of octets, in chunks of any size, into whole replies in linear time.
//!
//! Each octet is searched for a line end once. Each line is parsed once, when it is complete. The finished reply is
//! one frozen slice of the buffer. So a reply that arrives octet by octet costs as much as one that arrives at once.

use std::mem;

use bytes::{Buf, BytesMut};

use super::{
    DecodeError, MAX_LINE, MAX_LINES, MAX_REPLY, Reply,
    grammar::{self, line_end, trim_end},
    reply::ReplyHead,
};

/// Splits a stream of octets into replies.
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
    /// Start of the reply that is being read. The octets before it belong to replies already lent.
    start: usize,
    /// Start of the line that is being read.
    line: usize,
    /// Octets from the start of the buffer that have been searched for line ends.
    scanned: usize,
    /// Lines of the reply so far, including blank lines before it.
    lines: usize,
    /// The parsed first line of the reply.
    head: Option<ReplyHead>,
}

impl Decoder {
    /// Creates a decoder with an empty buffer. The first octet allocates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the buffer for reading into. Only append to it: its octets may have been parsed already.
    #[inline]
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.release();
        &mut self.buf
    }

    /// Returns the number of octets that are not part of a returned reply.
    ///
    /// If no reply is owed and the number is not 0, replies and commands are out of step. After the reply to STARTTLS
    /// it is an attack (response injection, CVE-2011-0411).
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Returns true if the buffer holds a complete line that is not part of a returned reply.
    pub(crate) fn has_line(&self) -> bool {
        line_end(&self.buf[self.start..]).is_some()
    }

    /// Frees the memory of an empty buffer, for a connection that becomes idle.
    #[inline]
    pub fn shrink(&mut self) {
        if self.buffered() == 0 && self.buf.capacity() > 0 {
            self.release();
            self.buf = BytesMut::new();
        }
    }

    /// Returns the next complete reply, or None until more octets arrive.
    ///
    /// # Errors
    /// Fails for a line that is not a reply, or if a limit is exceeded. A line that is not a reply is consumed, and
    /// the next call continues after it. An exceeded limit is final.
    pub fn decode(&mut self) -> Result<Option<Reply>, DecodeError> {
        Ok(self.frame()?.map(|head| self.keep(head)))
    }

    /// Like [`decode`](Self::decode), but lends the reply: it stays in the buffer until the next call. This avoids
    /// the reference counts of a reply that is not stored.
    ///
    /// # Errors
    /// Fails as [`decode`](Self::decode) does.
    #[inline]
    pub fn decode_ref(&mut self) -> Result<Option<Reply<&[u8]>>, DecodeError> {
        match self.frame()? {
            Some(head) => Ok(Some(self.lend(head))),
            None => Ok(None),
        }
    }

    /// Returns the framed reply as an owned value.
    #[inline]
    pub(crate) fn keep(&mut self, head: ReplyHead) -> Reply {
        self.release();
        let raw = self.buf.split_to(self.line).freeze();
        (self.line, self.scanned) = (0, 0);
        Reply::new(raw, head)
    }

    /// Lends the framed reply.
    #[inline]
    pub(crate) fn lend(&mut self, head: ReplyHead) -> Reply<&[u8]> {
        self.lend_first(head, 1)
    }

    /// Returns true if the framed reply occurs again after `count` copies of it. Call it with 1, 2 and so on.
    #[inline]
    pub(crate) fn repeats(&self, count: usize) -> bool {
        let framed = &self.buf[self.start..self.line];
        self.buf[self.start + count * framed.len()..].starts_with(framed)
    }

    /// Lends the framed reply, the first of `count` identical ones, and consumes the others.
    #[inline]
    pub(crate) fn lend_first(&mut self, head: ReplyHead, count: usize) -> Reply<&[u8]> {
        let (start, end) = (self.start, self.line);
        self.start += count * (end - start);
        (self.line, self.scanned) = (self.start, self.start);
        Reply::new(&self.buf[start..end], head)
    }

    /// Returns a view of the framed reply without consuming it.
    #[inline]
    pub(crate) fn framed(&self, head: ReplyHead) -> Reply<&[u8]> {
        Reply::new(&self.buf[self.start..self.line], head)
    }

    /// Returns the octets after the framed reply.
    pub(crate) fn unframed(&self) -> &[u8] {
        &self.buf[self.line..]
    }

    /// Finds the next reply, from `start` to `line`, and returns its parsed first line. Call [`keep`](Self::keep) or
    /// [`lend`](Self::lend) before anything else.
    #[inline]
    pub(crate) fn frame(&mut self) -> Result<Option<ReplyHead>, DecodeError> {
        let Some(end) = self.next_line()? else { return Ok(None) };
        // Nearly every reply is one line in the form of the RFC.
        if self.head.is_none()
            && self.lines == 0
            && let Some(head) = whole_reply(&self.buf[self.start..end])
        {
            self.line = end + 1;
            return Ok(Some(head));
        }
        self.frame_from(end)
    }

    /// Like [`frame`](Self::frame), for a current line that ends at `end`.
    fn frame_from(&mut self, mut end: usize) -> Result<Option<ReplyHead>, DecodeError> {
        loop {
            let line = &self.buf[self.line..end];
            if line.len() >= MAX_LINE {
                return Err(DecodeError::LineTooLong);
            }
            if end - self.start >= MAX_REPLY {
                return Err(DecodeError::ReplyTooLong);
            }
            if self.lines == MAX_LINES {
                return Err(DecodeError::TooManyLines);
            }
            let length = line.len() + 1;
            // After the first line, white space at the end does not matter.
            let line = if self.head.is_none() { trim_end(line) } else { line };
            let (parsed, blank, trimmed) = (grammar::reply_line(line), line.is_empty(), line.len());
            (self.line, self.scanned) = (end + 1, end + 1);
            self.lines += 1;
            match (&mut self.head, parsed) {
                (None, Some(parsed)) => {
                    let head = ReplyHead::new(&parsed, trimmed, length);
                    if parsed.last {
                        self.lines = 0;
                        return Ok(Some(head));
                    }
                    self.head = Some(head);
                }
                // A blank line counts as a line, so that their number is limited.
                (None, None) if blank => self.start = self.line,
                (None, None) => return Err(self.refuse()),
                (Some(head), parsed) => {
                    match parsed {
                        Some(parsed) if parsed.code == head.code() => {}
                        Some(_) => head.mixed_codes(),
                        None => head.malformed(),
                    }
                    if parsed.is_some_and(|parsed| parsed.last) {
                        self.lines = 0;
                        return Ok(self.head.take());
                    }
                }
            }
            match self.next_line()? {
                Some(next) => end = next,
                None => return Ok(None),
            }
        }
    }

    /// Returns the end of the current line, if it has arrived.
    #[inline(always)]
    fn next_line(&mut self) -> Result<Option<usize>, DecodeError> {
        if let Some(found) = line_end(&self.buf[self.scanned..]) {
            return Ok(Some(self.scanned + found));
        }
        self.scanned = self.buf.len();
        if self.scanned - self.line >= MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(None) }
    }

    /// Drops the octets of lent replies.
    #[inline]
    fn release(&mut self) {
        if self.start == 0 {
            return;
        }
        let gone = mem::take(&mut self.start);
        self.line -= gone;
        self.scanned -= gone;
        if gone == self.buf.len() { self.buf.clear() } else { self.buf.advance(gone) }
    }

    /// Drops a line that is not a reply. The error shows its start.
    fn refuse(&mut self) -> DecodeError {
        let line = &self.buf[mem::replace(&mut self.start, self.line)..self.line];
        self.lines = 0;
        let start = &line.trim_ascii_end()[..line.trim_ascii_end().len().min(80)];
        DecodeError::NotAReply(String::from_utf8_lossy(start).escape_debug().to_string())
    }
}

/// Returns the reply that this line alone is, without its line end, if it has the form of the RFC.
#[inline(always)]
fn whole_reply(line: &[u8]) -> Option<ReplyHead> {
    match line {
        [text @ .., b'\r'] if text.len() < MAX_LINE - 1 && text.last().is_some_and(u8::is_ascii_graphic) => {
            let parsed = grammar::usual_reply_line(text).filter(|parsed| parsed.last)?;
            Some(ReplyHead::new(&parsed, text.len(), line.len() + 1))
        }
        _ => None,
    }
}

impl Reply {
    /// Parses exactly one reply. The last line end may be missing, as in a log line.
    ///
    /// # Errors
    /// Fails as [`Decoder::decode`] does. Also [`DecodeError::Incomplete`] if the last line announces more lines, and
    /// [`DecodeError::Trailing`] if octets follow the reply.
    pub fn parse(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new();
        decoder.buffer().extend_from_slice(octets);
        if !octets.ends_with(b"\n") {
            decoder.buffer().extend_from_slice(b"\r\n");
        }
        let reply = decoder.decode()?.ok_or(DecodeError::Incomplete)?;
        if decoder.buffer().iter().all(u8::is_ascii_whitespace) {
            Ok(reply)
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

#[cfg(test)]
mod tests;
