//! Properties of the verdict on any reply, and of any file of rules or providers, for `cargo test` and `fuzz/`. Each
//! function panics if its property does not hold.

use super::{
    Classifier,
    error::RulesError,
    verdict::{Explanation, Retry, Stage, allowed_blames},
};
use crate::{
    proto::{Domain, EnhancedCode},
    verify::{Blame, Providers, Status, SubStatus, Subject},
};

/// Checks that every reply has a consistent verdict, independent of upper and lower case. Only a permanent refusal that
/// the named recipient caused makes an address undeliverable.
///
/// The stage is taken modulo the number of stages.
pub fn classify(stage: u8, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
    let stage = Stage::ALL[usize::from(stage) % Stage::ALL.len()].0;
    let Explanation { verdict, rule, .. } = check_verdict(Classifier::builtin(), stage, code, enhanced, text);
    if verdict.status() != Status::Undeliverable {
        return;
    }
    assert!(verdict.retry.is_none(), "{rule}");
    assert!(matches!(verdict.subject, Some(Subject::Recipient | Subject::RecipientDomain)), "{rule}");
    // A restricted statement is not final, wherever its qualifier stands in the sentence.
    let quotes = |text: &str| text.to_ascii_lowercase().contains("in reply to");
    if !text.trim().is_empty() && !quotes(text) {
        let stops = ['.', ';', '!', '?', '|', '。', '．', '！', '；', '？', '<', '>', '"'];
        let sentence = format!("unless {} unless", text.replace(stops, " "));
        let qualified = Classifier::builtin().classify(stage, code, enhanced, &sentence);
        assert_ne!(qualified.verdict.status(), Status::Undeliverable, "{sentence}: {}", qualified.rule);
    }
}

/// Checks that any valid file of rules keeps the guarantees of the engine, above all for its own words. A valid file of
/// providers finds the exchangers that it names, with limits above zero. Any other file is refused, with the line or
/// key of its fault.
pub fn data_files(text: &str) {
    match Classifier::from_toml(text) {
        Ok(rules) => {
            let lines = text.lines().flat_map(|line| line.split('"')).chain([text]).take(200);
            for line in lines {
                for (code, stage) in [(250, Stage::Rcpt), (421, Stage::Mail), (450, Stage::Rcpt)]
                    .into_iter()
                    .chain(Stage::ALL.map(|(stage, _)| (550, stage)))
                {
                    check_verdict(&rules, stage, code, None, line);
                }
            }
        }
        Err(RulesError::Syntax(message)) => assert!(message.contains("line "), "{message}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Providers::from_toml(text) {
        Ok(providers) => {
            let file: toml::Table = toml::from_str(text).expect("it was read");
            let entries = |table: &toml::Table, key: &str| {
                table.get(key).and_then(|it| it.as_array()).cloned().unwrap_or_default()
            };
            for provider in entries(&file, "provider") {
                for host in entries(provider.as_table().expect("it was read"), "mx") {
                    let host = host.as_str().expect("it was read").trim_start_matches('.');
                    let host = Domain::parse(host).expect("it was read");
                    let found = providers.of(host.as_str()).expect("it is named");
                    let limits = found.limits;
                    let least =
                        [limits.connections, limits.recipients, limits.rejections, limits.transactions];
                    assert!(!found.name.is_empty() && !least.contains(&0), "{found:?}");
                }
            }
        }
        Err(error) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&error.line), "{error}");
            assert!(!error.problem.is_empty(), "{error}");
        }
    }
}

/// Checks the properties that hold for every table, and returns the verdict.
fn check_verdict<'a>(
    classifier: &'a Classifier,
    stage: Stage,
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: &str,
) -> Explanation<'a> {
    let explanation = classifier.classify(stage, code, enhanced, text);
    let (verdict, rule) = (explanation.verdict, explanation.rule);
    assert!(!rule.is_empty());
    // A second call shows as well that the verdict depends on nothing else.
    assert_eq!(classifier.classify(stage, code, enhanced, &text.to_ascii_uppercase()), explanation);

    match (verdict.blame, allowed_blames(verdict.sub_status)) {
        (None, allowed) => assert!(allowed.is_empty(), "{rule}: no blame"),
        (Some(blame), allowed) => assert!(allowed.contains(&blame), "{rule}: {blame}"),
    }
    match verdict.status() {
        Status::Undeliverable => {
            assert_eq!(verdict.blame, Some(Blame::Recipient), "{rule}");
            assert!((500..600).contains(&code) && stage.knows_recipient(), "{rule}");
        }
        Status::Deliverable => {
            assert!(stage == Stage::Rcpt && code / 10 == 25 && verdict.blame.is_none(), "{rule}");
        }
        Status::Risky => assert_eq!(verdict.sub_status, SubStatus::MailboxQuotaExceeded, "{rule}"),
        Status::Unknown => {}
    }
    if code == 421 {
        assert_ne!(
            verdict.retry,
            Some(Retry::NextTransaction),
            "{rule}: the transaction's connection is gone"
        );
    }
    if (200..400).contains(&code) && verdict.sub_status != SubStatus::ProtocolError {
        assert_eq!((verdict.blame, verdict.retry), (None, None), "{rule}: a success");
    }
    explanation
}
