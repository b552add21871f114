//! The grammar of what a server says, line by line: nom `complete` parsers over one whole line.
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
//! Framing is not here: [`Decoder`](super::Decoder) cuts the stream into lines, so that nothing below ever
//! needs more input, and a line that is wrong costs itself alone.
//! Wider than the RFC on purpose, for servers that exist: any second digit (`571`, `591`), any octets as text
//! (Latin-1, GBK, UTF-8), nothing or anything where the space after the code should be.

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take_while, take_while_m_n, take_while1},
    character::complete::one_of,
    combinator::{eof, map, map_opt, opt, peek, recognize, rest, verify},
    multi::fold_many0,
    sequence::{delimited, preceded, terminated},
};

use super::EnhancedCode;

/// One line of a reply, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyLine<'a> {
    pub(crate) code: u16,
    /// Whether the reply ends with this line: anything but a hyphen behind the code.
    pub(crate) last: bool,
    pub(crate) text: &'a [u8],
}

/// `Reply-line`; fails only where no reply code stands at the start.
pub(crate) fn reply_line(line: &[u8]) -> IResult<&[u8], ReplyLine<'_>> {
    let (text, code) = reply_code(line)?;
    let (text, last) = match text {
        [b'-', text @ ..] => (text, false),
        [b' ' | b'\t', text @ ..] => (text, true),
        text => (text, true),
    };
    Ok((&[], ReplyLine { code, last, text }))
}

/// `Reply-code`, and no fourth digit behind it.
fn reply_code(input: &[u8]) -> IResult<&[u8], u16> {
    let digits = map_opt(take_while_m_n(3, 3, |b: u8| b.is_ascii_digit()), |d: &[u8]| {
        let code = d.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'));
        (200..600).contains(&code).then_some(code)
    });
    let mut code =
        terminated(digits, peek(verify(rest, |r: &[u8]| !r.first().is_some_and(u8::is_ascii_digit))));
    code.parse(input)
}

/// `status-code`, then white space or the end of the line; the white space goes with it.
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

/// [`enhanced_code`] as it stands in a reply, where servers put white space and a number sign before it.
pub(crate) fn leading_enhanced_code(line: &[u8]) -> IResult<&[u8], EnhancedCode> {
    preceded(opt(tag("#")), enhanced_code).parse(line.trim_ascii_start())
}

/// `ehlo-line`: the keyword, then every parameter given to `param`.
///
/// Leading white space is passed over, and `=` parts as a space does: old servers write `AUTH=PLAIN`.
pub(crate) fn ehlo_line<'a>(line: &'a [u8], mut param: impl FnMut(&'a [u8])) -> IResult<&'a [u8], &'a [u8]> {
    let white = |b: u8| b == b' ' || b == b'\t';
    let keyword = take_while1(|b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
    let (input, keyword) =
        delimited(take_while(white), keyword, take_while(|b| white(b) || b == b'=')).parse(line)?;
    let word = terminated(take_while1(|b| !white(b)), take_while(white));
    let (input, ()) = fold_many0(word, || (), |(), word| param(word)).parse(input)?;
    Ok((input, keyword))
}
