//! Tests of the words of the built-in file: its examples, and all subjects with all predicates in all languages.

use std::collections::BTreeMap;

use proptest::prelude::*;
use toml::{Table, Value};

use super::*;

fn file() -> Table {
    toml::from_str(Classifier::BUILTIN_RULES).unwrap_or_else(|error| panic!("{}", error.message()))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Classifies an example: a reply, to RCPT unless it begins with another stage.
fn example(text: &str) -> Explanation<'static> {
    let staged = text.split_once(' ').and_then(|(stage, reply)| Some((stage.parse().ok()?, reply)));
    let (stage, reply) = staged.unwrap_or((Stage::Rcpt, text));
    said(stage, reply)
}

/// Checks the examples of one rule or section, and returns what is wrong.
fn try_examples(name: &str, table: &Table, holds: impl Fn(Explanation<'static>) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, expected) in [("yes", true), ("no", false)] {
        let examples = strings(table.get(key));
        if examples.is_empty() {
            wrong.push(format!("{name} has no example `{key}`"));
        }
        for text in examples {
            let found = example(&text);
            if holds(found) != expected {
                wrong.push(format!("{name}, {key}: {text}\n    {found:?}"));
            }
        }
    }
    wrong
}

#[test]
fn each_rule_and_section_has_examples_that_hold() {
    let file = file();
    let mut wrong = Vec::new();
    for kind in ["rule", "fallback"] {
        for rule in file[kind].as_array().unwrap() {
            let rule = rule.as_table().unwrap();
            let id = rule["id"].as_str().unwrap();
            wrong.extend(try_examples(id, rule, |found| found.rule == id));
        }
    }
    let sections = |name: &str| file[name].as_table().unwrap().clone();
    for (name, words) in sections("subject") {
        let subject = if name == "someone" { "recipient" } else { &name };
        let holds = |found: Explanation<'_>| {
            let named = found.verdict.subject.is_some_and(|found| found.as_str() == subject);
            named && (name != "someone" || found.verdict.status() == Status::Undeliverable)
        };
        wrong.extend(try_examples(&name, words.as_table().unwrap(), holds));
    }
    for (name, words) in sections("predicate") {
        let holds = |found: Explanation<'_>| found.predicate.is_some_and(|found| found.as_str() == name);
        wrong.extend(try_examples(&name, words.as_table().unwrap(), holds));
    }
    for (subject, predicates) in sections("statement") {
        for (predicate, words) in predicates.as_table().unwrap() {
            let name = format!("{subject}-{predicate}").replace('_', "-");
            wrong.extend(try_examples(&name, words.as_table().unwrap(), |found| found.rule == name));
        }
    }
    for (name, words) in sections("other") {
        // A qualifier prevents an undeliverable verdict. The other words do not.
        let holds = |found: Explanation<'_>| {
            (found.verdict.status() == Status::Undeliverable) == (name != "qualifier")
        };
        wrong.extend(try_examples(&name, words.as_table().unwrap(), holds));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The words of one language by section, without the `~` of subjects.
struct Language {
    name: String,
    file: Table,
}

impl Language {
    fn all() -> Vec<Self> {
        let file = file();
        let recipient = file["subject"]["recipient"].as_table().unwrap();
        let names = recipient.keys().filter(|key| *key != "yes" && *key != "no");
        names.map(|name| Self { name: name.clone(), file: file.clone() }).collect()
    }

    fn words(&self, section: &str, name: &str) -> Vec<String> {
        let words = strings(self.file[section].get(name).and_then(|words| words.get(&self.name)));
        words.into_iter().map(|word| word.replace('*', "")).collect()
    }

    /// Returns the phrases that contain a recipient and a predicate.
    fn statements(&self) -> Vec<String> {
        let recipient = self.file["statement"]["recipient"].as_table().unwrap();
        let words = recipient.values().map(|words| strings(words.get(&self.name)));
        words.flatten().map(|word| word.replace('*', "")).collect()
    }
}

/// Combines a subject and a predicate in every valid order.
fn sentences(subject: &str, predicate: &str) -> Vec<String> {
    let (before, after) = (predicate.starts_with('~'), predicate.ends_with('~'));
    let words = predicate.trim_matches(['~', ' ']);
    let orders =
        [(before || !after, format!("{subject} {words}")), (after || !before, format!("{words} {subject}"))];
    orders.into_iter().filter(|(holds, _)| *holds).map(|(_, sentence)| sentence).collect()
}

