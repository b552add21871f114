//! The reply in a line of a bounce or a log.
//!
//! | written by | line |
//! |---|---|
//! | a server | `550 5.1.1 User unknown` |
//! | a DSN (RFC 3464 2.3.6) | `Diagnostic-Code: smtp; 550 5.1.1 User unknown` |
//! | Postfix | `… status=bounced (host mx[192.0.2.1] said: 550 5.1.1 … (in reply to RCPT TO command))` |
//! | Exim | `… SMTP error from remote mail server after RCPT TO:<ann@x.test>: 550 5.1.1 …` |
//! | Sendmail | `<<< 550 5.1.1 User unknown` |
//!
//! Logs also tell which command was refused, which is worth knowing.

use smtp_pool::{
    proto::{DecodeError, MAX_LINE, Reply},
    verify::Stage,
};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) reply: Reply,
    /// The command that it answers, if the line tells.
    pub(super) stage: Option<Stage>,
}

/// What stands in front of replies.
const MARKS: [&str; 5] = ["said:", "refused to talk to me:", "smtp;", "<<<", "response:"];
/// What tells the command, as Postfix and Exim write it.
const STAGES: [(&str, Stage); 14] = [
    ("refused to talk to me:", Stage::Banner),
    ("after initial connection", Stage::Banner),
    ("in reply to ehlo", Stage::Ehlo),
    ("in reply to helo", Stage::Ehlo),
    ("after ehlo", Stage::Ehlo),
    ("in reply to starttls", Stage::StartTls),
    ("in reply to auth", Stage::Auth),
    ("in reply to mail from", Stage::Mail),
    ("mail from:", Stage::Mail),
    ("in reply to rcpt to", Stage::Rcpt),
    ("rcpt to:", Stage::Rcpt),
    ("in reply to data", Stage::Data),
    ("in reply to end of data", Stage::Data),
    ("after end of data", Stage::Data),
];

/// Finds the reply; `\r\n` and `\n` may be written literally.
pub(super) fn find(text: &str) -> Result<Found, DecodeError> {
    let text = text.replace("\\r\\n", "\r\n").replace("\\n", "\r\n");
    let text = text.trim();
    if starts_reply(text) {
        return Ok(Found { reply: read(text)?, stage: None });
    }
    let lower = text.to_ascii_lowercase();
    let stage = STAGES.iter().find(|(words, _)| lower.contains(words)).map(|(_, stage)| *stage);
    let marked = MARKS
        .iter()
        .filter_map(|mark| text.get(lower.find(mark)? + mark.len()..))
        .map(str::trim_start)
        .find(|rest| starts_reply(rest));
    let start = marked.or_else(|| with_enhanced(text)).or_else(|| with_code(text));
    let reply = match (start, enhanced_alone(text)) {
        (Some(start), _) => read(without_remark(start))?,
        (None, Some(reply)) => read(&reply)?,
        (None, None) => read(text)?,
    };
    Ok(Found { reply, stage })
}

/// Reads a reply that a log may have folded, cut, or left without its last line.
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

