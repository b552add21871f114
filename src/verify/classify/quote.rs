//! Finds the reply of another server that a reply quotes.
//!
//! Postfix and Exim verify a recipient at the next server and quote its reply. A gateway quotes its mail store. Only
//! the quoted words concern the mailbox, and only if they answer RCPT.
//!
//! | written by | text |
//! |---|---|
//! | Postfix | `undeliverable address: host mx[192.0.2.1] said: 550 5.1.1 … (in reply to RCPT TO command)` |
//! | Postfix | `host mx[192.0.2.1] refused to talk to me: 554 …` |
//! | Exim | `Called: 192.0.2.1 Sent: RCPT TO:<ann@example.org> Response: 550 …`, `Callout verification failed: 550 …` |
//! | Exchange Online | `Remote server returned unknown recipient or mailbox unavailable -> 550 …` |
//! | qmail | `Remote host said: 550 … [RCPT_TO]` |

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::verdict::Stage;
use crate::proto::EnhancedCode;

/// A quoted reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Quote<'a> {
    /// The text before it.
    pub(super) before: &'a str,
    pub(super) code: u16,
    pub(super) enhanced: Option<EnhancedCode>,
    pub(super) text: &'a str,
    /// The command that it answers. [`Stage::Unknown`] if the text does not tell.
    pub(super) stage: Stage,
}

/// The words before the reason why Postfix could not verify an address.
pub(super) const LOOKUP_MARKS: [&str; 2] = ["undeliverable address:", "unverified address:"];

/// Returns the reason why a recipient could not be verified, if the text states it.
pub(super) fn lookup_failure(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let start = LOOKUP_MARKS.iter().find_map(|words| Some(lower.find(words)? + words.len()))?;
    Some(text[start..].trim()).filter(|reason| !reason.is_empty())
}

/// The words before a quoted reply.
const MARKS: [&str; 12] = [
    "said:",
    "refused to talk to me:",
    "response:",
    "responded:",
    "replied:",
    "returned:",
    "answered:",
    "was:",
    "->",
    "verification failed:",
    "callout failed:",
    "reported:",
];

/// The words that name the command, anywhere in the text.
const STAGES: [(&str, Stage); 16] = [
    ("refused to talk to me", Stage::Banner),
    ("initial greeting", Stage::Banner),
    ("in reply to ehlo", Stage::Ehlo),
    ("in reply to helo", Stage::Ehlo),
    ("in reply to starttls", Stage::StartTls),
    ("in reply to mail", Stage::Mail),
    ("sent: mail from", Stage::Mail),
    ("after mail from", Stage::Mail),
    ("response to \"mail", Stage::Mail),
    ("[mail_from]", Stage::Mail),
    ("in reply to rcpt", Stage::Rcpt),
    ("sent: rcpt to", Stage::Rcpt),
    ("after rcpt to", Stage::Rcpt),
    ("response to \"rcpt", Stage::Rcpt),
    ("[rcpt_to]", Stage::Rcpt),
    ("in reply to data", Stage::Data),
];

/// Returns whether the text may quote a reply or name the reason for its absence. This check is cheaper than the
/// search.
pub(super) fn is_likely(text: &str) -> bool {
    static MARKED: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).build(MARKS.iter().chain(&LOOKUP_MARKS)).ok()
    });
    let is_code = |octets: &[u8]| matches!(octets, [b':', b'4' | b'5', b'0'..=b'9', b'0'..=b'9']);
    MARKED.as_ref().is_none_or(|marked| marked.is_match(text)) || text.as_bytes().windows(4).any(is_code)
}

/// Returns the first reply that `text` quotes. `text` must have no addresses.
pub(super) fn find(text: &str) -> Option<Quote<'_>> {
    let lower = text.to_ascii_lowercase();
    // Spaces may differ: Exim aligns its lines.
    let squeezed = lower.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let starts = MARKS.iter().flat_map(|mark| lower.match_indices(mark).map(|(at, _)| at + mark.len()));
    // Barracuda, with the address taken out: `(@:550 5.1.1 User unknown)`.
    let of_address = lower.match_indices(':').filter(|(at, _)| {
        lower[..*at].ends_with('@') && lower[at + 1..].starts_with(|c: char| c.is_ascii_digit())
    });
    let (start, code) = starts
        .chain(of_address.map(|(at, _)| at + 1))
        .filter_map(|at| {
            let rest = &text[at..];
            let start = at + rest.len() - rest.trim_start_matches([' ', '"', '\'', '<']).len();
            Some((start, reply_code(&text[start..])?))
        })
        .min_by_key(|(start, _)| *start)?;
    let stage =
        STAGES.iter().find(|(words, _)| squeezed.contains(words)).map_or(Stage::Unknown, |found| found.1);
    let quoted = &text[start + 3..];
    let end = quoted.to_ascii_lowercase().find("(in reply to").unwrap_or(quoted.len());
    let quoted = quoted[..end].trim_start_matches([' ', '-', '#', '(']);
    let first = quoted.split([' ', ')']).next().unwrap_or_default();
    let enhanced = first.parse::<EnhancedCode>().ok();
    let text_of = if enhanced.is_some() { &quoted[first.len()..] } else { quoted };
    Some(Quote { before: &text[..start], code, enhanced, text: text_of.trim(), stage })
}

/// Parses the code of a refusal at the start of `text`, unless it begins a longer number or word.
fn reply_code(text: &str) -> Option<u16> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let ends = !text[3..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
    digits.parse().ok().filter(|code| ends && (400..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, code: u16, quoted: &str, stage: Stage) {
        let found = find(text).unwrap();
        assert_eq!((found.code, found.text, found.stage), (code, quoted, stage), "{text}");
    }

    #[test]
    fn quoted_replies_are_found() {
        check(
            "host mx.example.org[192.0.2.1] said: 550 5.1.1 No such user (in reply to RCPT TO command)",
            550,
            "No such user",
            Stage::Rcpt,
        );
        check("host mx[192.0.2.1] refused to talk to me: 554 5.7.1 No", 554, "No", Stage::Banner);
        check(
            "Called:   192.0.2.1 Sent:     MAIL FROM:<> Response: 550-No bounces",
            550,
            "No bounces",
            Stage::Mail,
        );
        check("Callout verification failed: 550 5.1.1 User unknown", 550, "User unknown", Stage::Unknown);
        check("Remote host said: 451 Wait [RCPT_TO]", 451, "Wait [RCPT_TO]", Stage::Rcpt);
        check("mailbox unavailable -> 550 <@>: Gone", 550, "<@>: Gone", Stage::Unknown);
        check("for one recipient (@:550 5.1.1 User unknown)", 550, "User unknown)", Stage::Unknown);
        assert_eq!(find("said: 550 5.1.1 Gone").unwrap().enhanced, "5.1.1".parse().ok());
    }

    #[test]
    fn other_numbers_are_no_quotes() {
        for text in ["said: 5501 times", "said: 250 ok", "said: 550.5", "550 5.1.1 User unknown", "said:", ""]
        {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
