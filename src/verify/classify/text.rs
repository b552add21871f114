//! The plain form in which replies are compared with the phrases of rules.
//!
//! Servers write the same sentence in different ways, and a reply quotes client data: the address, client name and IP
//! address. The plain form is lower case, without accents and punctuation, with single spaces and *without addresses*.
//! Text in angle brackets or around an `@` is chosen by others and proves nothing (`<full@spamhaus.example>: User
//! unknown`). An IP address becomes `{ip}`: its presence counts, its value does not. An empty path becomes `{null}`.
//! Enhanced status codes are removed and reported. The positions of sentence ends and removed addresses are stored
//! beside the words.

use std::{net::IpAddr, ops::Range};

use crate::proto::EnhancedCode;

/// The part of a reply that is read, in octets. No rule needs more, so a longer reply causes no more work.
const MAX_TEXT: usize = 4096;
/// A path has at most 256 octets (RFC 5321 4.5.3.1.3). The rest allows for source routes and comments.
const MAX_PATH: usize = 320;

/// A text in plain words.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The words, with single spaces between them.
    pub(super) words: String,
    /// The marks between the words, with their positions, in order.
    pub(super) marks: Vec<(usize, Mark)>,
    /// Words that are names: in quotes, or the value of a key.
    pub(super) names: Vec<Range<usize>>,
    /// The first enhanced status code.
    pub(super) code: Option<EnhancedCode>,
}

/// A mark at a position of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The end of a sentence.
    Stop,
    /// A colon, a comma, a parenthesis, a dash.
    Pause,
    /// An address.
    Address,
}

/// Converts `text` to plain words.
pub(super) fn plain(text: &str) -> Plain {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let mut out = Plain { words: String::with_capacity(text.len() + 8), ..Plain::default() };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(end) = path(rest) {
            out.space();
            match end {
                1 => out.words.push_str("{null}"),
                _ => out.mark(Mark::Address),
            }
            out.space();
            rest = &rest[end + 1..];
        } else if separates(c) {
            out.space();
            out.separator(c, &rest[c.len_utf8()..]);
            rest = &rest[c.len_utf8()..];
        } else {
            let end = rest.find(separates).unwrap_or(rest.len());
            out.word(&rest[..end], rest[end..].chars().next());
            rest = &rest[end..];
        }
    }
    out.words.truncate(out.words.trim_end().len());
    out
}

/// Replaces each address and path by a bare `@`, so that no part of it counts as words.
pub(super) fn without_addresses(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(end) = path(rest) {
            out.push_str(if end == 1 { "<>" } else { "<@>" });
            rest = &rest[end + 1..];
        } else if separates(c) {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let end = rest.find(separates).unwrap_or(rest.len());
            let word = &rest[..end];
            match word.find('@') {
                Some(at) if word.len() > 1 => {
                    out.push('@');
                    out.push_str(word[at..].find(':').map_or("", |colon| &word[at + colon..]));
                }
                _ => out.push_str(word),
            }
            rest = &rest[end..];
        }
    }
    out
}

/// Returns the position of `>` if `text` begins with a path or a name in angle brackets.
fn path(text: &str) -> Option<usize> {
    let end = text.strip_prefix('<')?.bytes().take(MAX_PATH - 1).position(|octet| octet == b'>')? + 1;
    (!is_prose(&text[1..end])).then_some(end)
}

/// Returns whether the text in angle brackets is prose, not a path or a name. A path may be inside it.
fn is_prose(inner: &str) -> bool {
    inner.contains(' ') && (!inner.contains('@') || inner.contains('<'))
}

fn separates(c: char) -> bool {
    c.is_ascii_whitespace()
        || matches!(
            c,
            '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | '"' | '!' | '|' | '`' | '*' | '\u{3000}'
        )
        || c.is_ascii_control()
}

/// Returns whether the script of `c` has no spaces between words, or attaches particles to words.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0eff | 0x1100..=0x11ff | 0x1780..=0x17ff | 0x3040..=0x318f | 0x31f0..=0x31ff
        | 0x3400..=0x9fff | 0xac00..=0xd7af | 0xf900..=0xfaff)
}

/// Returns whether `c` is a letter or digit of a word between spaces.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() && !is_unspaced(c) }
}

impl Plain {
    fn space(&mut self) {
        if !self.words.is_empty() && !self.words.ends_with(' ') {
            self.words.push(' ');
        }
    }

    fn mark(&mut self, mark: Mark) {
        self.marks.push((self.words.len(), mark));
    }

    fn separator(&mut self, c: char, rest: &str) {
        match c {
            ';' | '!' | '|' => self.mark(Mark::Stop),
            ',' | '(' | ')' | '[' | ']' => self.mark(Mark::Pause),
            // One word in quotes is a name: `unknown user: "nobody"`.
            '"' => {
                let end = rest.find('"').filter(|&end| end > 0 && !rest[..end].contains(separates));
                if let Some(end) = end {
                    let start = self.words.len();
                    self.names.push(start..start + end);
                }
            }
            _ => {}
        }
    }

