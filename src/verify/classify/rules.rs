//! The table of rules: read from TOML, compiled to one automaton, and searched for the first rule that applies.

use serde::Deserialize;

use super::{
    error::RulesError,
    meaning::{self, ReplyContext},
    phrases::{MAX_RULES, PhraseBuilder, PhraseSet, Phrases, RuleSet},
    predicate::Predicate,
    sentence::Sentences,
    text,
    verdict::{Explanation, Retry, Stage, Verdict, allowed_blames},
    vocabulary,
};
use crate::{
    proto::EnhancedCode,
    verify::{Blame, Status, SubStatus, Subject},
};

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    #[serde(default)]
    rule: Vec<WrittenRule>,
    #[serde(default)]
    fallback: Vec<WrittenRule>,
    #[serde(default)]
    subject: vocabulary::Sections,
    #[serde(default)]
    predicate: vocabulary::Sections,
    #[serde(default)]
    statement: std::collections::BTreeMap<String, vocabulary::Sections>,
    #[serde(default)]
    other: vocabulary::Sections,
}

/// A rule as written. `rules.toml` explains the keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    id: String,
    verdict: SubStatus,
    blame: Option<Blame>,
    retry: Option<WrittenRetry>,
    subject: Option<Subject>,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    enhanced: Vec<String>,
    #[serde(default)]
    stages: Vec<Stage>,
    #[serde(default)]
    all: Vec<String>,
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    none: Vec<String>,
    /// The text must say nothing else.
    #[serde(default)]
    bare: bool,
    /// Examples, which a test checks.
    #[serde(default, rename = "yes")]
    _yes: Vec<String>,
    #[serde(default, rename = "no")]
    _no: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenRetry {
    NextTransaction,
    NextConnection,
    OverIpv4,
    Later,
    Never,
}

/// A compiled rule.
#[derive(Debug)]
struct Rule {
    id: String,
    sub_status: SubStatus,
    blame: Option<Blame>,
    /// `None`: as usual for the sub-status. `Some(None)`: never.
    retry: Option<Option<Retry>>,
    /// `None`: as usual for the sub-status.
    subject: Option<Subject>,
    codes: Vec<Range>,
    enhanced: Vec<[Range; 3]>,
    /// `enhanced = ["none"]`.
    without_enhanced: bool,
    /// One bit for each [`Stage`].
    stages: u8,
    all: Vec<u16>,
    any: Vec<u16>,
    with: Vec<u16>,
    none: Vec<u16>,
    bare: bool,
}

/// An inclusive range of numbers, such as 550 to 559 for `55x`.
type Range = (u16, u16);

/// Rules in order, the phrases of all of them, and the vocabularies.
#[derive(Debug, Default)]
pub(super) struct Table {
    rules: Vec<Rule>,
    /// The first rule that is asked only if the words say nothing.
    fallback: usize,
    phrases: Phrases,
    /// The rules without phrases, which every reply may fit.
    unworded: RuleSet,
    /// The names of what the vocabularies find, by subject and predicate.
    assertions: Vec<String>,
}

impl Table {
    pub(super) fn parse(text: &str) -> Result<Self, RulesError> {
        let file: RulesFile =
            toml::from_str(text).map_err(|e| RulesError::Syntax(e.to_string().trim().to_owned()))?;
        let fallback = file.rule.len();
        let has_words = [&file.subject, &file.predicate, &file.other].iter().any(|words| !words.is_empty());
        match fallback + file.fallback.len() {
            0 if !has_words && file.statement.is_empty() => return Err(RulesError::Empty),
            n if n > MAX_RULES => return Err(RulesError::TooMany("rules", MAX_RULES)),
            _ => {}
        }
        let mut phrases = PhraseBuilder::default();
        let mut rules: Vec<Rule> = Vec::with_capacity(fallback);
        let mut unworded = RuleSet::default();
        for written in file.rule.into_iter().chain(file.fallback) {
            let n = rules.len();
            let rule = compile(written, &mut phrases)?;
            if rules.iter().any(|r| r.id == rule.id) {
                return Err(rule_error(&rule.id, "id", "another rule has the same id"));
            }
            // A rule is tried if one phrase of `any`, or the first of `all`, is found.
            match (&rule.any[..], &rule.all[..]) {
                ([], []) => {
                    unworded.insert(n);
                }
                ([], [first, ..]) => phrases.add_rule(*first, n),
                (any, _) => any.iter().for_each(|&p| phrases.add_rule(p, n)),
            }
            rules.push(rule);
        }
        vocabulary::compile(&file.subject, &file.predicate, &file.statement, &file.other, &mut phrases)?;
        let phrases = phrases.build().map_err(RulesError::Syntax)?;
        let assertions = Subject::ALL
            .iter()
            .map(|subject| subject.as_str())
            .chain(["nobody"])
            .flat_map(|subject| {
                Predicate::ALL.map(|predicate| format!("{subject}-{predicate}").replace('_', "-"))
            })
            .collect();
        Ok(Self { rules, fallback, phrases, unworded, assertions })
    }

