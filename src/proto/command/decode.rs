//! Decodes commands on the server's side.
//!
//! ```text
//! command = verb [ SP argument ] CRLF                                         ; RFC 5321 4.1.1
//! mail    = "MAIL FROM:" ("<>" / "<" [ A-d-l ":" ] Mailbox ">") *( SP param )
//! rcpt    = "RCPT TO:" "<" [ A-d-l ":" ] Mailbox ">" *( SP param )
//! param   = keyword [ "=" value ]
//! bdat    = "BDAT" SP 1*20DIGIT [ SP "LAST" ]                                 ; RFC 3030 2
//! auth    = "AUTH" SP sasl-mech [ SP (base64 / "=") ]                         ; RFC 4954 4
//! ```

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag_no_case, take_till, take_while1},
    character::complete::{char, space0, space1},
    combinator::{eof, opt, peek},
    sequence::{delimited, preceded, terminated},
};
use thiserror::Error;

use super::{
    Argument, Body, Command, EnvelopeId, MailParams, Mechanism, Notify, OriginalRecipient, RcptParams, Ret,
    SaslResponse,
};
use crate::proto::{AddressError, ClientName, Mailbox, ReversePath};

/// The line is not a command, or not a valid one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The verb is not known.
    #[error("unknown command")]
    UnknownVerb,
    /// The verb is known, but its argument has a wrong form.
    #[error("syntax: {0}")]
    Syntax(&'static str),
    /// An address is invalid.
    #[error("address not valid")]
    Address(#[source] AddressError),
    /// A parameter is unknown, or its value is invalid.
    #[error("parameter not recognised")]
    Parameter,
}

impl CommandError {
    /// Returns the reply code of a server: 500, 501, 553 or 555 (RFC 5321 4.2.2, 4.1.1.11).
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::UnknownVerb => 500,
            Self::Syntax(_) => 501,
            Self::Address(_) => 553,
            Self::Parameter => 555,
        }
    }
}

type Result<T> = std::result::Result<T, CommandError>;

impl Command {
    /// Decodes one line, with or without its line end, as a server does.
    ///
    /// Verbs and keywords are case-insensitive. A space after `FROM:` and `TO:` and a source route are skipped, as
    /// RFC 5321 4.1.1 and appendix C require of a server.
    ///
    /// # Errors
    /// Fails with a [`CommandError`], which has the reply code.
    pub fn parse(line: &[u8]) -> Result<Self> {
        command(line)
    }
}

fn command(line: &[u8]) -> Result<Command> {
    let line = str::from_utf8(line.trim_ascii_end()).map_err(|_| CommandError::Syntax("not UTF-8"))?;
    if line.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(CommandError::Syntax("CR, LF or NUL inside a command"));
    }
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let argument = argument.trim_ascii();
    let bare = |command| {
        if argument.is_empty() { Ok(command) } else { Err(CommandError::Syntax("no argument allowed")) }
    };
    let name = || ClientName::parse(argument).map_err(CommandError::Address);
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => name().map(Command::Ehlo),
        "HELO" => name().map(Command::Helo),
        "LHLO" => name().map(Command::Lhlo),
        "STARTTLS" => bare(Command::StartTls),
        "AUTH" => auth(argument),
        "MAIL" => mail(argument),
        "RCPT" => rcpt(argument),
        "DATA" => bare(Command::Data),
        "BDAT" => bdat(argument),
        "RSET" => bare(Command::Rset),
        // RFC 5321 4.1.1.9: a parameter string is allowed and ignored.
        "NOOP" => Ok(Command::Noop),
        "VRFY" => {
            Argument::new(argument).map(Command::Vrfy).map_err(|_| CommandError::Syntax("VRFY takes a text"))
        }
        "QUIT" => bare(Command::Quit),
        _ => Err(CommandError::UnknownVerb),
    }
}

fn auth(argument: &str) -> Result<Command> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_ascii())),
        None => (argument, None),
    };
    let mechanism = Mechanism::new(mechanism).map_err(|_| CommandError::Syntax("AUTH takes a mechanism"))?;
    let initial = initial.map(|text| SaslResponse::parse(text.as_bytes())).transpose();
    Ok(Command::Auth {
        mechanism,
        initial: initial.map_err(|_| CommandError::Syntax("initial response not base64"))?,
    })
}

