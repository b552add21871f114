//! Finds the reply in a line of a bounce or a log, or the reason why there was none.
//!
//! | written by | line |
//! |---|---|
//! | a server | `550 5.1.1 User unknown` |
//! | a DSN (RFC 3464 2.3.6) | `Diagnostic-Code: smtp; 550 5.1.1 User unknown` |
//! | Postfix, sending | `… status=bounced (host mx[192.0.2.1] said: 550 5.1.1 … (in reply to RCPT TO command))` |
//! | Postfix, no reply | `… status=deferred (connect to mx[192.0.2.1]:25: Connection timed out)` |
//! | Postfix, receiving | `NOQUEUE: reject: RCPT from mx[192.0.2.1]: 550 5.1.1 … ; from=<> to=<ann@x.test> proto=ESMTP` |
//! | Exim, sending | `… SMTP error from remote mail server after RCPT TO:<ann@x.test>: 550 5.1.1 …` |
//! | Exim, no reply | `== ann@x.test R=dnslookup T=remote_smtp defer (110): Connection timed out` |
//! | Exim, receiving | `H=mx [192.0.2.1] F=<> rejected RCPT <ann@x.test>: Unknown user` |
//! | Sendmail | `… dsn=5.1.1, stat=User unknown`, `stat=Deferred: Connection timed out with mx.x.test.`, `<<< 550 5.1.1 …` |
//!
//! Log lines also name the command that was refused.

use smtp_pool::{
    proto::{DecodeError, MAX_LINE, Reply},
    verify::{Stage, reply_text},
};

use super::no_reply::{self, NoReply};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) result: DeliveryResult,
    /// The command that the reply answers, if the line names it.
    pub(super) stage: Option<Stage>,
}

/// The result of a delivery attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeliveryResult {
    Reply(Reply),
    /// The server was not reached, or did not answer.
    NoReply(NoReply),
}

impl Found {
    /// Returns the reply as text, or the line with the reason why there is none.
    pub(super) fn words(&self, line: &str) -> String {
        match &self.result {
            DeliveryResult::Reply(reply) => shown(reply),
            DeliveryResult::NoReply(_) => line.trim().to_owned(),
        }
    }
}

/// Returns code, enhanced code and text on one line. The text is decoded.
fn shown(reply: &Reply) -> String {
    let enhanced = reply.enhanced().map(|code| format!(" {code}")).unwrap_or_default();
    let text = reply_text(reply);
    let gap = if text.is_empty() { "" } else { " " };
    format!("{}{enhanced}{gap}{text}", reply.code())
}

/// Words that stand in front of a reply.
const MARKS: [&str; 6] = ["said:", "refused to talk to me:", "smtp;", "<<<", "response:", "reject="];
/// Words that name the command, as Postfix, Exim and Sendmail write them.
const STAGES: [(&str, Stage); 24] = [
    ("refused to talk to me:", Stage::Banner),
    ("after initial connection", Stage::Banner),
    ("reject: connect from", Stage::Banner),
    ("in reply to ehlo", Stage::Ehlo),
    ("in reply to helo", Stage::Ehlo),
    ("reject: ehlo from", Stage::Ehlo),
    ("reject: helo from", Stage::Ehlo),
    ("after ehlo", Stage::Ehlo),
    ("in reply to starttls", Stage::StartTls),
    ("in reply to auth", Stage::Auth),
    ("in reply to mail from", Stage::Mail),
    ("reject: mail from", Stage::Mail),
    ("rejected mail <", Stage::Mail),
    ("ruleset=check_mail", Stage::Mail),
    ("mail from:", Stage::Mail),
    ("in reply to rcpt to", Stage::Rcpt),
    ("reject: rcpt from", Stage::Rcpt),
    ("rejected rcpt <", Stage::Rcpt),
    ("ruleset=check_rcpt", Stage::Rcpt),
    ("rcpt to:", Stage::Rcpt),
    ("reject: data from", Stage::Data),
    ("in reply to data", Stage::Data),
    ("in reply to end of data", Stage::Data),
    ("after end of data", Stage::Data),
];
/// Words in front of the result of a delivery, with the reply code to use if the log has none.
const REASONS: [(&str, u16); 10] = [
    ("status=bounced (", 550),
    ("status=undeliverable (", 550),
    ("status=deferred (", 450),
    ("status=undelivered (", 450),
    ("status=sent (", 250),
    ("status=deliverable (", 250),
    ("temporarily rejected rcpt <", 450),
    ("rejected rcpt <", 550),
    ("rejected mail <", 550),
    ("stat=", 550),
];