    /// Classifies by words and codes: by a rule, then by subject and predicate, then by a fallback rule.
    pub(super) fn explain(&self, context: ReplyContext, text: &str) -> Option<Explanation<'_>> {
        let ReplyContext { stage, code, enhanced } = context;
        let text = text::plain(text);
        // An enhanced code inside the text counts if it agrees with the reply code. A quoted `450 4.1.1` says nothing
        // about a 550.
        let mentioned = text.code.filter(|c| u16::from(c.class) == code / 100);
        let context = ReplyContext { enhanced: enhanced.or(mentioned), ..context };
        let scan = self.phrases.scan(&text);
        let mut candidates = self.unworded.clone();
        candidates.extend(&scan.rules);
        let sentences = Sentences::new(&text, &scan.mentions, stage);
        let by_rule = |range: std::ops::Range<usize>| {
            let rules = candidates.iter().filter(|n| range.contains(n)).map(|n| &self.rules[n]);
            let mut fitting = rules.filter(|r| r.fits(context, &scan.phrases, &sentences));
            fitting.next().map(|rule| Explanation {
                verdict: rule.verdict(stage, code),
                rule: &rule.id,
                predicate: None,
            })
        };
        let by_words = || {
            let finding = meaning::decide(&sentences, context)?;
            let subject = finding.verdict.subject.map_or(Subject::ALL.len(), |subject| subject as usize);
            Some(Explanation {
                verdict: finding.verdict,
                rule: &self.assertions[subject * Predicate::ALL.len() + finding.predicate as usize],
                predicate: Some(finding.predicate),
            })
        };
        by_rule(0..self.fallback).or_else(by_words).or_else(|| by_rule(self.fallback..self.rules.len()))
    }
}

impl Rule {
    fn fits(&self, context: ReplyContext, found: &PhraseSet, sentences: &Sentences) -> bool {
        let ReplyContext { stage, code, enhanced } = context;
        self.stages & (1 << stage as u8) != 0
            && (self.codes.is_empty() || self.codes.iter().any(|&range| within(code, range)))
            && self.fits_enhanced(enhanced)
            && self.all.iter().all(|&p| found.contains(p))
            && [&self.any, &self.with].iter().all(|l| l.is_empty() || l.iter().any(|&p| found.contains(p)))
            && !self.none.iter().any(|&p| found.contains(p))
            && (!self.bare || sentences.is_bare())
            // The guarantee of the module: a temporary or restricted refusal is not final.
            && (self.sub_status.status() != Status::Undeliverable
                || (code >= 500 && !says_temporary(enhanced) && !sentences.is_restricted()))
    }

    fn fits_enhanced(&self, enhanced: Option<EnhancedCode>) -> bool {
        match enhanced {
            None => self.enhanced.is_empty(),
            Some(_) if self.enhanced.is_empty() => !self.without_enhanced,
            Some(c) => self.enhanced.iter().any(|[class, subject, detail]| {
                within(c.class.into(), *class) && within(c.subject, *subject) && within(c.detail, *detail)
            }),
        }
    }

    fn verdict(&self, stage: Stage, code: u16) -> Verdict {
        let mut verdict = Verdict::new(self.sub_status, stage, code);
        verdict.blame = self.blame.or(verdict.blame);
        verdict.retry = self.retry.unwrap_or(verdict.retry);
        verdict.subject = match (self.subject, verdict.retry, verdict.blame) {
            (None, Some(Retry::NextTransaction), _) => Some(Subject::Transaction),
            (None, Some(Retry::NextConnection), _) => Some(Subject::Connection),
            (None, _, Some(Blame::Recipient)) => Some(Subject::Recipient),
            (subject, ..) => subject.or(verdict.subject),
        };
        // 421 closes the connection (RFC 5321 3.8), so it has no next transaction.
        if code == 421 && verdict.retry == Some(Retry::NextTransaction) {
            verdict.retry = Some(Retry::NextConnection);
        }
        verdict
    }
}

fn says_temporary(enhanced: Option<EnhancedCode>) -> bool {
    enhanced.is_some_and(|c| c.class == 4)
}

fn within(n: u16, (low, high): Range) -> bool {
    low <= n && n <= high
}

fn rule_error(id: &str, key: &'static str, problem: impl Into<String>) -> RulesError {
    RulesError::Rule { id: id.to_owned(), key, problem: problem.into() }
}