    /// Adds characters without a separator: a word, an address, a URL, an IP address or a code.
    fn word(&mut self, word: &str, next: Option<char>) {
        let word = without_reply_code(word);
        let bytes = word.as_bytes();
        if bytes.is_empty() {
            return;
        }
        if bytes.contains(&b'@') && bytes.len() > 1 {
            self.mark(Mark::Address);
            if word.ends_with("...") || word.contains(":") {
                self.mark(Mark::Pause);
            } else if word.ends_with('.') && next.is_none_or(char::is_whitespace) {
                self.mark(Mark::Stop);
            }
            return;
        }
        if word.contains("://") || bytes.get(..4).is_some_and(|b| b.eq_ignore_ascii_case(b"www.")) {
            // Joined by `_`, a URL is one long word: `…/user-unknown` does not say "user unknown".
            let start = self.words.len();
            self.push(word, '_');
            self.names.push(start..self.words.len());
            return self.space();
        }
        if bytes[0].is_ascii_hexdigit() || matches!(bytes[0], b'#' | b':' | b'-') {
            let bare = word.trim_matches(['#', '.', ':', '-']);
            if let Some(found) = enhanced(bare) {
                self.code.get_or_insert(found);
                return;
            }
            if bare.len() > 2 && (bare.contains('.') || bare.contains("::")) && is_ip(bare) {
                self.words.push_str("{ip}");
                self.space();
                if word.ends_with(':') {
                    self.mark(Mark::Pause);
                } else if word.ends_with('.') && next.is_none_or(char::is_whitespace) {
                    self.mark(Mark::Stop);
                }
                return;
            }
        }
        if word.contains(['=', ':']) && word.split(['=', ':']).any(is_ip) {
            // `IP=192.0.2.1`, `ip:192.0.2.1`.
            for part in word.split(['=', ':']).filter(|p| !p.is_empty()) {
                self.word(part, None);
                self.space();
            }
            return;
        }
        let start = self.words.len();
        self.push(word, ' ');
        if let Some((key, _)) = word.split_once('=')
            && !key.is_empty()
        {
            self.names.push(start..self.words.len());
        }
        if bytes.iter().all(|b| matches!(b, b'-' | b'.' | b'/' | b'\\')) && bytes.len() < 4
            || word.ends_with("...")
        {
            self.mark(Mark::Pause);
        } else if word.ends_with(['.', '?']) && next.is_none_or(char::is_whitespace) {
            self.mark(Mark::Stop);
        }
    }

    /// Copies `word` in lower case without accents, with `joint` for the characters that join parts of URLs.
    fn push(&mut self, word: &str, joint: char) {
        for c in word.chars() {
            match c {
                '/' | ':' | '=' | '?' | '&' | '#' | '%' | '+' if joint == ' ' => {
                    self.space();
                    if c == ':' {
                        self.mark(Mark::Pause);
                    }
                }
                '/' | ':' | '=' | '?' | '&' | '#' | '%' | '+' => self.words.push(joint),
                _ if c.is_ascii() => self.words.push(c.to_ascii_lowercase()),
                '。' | '．' | '！' | '；' | '？' => {
                    self.space();
                    self.mark(Mark::Stop);
                }
                '，' | '：' | '、' | '（' | '）' | '「' | '」' | '【' | '】' | '–' | '—' | '→' | '«'
                | '»' | '“' | '”' => {
                    self.space();
                    self.mark(Mark::Pause);
                }
                '\u{a0}' => self.space(),
                _ => fold(c, &mut self.words),
            }
        }
    }
}

/// Adds `c` in lower case without accents, because some servers omit accents.
fn fold(c: char, out: &mut String) {
    for c in c.to_lowercase() {
        match c {
            'ä' | 'æ' => out.push_str("ae"),
            'ö' | 'ø' | 'œ' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'þ' => out.push_str("th"),
            '’' | '‘' | '´' | 'ʼ' | '`' => out.push('\''),
            'ё' => out.push('е'),
            // Combining marks of decomposed text.
            '\u{300}'..='\u{36f}' => {}
            _ => out.push(letter(c)),
        }
    }
}

/// Returns the letter without its accents.
fn letter(c: char) -> char {
    match c {
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' | 'ǎ' | 'ạ'..='ặ' => 'a',
        'ç' | 'ć' | 'ĉ' | 'č' => 'c',
        'đ' | 'ď' | 'ð' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' | 'ẹ'..='ệ' => 'e',
        'ğ' | 'ģ' => 'g',
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' | 'ỉ' | 'ị' => 'i',
        'ķ' => 'k',
        'ł' | 'ľ' | 'ĺ' | 'ļ' => 'l',
        'ñ' | 'ń' | 'ň' | 'ņ' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ő' | 'ō' | 'ơ' | 'ọ'..='ợ' => 'o',
        'ř' | 'ŕ' => 'r',
        'ś' | 'š' | 'ş' | 'ș' => 's',
        'ť' | 'ţ' | 'ț' => 't',
        'ù' | 'ú' | 'û' | 'ű' | 'ů' | 'ū' | 'ų' | 'ư' | 'ụ'..='ự' => 'u',
        'ý' | 'ÿ' | 'ỳ'..='ỹ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ά' => 'α',
        'έ' => 'ε',
        'ή' => 'η',
        'ί' | 'ϊ' | 'ΐ' => 'ι',
        'ό' => 'ο',
        'ύ' | 'ϋ' | 'ΰ' => 'υ',
        'ώ' => 'ω',
        'ς' => 'σ',
        other => other,
    }
}

/// Removes the reply code of a line that a log joined to others: `550-5.1.1`, `554-No`.
fn without_reply_code(word: &str) -> &str {
    match word.as_bytes() {
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b'-', next, ..] if next.is_ascii_alphanumeric() => &word[4..],
        _ => word,
    }
}

fn is_ip(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

/// Parses a word that is an enhanced code such as `5.1.1`.
fn enhanced(word: &str) -> Option<EnhancedCode> {
    if word.len() > 9 || !matches!(word.as_bytes().first(), Some(b'2' | b'4' | b'5')) {
        return None;
    }
    let mut parts = word.split('.');
    let mut part = || parts.next()?.parse::<u16>().ok().filter(|&n| n < 1000);
    let (class, subject, detail) = (part()?, part()?, part()?);
    let class = u8::try_from(class).ok().filter(|c| *c < 10)?;
    parts.next().is_none().then_some(EnhancedCode { class, subject, detail })
}
