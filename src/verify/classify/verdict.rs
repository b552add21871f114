//! The verdict on a reply, and the command that the reply answers.

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
#[non_exhaustive]
pub enum Stage {
    /// No command: the greeting.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    #[serde(rename = "starttls")]
    StartTls,
    /// AUTH and its continuation lines.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, or the end of the message.
    Data,
    /// Unknown, as in a bounce: any command. Words about a user may therefore mean the *sender*.
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

    /// Returns whether the client had named the recipient. Before that, no reply is about the recipient.
    pub(super) fn knows_recipient(self) -> bool {
        matches!(self, Stage::Rcpt | Stage::Data | Stage::Unknown)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name is that of no [`Stage`].
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

/// When another attempt may get another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retry {
    /// At once, after RSET and a new MAIL.
    NextTransaction,
    /// At once, on another connection.
    NextConnection,
    /// At once, over IPv4, because the server refuses clients over IPv6.
    OverIpv4,
    /// After minutes to hours, from the same IP address and with the same names.
    Later,
}

/// What a reply says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// The result.
    pub sub_status: SubStatus,
    /// Who caused the refusal. `None` for a success, or if the reply does not tell.
    pub blame: Option<Blame>,
    /// When to ask again. `None` if another attempt cannot change the answer.
    pub retry: Option<Retry>,
    /// Who or what the reply is about. `None` if the reply does not tell.
    ///
    /// A refusal of the reverse-path has [`Subject::Sender`], including a refusal of the null sender.
    pub subject: Option<Subject>,
}

impl Verdict {
    /// Returns the status that the sub-status implies.
    #[must_use]
    pub fn status(self) -> Status {
        self.sub_status.status()
    }

    /// Returns a verdict with the usual blame, retry and subject of the sub-status.
    pub(super) fn new(sub_status: SubStatus, stage: Stage, code: u16) -> Self {
        use SubStatus as S;
        let temporary = (400..500).contains(&code);
        let retry = match sub_status {
            S::Greylisted | S::RateLimited => Some(Retry::Later),
            // A 421 greeting would meet the next connection as well. After the greeting, a 421 ends only this
            // connection.
            S::MailServerTemporaryError if code == 421 && stage != Stage::Banner => {
                Some(Retry::NextConnection)
            }
            _ => temporary.then_some(Retry::Later),
        };
        let subject = usual_subject(sub_status);
        Verdict { sub_status, blame: allowed_blames(sub_status).first().copied(), retry, subject }
    }
}

/// Returns the usual subject of a sub-status.
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

/// Returns the values of blame that a sub-status may have, the usual one first.
pub(super) fn allowed_blames(sub_status: SubStatus) -> &'static [Blame] {
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

/// A [`Verdict`] and the rule behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The `id` of the rule, or `code-…` if the code alone decided. If the words decided, subject and predicate, such
    /// as `recipient-not-found`.
    pub rule: &'a str,
    /// What the reply says about the subject, if the words decided.
    pub predicate: Option<Predicate>,
}