fn compile(written: WrittenRule, phrases: &mut PhraseBuilder) -> Result<Rule, RulesError> {
    let WrittenRule { id, verdict, .. } = written;
    if id.is_empty() {
        return Err(rule_error(&id, "id", "it is empty"));
    }
    if !is_verdict_on_refusal(verdict) {
        return Err(rule_error(&id, "verdict", "no refusal has this verdict"));
    }
    let blame = match written.blame {
        Some(b) if !allowed_blames(verdict).contains(&b) => {
            return Err(rule_error(&id, "blame", "the verdict does not allow this blame"));
        }
        other => other,
    };
    let retry = written.retry.map(|r| match r {
        WrittenRetry::NextTransaction => Some(Retry::NextTransaction),
        WrittenRetry::NextConnection => Some(Retry::NextConnection),
        WrittenRetry::OverIpv4 => Some(Retry::OverIpv4),
        WrittenRetry::Later => Some(Retry::Later),
        WrittenRetry::Never => None,
    });
    let codes = patterns(&written.codes, code).map_err(|p| rule_error(&id, "codes", p))?;
    if verdict.status() == Status::Undeliverable && !codes.is_empty() && codes.iter().all(|r| r.1 < 500) {
        return Err(rule_error(&id, "codes", "a temporary refusal never makes an address undeliverable"));
    }
    let (absent, present): (Vec<_>, Vec<_>) = written.enhanced.into_iter().partition(|e| e == "none");
    let enhanced = patterns(&present, enhanced).map_err(|p| rule_error(&id, "enhanced", p))?;
    if !absent.is_empty() && !present.is_empty() {
        return Err(rule_error(&id, "enhanced", "`none` cannot be combined with codes"));
    }
    let about_recipient = blame.or(allowed_blames(verdict).first().copied()) == Some(Blame::Recipient);
    let stages = Stage::ALL.iter().map(|(stage, _)| *stage).filter(|stage| {
        (written.stages.is_empty() || written.stages.contains(stage))
            && (!about_recipient || stage.knows_recipient())
    });
    let stages = stages.fold(0, |bits, stage| bits | 1 << stage as u8);
    if stages == 0 {
        return Err(rule_error(&id, "stages", "before RCPT no reply is about the recipient"));
    }
    let mut list = |key, written: &[String]| {
        let interned: Result<Vec<_>, _> = written.iter().map(|p| phrases.intern(p)).collect();
        interned.map_err(|problem| rule_error(&id, key, problem))
    };
    let (all, any) = (list("all", &written.all)?, list("any", &written.any)?);
    let (with, none) = (list("with", &written.with)?, list("none", &written.none)?);
    if any.is_empty() && !with.is_empty() {
        return Err(rule_error(&id, "with", "it requires `any`"));
    }
    let unconditional = [&all, &any].iter().all(|l| l.is_empty())
        && codes.is_empty()
        && enhanced.is_empty()
        && absent.is_empty()
        && written.stages.is_empty()
        && !written.bare;
    if unconditional {
        return Err(rule_error(&id, "any", "the rule has no condition, so it would apply to every refusal"));
    }
    let without_enhanced = !absent.is_empty();
    Ok(Rule {
        id,
        sub_status: verdict,
        blame,
        retry,
        subject: written.subject,
        codes,
        enhanced,
        without_enhanced,
        stages,
        all,
        any,
        with,
        none,
        bare: written.bare,
    })
}

/// Returns whether a refusal can mean this. The others come from the DNS, the network or other sources.
fn is_verdict_on_refusal(verdict: SubStatus) -> bool {
    verdict == SubStatus::Other || !allowed_blames(verdict).is_empty()
}

fn patterns<T>(written: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    written.iter().map(|p| parse(p).ok_or_else(|| format!("`{p}` is not a pattern"))).collect()
}

/// Parses a pattern of refusal codes: `550`, `55x`, `5xx`.
fn code(pattern: &str) -> Option<Range> {
    digits(pattern).filter(|&(low, high)| pattern.len() == 3 && low >= 400 && high < 600)
}

/// Parses a pattern of enhanced codes: `5.1.1`, `x.2.2`, `5.7.*`, `5.7.6xx`.
fn enhanced(pattern: &str) -> Option<[Range; 3]> {
    let mut parts = pattern.split('.').map(|p| if p == "*" { Some((0, 999)) } else { digits(p) });
    let code = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(code)
}

/// Parses digits, the last of which may be `x`.
fn digits(pattern: &str) -> Option<Range> {
    let number = pattern.trim_end_matches('x');
    let open = u32::try_from(pattern.len() - number.len()).ok()?;
    if pattern.is_empty() || pattern.len() > 3 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let unit = 10u16.pow(open);
    let low = if number.is_empty() { 0 } else { number.parse::<u16>().ok()? * unit };
    Some((low, low + unit - 1))
}
