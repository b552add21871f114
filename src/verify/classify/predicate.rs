//! What the words of a reply can mean: of whom they speak, and what they say.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::verify::Subject;

/// What a reply says of its [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Predicate {
    /// It does not exist, is unknown or invalid.
    NotFound,
    /// It is disabled, suspended, closed or expired.
    Disabled,
    /// It is unavailable; the words do not tell why.
    Unavailable,
    /// It takes no mail at all.
    TakesNoMail,
    /// It is full, or over its quota.
    Full,
    /// It is blocked: a mailbox by its owner's provider, a client by a blocklist.
    Blocked,
    /// It is on a blocklist.
    Listed,
    /// It is denied, not allowed, against a policy.
    Denied,
    /// It is rejected; the words do not tell why.
    Rejected,
    /// It is, or sends, spam or malware.
    Spam,
    /// There are too many, too much or too fast.
    TooMany,
    /// It needs authentication or encryption first.
    Required,
    /// It fails for now: an error, a time-out, "try again later".
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

    /// The name in snake case, as in rules.
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
    /// Whether it refuses its subject, rather than finding something wrong with it.
    pub(super) fn refuses(self) -> bool {
        matches!(self, Self::Denied | Self::Blocked | Self::Rejected | Self::Spam)
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which side of a predicate its subject stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `~ does not exist`.
    Before,
    /// `no such ~`.
    After,
    /// `unknown`: "user unknown", "unknown user".
    Either,
}

/// What a phrase means in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Who is spoken of.
    Subject(Subject),
    /// A word for a person or an address: the recipient's if RCPT is answered and nobody else is named.
    Someone,
    /// What is said.
    Predicate(Predicate, Side),
    /// Who and what in one phrase.
    Statement(Subject, Predicate),
    /// Words that restrict what is said: "over IPv6", "from outside".
    Qualifier,
    /// A word that another noun may follow: "for", "of".
    Preposition,
    /// A word that says nothing by itself: "the", "is", "here".
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
