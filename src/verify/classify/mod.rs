//! What a reply says of an address, and whose doing a refusal is.
//!
//! The same words from two servers mean two things, and a refusal of *us* often borrows the words for a mailbox that
//! is not there. Taking one for the other is the mistake that ruins lists: one blocklisting, and every address of a
//! provider is "invalid". So a reply is read in two steps: *who* is spoken of, then *what* is said.
//!
//! ```text
//! reply ─▶ quote ─▶ text ─▶ phrases ─▶ rules ─▶ sentence ─▶ meaning ─▶ fallback rules ─▶ reply code
//!          whose     plain   one        special   who and     verdict    codes where the
//!          reply     words   pass       cases     what                   words say nothing
//! ```
//!
//! 1. **Success** is told by the code alone, without a look at the text.
//! 2. **A quoted reply** of another server decides, if it answers RCPT; else nothing is known of the mailbox.
//! 3. **Rules** for sentences and codes that need one: limits, greylisting, some providers.
//! 4. **Who and what**: the text is cut into subjects, predicates, qualifiers, fillers and unknown words. A predicate
//!    takes the subject beside it. Of several assertions the most careful one decides: limits, then us, then
//!    everything that may have nothing to do with the mailbox, and the mailbox last.
//! 5. **Codes**, enhanced and plain, where the words say nothing.
//!
//! Only "the recipient does not exist" and "is disabled" make an address undeliverable, and its domain that takes no
//! mail. A qualifier, somebody else in the sentence, or an unknown word between subject and predicate defeats it.
//! Neither does a reply to a command before RCPT, nor a 4xx, whatever a table says: that is a property of the engine,
//! so a table of one's own cannot break it. Words inside an address or a URL do not count.
//!
//! Rules and words are a file, `rules.toml`, compiled in, which says how to write more. All phrases are found in one
//! pass of one automaton (Aho–Corasick), so a reply costs about ten microseconds however long the file grows.
//!
//! | verdict | status | blame | retry |
//! |---|---|---|---|
//! | `accepted` | deliverable | nobody | |
//! | `mailbox_not_found`, `mailbox_disabled`, `does_not_accept_mail` | undeliverable | recipient | no |
//! | `mailbox_quota_exceeded` | risky | recipient | later, if 4xx |
//! | `greylisted` | unknown | policy | later |
//! | `rate_limited` | unknown | us; recipient, if the mailbox is; server, if the transaction is | as the rule says, or later |
//! | `blocked` | unknown | us | over IPv4, if IPv6 is refused; later, if 4xx |
//! | `policy_rejected` | unknown | policy | later, if 4xx |
//! | `mail_server_temporary_error` | unknown | server | later, or the next connection after a 421 |
//! | `protocol_error` | unknown | server | later, if 4xx |
//! | `other` | unknown | nobody | later, if 4xx |

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

/// Tells from a reply what it says of an address.
///
/// Total: whatever the code and the text, there is a verdict, and it is the same each time.
///
/// ```
/// use smtp_pool::verify::{Classifier, Stage, Status, SubStatus};
///
/// let said = Classifier::builtin().classify(Stage::Rcpt, 550, None, "<ann@example.org>: User unknown");
/// assert_eq!(said.verdict.sub_status, SubStatus::MailboxNotFound);
///
/// // The same words about us: nothing is known of the mailbox.
/// let said = Classifier::builtin().classify(Stage::Rcpt, 550, None, "User unknown to you: your IP is blacklisted");
/// assert_eq!(said.verdict.status(), Status::Unknown);
/// ```
///
/// With a table of one's own:
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
/// let said = classifier.classify(Stage::Rcpt, 550, None, "She has left the organisation");
/// assert_eq!((said.verdict.sub_status, said.rule), (SubStatus::MailboxDisabled, "left-the-company"));
/// # Ok::<(), smtp_pool::verify::RulesError>(())
/// ```
#[derive(Debug)]
pub struct Classifier {
    table: Table,
}

/// A server quotes another one that quotes a third; deeper, nobody looks.
const QUOTES: u8 = 2;

