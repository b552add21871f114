//! What holds for the verdict on any reply, and for any file of rules or providers, said once for `cargo test` and for
//! `fuzz/`. Panics where it does not hold.

use super::{
    Classifier,
    error::RulesError,
    verdict::{Explanation, Retry, Stage, blames},
};
use crate::{
    proto::{Domain, EnhancedCode},
    verify::{Blame, Providers, Status, SubStatus, Subject},
};

/// Every reply has a verdict, the same each time and in any case of letters, whose parts do not contradict each other:
/// only a lasting refusal of a recipient who was named, blamed on that recipient, makes an address undeliverable.
///
/// The stage is taken modulo the stages that there are.
pub fn classify(stage: u8, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
    let stage = Stage::ALL[usize::from(stage) % Stage::ALL.len()].0;
    let Explanation { verdict, rule, .. } = agrees(Classifier::builtin(), stage, code, enhanced, text);
    if verdict.status() != Status::Undeliverable {
        return;
    }
    assert!(verdict.retry.is_none(), "{rule}");
    assert!(matches!(verdict.subject, Some(Subject::Recipient | Subject::RecipientDomain)), "{rule}");
    // What a qualifier restricts is not final, wherever it stands in the sentence.
    let quotes = |text: &str| text.to_ascii_lowercase().contains("in reply to");
    if !text.trim().is_empty() && !quotes(text) {
        let stops = ['.', ';', '!', '?', '|', '。', '．', '！', '；', '？', '<', '>', '"'];
        let sentence = format!("unless {} unless", text.replace(stops, " "));
        let qualified = Classifier::builtin().classify(stage, code, enhanced, &sentence);
        assert_ne!(qualified.verdict.status(), Status::Undeliverable, "{sentence}: {}", qualified.rule);
    }
}

/// A file of rules keeps the promises of the engine whatever it says, for its own words above all; a file of providers
/// knows the exchangers that it names, and asks each of something. What is neither is refused, and the place told.
pub fn data_files(text: &str) {
    match Classifier::from_toml(text) {
        Ok(rules) => {
            let lines = text.lines().flat_map(|line| line.split('"')).chain([text]).take(200);
            for said in lines {
                for (code, stage) in [(250, Stage::Rcpt), (421, Stage::Mail), (450, Stage::Rcpt)]
                    .into_iter()
                    .chain(Stage::ALL.map(|(stage, _)| (550, stage)))
                {
                    agrees(&rules, stage, code, None, said);
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

/// What holds with any table.
fn agrees<'a>(
    classifier: &'a Classifier,
    stage: Stage,
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: &str,
) -> Explanation<'a> {
    let said = classifier.classify(stage, code, enhanced, text);
    let (verdict, rule) = (said.verdict, said.rule);
    assert!(!rule.is_empty());
    assert_eq!(classifier.classify(stage, code, enhanced, text), said);
    assert_eq!(classifier.classify(stage, code, enhanced, &text.to_ascii_uppercase()), said);

    match (verdict.blame, blames(verdict.sub_status)) {
        (None, allowed) => assert!(allowed.is_empty(), "{rule}: nobody to blame"),
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
    said
}
