//! The reply of a server (RFC 5321 4.2), with its enhanced status code (RFC 2034, RFC 3463).

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use memchr::memrchr;

use super::{
    EnhancedCode,
    grammar::{self, line_end, trim_end},
};

/// The longest line that is read, in octets, line end included. RFC 5321 4.5.3.1.5 allows 512, but servers exceed it.
pub const MAX_LINE: usize = 2 * 1024;
/// The longest reply, all its lines together, in octets.
pub const MAX_REPLY: usize = 64 * 1024;
/// The most lines in one reply.
pub const MAX_LINES: usize = 512;

/// The most octets of an [excerpt](Reply::excerpt).
const MAX_EXCERPT: usize = 4 * 1024;

/// One complete reply, of one or more lines.
///
/// It holds the octets as received and parses them on demand, so that a reply needs no allocation. Its text is
/// octets, shown lossily as UTF-8, because servers also send Latin-1 and GBK.
///
/// `B` holds the octets. It is a share of the read buffer, or a slice of it if the reply is lent by
/// [`Decoder::decode_ref`](super::Decoder::decode_ref).
///
/// ```
/// use smtp_pool::proto::Reply;
/// let reply = Reply::parse(b"550-5.1.1 No such user,\r\n550 5.1.1 try the directory\r\n")?;
/// assert_eq!(reply.code(), 550);
/// assert_eq!(reply.enhanced().map(|e| e.to_string()).as_deref(), Some("5.1.1"));
/// assert_eq!(reply.text(), "No such user, try the directory");
/// assert!(reply.is_permanent());
/// # Ok::<(), smtp_pool::proto::DecodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply<B = Bytes> {
    raw: B,
    head: ReplyHead,
}

/// The parsed first line: the code, and where its text is. Most replies have no other line.
///
/// It is one word, because a reply is passed on several times, and a load that follows stores of its parts stalls the
/// processor. The code, the end of the text and the length of the line have 16 bits each. The start of the text and
/// the malformed flag follow. [`MIXED_CODES`] is a bit of the code, so that a reply with two codes belongs to no
/// class without another comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyHead(u64);

/// A bit of [`Reply::agreed_code`]: the lines carry different codes. The other bits are the code of the first line.
pub(super) const MIXED_CODES: u16 = 1 << 15;

impl ReplyHead {
    const MALFORMED: u64 = 1 << 63;

    /// Packs a line of `length` octets, line end included. It has `trimmed` octets without white space at its end.
    #[inline]
    pub(super) fn new(line: &grammar::ReplyLine<'_>, trimmed: usize, length: usize) -> Self {
        debug_assert!(length <= MAX_LINE, "the decoder cuts no longer lines");
        let start = (trimmed - line.text.len()) as u64;
        Self(start << 48 | (length as u64) << 32 | (trimmed as u64) << 16 | u64::from(line.code))
    }

    #[inline]
    pub(super) fn malformed(&mut self) {
        self.0 |= Self::MALFORMED;
    }

    #[inline]
    pub(super) fn mixed_codes(&mut self) {
        self.0 |= Self::MALFORMED | u64::from(MIXED_CODES);
    }

    #[inline]
    pub(super) fn code(self) -> u16 {
        self.0 as u16 & !MIXED_CODES
    }

    /// Returns the code that all lines carry, or an invalid one with [`MIXED_CODES`].
    #[inline]
    fn agreed_code(self) -> u16 {
        self.0 as u16
    }

    fn is_malformed(self) -> bool {
        self.0 & Self::MALFORMED != 0
    }

    #[inline]
    fn text(self) -> Range<usize> {
        usize::from((self.0 >> 48) as u8)..usize::from((self.0 >> 16) as u16)
    }

    #[inline]
    fn length(self) -> usize {
        usize::from((self.0 >> 32) as u16)
    }
}

impl<B: AsRef<[u8]>> Reply<B> {
    pub(super) fn new(raw: B, head: ReplyHead) -> Self {
        Self { raw, head }
    }

    /// Returns the reply code, 200 to 599. If the lines disagree, it is the code of the first line; see
    /// [`has_mixed_codes`](Self::has_mixed_codes).
    #[must_use]
    pub fn code(&self) -> u16 {
        self.head.code()
    }

    /// Returns true if the lines carry different codes, such as `250-` and `550 `. RFC 5321 4.2.1 forbids it. Such a
    /// reply is neither positive nor intermediate, transient, permanent or closing.
    #[must_use]
    pub fn has_mixed_codes(&self) -> bool {
        self.head.agreed_code() >= MIXED_CODES
    }

