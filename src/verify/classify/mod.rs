//! The meaning of replies: what a reply says about an address, and who caused a refusal.
//!
//! The same words mean different things on different servers. A refusal of the *client* often uses the words for a
//! missing mailbox. A wrong reading ruins a list: after one blocklisting, every address of a provider is "invalid". The
//! classifier therefore determines the *subject* first, and then what the reply says about it.
//!
//! ```text
//! reply ─▶ quote ─▶ text ─▶ phrases ─▶ rules ─▶ sentence ─▶ meaning ─▶ fallback rules ─▶ reply code
//!          quoted   plain   one        special   subject,    verdict    codes, if the
//!          reply    words   pass       cases     predicate              words say nothing
//! ```
//!
//! 1. **Success**: the code alone decides. The text is not read.
//! 2. **A quoted reply** of another server decides if it answers RCPT. Otherwise the reply says nothing about the
//!    mailbox.
//! 3. **Rules** for sentences and codes that need their own: limits, greylisting, some providers.
//! 4. **Subject and predicate**: the text is split into subjects, predicates, qualifiers, fillers and unknown words.
//!    A predicate belongs to the subject beside it. Of several assertions the most cautious decides. Limits come first,
//!    then refusals of the client, then everything that may not concern the mailbox, and the mailbox last.
//! 5. **Codes**, enhanced and plain, if the words say nothing.
//!
//! An address is undeliverable only if its mailbox does not exist or is disabled, or if its domain accepts no mail. A
//! qualifier, another subject in the sentence, or an unknown word between subject and predicate prevents that. A 4xx
//! reply, or a reply to a command before RCPT, never makes an address undeliverable. The engine enforces this for every
//! table, so a custom one cannot break it. Words inside an address or a URL do not count.
//!
//! Rules and words are in a file, `rules.toml`, which is compiled in and explains its format. One pass of one automaton
//! (Aho–Corasick) finds all phrases. A reply therefore takes about 10 µs, however long the file is.
//!
//! | verdict | status | blame | retry |
//! |---|---|---|---|
//! | `accepted` | deliverable | none | |
//! | `mailbox_not_found`, `mailbox_disabled`, `does_not_accept_mail` | undeliverable | recipient | no |
//! | `mailbox_quota_exceeded` | risky | recipient | later, if 4xx |
//! | `greylisted` | unknown | policy | later |
//! | `rate_limited` | unknown | us; recipient, if the mailbox is; server, if the transaction is | as the rule says, or later |
//! | `blocked` | unknown | us | over IPv4, if IPv6 is refused; later, if 4xx |
//! | `policy_rejected` | unknown | policy | later, if 4xx |
//! | `mail_server_temporary_error` | unknown | server | later, or the next connection after a 421 |
//! | `protocol_error` | unknown | server | later, if 4xx |
//! | `other` | unknown | none | later, if 4xx |

mod charset;
mod error;
mod meaning;
mod phrases;
mod predicate;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod quote;
mod rules;
mod sentence;
mod text;
mod verdict;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use self::{meaning::ReplyContext, rules::Table};
use super::{Status, SubStatus, Subject};
use crate::proto::EnhancedCode;

pub use self::{
    charset::{decode_text, reply_text},
    error::RulesError,
    predicate::Predicate,
    verdict::{Explanation, Retry, Stage, UnknownStage, Verdict},
};

/// Classifies replies of mail servers: what a reply says about an address.
///
/// Every code and text has a verdict, and the same input always has the same verdict.
///
/// ```
/// use smtp_pool::verify::{Classifier, Stage, Status, SubStatus};
///
/// let found = Classifier::builtin().classify(Stage::Rcpt, 550, None, "<ann@example.org>: User unknown");
/// assert_eq!(found.verdict.sub_status, SubStatus::MailboxNotFound);
///
/// // The same words in a refusal of the client: the reply says nothing about the mailbox.
/// let found = Classifier::builtin().classify(Stage::Rcpt, 550, None, "User unknown to you: your IP is blacklisted");
/// assert_eq!(found.verdict.status(), Status::Unknown);
/// ```
///
/// With a custom table:
///
/// ```
/// use smtp_pool::verify::{Classifier, Stage, SubStatus};
///
/// let classifier = Classifier::from_toml(r#"
///     [[rule]]
///     id = "left-the-company"
///     verdict = "mailbox_disabled"
///     codes = ["55x"]
///     all = ["has left"]
///     any = ["company", "organi*"]
/// "#)?;
/// let found = classifier.classify(Stage::Rcpt, 550, None, "She has left the organisation");
/// assert_eq!((found.verdict.sub_status, found.rule), (SubStatus::MailboxDisabled, "left-the-company"));
/// # Ok::<(), smtp_pool::verify::RulesError>(())
/// ```
#[derive(Debug)]
pub struct Classifier {
    table: Table,
}

/// The depth to which quoted replies are read: a server quotes another that quotes a third.
const MAX_QUOTE_DEPTH: u8 = 2;

