//! Decodes the text of a reply from any character set.
//!
//! RFC 6531 3.7.4.2 allows UTF-8 in replies. Servers also write GBK, Big5, Shift_JIS, windows-1251, KOI8-R and Latin-1,
//! and no reply names its character set. Valid UTF-8 counts as UTF-8. For other octets, chardetng guesses.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::proto::Reply;

/// Returns the text of a reply like [`Reply::text`]. If its octets are not UTF-8, the character set is guessed from
/// them. Invalid octets become U+FFFD.
///
/// ```
/// use smtp_pool::{proto::Reply, verify::reply_text};
/// let reply = Reply::parse(b"550 5.1.1 \xd3\xc3\xbb\xa7\xb2\xbb\xb4\xe6\xd4\xda\r\n")?;
/// assert_eq!(reply_text(&reply), "用户不存在");
/// # Ok::<(), smtp_pool::proto::DecodeError>(())
/// ```
#[must_use]
pub fn reply_text<B: AsRef<[u8]>>(reply: &Reply<B>) -> Cow<'_, str> {
    match guess(reply.as_bytes()).and_then(|decoded| Reply::parse(decoded.as_bytes()).ok()) {
        Some(decoded) => Cow::Owned(decoded.text().into_owned()),
        None => reply.text(),
    }
}

/// Decodes octets, such as a line of a log: UTF-8, or else the most probable character set.
///
/// ```
/// assert_eq!(smtp_pool::verify::decode_text(b"550 Empf\xe4nger unbekannt"), "550 Empfänger unbekannt");
/// ```
#[must_use]
pub fn decode_text(octets: &[u8]) -> Cow<'_, str> {
    guess(octets).map_or_else(|| String::from_utf8_lossy(octets), Cow::Owned)
}

/// Decodes octets from their most probable character set. Returns `None` if that is UTF-8.
fn guess(octets: &[u8]) -> Option<String> {
    // ISO-2022-JP uses only seven bits.
    let escapes = octets.windows(2).any(|pair| pair == b"\x1b$");
    if octets.is_ascii() && !escapes {
        return None;
    }
    if let Err(error) = std::str::from_utf8(octets) {
        // A line that ends inside a character, or damaged UTF-8.
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

#[cfg(test)]
mod tests {
    use encoding_rs::Encoding;

    use super::*;
    use crate::verify::{Classifier, Stage, SubStatus};

    fn reply(text: &[u8]) -> Reply {
        Reply::parse(&[b"550 5.1.1 <ann@example.org>: ", text].concat()).unwrap()
    }

    #[test]
    fn other_character_sets_are_decoded() {
        use SubStatus::{Blocked, MailboxNotFound as NotFound, MailboxQuotaExceeded as Full};
        let mut wrong = Vec::new();
        for (text, sub_status, labels) in [
            ("用户不存在", NotFound, &["gbk", "gb18030"][..]),
            ("收件人邮箱不存在", NotFound, &["gbk"]),
            ("邮箱已满", Full, &["gbk"]),
            ("您的IP地址被列入黑名单", Blocked, &["gbk"]),
            ("使用者不存在", NotFound, &["big5"]),
            ("收件人信箱已滿", Full, &["big5"]),
            ("宛先のメールアドレスは存在しません", NotFound, &["shift_jis", "euc-jp", "iso-2022-jp"]),
            ("사용자가 존재하지 않습니다", NotFound, &["euc-kr"]),
            ("Пользователь не найден", NotFound, &["windows-1251", "koi8-r", "iso-8859-5"]),
            ("Почтовый ящик переполнен", Full, &["windows-1251", "koi8-r"]),
            ("Ваш сервер в черном списке", Blocked, &["windows-1251", "koi8-r"]),
            ("Отправитель не существует", Blocked, &["windows-1251", "koi8-r"]),
            ("Користувача не знайдено", NotFound, &["windows-1251", "koi8-u"]),
            ("Empfänger unbekannt", NotFound, &["windows-1252"]),
            ("Boîte aux lettres pleine", Full, &["windows-1252"]),
            ("El buzón no existe", NotFound, &["windows-1252"]),
            ("Użytkownik nie istnieje", NotFound, &["iso-8859-2", "windows-1250"]),
            ("Příjemce neexistuje", NotFound, &["iso-8859-2", "windows-1250"]),
            ("Kullanıcı bulunamadı", NotFound, &["windows-1254"]),
            ("Ο χρήστης δεν υπάρχει", NotFound, &["windows-1253"]),
        ] {
            for label in labels {
                let (octets, ..) = Encoding::for_label(label.as_bytes()).unwrap().encode(text);
                let reply = reply(&octets);
                let found = Classifier::builtin().classify(Stage::Rcpt, 550, None, &reply_text(&reply));
                if found.verdict.sub_status != sub_status {
                    wrong.push(format!("{label}: {text}: {}: {found:?}", reply_text(&reply)));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn utf_8_is_unchanged() {
        for text in ["User unknown", "用户不存在", "Empfänger unbekannt"] {
            assert_eq!(reply_text(&reply(text.as_bytes())), format!("<ann@example.org>: {text}"));
        }
        // Cut inside a character, and damaged.
        let cut = "Empfänger 用户".as_bytes();
        assert_eq!(reply_text(&reply(&cut[..cut.len() - 1])), "<ann@example.org>: Empfänger 用\u{fffd}");
        assert_eq!(reply_text(&reply(b"\xc3\xa4 \xff")), "<ann@example.org>: ä \u{fffd}");
    }

    #[test]
    fn each_line_is_read() {
        let reply = Reply::parse(b"550-5.1.1 Empf\xe4nger\r\n550 5.1.1 unbekannt\r\n").unwrap();
        assert_eq!(reply_text(&reply), "Empfänger unbekannt");
    }
}