impl Classifier {
    /// The classifier with the rules that are compiled in, built on first use and shared from then on.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Classifier> = LazyLock::new(|| {
            // A test proves that the table compiles; should it not, codes alone still give safe verdicts.
            Classifier::from_toml(Classifier::BUILTIN_RULES)
                .unwrap_or_else(|_| Classifier { table: Table::default() })
        });
        &BUILTIN
    }

    /// The text of the table that is compiled in: a start for one's own.
    pub const BUILTIN_RULES: &str = include_str!("rules.toml");

    /// A classifier with the rules in `text`, in the format that the head of [`BUILTIN_RULES`](Self::BUILTIN_RULES)
    /// describes. They replace the built-in ones.
    ///
    /// # Errors
    ///
    /// If the text is not TOML, has a key that no rule has, a pattern that is none, a rule that can never apply or
    /// that says two things, or no rule at all. The message names the line, or the rule and its key.
    pub fn from_toml(text: &str) -> Result<Self, RulesError> {
        Ok(Self { table: Table::parse(text)? })
    }

    /// The verdict on one reply.
    ///
    /// `text` is what the reply says without its codes, its lines joined by spaces. An enhanced code is looked for in
    /// the text if there is none at its place.
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
            .then(|| self.quoted(context, &text::without_addresses(text), QUOTES))
            .flatten();
        quoted.or_else(|| self.table.explain(context, text)).unwrap_or_else(|| by_code(stage, code))
    }

    /// What a reply means that quotes the reply of another server, or tells why it could not ask one; `None` if there
    /// is nothing of that kind, or if the sender is looked up and not the recipient.
    fn quoted(&self, context: ReplyContext, text: &str, depth: u8) -> Option<Explanation<'_>> {
        use SubStatus as S;
        let ReplyContext { stage, code, enhanced } = context;
        let depth = depth.checked_sub(1)?;
        let quote = quote::find(text);
        let before = quote.as_ref().map_or(text, |quote| quote.before).to_ascii_lowercase();
        let of_recipient =
            quote::LOOKED_UP.iter().any(|words| before.contains(words)) || before.contains("recipient");
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
                // Exchange Online's own code for a recipient that the next server does not know.
                let known = enhanced.filter(|code| (code.subject, code.detail) == (1, 351));
                let enhanced = quote.enhanced.or(known);
                (ReplyContext { stage: quote.stage, code: quote.code, enhanced }, quote.text, quote.code)
            }
            None => (context, quote::looked_up(text).filter(|_| of_recipient)?, code),
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
        // It refuses the server that asked it, not us.
        let sub_status = if code < 500 { S::MailServerTemporaryError } else { S::Other };
        let retry = (code < 500 || quoted_code < 500).then_some(Retry::Later);
        let subject = Some(Subject::RemoteServer);
        let verdict = Verdict { retry, subject, ..Verdict::new(sub_status, stage, code) };
        Some(Explanation { verdict, rule: "quoted-refusal", predicate: None })
    }
}

/// What the code says, if no rule says anything; for successes, the only thing that counts.
fn by_code(stage: Stage, code: u16) -> Explanation<'static> {
    use SubStatus as S;
    let (sub_status, rule) = match (stage, code) {
        // RFC 5321 3.5.3: nothing was verified.
        (Stage::Rcpt, 252) => (S::Other, "code-unverified"),
        // RFC 5321 3.4: the server takes the message and forwards it.
        (Stage::Rcpt, 251) => (S::Accepted, "code-forwards"),
        // RFC 5321 4.2.1: x5z is about the mail system, and a client goes by the first digit if it knows no more.
        (Stage::Rcpt, 250..260) => (S::Accepted, "code-accepted"),
        // 220 or 221 in answer to RCPT: the reply to something else.
        (Stage::Rcpt, 200..300) => (S::ProtocolError, "code-out-of-step"),
        (_, 200..300) | (Stage::Data, 354) | (Stage::Auth, 334) => (S::Other, "code-success"),
        (_, 400..500) => (S::MailServerTemporaryError, "code-temporary"),
        (_, 500..=504) => (S::ProtocolError, "code-syntax"),
        (_, 500..600) => (S::Other, "code-permanent"),
        _ => (S::ProtocolError, "code-out-of-range"),
    };
    Explanation { verdict: Verdict::new(sub_status, stage, code), rule, predicate: None }
}
