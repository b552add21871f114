//! The words for who is spoken of, and for what is said, in every language of the file.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value::StrDeserializer},
};

use super::{phrases::Builder, rules::RulesError};
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

/// Phrases by language; `yes` and `no` are examples.
pub(super) type Words = BTreeMap<String, Vec<String>>;

/// Words by the name of what they mean.
pub(super) type Sections = BTreeMap<String, Words>;

/// Gives the phrases of a file their meanings.
pub(super) fn compile(
    subjects: &Sections,
    predicates: &Sections,
    statements: &BTreeMap<String, Sections>,
    others: &Sections,
    phrases: &mut Builder,
) -> Result<(), RulesError> {
    for (name, words) in subjects {
        let section = format!("subject.{name}");
        let meaning = match &**name {
            "someone" => Meaning::Someone,
            name => Meaning::Subject(named(name, &section)?),
        };
        add(phrases, &section, words, |_| meaning)?;
    }
    for (name, words) in predicates {
        let section = format!("predicate.{name}");
        let predicate = named(name, &section)?;
        add(phrases, &section, words, |side| Meaning::Predicate(predicate, side))?;
    }
    for (subject, (name, words)) in statements.iter().flat_map(|(s, all)| all.iter().map(move |one| (s, one)))
    {
        let section = format!("statement.{subject}.{name}");
        let meaning = Meaning::Statement(named(subject, &section)?, named(name, &section)?);
        add(phrases, &section, words, |_| meaning)?;
    }
    for (name, words) in others {
        let section = format!("other.{name}");
        let meaning = match &**name {
            "qualifier" => Meaning::Qualifier,
            "preposition" => Meaning::Preposition,
            "filler" => Meaning::Filler,
            _ => return Err(refused(&section, "expected qualifier, preposition or filler")),
        };
        add(phrases, &section, words, |_| meaning)?;
    }
    Ok(())
}

/// The subject or predicate of this name.
fn named<'a, T: Deserialize<'a>>(name: &'a str, section: &str) -> Result<T, RulesError> {
    let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    T::deserialize(name).map_err(|error| refused(section, error.to_string()))
}

fn refused(section: &str, problem: impl Into<String>) -> RulesError {
    RulesError::Words { section: section.to_owned(), problem: problem.into() }
}

/// Adds the phrases of one section; a `~` at an end of a phrase is the place of its subject.
fn add(
    phrases: &mut Builder,
    section: &str,
    words: &Words,
    meaning: impl Fn(Side) -> Meaning,
) -> Result<(), RulesError> {
    for (language, list) in words {
        if language == "yes" || language == "no" {
            continue;
        }
        let section = format!("{section}.{language}");
        if !(2..=3).contains(&language.len()) || !language.bytes().all(|octet| octet.is_ascii_lowercase()) {
            return Err(refused(&section, "expected a language of two or three letters, `yes` or `no`"));
        }
        for written in list {
            let (before, after) = (written.starts_with('~'), written.ends_with('~'));
            let side = match (before, after) {
                (true, false) => Side::Before,
                (false, true) => Side::After,
                _ => Side::Either,
            };
            let phrase = written.trim_matches(['~', ' ']);
            for spelling in spellings(phrase) {
                let n = phrases.intern(&spelling).map_err(|problem| refused(&section, problem))?;
                phrases.mean(n, meaning(side)).map_err(|other| {
                    refused(&section, format!("`{written}` has another meaning already: {other}"))
                })?;
            }
        }
    }
    Ok(())
}

/// The phrase, and as servers write it that leave out its umlauts: `okänd` is "okaend" or "okand".
fn spellings(phrase: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let plain = |c: char| match c {
        'ä' | 'æ' | 'Ä' | 'Æ' => 'a',
        'ö' | 'ø' | 'Ö' | 'Ø' => 'o',
        'ü' | 'Ü' => 'u',
        other => other,
    };
    let bare = phrase.contains(|c| plain(c) != c).then(|| phrase.chars().map(plain).collect::<String>());
    [Some(Cow::Borrowed(phrase)), bare.map(Cow::Owned)].into_iter().flatten()
}
