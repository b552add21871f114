//! The meanings of words in a reply: predicates, and the subjects that they belong to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::verify::Subject;

/// What a reply says about its [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Predicate {
    /// The subject does not exist, is unknown or invalid.
    NotFound,
    /// The subject is disabled, suspended, closed or expired.
    Disabled,
    /// The subject is unavailable, without a reason.
    Unavailable,
    /// The subject accepts no mail.
    TakesNoMail,
    /// The subject is full, or over its quota.
    Full,
    /// The subject is blocked: a mailbox by its provider, a client by a blocklist.
    Blocked,
    /// The subject is on a blocklist.
    Listed,
    /// The subject is denied, not allowed, or against a policy.
    Denied,
    /// The subject is rejected, without a reason.
    Rejected,
    /// The subject is or sends spam or malware.
    Spam,
    /// The subject is over a limit: too many, too much or too fast.
    TooMany,
    /// The subject must use authentication or encryption first.
    Required,
    /// The subject fails for now: an error, a time-out, "try again later".
    Temporary,
}

impl Predicate {
    pub(super) const ALL: [Self; 13] = [
        Self::NotFound,
        Self::Disabled,
        Self::Unavailable,
        Self::TakesNoMail,
        Self::Full,
        Self::Blocked,
        Self::Listed,
        Self::Denied,
        Self::Rejected,
        Self::Spam,
        Self::TooMany,
        Self::Required,
        Self::Temporary,
    ];

    /// Returns the name in snake case, as in rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Unavailable => "unavailable",
            Self::TakesNoMail => "takes_no_mail",
            Self::Full => "full",
            Self::Blocked => "blocked",
            Self::Listed => "listed",
            Self::Denied => "denied",
            Self::Rejected => "rejected",
            Self::Spam => "spam",
            Self::TooMany => "too_many",
            Self::Required => "required",
            Self::Temporary => "temporary",
        }
    }
}

impl Predicate {
    /// Returns whether it refuses its subject, in contrast to a fault of the subject.
    pub(super) fn refuses(self) -> bool {
        matches!(self, Self::Denied | Self::Blocked | Self::Rejected | Self::Spam)
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The side of a predicate on which its subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `~ does not exist`.
    Before,
    /// `no such ~`.
    After,
    /// `unknown`: "user unknown", "unknown user".
    Either,
}

/// The meaning of a phrase in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A subject.
    Subject(Subject),
    /// A word for a person or an address. It means the recipient if the reply answers RCPT and names no other subject.
    Someone,
    /// A predicate, and the side of its subject.
    Predicate(Predicate, Side),
    /// A subject and a predicate in one phrase.
    Statement(Subject, Predicate),
    /// Words that restrict the statement: "over IPv6", "from outside".
    Qualifier,
    /// A word that introduces another noun: "for", "of".
    Preposition,
    /// A word without a meaning of its own: "the", "is", "here".
    Filler,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "subject.{subject}"),
            Self::Someone => f.write_str("subject.someone"),
            Self::Predicate(predicate, _) => write!(f, "predicate.{predicate}"),
            Self::Statement(subject, predicate) => write!(f, "statement.{subject}.{predicate}"),
            Self::Qualifier => f.write_str("other.qualifier"),
            Self::Preposition => f.write_str("other.preposition"),
            Self::Filler => f.write_str("other.filler"),
        }
    }
}