/// Finds the reply. Line ends may be written literally as `\r\n` and `\n`.
pub(super) fn find(text: &str) -> Result<Found, DecodeError> {
    let text = text.replace("\\r\\n", "\r\n").replace("\\n", "\r\n");
    let text = text.trim();
    if starts_reply(text) {
        return Ok(Found { result: DeliveryResult::Reply(read(text)?), stage: None });
    }
    let lower = text.to_ascii_lowercase();
    let stage = stage(&lower);
    let result = match reason(text, &lower) {
        Some((reason, code)) => of_reason(reason, code, dsn(&lower))?,
        None => match (in_text(text, &lower), no_reply::find(&lower)) {
            (Some(reply), _) => DeliveryResult::Reply(reply?),
            (None, Some(reason)) => DeliveryResult::NoReply(reason),
            (None, None) => DeliveryResult::Reply(read(text)?),
        },
    };
    Ok(Found { result, stage })
}

/// Returns the command that the line names. Postfix names it behind the reply, which may quote another reply.
fn stage(lower: &str) -> Option<Stage> {
    let places = |place: fn(&str, &str) -> Option<usize>| {
        STAGES.iter().filter_map(move |(words, stage)| Some((place(lower, words)?, *stage)))
    };
    let first = || places(|text, words| text.find(words)).min_by_key(|(at, _)| *at);
    let last = places(|text, words| text.rfind(words).filter(|_| words.starts_with("in reply to")));
    last.max_by_key(|(at, _)| *at).or_else(first).map(|(_, stage)| stage)
}

/// Returns the first reply in the text.
fn in_text(text: &str, lower: &str) -> Option<Result<Reply, DecodeError>> {
    let marked = MARKS
        .iter()
        .filter_map(|mark| text.get(lower.find(mark)? + mark.len()..))
        .map(str::trim_start)
        .find(|rest| starts_reply(rest));
    let start = marked.or_else(|| with_enhanced(text)).or_else(|| with_code(text));
    let start = start.map(|start| without_remark(start).to_owned());
    // A failed connection has an enhanced code that the log itself made up.
    let alone = || no_reply::find(lower).is_none().then(|| enhanced_alone(text)).flatten();
    start.or_else(alone).map(|text| read(&text))
}

/// Returns why a delivery ended as it did, in the words of the log, and the reply code that belongs to it.
fn reason<'a>(text: &'a str, lower: &str) -> Option<(&'a str, u16)> {
    let (start, mark, code) =
        REASONS.iter().find_map(|(mark, code)| Some((lower.find(mark)? + mark.len(), *mark, *code)))?;
    let rest = &text[start..];
    let rest = if mark.ends_with('(') {
        rest.strip_suffix(')').unwrap_or(rest)
    } else if mark.ends_with('<') {
        rest.split_once('>')?.1.trim_start_matches([':', ' '])
    } else {
        rest
    };
    let first = rest.split([' ', ':']).next().unwrap_or_default().to_ascii_lowercase();
    // The words of Sendmail.
    Some(match (mark, &*first) {
        ("stat=", "deferred") => (rest["deferred".len()..].trim_start_matches([':', ' ']), 450),
        ("stat=", "sent") => (rest, 250),
        _ => (rest, code),
    })
}

/// Returns what the reason of a log means, with the code of its `dsn=`.
fn of_reason(reason: &str, code: u16, dsn: Option<&str>) -> Result<DeliveryResult, DecodeError> {
    let lower = reason.to_ascii_lowercase();
    // "host mx said: 550 …" has a reply; "connect to mx[192.0.2.1]:25: Connection timed out" has none.
    if starts_reply(reason) {
        return Ok(DeliveryResult::Reply(read(without_remark(reason))?));
    }
    if let Some(reply) = in_text(reason, &lower) {
        return Ok(DeliveryResult::Reply(reply?));
    }
    if let Some(reason) = no_reply::find(&lower) {
        return Ok(DeliveryResult::NoReply(reason));
    }
    let code = match dsn.and_then(|dsn| dsn.chars().next()) {
        Some('2') => 250,
        Some('4') => 450,
        Some('5') => 550,
        _ => code,
    };
    let dsn = dsn.map(|dsn| format!("{dsn} ")).unwrap_or_default();
    Ok(DeliveryResult::Reply(read(&format!("{code} {dsn}{reason}"))?))
}

