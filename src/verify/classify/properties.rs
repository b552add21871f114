//! What holds for the verdict on any reply, said once for `cargo test` and for `fuzz/`. Panics where it does not hold.

use super::{Blame, Classifier, Retry, Stage, Status, SubStatus, blames};
use crate::proto::EnhancedCode;

/// Every reply has a verdict, the same each time and in any case of letters, whose parts do not contradict each other:
/// only a lasting refusal of a recipient who was named, blamed on that recipient, makes an address undeliverable.
///
/// The stage is taken modulo the stages that there are.
pub fn classify(stage: u8, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
    let stage = Stage::ALL[usize::from(stage) % Stage::ALL.len()].0;
    let classifier = Classifier::builtin();
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
            assert!(
                (500..600).contains(&code) && stage.knows_recipient() && verdict.retry.is_none(),
                "{rule}"
            );
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
}
