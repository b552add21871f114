use super::*;

/// One line of `cases.txt`.
struct Case<'a> {
    stage: Stage,
    reply: &'a str,
    expected: &'a str,
}

fn cases() -> impl Iterator<Item = Case<'static>> {
    let lines = include_str!("cases.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| {
        let (stage, rest) = line.split_once(" | ").unwrap();
        let (reply, expected) = rest.rsplit_once(" | ").unwrap();
        Case { stage: stage.parse().unwrap(), reply, expected }
    })
}

fn code(word: &str) -> Option<EnhancedCode> {
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none();
    let code = EnhancedCode { class: class.parse().ok()?, subject: subject.parse().ok()?, detail: detail.parse().ok()? };
    whole.then_some(code)
}

/// Classifies a raw line: code, perhaps an enhanced code, text.
fn said(stage: Stage, reply: &str) -> Explanation<'static> {
    let (digits, text) = reply.split_at(3);
    let text = text.trim_start_matches(['-', ' ']);
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (enhanced, text) = match code(first) {
        Some(enhanced) => (Some(enhanced), rest),
        None => (None, text),
    };
    Classifier::builtin().classify(stage, digits.parse().unwrap(), enhanced, text)
}

/// The name as in the exports.
fn name(sub_status: SubStatus) -> String {
    serde_json::to_value(sub_status).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn replies_mean_what_their_servers_document() {
    let mut wrong = Vec::new();
    for Case { stage, reply, expected } in cases() {
        let Explanation { verdict, rule } = said(stage, reply);
        let found = name(verdict.sub_status);
        let unknown = verdict.status() == Status::Unknown;
        if !expected.split('/').any(|e| e == found || (e == "unknown" && unknown)) {
            wrong.push(format!("{stage} {reply}\n    expected {expected}, found {found} by {rule}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases().count(), wrong.join("\n"));
}