fn bdat(argument: &str) -> Result<Command> {
    let mut words = argument.split_ascii_whitespace();
    let size = words.next().and_then(number);
    let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
    match (size, last, words.next()) {
        (Some(size), None | Some(true), None) => Ok(Command::Bdat { size, last: last.is_some() }),
        _ => Err(CommandError::Syntax("BDAT takes a size and LAST")),
    }
}

fn mail(argument: &str) -> Result<Command> {
    let (params, path) =
        path("FROM:", argument).map_err(|_| CommandError::Syntax("MAIL takes FROM:<address>"))?;
    let from: ReversePath = path.parse().map_err(CommandError::Address)?;
    let mut mail = MailParams::default();
    for (keyword, value) in pairs(params) {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(size)) => mail.size = Some(number(size).ok_or(CommandError::Parameter)?),
            ("BODY", Some(body)) => {
                mail.body =
                    Some(one_of(&[Body::SevenBit, Body::EightBitMime, Body::BinaryMime], Body::as_str, body)?)
            }
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("RET", Some(ret)) => mail.ret = Some(one_of(&[Ret::Full, Ret::Headers], Ret::as_str, ret)?),
            ("ENVID", Some(id)) => {
                mail.envid = Some(EnvelopeId::from_xtext(id).map_err(|_| CommandError::Parameter)?)
            }
            ("REQUIRETLS", None) => mail.require_tls = true,
            _ => return Err(CommandError::Parameter),
        }
    }
    Ok(Command::Mail { from, params: mail })
}

fn rcpt(argument: &str) -> Result<Command> {
    let (params, path) =
        path("TO:", argument).map_err(|_| CommandError::Syntax("RCPT takes TO:<address>"))?;
    let to = Mailbox::parse(path).map_err(CommandError::Address)?;
    let mut rcpt = RcptParams::default();
    for (keyword, value) in pairs(params) {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY", Some(value)) => rcpt.notify = Some(notify(value)?),
            ("ORCPT", Some(value)) => {
                rcpt.orcpt = Some(OriginalRecipient::from_xtext(value).map_err(|_| CommandError::Parameter)?);
            }
            _ => return Err(CommandError::Parameter),
        }
    }
    Ok(Command::Rcpt { to, params: rcpt })
}

/// Parses the text between the angle brackets, without a source route. Returns the rest too.
fn path<'a>(keyword: &str, argument: &'a str) -> IResult<&'a str, &'a str> {
    let route = terminated((char('@'), take_till(|c| c == ':' || c == '>')), char(':'));
    let content = preceded(opt(route), content);
    let bracketed = delimited(char('<'), content, char('>'));
    let end = peek(alt((eof, space1)));
    delimited((tag_no_case(keyword), space0), bracketed, end).parse(argument)
}

/// Parses up to the closing bracket. A quoted local part or a general literal may also contain one.
fn content(input: &str) -> IResult<&str, &str> {
    let (mut until, mut escaped) = (None, false);
    let end = input.find(|c| {
        match (until, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(close), _) if c == close => until = None,
            (Some(_), _) => {}
            (None, '"') => until = Some('"'),
            (None, '[') => until = Some(']'),
            (None, _) => return c == '>',
        }
        false
    });
    // `take` would count characters, but `end` counts octets.
    let (content, rest) = input.split_at(end.unwrap_or(input.len()));
    Ok((rest, content))
}

/// Parses `1*20DIGIT`. The standard parser would accept a sign too.
fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}

fn pairs(params: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let word = |input| take_while1::<_, &str, nom::error::Error<&str>>(|c: char| c != '=').parse(input);
    params.split_ascii_whitespace().map(move |param| match word(param) {
        Ok((value, keyword)) => (keyword, value.strip_prefix('=')),
        Err(_) => ("", None),
    })
}

fn one_of<T: Copy>(values: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T> {
    values
        .iter()
        .copied()
        .find(|&value| name(value).eq_ignore_ascii_case(text))
        .ok_or(CommandError::Parameter)
}

fn notify(value: &str) -> Result<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return Err(CommandError::Parameter),
        };
        *flag = true;
    }
    Ok(Notify::On { success, failure, delay })
}