fn status(enhanced: Option<EnhancedCode>, text: &str) -> (Status, &'static str) {
    let found = Classifier::builtin().classify(Stage::Rcpt, 550, enhanced, text);
    (found.verdict.status(), found.rule)
}

const OTHERS: [&str; 8] =
    ["sender", "client", "connection", "transaction", "server", "remote_server", "list", "content"];
/// One of this many pairs of words is tried, because all take too long.
const STRIDE: usize = 43;

/// A language with words for the recipient alone would not recognise "sender".
#[test]
fn each_language_has_words_for_every_subject() {
    for language in Language::all() {
        for subject in
            ["someone", "recipient_domain", "sender", "client", "connection", "server", "list", "content"]
        {
            assert!(!language.words("subject", subject).is_empty(), "{}: {subject}", language.name);
        }
        for other in ["qualifier", "filler"] {
            assert!(!language.words("other", other).is_empty(), "{}: {other}", language.name);
        }
    }
}

#[test]
fn only_assertions_about_the_recipient_make_an_address_undeliverable() {
    let enhanced = "5.1.1".parse().ok();
    let (mut tried, mut wrong) = (0, Vec::new());
    for language in Language::all() {
        let statements = language.statements();
        for (subject, predicate) in OTHERS.iter().flat_map(|subject| {
            let words = ["not_found", "disabled", "takes_no_mail", "unavailable", "blocked"];
            words.map(|predicate| (*subject, predicate))
        }) {
            let predicates = language.words("predicate", predicate);
            for (n, subject) in language.words("subject", subject).iter().enumerate() {
                // Every subject and every predicate is tried.
                for predicate in predicates.iter().skip(n % STRIDE).step_by(STRIDE) {
                    for text in sentences(subject, predicate) {
                        tried += 1;
                        let (found, rule) = status(if n % 2 == 0 { None } else { enhanced }, &text);
                        let whole = statements.iter().any(|statement| text.contains(&**statement));
                        if found == Status::Undeliverable && !whole {
                            wrong.push(format!("{}: {text}: {rule}", language.name));
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn assertions_about_the_recipient_count_without_qualifiers_and_unknown_words() {
    let (mut tried, mut missed, mut wrong) = (0, Vec::new(), Vec::new());
    for language in Language::all() {
        let qualifiers = language.words("other", "qualifier");
        for (subject, predicate) in ["recipient", "someone"]
            .iter()
            .flat_map(|subject| ["not_found", "disabled"].map(|predicate| (*subject, predicate)))
        {
            let predicates = language.words("predicate", predicate);
            for (n, subject) in language.words("subject", subject).iter().enumerate() {
                for predicate in predicates.iter().skip(n % STRIDE).step_by(STRIDE) {
                    for text in sentences(subject, predicate) {
                        tried += 1;
                        let (found, rule) = status(None, &text);
                        if found != Status::Undeliverable {
                            missed.push(format!("{}: {text}: {rule}", language.name));
                        }
                        let words = predicate.trim_matches(['~', ' ']);
                        for text in [format!("{subject} qwxz {words}"), format!("{words} qwxz {subject}")] {
                            let (found, rule) = status(None, &text);
                            if found == Status::Undeliverable {
                                wrong.push(format!("{}: {text}: {rule}", language.name));
                            }
                        }
                        let Some(qualifier) = qualifiers.get(tried % qualifiers.len().max(1)) else {
                            continue;
                        };
                        for text in [format!("{text}, {qualifier} x"), format!("{qualifier} x, {text}")] {
                            let (found, rule) = status(None, &text);
                            if found == Status::Undeliverable {
                                wrong.push(format!("{}: {text}: {rule}", language.name));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Adjacent words may form a longer phrase with another meaning.
    assert!(missed.len() * 200 < tried, "{} of {tried} missed:\n{}", missed.len(), missed.join("\n"));
}

/// English phrases of one section, because most replies are in English.
fn english(section: &'static str, names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let language = Language { name: "en".into(), file: file() };
    let words: Vec<_> = names.iter().flat_map(|name| language.words(section, name)).collect();
    prop::sample::select(words).prop_map(|word| word.trim_matches(['~', ' ']).to_owned())
}

proptest! {
    /// A sentence that names another subject never makes an address undeliverable.
    #[test]
    fn a_sentence_that_names_the_client_is_not_about_the_mailbox(
        client in english("subject", &["sender", "client"]),
        filler in english("other", &["filler", "preposition"]),
        recipient in english("subject", &["recipient", "someone"]),
        predicate in english("predicate", &["not_found", "disabled", "takes_no_mail", "blocked"]),
        order in prop::sample::select(vec![[0, 1, 2, 3], [2, 3, 1, 0], [3, 2, 0, 1], [2, 0, 3, 1], [0, 3, 1, 2]]),
    ) {
        let parts = [client, filler, recipient, predicate];
        let text = order.map(|n| &*parts[n]).join(" x ");
        let (found, rule) = status("5.1.1".parse().ok(), &text);
        prop_assert_ne!(found, Status::Undeliverable, "{} by {}", text, rule);
    }
}

#[test]
fn invalid_words_are_refused_with_their_section() {
    let refused = |text: &str| {
        Classifier::from_toml(&format!("[[rule]]\nid = 'x'\nverdict = 'blocked'\ncodes = ['554']\n{text}"))
    };
    for (text, expected) in [
        ("[subject.nobody]\nen = ['x']", "`subject.nobody`: unknown variant `nobody`, expected"),
        ("[predicate.gone]\nen = ['x']", "`predicate.gone`: unknown variant `gone`, expected"),
        ("[statement.client.gone]\nen = ['x']", "`statement.client.gone`: unknown variant `gone`"),
        ("[other.words]\nen = ['x']", "`other.words`: expected qualifier, preposition or filler"),
        ("[subject.client]\nenglish = ['x']", "`subject.client.english`: expected a language"),
        ("[subject.client]\nen = ['<a@b>']", "`subject.client.en`: `<a@b>` contains no words"),
        (
            "[subject.client]\nen = ['x']\n[subject.server]\nde = ['x']",
            "`subject.server.de`: `x` already has another meaning: subject.client",
        ),
        ("[subject.client]\nen = 'x'", "line "),
        ("[subjects.client]\nen = ['x']", "line "),
    ] {
        let found = refused(text).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}\n{found}\nlacks {expected}");
    }
    refused("[subject.client]\nen = ['x']\nyes = ['550 x']").unwrap();
}

#[test]
fn a_file_of_words_alone_is_enough() {
    let own =
        Classifier::from_toml("[subject.recipient]\nen = ['pigeon']\n[predicate.disabled]\nen = ['~ flew']")
            .unwrap();
    let found = |text| own.classify(Stage::Rcpt, 550, None, text);
    assert_eq!(found("Pigeon flew").verdict.sub_status, SubStatus::MailboxDisabled);
    assert_eq!(
        (found("Pigeon flew").rule, found("Pigeon flew").predicate),
        ("recipient-disabled", Some(Predicate::Disabled))
    );
    assert_eq!(found("Pigeon keeper flew").verdict.status(), Status::Unknown);
}

/// A table without vocabularies, as in earlier versions, keeps its meaning.
#[test]
fn a_table_without_words_is_a_table_of_rules() {
    let own = "[[rule]]\nid = 'mine'\nverdict = 'mailbox_not_found'\ncodes = ['550']\nany = ['from nowhere']";
    let own = Classifier::from_toml(own).unwrap();
    let found = own.classify(Stage::Rcpt, 550, None, "your server is from nowhere");
    assert_eq!((found.verdict.sub_status, found.rule), (SubStatus::MailboxNotFound, "mine"));
    assert_eq!(own.classify(Stage::Rcpt, 550, None, "User unknown").rule, "code-permanent");
}

#[test]
fn predicates_and_subjects_have_one_name_each() {
    let mut names = BTreeMap::new();
    for (n, predicate) in Predicate::ALL.into_iter().enumerate() {
        assert_eq!(predicate as usize, n);
        assert_eq!(serde_json::to_value(predicate).unwrap(), predicate.to_string());
        names.insert(predicate.to_string(), ());
    }
    for (n, subject) in Subject::ALL.into_iter().enumerate() {
        assert_eq!(subject as usize, n);
        names.insert(subject.to_string(), ());
    }
    assert_eq!(names.len(), Predicate::ALL.len() + Subject::ALL.len());
}

/// A long or unusual reply is read no further than a real one.
#[test]
fn hostile_texts_are_bounded() {
    for part in ["said: 550 ", "recipient ", "unknown no ", "<", "user: ", "550-5.1.1 ", "不", "{ip}"] {
        let text = part.repeat(100_000);
        let found = Classifier::builtin().classify(Stage::Rcpt, 550, None, &text);
        assert_ne!(found.verdict.status(), Status::Deliverable);
        let cut = &text[..text.floor_char_boundary(4096)];
        assert_eq!(Classifier::builtin().classify(Stage::Rcpt, 550, None, cut), found);
    }
}
