//! The grammar of replies, line by line: nom `complete` parsers over one whole line.
//!
//! ```text
//! Reply-line   = Reply-code [ ("-" / SP) [ textstring ] ]                    ; RFC 5321 4.2
//! Reply-code   = %x32-35 %x30-39 %x30-39                                     ; second digit 0-5 in the RFC
//! status-code  = class "." subject "." detail                                ; RFC 2034 4, RFC 3463 2
//! class        = "2" / "4" / "5"
//! subject      = 1*3DIGIT
//! detail       = 1*3DIGIT
//! ehlo-line    = ehlo-keyword *( SP ehlo-param )                             ; RFC 5321 4.1.1.1
//! ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
//! ehlo-param   = 1*(%d33-126)
//! ```
//!
//! [`Decoder`](super::Decoder) does the framing and splits the stream into lines. So these parsers never need more
//! input, and an invalid line affects only itself.
//!
//! The grammar is wider than the RFC, for servers that exist. It accepts any second digit (`571`, `591`) and any
//! octets as text (Latin-1, GBK, UTF-8). The space after the code may be missing or be another octet.

use std::{fmt, str::FromStr};

use memchr::memchr;
use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take_while, take_while_m_n, take_while1},
    character::complete::one_of,
    combinator::{eof, map, map_opt, opt, peek, recognize, rest, verify},
    multi::fold_many0,
    sequence::{delimited, preceded, terminated},
};
use thiserror::Error;

/// One line of a reply, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyLine<'a> {
    pub(crate) code: u16,
    /// True if the reply ends with this line, so no hyphen follows the code.
    pub(crate) last: bool,
    pub(crate) text: &'a [u8],
}

/// Parses `Reply-line`. Fails only if the line does not begin with a reply code.
#[inline(always)]
pub(crate) fn reply_line(line: &[u8]) -> Option<ReplyLine<'_>> {
    usual_reply_line(line).or_else(|| Some(any_reply_line(line).ok()?.1))
}

/// A fast path of [`reply_line`] for lines in the form of the RFC, as nearly all are.
#[inline(always)]
pub(super) fn usual_reply_line(line: &[u8]) -> Option<ReplyLine<'_>> {
    match line {
        &[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', separator @ (b' ' | b'-'), ref text @ ..] => {
            let [a, b, c] = [a, b, c].map(|digit| u16::from(digit - b'0'));
            Some(ReplyLine { code: a * 100 + b * 10 + c, last: separator == b' ', text })
        }
        _ => None,
    }
}

fn any_reply_line(line: &[u8]) -> IResult<&[u8], ReplyLine<'_>> {
    let (text, code) = reply_code(line)?;
    let (text, last) = match text {
        [b'-', text @ ..] => (text, false),
        [b' ' | b'\t', text @ ..] => (text, true),
        text => (text, true),
    };
    Ok((&[], ReplyLine { code, last, text }))
}

/// Parses `Reply-code`, which no fourth digit may follow.
fn reply_code(input: &[u8]) -> IResult<&[u8], u16> {
    let digits = map_opt(take_while_m_n(3, 3, |b: u8| b.is_ascii_digit()), |d: &[u8]| {
        let code = d.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'));
        (200..600).contains(&code).then_some(code)
    });
    let mut code =
        terminated(digits, peek(verify(rest, |r: &[u8]| !r.first().is_some_and(u8::is_ascii_digit))));
    code.parse(input)
}

/// Parses `status-code` and the white space after it, or the end of the line.
pub(crate) fn enhanced_code(input: &[u8]) -> IResult<&[u8], EnhancedCode> {
    let class = map(one_of("245"), |c| c as u8 - b'0');
    let number = || {
        map(take_while_m_n(1, 3, |b: u8| b.is_ascii_digit()), |d: &[u8]| {
            d.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'))
        })
    };
    let code = (class, preceded(tag("."), number()), preceded(tag("."), number()));
    let end = alt((recognize(eof), take_while1(|b: u8| b == b' ' || b == b'\t')));
    map(terminated(code, end), |(class, subject, detail)| EnhancedCode { class, subject, detail })
        .parse(input)
}

/// Parses an [`enhanced_code`] at the start of a reply text, after optional white space and a number sign. Returns
/// the rest too.
#[inline(always)]
pub(crate) fn leading_enhanced_code(line: &[u8]) -> Option<(&[u8], EnhancedCode)> {
    usual_enhanced_code(line).or_else(|| any_leading_enhanced_code(line).ok())
}

