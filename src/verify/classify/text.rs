//! The one form in which replies and the phrases of the rules are compared.
//!
//! Two servers rarely write the same sentence the same way, and a reply quotes what it was sent: the address, our
//! name, our IP address. So a text is brought to plain words first: lower case, no accents, no punctuation between
//! words, single spaces, and *no addresses*: what stands in angle brackets or around an `@` was chosen by somebody
//! else and proves nothing (`<full@spamhaus.example>: User unknown`). An IP address becomes `{ip}`, for that one is
//! there says something, which one does not. Enhanced status codes are taken out and reported.

use std::net::IpAddr;

use crate::proto::EnhancedCode;

/// No rule needs more of a reply than this; a server that writes more cannot make us work more.
const MAX_TEXT: usize = 4096;
/// A path is at most 256 octets (RFC 5321 4.5.3.1.3); some slack for the routes and comments that people add.
const MAX_PATH: usize = 320;

/// Brings `text` to plain words, and finds the first enhanced status code in it.
pub(super) fn plain(text: &str) -> (String, Option<EnhancedCode>) {
    let mut rest = &text[..text.floor_char_boundary(MAX_TEXT)];
    let mut out = String::with_capacity(rest.len() + 8);
    let mut code = None;
    while let Some(c) = rest.chars().next() {
        if c == '<'
            && let Some(end) = rest.as_bytes().iter().take(MAX_PATH).position(|&b| b == b'>')
            && !is_prose(&rest[1..end])
        {
            space(&mut out);
            rest = &rest[end + 1..];
        } else if separates(c) {
            space(&mut out);
            rest = &rest[c.len_utf8()..];
        } else {
            let end = rest.find(separates).unwrap_or(rest.len());
            word(&rest[..end], &mut out, &mut code);
            rest = &rest[end..];
        }
    }
    out.truncate(out.trim_end().len());
    (out, code)
}

/// Whether what stands between angle brackets is a remark rather than a path or a name; the path may be inside of it.
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

fn space(out: &mut String) {
    if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

/// One run of characters without a separator: a word, an address, a URL, an IP address, a code.
fn word(word: &str, out: &mut String, code: &mut Option<EnhancedCode>) {
    let bytes = word.as_bytes();
    if bytes.contains(&b'@') && bytes.len() > 1 {
        return;
    }
    if word.contains("://") || bytes.get(..4).is_some_and(|b| b.eq_ignore_ascii_case(b"www.")) {
        // Joined by `_`, a URL is one long word: `…/user-unknown` does not say "user unknown".
        push(word, '_', out);
        return space(out);
    }
    if bytes[0].is_ascii_hexdigit() || matches!(bytes[0], b'#' | b':' | b'-') {
        let bare = word.trim_matches(['#', '.', ':', '-']);
        if let Some(found) = enhanced(bare) {
            code.get_or_insert(found);
            return;
        }
        if bare.len() > 2 && (bare.contains('.') || bare.contains("::")) && is_ip(bare) {
            out.push_str("{ip}");
            return space(out);
        }
    }
    if word.contains(['=', ':']) && word.split(['=', ':']).any(is_ip) {
        // `IP=192.0.2.1`, `ip:192.0.2.1`.
        for part in word.split(['=', ':']).filter(|p| !p.is_empty()) {
            self::word(part, out, code);
            space(out);
        }
        return;
    }
    push(word, ' ', out);
}

/// Copies `word` in lower case without accents, with `joint` for the characters that join parts of URLs.
fn push(word: &str, joint: char, out: &mut String) {
    for c in word.chars() {
        match c {
            '/' | ':' | '=' | '?' | '&' | '#' | '%' | '+' if joint == ' ' => space(out),
            '/' | ':' | '=' | '?' | '&' | '#' | '%' | '+' => out.push(joint),
            _ if c.is_ascii() => out.push(c.to_ascii_lowercase()),
            _ => fold(c, out),
        }
    }
}

/// Lower case, and the letters that some servers write with their accents and others without.
fn fold(c: char, out: &mut String) {
    for c in c.to_lowercase() {
        match c {
            'ä' => out.push_str("ae"),
            'ö' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'à' | 'á' | 'â' | 'ã' | 'ą' | 'å' => out.push('a'),
            'ç' | 'ć' | 'č' => out.push('c'),
            'è' | 'é' | 'ê' | 'ë' | 'ę' | 'ě' => out.push('e'),
            'ì' | 'í' | 'î' | 'ï' | 'ı' => out.push('i'),
            'ł' => out.push('l'),
            'ñ' | 'ń' => out.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' => out.push('o'),
            'ś' | 'š' | 'ş' => out.push('s'),
            'ù' | 'ú' | 'û' => out.push('u'),
            'ź' | 'ż' | 'ž' => out.push('z'),
            '’' | '‘' | '´' => out.push('\''),
            '。' | '，' | '：' | '！' | '、' | '\u{a0}' => space(out),
            _ => out.push(c),
        }
    }
}

fn is_ip(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

/// `5.1.1`, and nothing else.
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