/// A code, and then neither a longer number nor a time.
fn starts_reply(text: &str) -> bool {
    match text.as_bytes() {
        [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', rest @ ..] => rest
            .first()
            .is_none_or(|next| !next.is_ascii_digit() && !matches!(next, b'.' | b':' | b'/' | b']' | b'=')),
        _ => false,
    }
}

/// Where words begin.
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

/// `550 5.1.1` and `550-5.1.1` are hardly anything else.
fn with_enhanced(text: &str) -> Option<&str> {
    let has_code = |rest: &str| rest.get(4..).and_then(enhanced).is_some();
    words(text).find(|rest| {
        starts_reply(rest) && matches!(rest.as_bytes()[3..], [b' ' | b'-' | b'#', ..]) && has_code(rest)
    })
}

/// `550 ` may be something else, so a refusal comes before a success.
fn with_code(text: &str) -> Option<&str> {
    let is_code = |rest: &&str| starts_reply(rest) && matches!(rest.as_bytes()[3..], [] | [b' ' | b'-', ..]);
    let mut refusals = words(text).filter(is_code).filter(|rest| rest.starts_with(['4', '5']));
    refusals.next().or_else(|| words(text).find(|rest| is_code(rest) && rest.starts_with('2')))
}

/// The reply code that goes with an enhanced code where a bounce has nothing else.
fn enhanced_alone(text: &str) -> Option<String> {
    let rest = words(text).find(|rest| enhanced(rest).is_some())?;
    let code = match rest.as_bytes()[0] {
        b'2' => 250,
        b'4' => 450,
        _ => 550,
    };
    Some(format!("{code} {}", without_remark(rest)))
}

/// The enhanced code at the start of `text`.
fn enhanced(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let code = text[..end].trim_end_matches('.');
    let is_class = matches!(code.as_bytes(), [b'2' | b'4' | b'5', b'.', ..]);
    (is_class && code.parse::<smtp_pool::proto::EnhancedCode>().is_ok()).then_some(code)
}

/// Takes off what Postfix adds behind a reply.
fn without_remark(text: &str) -> &str {
    text.split(" (in reply to ").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, reply: &str, stage: Option<Stage>) {
        let found = find(line).unwrap();
        assert_eq!((found.reply.to_string().as_str(), found.stage), (reply, stage), "{line}");
    }

    #[test]
    fn replies_are_found_in_logs() {
        check("550 5.1.1 User unknown", "550 5.1.1 User unknown", None);
        check("  smtp; 550 5.1.1 User unknown", "550 5.1.1 User unknown", None);
        check(
            "Diagnostic-Code: SMTP;550-5.1.1 gone, 550 5.1.1 really",
            "550 5.1.1 gone, 550 5.1.1 really",
            None,
        );
        check(
            "Oct 12 10:11:12 mx postfix/smtp[250]: 4F2A: to=<a@b.test>, relay=mx.b.test[192.0.2.1]:25, delay=250, \
             dsn=5.1.1, status=bounced (host mx.b.test[192.0.2.1] said: 550 5.1.1 No such user (in reply to RCPT TO command))",
            "550 5.1.1 No such user",
            Some(Stage::Rcpt),
        );
        check("host mx[192.0.2.1] refused to talk to me: 554 Blocked", "554 Blocked", Some(Stage::Banner));
        check(
            "SMTP error from remote mail server after RCPT TO:<a@b.test>: host mx [192.0.2.1]: 550 unknown user",
            "550 unknown user",
            Some(Stage::Rcpt),
        );
        check("2024-05-01T10:11:12Z 451 4.7.1 Greylisted", "451 4.7.1 Greylisted", None);
        check("2024-05-01 10:11:12 421 Try later", "421 Try later", None);
        check("<<< 552 full", "552 full", None);
        check("bounced with 5.2.2 Mailbox full", "550 5.2.2 Mailbox full", None);
        check("status=sent (250 2.0.0 Ok: queued)", "250 2.0.0 Ok: queued)", None);
    }

    #[test]
    fn replies_of_several_lines() {
        check(r"550-5.1.1 No such\r\n550 5.1.1 user", "550 5.1.1 No such user", None);
        check("550-5.1.1 No such\n550 5.1.1 user\n", "550 5.1.1 No such user", None);
        check("550-5.1.1 cut off here", "550 5.1.1 cut off here", None);
        check("550 5.1.1 folded\n by a log", "550 5.1.1 folded  by a log", None);
        check(&format!("550 {}", "x".repeat(5_000)), &format!("550 {}", "x".repeat(MAX_LINE - 6)), None);
    }

    #[test]
    fn no_reply_is_an_error() {
        for line in ["no reply at all", "2024-05-01", "192.0.2.1", "line 5501", "666 devil", ""] {
            assert!(find(line).is_err(), "{line}: {:?}", find(line));
        }
    }
}