/// A fast path of [`leading_enhanced_code`] for three digits followed by text, as in nearly all replies.
#[inline(always)]
fn usual_enhanced_code(line: &[u8]) -> Option<(&[u8], EnhancedCode)> {
    match line {
        [
            class @ (b'2' | b'4' | b'5'),
            b'.',
            subject @ b'0'..=b'9',
            b'.',
            detail @ b'0'..=b'9',
            b' ',
            text @ ..,
        ] if text.first().is_some_and(u8::is_ascii_graphic) => {
            let [class, subject, detail] = [class, subject, detail].map(|digit| digit - b'0');
            Some((text, EnhancedCode { class, subject: subject.into(), detail: detail.into() }))
        }
        _ => None,
    }
}

fn any_leading_enhanced_code(line: &[u8]) -> IResult<&[u8], EnhancedCode> {
    preceded(opt(tag("#")), enhanced_code).parse(line.trim_ascii_start())
}

/// Parses `ehlo-line`. Returns the keyword, and calls `param` with each parameter.
///
/// Leading white space is skipped. `=` separates like a space, because old servers write `AUTH=PLAIN`.
pub(crate) fn ehlo_line<'a>(line: &'a [u8], mut param: impl FnMut(&'a [u8])) -> IResult<&'a [u8], &'a [u8]> {
    let white = |b: u8| b == b' ' || b == b'\t';
    let keyword = take_while1(|b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
    let (input, keyword) =
        delimited(take_while(white), keyword, take_while(|b| white(b) || b == b'=')).parse(line)?;
    let word = terminated(take_while1(|b| !white(b)), take_while(white));
    let (input, ()) = fold_many0(word, || (), |(), word| param(word)).parse(input)?;
    Ok((input, keyword))
}

/// Returns the position of the first line end.
///
/// `memchr` selects the widest registers of the processor at each call. For such short lines this takes as long as
/// the search. SSE2 exists on every x86-64 processor, so it is used directly.
#[inline(always)]
pub(super) fn line_end(octets: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(finder) = memchr::arch::x86_64::sse2::memchr::One::new(b'\n') {
        return finder.find(octets);
    }
    memchr(b'\n', octets)
}

/// Returns the line without white space at its end, mostly a carriage return.
#[inline(always)]
pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    match line {
        [text @ .., b'\r'] if text.last().is_some_and(u8::is_ascii_graphic) => text,
        _ => line.trim_ascii_end(),
    }
}

/// An enhanced status code: class, subject and detail (RFC 3463 2, RFC 2034 4).
///
/// Subject and detail may have up to three digits, such as `5.7.606` of Exchange Online.
///
/// ```
/// use smtp_pool::proto::EnhancedCode;
/// let code: EnhancedCode = "5.7.606".parse()?;
/// assert_eq!((code.class, code.subject, code.detail), (5, 7, 606));
/// assert_eq!(code.to_string(), "5.7.606");
/// # Ok::<(), smtp_pool::proto::EnhancedCodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedCode {
    /// 2 (success), 4 (persistent transient failure) or 5 (permanent failure).
    pub class: u8,
    /// The subject: 1 addressing, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// The condition within the subject.
    pub detail: u16,
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = EnhancedCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match enhanced_code(text.as_bytes()) {
            Ok(([], code)) if !text.ends_with([' ', '\t']) => Ok(code),
            _ => Err(EnhancedCodeError),
        }
    }
}

/// The text is not an enhanced status code such as `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an enhanced status code: expected class 2, 4 or 5, subject and detail, as in \"5.1.1\"")]
pub struct EnhancedCodeError;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all lines of the `octets`, up to `length` octets long.
    fn lines(octets: &[u8], length: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..length {
            last = last.iter().flat_map(|line| octets.iter().map(|&b| [line, &[b][..]].concat())).collect();
            all.extend_from_slice(&last);
        }
        all
    }

    #[test]
    fn the_fast_paths_match_the_grammar() {
        for line in lines(b"0269- \tx", 5) {
            let any = any_reply_line(&line).ok().map(|(_, line)| line);
            assert_eq!(reply_line(&line), any, "{}", line.escape_ascii());
        }
        for line in lines(b"27. x", 7) {
            let any = any_leading_enhanced_code(&line).ok();
            assert_eq!(leading_enhanced_code(&line), any, "{}", line.escape_ascii());
        }
    }
}
