//! The text of a reply in whatever character set it was written.
//!
//! RFC 6531 3.7.4.2 allows UTF-8 in replies, and servers write GBK, Big5, Shift_JIS, windows-1251, KOI8-R and Latin-1.
//! No reply says which. Octets that are UTF-8 are taken for it; of others, chardetng guesses.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::proto::Reply;

/// The text of a reply as [`Reply::text`] gives it, also where its octets are not UTF-8: then the character set is
/// guessed from them. Octets that have no meaning in it show as U+FFFD.
///
/// ```
/// use smtp_pool::{proto::Reply, verify::reply_text};
/// let reply = Reply::parse(b"550 5.1.1 \xd3\xc3\xbb\xa7\xb2\xbb\xb4\xe6\xd4\xda\r\n")?;
/// assert_eq!(reply_text(&reply), "用户不存在");
/// # Ok::<(), smtp_pool::proto::DecodeError>(())
/// ```
#[must_use]
pub fn reply_text<B: AsRef<[u8]>>(reply: &Reply<B>) -> Cow<'_, str> {
    let octets = reply.as_bytes();
    match guess(octets).and_then(|decoded| Reply::parse(decoded.as_bytes()).ok()) {
        Some(decoded) => Cow::Owned(decoded.text().into_owned()),
        None => reply.text(),
    }
}

/// The octets in the character set that they were probably written in; `None` if that is UTF-8.
fn guess(octets: &[u8]) -> Option<String> {
    // ISO-2022-JP has seven bits.
    let escapes = octets.windows(2).any(|pair| pair == b"\x1b$");
    if octets.is_ascii() && !escapes {
        return None;
    }
    if let Err(error) = std::str::from_utf8(octets) {
        // A line that was cut inside of a character, or UTF-8 that something has damaged.
        if error.error_len().is_none() || !octets[..error.valid_up_to()].is_ascii() {
            return None;
        }
    } else if !escapes {
        return None;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(octets, true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    Some(encoding.decode_without_bom_handling(octets).0.into_owned())
}