/// Returns the enhanced code of the delivery in the log line.
fn dsn(lower: &str) -> Option<&str> {
    enhanced(&lower[lower.find("dsn=")? + "dsn=".len()..])
}

/// Reads a reply. A log may have folded it, cut it, or left out its last line.
fn read(text: &str) -> Result<Reply, DecodeError> {
    let lines: Vec<&str> = text.lines().map(|line| &line[..line.floor_char_boundary(MAX_LINE - 2)]).collect();
    let strict = Reply::parse(lines.join("\r\n").as_bytes());
    match strict {
        Err(DecodeError::Incomplete | DecodeError::Trailing) if starts_reply(text) => {
            let (code, rest) = text.split_at(3);
            let joined =
                format!("{code} {}", rest.trim_start_matches('-').lines().collect::<Vec<_>>().join(" "));
            Reply::parse(&joined.as_bytes()[..joined.floor_char_boundary(MAX_LINE - 2)])
        }
        read => read,
    }
}

/// Returns whether the text begins with a reply code, and not with a longer number or a time.
fn starts_reply(text: &str) -> bool {
    match text.as_bytes() {
        [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', rest @ ..] => rest
            .first()
            .is_none_or(|next| !next.is_ascii_digit() && !matches!(next, b'.' | b':' | b'/' | b']' | b'=')),
        _ => false,
    }
}

/// Returns the rest of the text from each start of a word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_start = |at: usize| {
        at == 0
            || matches!(
                text.as_bytes()[at - 1],
                b' ' | b'\t' | b':' | b';' | b'(' | b'"' | b'\'' | b'>' | b'='
            )
    };
    text.char_indices().filter(move |(at, _)| is_start(*at)).map(|(at, _)| &text[at..])
}

/// Returns the text from the first `550 5.1.1` or `550-5.1.1`, which is hardly anything but a reply.
fn with_enhanced(text: &str) -> Option<&str> {
    let has_code = |rest: &str| rest.get(4..).and_then(enhanced).is_some();
    words(text).find(|rest| {
        starts_reply(rest) && matches!(rest.as_bytes()[3..], [b' ' | b'-' | b'#', ..]) && has_code(rest)
    })
}

/// Returns the text from the first `550 `. It may be something else, so a refusal is preferred to a success.
fn with_code(text: &str) -> Option<&str> {
    let is_code = |rest: &&str| starts_reply(rest) && matches!(rest.as_bytes()[3..], [] | [b' ' | b'-', ..]);
    let mut refusals = words(text).filter(is_code).filter(|rest| rest.starts_with(['4', '5']));
    refusals.next().or_else(|| words(text).find(|rest| is_code(rest) && rest.starts_with('2')))
}

/// Returns a reply for an enhanced code without a reply code.
fn enhanced_alone(text: &str) -> Option<String> {
    let rest = words(text).find(|rest| enhanced(rest).is_some())?;
    let code = match rest.as_bytes()[0] {
        b'2' => 250,
        b'4' => 450,
        _ => 550,
    };
    Some(format!("{code} {}", without_remark(rest)))
}

/// Returns the enhanced code at the start of `text`.
fn enhanced(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let code = text[..end].trim_end_matches('.');
    let is_class = matches!(code.as_bytes(), [b'2' | b'4' | b'5', b'.', ..]);
    (is_class && code.parse::<smtp_pool::proto::EnhancedCode>().is_ok()).then_some(code)
}

/// Removes what Postfix adds behind a reply: the command, or the envelope.
fn without_remark(text: &str) -> &str {
    let text = text.split("; from=<").next().unwrap_or(text);
    // A quoted reply has a remark of its own, which stays.
    match text.rsplit_once(" (in reply to ") {
        Some((reply, _)) => reply,
        None => text,
    }
}

#[cfg(test)]
mod tests;
