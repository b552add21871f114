//! The vocabularies: words for subjects and predicates, in every language of the file.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::StrDeserializer},
};

use super::{
    error::RulesError,
    phrases::PhraseBuilder,
    predicate::{Meaning, Side},
};

/// Phrases by language. The keys `yes` and `no` hold examples.
pub(super) type Words = BTreeMap<String, Vec<String>>;

/// Words by the name of their meaning.
pub(super) type Sections = BTreeMap<String, Words>;

/// Adds the phrases of a file with their meanings.
pub(super) fn compile(
    subjects: &Sections,
    predicates: &Sections,
    statements: &BTreeMap<String, Sections>,
    others: &Sections,
    phrases: &mut PhraseBuilder,
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
            _ => return Err(words_error(&section, "expected qualifier, preposition or filler")),
        };
        add(phrases, &section, words, |_| meaning)?;
    }
    Ok(())
}

/// Parses the name of a subject or predicate.
fn named<'a, T: Deserialize<'a>>(name: &'a str, section: &str) -> Result<T, RulesError> {
    let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    T::deserialize(name).map_err(|error| words_error(section, error.to_string()))
}

fn words_error(section: &str, problem: impl Into<String>) -> RulesError {
    RulesError::Words { section: section.to_owned(), problem: problem.into() }
}

/// Adds the phrases of one section. A `~` at an end of a phrase stands for its subject.
fn add(
    phrases: &mut PhraseBuilder,
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
            return Err(words_error(&section, "expected a language of two or three letters, `yes` or `no`"));
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
                let n = phrases.intern(&spelling).map_err(|problem| words_error(&section, problem))?;
                phrases.set_meaning(n, meaning(side)).map_err(|other| {
                    words_error(&section, format!("`{written}` already has another meaning: {other}"))
                })?;
            }
        }
    }
    Ok(())
}

/// Returns the phrase, and the spelling of servers that omit umlauts: `okänd` is "okaend" or "okand".
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
