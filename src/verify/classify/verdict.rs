//! What a reply is classified as, and what it answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::predicate::Predicate;
use crate::verify::{Blame, Status, SubStatus, Subject};

/// The command that a reply answers.
///
/// ```
/// use smtp_pool::verify::Stage;
/// assert_eq!("rcpt".parse(), Ok(Stage::Rcpt));
/// assert_eq!(Stage::StartTls.to_string(), "starttls");
/// assert!("vrfy".parse::<Stage>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// None: the greeting.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    #[serde(rename = "starttls")]
    StartTls,
    /// AUTH, and what follows it.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, or the end of the message.
    Data,
    /// Not known, as in a bounce: any of the commands, so words about a user may be about the *sender*.
    #[default]
    Unknown,
}

impl Stage {
    pub(super) const ALL: [(Stage, &str); 8] = [
        (Stage::Banner, "banner"),
        (Stage::Ehlo, "ehlo"),
        (Stage::StartTls, "starttls"),
        (Stage::Auth, "auth"),
        (Stage::Mail, "mail"),
        (Stage::Rcpt, "rcpt"),
        (Stage::Data, "data"),
        (Stage::Unknown, "unknown"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether the recipient had been named when this was said; before that, no reply is about them.
    pub(super) fn knows_recipient(self) -> bool {
        matches!(self, Stage::Rcpt | Stage::Data | Stage::Unknown)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No [`Stage`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown stage `{0}`: expected banner, ehlo, starttls, auth, mail, rcpt, data or unknown")]
pub struct UnknownStage(String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        let known = Self::ALL.iter().find(|(_, known)| name.eq_ignore_ascii_case(known));
        known.map(|(stage, _)| *stage).ok_or_else(|| UnknownStage(name.to_owned()))
    }
}

/// How soon asking again may give another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// At once, after RSET and a new MAIL.
    NextTransaction,
    /// At once, on another connection.
    NextConnection,
    /// At once, over IPv4: the server refuses clients that connect over IPv6.
    OverIpv4,
    /// After minutes to hours, from the same identity.
    Later,
}

/// What a reply says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// What was found.
    pub sub_status: SubStatus,
    /// Whose doing it is; `None` if nobody's, or if the reply does not tell.
    pub blame: Option<Blame>,
    /// How soon to ask again; `None` if that is of no use.
    pub retry: Option<Retry>,
    /// Who is spoken of; `None` if the reply does not tell.
    ///
    /// A refusal of the reverse-path has [`Subject::Sender`], as where the server refuses the null sender.
    pub subject: Option<Subject>,
}

impl Verdict {
    /// The status that the sub-status implies.
    #[must_use]
    pub fn status(self) -> Status {
        self.sub_status.status()
    }

    /// A verdict with the blame and the retry that go with it when nothing else is said.
    pub(super) fn new(sub_status: SubStatus, stage: Stage, code: u16) -> Self {
        use SubStatus as S;
        let temporary = (400..500).contains(&code);
        let retry = match sub_status {
            S::Greylisted | S::RateLimited => Some(Retry::Later),
            // The greeting *is* the next connection's; after it, only this connection is over.
            S::MailServerTemporaryError if code == 421 && stage != Stage::Banner => {
                Some(Retry::NextConnection)
            }
            _ => temporary.then_some(Retry::Later),
        };
        let subject = usual_subject(sub_status);
        Verdict { sub_status, blame: blames(sub_status).first().copied(), retry, subject }
    }
}

/// Who is spoken of if the rule does not tell.
fn usual_subject(sub_status: SubStatus) -> Option<Subject> {
    use SubStatus as S;
    match sub_status {
        S::Accepted | S::MailboxNotFound | S::MailboxDisabled | S::MailboxQuotaExceeded => {
            Some(Subject::Recipient)
        }
        S::DoesNotAcceptMail => Some(Subject::RecipientDomain),
        S::Blocked | S::RateLimited => Some(Subject::Client),
        S::MailServerTemporaryError | S::ProtocolError => Some(Subject::Server),
        _ => None,
    }
}

/// Whom a sub-status may blame, the usual one first.
pub(super) fn blames(sub_status: SubStatus) -> &'static [Blame] {
    use SubStatus as S;
    match sub_status {
        S::MailboxNotFound | S::MailboxDisabled | S::DoesNotAcceptMail | S::MailboxQuotaExceeded => {
            &[Blame::Recipient]
        }
        S::Greylisted | S::PolicyRejected => &[Blame::Policy],
        S::RateLimited => &[Blame::Us, Blame::Recipient, Blame::Server],
        S::Blocked => &[Blame::Us],
        S::MailServerTemporaryError | S::ProtocolError => &[Blame::Server],
        _ => &[],
    }
}

/// A [`Verdict`] and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The `id` of the rule, or `code-…` where the code alone decided.
    pub rule: &'a str,
    /// What is said of the verdict's subject, where the words for it decided.
    pub predicate: Option<Predicate>,
}
