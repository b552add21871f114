//! The reply of a server: RFC 5321 4.2, with the enhanced status code of RFC 2034 and RFC 3463.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use memchr::memrchr;

use super::{
    EnhancedCode,
    grammar::{self, line_end, trim_end},
};

/// The longest line that is read, its line end included; RFC 5321 4.5.3.1.5 allows 512, servers exceed it.
pub const MAX_LINE: usize = 2 * 1024;
/// The longest reply, all its lines together.
pub const MAX_REPLY: usize = 64 * 1024;
/// The most lines in one reply.
pub const MAX_LINES: usize = 512;

/// The most octets of an [excerpt](Reply::excerpt).
const MAX_EXCERPT: usize = 4 * 1024;

/// One whole reply, of one line or many.
///
/// It holds the octets as they came and looks them up on demand, so that a reply costs no allocation of its
/// own. Text is octets, viewed lossily as UTF-8: real servers answer in Latin-1 and GBK too.
///
/// `B` is what holds the octets: a share of the buffer that they were read into, or, where a reply is only lent by
/// [`Decoder::decode_ref`](super::Decoder::decode_ref), a slice of it.
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

/// What the first line said and where its text lies, which for nearly every reply is all there is to know.
///
/// In one word, since a reply is handed on several times, and a processor stalls where it reads at once what was
/// written in pieces: code, end of the text and length of the line in 16 bits each, start of the text, malformed.
/// [`MIXED_CODES`] is a bit of the code, so that a reply of two codes is of no class without another comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyHead(u64);

/// In [`Reply::agreed_code`]: the lines carry different codes, and the rest is the code of the first.
pub(super) const MIXED_CODES: u16 = 1 << 15;

impl ReplyHead {
    const MALFORMED: u64 = 1 << 63;

    /// Of a line of `length` octets, line end included; without white space at its end it has `trimmed`.
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

    /// The code that all lines carry; else no code, with [`MIXED_CODES`].
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

    /// The reply code, 200 to 599. Where the lines of a reply disagree, that of the first: see
    /// [`has_mixed_codes`](Self::has_mixed_codes).
    #[must_use]
    pub fn code(&self) -> u16 {
        self.head.code()
    }

    /// Whether the lines carry different codes, `250-` and `550 ` for one (RFC 5321 4.2.1 forbids it). Such a reply
    /// tells nothing: it is neither positive nor intermediate, transient, permanent or closing.
    #[must_use]
    pub fn has_mixed_codes(&self) -> bool {
        self.head.agreed_code() >= MIXED_CODES
    }

    /// The code that all lines carry; [`MIXED_CODES`] and more where they differ.
    #[inline]
    pub(super) fn agreed_code(&self) -> u16 {
        self.head.agreed_code()
    }

    /// 2yz: the command was done (RFC 5321 4.2.1).
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.head.agreed_code() < 300
    }

    /// 3yz: the server waits for more, such as the message or an answer to a challenge.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.head.agreed_code() / 100 == 3
    }

    /// 4yz: refused for now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.head.agreed_code() / 100 == 4
    }

    /// 5yz: refused for good.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.head.agreed_code() / 100 == 5
    }

    /// 421: the server closes the channel, whatever it was asked (RFC 5321 3.8).
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.head.agreed_code() == 421
    }

    /// The enhanced status code at the start of the first line that has one (RFC 2034 4).
    ///
    /// White space before it and a number sign (`550 #5.1.0`, as Cisco ESA writes) are passed over.
    /// Its class is what the server wrote, even where it contradicts the reply code.
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

    /// The text of each line: octets behind the code and its separator, an enhanced code still in front.
    #[inline]
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        Lines { first: Some(self.first_line()), more: &self.as_bytes()[self.head.length()..] }
    }

    /// The text of all lines, without their enhanced codes, joined by a space; octets that are not UTF-8 show
    /// as U+FFFD.
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

    /// Whether the server broke the grammar in a way that could be survived: codes that differ within the
    /// reply, a line without a code, a blank line.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.head.is_malformed()
    }

    /// A copy with memory of its own. A reply shares the buffer that it was read into and keeps all of it alive,
    /// which matters to whoever keeps one reply of many.
    #[must_use]
    pub fn detach(&self) -> Reply {
        Reply { raw: Bytes::copy_from_slice(self.as_bytes()), head: self.head }
    }

    /// As [`detach`](Self::detach), but of a long reply the first lines only, in no more than 4 KiB: for those who keep
    /// replies of many servers, each of which decides how much it writes.
    #[must_use]
    pub fn excerpt(&self) -> Reply {
        let whole = self.as_bytes();
        let end = match whole.get(..MAX_EXCERPT) {
            // No line is as long as that.
            Some(start) => memrchr(b'\n', start).map_or(whole.len(), |end| end + 1),
            None => whole.len(),
        };
        Reply { raw: Bytes::copy_from_slice(&whole[..end]), head: self.head }
    }

    /// The octets as they came, line ends and all.
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

/// One line: code, enhanced code, and the text of all lines.
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
