//! Framing: a stream of octets in any chunks becomes whole replies, in linear time.
//!
//! Each octet is looked at once for a line end; each line is parsed once, when it is whole; the finished reply
//! is one frozen slice of the buffer. So a reply that drips in byte by byte costs what it costs in one piece.

use std::mem;

use bytes::{Buf, BytesMut};

use super::{
    DecodeError, MAX_LINE, MAX_LINES, MAX_REPLY, Reply,
    grammar::{self, line_end, trim_end},
    reply::ReplyHead,
};

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
    /// Start of the reply that is being read; before it lies what was lent out, and is gone.
    start: usize,
    /// Start of the line that is being read.
    line: usize,
    /// Octets known to hold no line end that was not seen, from the start of the buffer.
    scanned: usize,
    /// Lines of the reply so far, blank ones before it too.
    lines: usize,
    /// What the first line of the reply said.
    head: Option<ReplyHead>,
}

impl Decoder {
    /// A decoder with an empty buffer, which allocates with the first octet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer, to read into. Only append to it: what it holds may have been looked at already.
    #[inline]
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.release();
        &mut self.buf
    }

    /// Octets that have not yet become a reply.
    ///
    /// More than none while no reply is owed means that the peer is out of step; more than none after the reply
    /// to STARTTLS is an attack (response injection, CVE-2011-0411).
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether a whole line has not yet become a reply, or part of one.
    pub(crate) fn has_line(&self) -> bool {
        line_end(&self.buf[self.start..]).is_some()
    }

    /// Gives the memory of an empty buffer back, for a connection that goes idle.
    #[inline]
    pub fn shrink(&mut self) {
        if self.buffered() == 0 && self.buf.capacity() > 0 {
            self.release();
            self.buf = BytesMut::new();
        }
    }

    /// The next whole reply, or none until more octets come.
    ///
    /// # Errors
    /// A line that is no reply, or one of the limits exceeded. A line that is no reply is consumed, and the next
    /// call goes on behind it; a limit is final.
    pub fn decode(&mut self) -> Result<Option<Reply>, DecodeError> {
        Ok(self.frame()?.map(|head| self.keep(head)))
    }

    /// As [`decode`](Self::decode), but the reply is only lent: it lies in the buffer and is gone with the next call,
    /// which spares the reference counts of a reply that nobody keeps.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    #[inline]
    pub fn decode_ref(&mut self) -> Result<Option<Reply<&[u8]>>, DecodeError> {
        match self.frame()? {
            Some(head) => Ok(Some(self.lend(head))),
            None => Ok(None),
        }
    }

    /// Gives the reply away that was framed.
    #[inline]
    pub(crate) fn keep(&mut self, head: ReplyHead) -> Reply {
        self.release();
        let raw = self.buf.split_to(self.line).freeze();
        (self.line, self.scanned) = (0, 0);
        Reply::new(raw, head)
    }

    /// Lends the reply that was framed.
    #[inline]
    pub(crate) fn lend(&mut self, head: ReplyHead) -> Reply<&[u8]> {
        self.lend_first(head, 1)
    }

    /// Whether the reply that was framed, and `count - 1` that are the same behind it, are followed by yet another.
    #[inline]
    pub(crate) fn repeats(&self, count: usize) -> bool {
        let framed = &self.buf[self.start..self.line];
        self.buf[self.start + count * framed.len()..].starts_with(framed)
    }

    /// Lends the reply that was framed, of `count` that are the same, and lets the others go with it.
    #[inline]
    pub(crate) fn lend_first(&mut self, head: ReplyHead, count: usize) -> Reply<&[u8]> {
        let (start, end) = (self.start, self.line);
        self.start += count * (end - start);
        (self.line, self.scanned) = (self.start, self.start);
        Reply::new(&self.buf[start..end], head)
    }

    /// A look at the reply that was framed.
    #[inline]
    pub(crate) fn framed(&self, head: ReplyHead) -> Reply<&[u8]> {
        Reply::new(&self.buf[self.start..self.line], head)
    }

    /// What has been read behind the reply that was framed.
    pub(crate) fn behind(&self) -> &[u8] {
        &self.buf[self.line..]
    }

    /// Finds the next reply, from `start` to `line`, and says what its first line said. It is to be taken, by
    /// [`keep`](Self::keep) or [`lend`](Self::lend), before anything else is done.
    #[inline]
    pub(crate) fn frame(&mut self) -> Result<Option<ReplyHead>, DecodeError> {
        let Some(end) = self.next_line()? else { return Ok(None) };
        // Nearly every reply is one line, as the RFC has it.
        if self.head.is_none()
            && self.lines == 0
            && let Some(head) = whole_reply(&self.buf[self.start..end])
        {
            self.line = end + 1;
            return Ok(Some(head));
        }
        self.frame_from(end)
    }

    /// As [`frame`](Self::frame), where the line that is being read ends at `end`.
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
            // Behind the first line, white space at the end makes no difference.
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
                // It still counts as a line, so that they cannot go on forever.
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

    /// Where the line that is being read ends, if it has come that far.
    #[inline(always)]
    fn next_line(&mut self) -> Result<Option<usize>, DecodeError> {
        if let Some(found) = line_end(&self.buf[self.scanned..]) {
            return Ok(Some(self.scanned + found));
        }
        self.scanned = self.buf.len();
        if self.scanned - self.line >= MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(None) }
    }

    /// Lets go of what was lent.
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

    /// Drops a line that is no reply, and keeps enough of it for the error.
    fn refuse(&mut self) -> DecodeError {
        let line = &self.buf[mem::replace(&mut self.start, self.line)..self.line];
        self.lines = 0;
        let start = &line.trim_ascii_end()[..line.trim_ascii_end().len().min(80)];
        DecodeError::NotAReply(String::from_utf8_lossy(start).escape_debug().to_string())
    }
}

/// The reply that a line is by itself, its end left out, if it is all as the RFC has it.
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
    /// Parses exactly one reply; the last line end may be missing, as in a line of a log.
    ///
    /// # Errors
    /// Whatever [`Decoder::decode`] refuses, [`DecodeError::Incomplete`] where the last line says that more
    /// follow, and [`DecodeError::Trailing`] where more follows than was said.
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