    /// Returns the code that all lines carry, or [`MIXED_CODES`] or more if they differ.
    #[inline]
    pub(super) fn agreed_code(&self) -> u16 {
        self.head.agreed_code()
    }

    /// Returns true for 2yz: the command is done (RFC 5321 4.2.1).
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.head.agreed_code() < 300
    }

    /// Returns true for 3yz: the server expects more, such as the message or a response to a challenge.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.head.agreed_code() / 100 == 3
    }

    /// Returns true for 4yz: a transient refusal.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.head.agreed_code() / 100 == 4
    }

    /// Returns true for 5yz: a permanent refusal.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.head.agreed_code() / 100 == 5
    }

    /// Returns true for 421: the server closes the channel, after any command (RFC 5321 3.8).
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.head.agreed_code() == 421
    }

    /// Returns the enhanced status code at the start of the first line that has one (RFC 2034 4).
    ///
    /// White space and a number sign before it are skipped; Cisco ESA writes `550 #5.1.0`. The class is as sent, even
    /// if it contradicts the reply code.
    #[inline]
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        match grammar::leading_enhanced_code(self.first_line()) {
            Some((_, code)) => Some(code),
            None => self.later_enhanced(),
        }
    }

    fn later_enhanced(&self) -> Option<EnhancedCode> {
        self.lines().skip(1).find_map(|line| Some(grammar::leading_enhanced_code(line)?.1))
    }

    fn first_line(&self) -> &[u8] {
        &self.as_bytes()[self.head.text()]
    }

    /// Returns the text of each line: the octets after the code and its separator, including an enhanced code.
    #[inline]
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        Lines { first: Some(self.first_line()), more: &self.as_bytes()[self.head.length()..] }
    }

    /// Returns the text of all lines without their enhanced codes, joined by a space. Octets that are not UTF-8
    /// become U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let texts = self.lines().map(|line| {
            let line = grammar::leading_enhanced_code(line).map_or(line, |(text, _)| text);
            String::from_utf8_lossy(line.trim_ascii())
        });
        let mut texts = texts.filter(|text| !text.is_empty());
        let first = texts.next().unwrap_or_default();
        texts.fold(first, |text, line| text + " " + line)
    }

    /// Returns true if the reply violates the grammar but was readable. Examples are different codes, a line without
    /// a code, or a blank line.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.head.is_malformed()
    }

    /// Returns a copy with its own memory. A reply keeps the whole read buffer alive, so detach replies that are
    /// stored.
    #[must_use]
    pub fn detach(&self) -> Reply {
        Reply { raw: Bytes::copy_from_slice(self.as_bytes()), head: self.head }
    }

    /// Like [`detach`](Self::detach), but keeps only the first lines of a long reply, at most 4 KiB. Use it to store
    /// replies of many servers.
    #[must_use]
    pub fn excerpt(&self) -> Reply {
        let whole = self.as_bytes();
        let end = match whole.get(..MAX_EXCERPT) {
            // No line is that long.
            Some(start) => memrchr(b'\n', start).map_or(whole.len(), |end| end + 1),
            None => whole.len(),
        };
        Reply { raw: Bytes::copy_from_slice(&whole[..end]), head: self.head }
    }

    /// Returns the octets as received, line ends included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_ref()
    }
}

/// The texts of the lines.
struct Lines<'a> {
    first: Option<&'a [u8]>,
    more: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self.first.take() {
            Some(first) => Some(first),
            None if self.more.is_empty() => None,
            None => self.next_of_more(),
        }
    }
}

impl<'a> Lines<'a> {
    fn next_of_more(&mut self) -> Option<&'a [u8]> {
        while !self.more.is_empty() {
            let end = line_end(self.more)?;
            let (line, rest) = self.more.split_at(end);
            self.more = &rest[1..];
            let line = trim_end(line);
            match grammar::reply_line(line) {
                Some(line) => return Some(line.text),
                None if line.is_empty() => {}
                None => return Some(line),
            }
        }
        None
    }
}

/// Writes one line: the code, the enhanced code, and the text of all lines.
impl<B: AsRef<[u8]>> fmt::Display for Reply<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head.code())?;
        if let Some(enhanced) = self.enhanced() {
            write!(f, " {enhanced}")?;
        }
        let text = self.text();
        if text.is_empty() { Ok(()) } else { write!(f, " {text}") }
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Reply<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply(b\"{}\"", self.as_bytes().escape_ascii())?;
        f.write_str(if self.head.is_malformed() { ", malformed)" } else { ")" })
    }
}

#[cfg(test)]
mod tests;