impl Classifier {
    /// Returns the classifier with the built-in rules. It is built on first use and then shared.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Classifier> = LazyLock::new(|| {
            // A test proves that the table compiles. Without a table, codes alone still give safe verdicts.
            Classifier::from_toml(Classifier::BUILTIN_RULES)
                .unwrap_or_else(|_| Classifier { table: Table::default() })
        });
        &BUILTIN
    }

    /// The text of the built-in table, as a start for a custom one.
    pub const BUILTIN_RULES: &str = include_str!("rules.toml");

    /// Builds a classifier from the rules in `text`, which replace the built-in ones. The head of
    /// [`BUILTIN_RULES`](Self::BUILTIN_RULES) describes the format.
    ///
    /// # Errors
    ///
    /// Returns [`RulesError`] if the text is not TOML, or has no rule and no word. An unknown key, an invalid pattern,
    /// and a rule that can never apply or contradicts itself are errors too. The message names the line, or the rule
    /// and its key.
    pub fn from_toml(text: &str) -> Result<Self, RulesError> {
        Ok(Self { table: Table::parse(text)? })
    }

    /// Classifies one reply.
    ///
    /// `text` is the text of the reply without its codes, with its lines joined by spaces. If `enhanced` is `None`, an
    /// enhanced code in the text counts.
    #[must_use]
    pub fn classify(
        &self,
        stage: Stage,
        code: u16,
        enhanced: Option<EnhancedCode>,
        text: &str,
    ) -> Explanation<'_> {
        if !(400..600).contains(&code) {
            return by_code(stage, code);
        }
        let context = ReplyContext { stage, code, enhanced };
        let quoted = (stage.knows_recipient() && quote::is_likely(text))
            .then(|| self.quoted(context, &text::without_addresses(text), MAX_QUOTE_DEPTH))
            .flatten();
        quoted.or_else(|| self.table.explain(context, text)).unwrap_or_else(|| by_code(stage, code))
    }

    /// Classifies a reply that quotes the reply of another server, or that tells why the other server could not be
    /// asked. Returns `None` if the reply does neither, or if the look-up concerns the sender.
    fn quoted(&self, context: ReplyContext, text: &str, depth: u8) -> Option<Explanation<'_>> {
        use SubStatus as S;
        let ReplyContext { stage, code, enhanced } = context;
        let depth = depth.checked_sub(1)?;
        let quote = quote::find(text);
        let before = quote.as_ref().map_or(text, |quote| quote.before).to_ascii_lowercase();
        let of_recipient =
            quote::LOOKUP_MARKS.iter().any(|words| before.contains(words)) || before.contains("recipient");
        let of_recipient = of_recipient && !before.contains("sender");
        let (inner, inner_text, quoted_code) = match quote {
            Some(quote) => {
                let whole = || self.table.explain(context, text);
                if !of_recipient
                    && whole().is_some_and(|whole| whole.verdict.subject == Some(Subject::Sender))
                {
                    return None;
                }
                if !of_recipient && before.contains("sender") {
                    let subject = Some(Subject::Sender);
                    let verdict = Verdict { subject, ..Verdict::new(S::Blocked, stage, code) };
                    return Some(Explanation { verdict, rule: "quoted-refusal-of-sender", predicate: None });
                }
                // Exchange Online's code for a recipient that the next server does not know.
                let known = enhanced.filter(|code| (code.subject, code.detail) == (1, 351));
                let enhanced = quote.enhanced.or(known);
                (ReplyContext { stage: quote.stage, code: quote.code, enhanced }, quote.text, quote.code)
            }
            None => (context, quote::lookup_failure(text).filter(|_| of_recipient)?, code),
        };
        let explained = matches!(inner.stage, Stage::Rcpt | Stage::Unknown)
            .then(|| self.quoted(inner, inner_text, depth).or_else(|| self.table.explain(inner, inner_text)))
            .flatten();
        if let Some(explained) = explained {
            let final_there = explained.verdict.status() == Status::Undeliverable && code >= 500;
            if final_there || explained.verdict.sub_status == S::MailboxQuotaExceeded {
                return Some(explained);
            }
        }
        // The other server refuses the server that asked it, not this client.
        let sub_status = if code < 500 { S::MailServerTemporaryError } else { S::Other };
        let retry = (code < 500 || quoted_code < 500).then_some(Retry::Later);
        let subject = Some(Subject::RemoteServer);
        let verdict = Verdict { retry, subject, ..Verdict::new(sub_status, stage, code) };
        Some(Explanation { verdict, rule: "quoted-refusal", predicate: None })
    }
}

/// Classifies by the code alone: for successes, and if no rule applies.
fn by_code(stage: Stage, code: u16) -> Explanation<'static> {
    use SubStatus as S;
    let (sub_status, rule) = match (stage, code) {
        // RFC 5321 3.5.3: nothing was verified.
        (Stage::Rcpt, 252) => (S::Other, "code-unverified"),
        // RFC 5321 3.4: the server accepts the message and forwards it.
        (Stage::Rcpt, 251) => (S::Accepted, "code-forwards"),
        // RFC 5321 4.2.1: x5z concerns the mail system. A client that does not know the code uses its first digit.
        (Stage::Rcpt, 250..260) => (S::Accepted, "code-accepted"),
        // 220 or 221 as the answer to RCPT: it answers another command.
        (Stage::Rcpt, 200..300) => (S::ProtocolError, "code-out-of-step"),
        (_, 200..300) | (Stage::Data, 354) | (Stage::Auth, 334) => (S::Other, "code-success"),
        (_, 400..500) => (S::MailServerTemporaryError, "code-temporary"),
        (_, 500..=504) => (S::ProtocolError, "code-syntax"),
        (_, 500..600) => (S::Other, "code-permanent"),
        _ => (S::ProtocolError, "code-out-of-range"),
    };
    Explanation { verdict: Verdict::new(sub_status, stage, code), rule, predicate: None }
}
