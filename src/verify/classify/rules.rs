//! The table of rules: read from TOML, compiled to one automaton, asked for the first rule that applies.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::{Explanation, Retry, Stage, Verdict, blames, text};
use crate::proto::EnhancedCode;
use crate::verify::{Blame, Status, SubStatus, Subject};

/// Why a table of rules was refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, an unknown key, a missing one, or a value of the wrong kind; the message gives the line.
    #[error("the rules are not well-formed: {0}")]
    Syntax(String),
    /// There is nothing in it.
    #[error("there is no rule in the table")]
    Empty,
    /// A rule that makes no sense.
    #[error("rule `{id}`, key `{key}`: {problem}")]
    Rule {
        /// The rule's `id`.
        id: String,
        /// The key at fault.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// More rules or phrases than the engine has room for.
    #[error("too many {0}: at most {1}")]
    TooMany(&'static str, usize),
}

/// The file, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Written>,
}

/// A rule, as written; `rules.toml` explains the keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
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

/// A rule, ready to be tried.
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
}

/// An inclusive range of numbers: what `55x` stands for.
type Range = (u16, u16);

/// Rules in order, and the automaton over their phrases.
#[derive(Debug, Default)]
pub(super) struct Table {
    rules: Vec<Rule>,
    /// `None` if no rule has a phrase.
    automaton: Option<AhoCorasick>,
    phrases: Vec<Phrase>,
    /// The rules without phrases, which every reply may fit.
    unworded: RuleSet,
}

/// A phrase of the automaton.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Phrase {
    words: String,
    /// Whether the word may go on to the left or right: `*listed`, `greylist*`.
    open: (bool, bool),
    /// The rules that this phrase may decide.
    rules: Vec<usize>,
}

const MAX_RULES: usize = 512;
const MAX_PHRASES: usize = 4096;
type RuleSet = Bits<{ MAX_RULES / 64 }>;
type PhraseSet = Bits<{ MAX_PHRASES / 64 }>;

/// A set of small numbers on the stack.
#[derive(Clone, Debug)]
struct Bits<const N: usize>([u64; N]);

impl<const N: usize> Default for Bits<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Bits<N> {
    /// Whether `n` is new.
    fn insert(&mut self, n: usize) -> bool {
        let (word, bit) = (&mut self.0[n / 64], 1 << (n % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn contains(&self, n: u16) -> bool {
        self.0[usize::from(n) / 64] & (1 << (n % 64)) != 0
    }

    /// From the smallest up.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let next = |w: &u64| Some(w & (w - 1)).filter(|w| *w != 0);
            std::iter::successors(Some(word).filter(|w| *w != 0), next)
                .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

impl Table {
    pub(super) fn parse(text: &str) -> Result<Self, RulesError> {
        let file: File =
            toml::from_str(text).map_err(|e| RulesError::Syntax(e.to_string().trim().to_owned()))?;
        match file.rule.len() {
            0 => return Err(RulesError::Empty),
            n if n > MAX_RULES => return Err(RulesError::TooMany("rules", MAX_RULES)),
            _ => {}
        }
        let mut phrases = Phrases::default();
        let mut rules: Vec<Rule> = Vec::with_capacity(file.rule.len());
        let mut unworded = RuleSet::default();
        for written in file.rule {
            let n = rules.len();
            let rule = compile(written, &mut phrases)?;
            if rules.iter().any(|r| r.id == rule.id) {
                return Err(fault(&rule.id, "id", "another rule has it"));
            }
            // One phrase of each way to fit is enough to have the rule tried.
            match (&rule.any[..], &rule.all[..]) {
                ([], []) => {
                    unworded.insert(n);
                }
                ([], [first, ..]) => phrases.list[usize::from(*first)].rules.push(n),
                (any, _) => any.iter().for_each(|&p| phrases.list[usize::from(p)].rules.push(n)),
            }
            rules.push(rule);
        }
        let phrases = phrases.list;
        let automaton = match phrases.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(phrases.iter().map(|p| &p.words)))
                .transpose()
                .map_err(|e| RulesError::Syntax(e.to_string()))?,
        };
        Ok(Self { rules, automaton, phrases, unworded })
    }

    /// The first rule that applies.
    pub(super) fn first_match(
        &self,
        stage: Stage,
        code: u16,
        enhanced: Option<EnhancedCode>,
        text: &str,
    ) -> Option<Explanation<'_>> {
        let (text, mentioned) = text::plain(text);
        // A code out of its place counts if it agrees with the reply: a quoted `450 4.1.1` says nothing of a 550.
        let mentioned = mentioned.filter(|c| u16::from(c.class) == code / 100);
        let enhanced = enhanced.or(mentioned);

        let (mut found, mut candidates) = (PhraseSet::default(), self.unworded.clone());
        for hit in self.automaton.iter().flat_map(|a| a.find_overlapping_iter(&text)) {
            let n = hit.pattern().as_usize();
            let phrase = &self.phrases[n];
            if phrase.stands_alone(text.as_bytes(), hit.start(), hit.end()) && found.insert(n) {
                for &rule in &phrase.rules {
                    candidates.insert(rule);
                }
            }
        }
        let rule =
            candidates.iter().map(|n| &self.rules[n]).find(|r| r.fits(stage, code, enhanced, &found))?;
        Some(Explanation { verdict: rule.verdict(stage, code), rule: &rule.id })
    }
}

impl Rule {
    fn fits(&self, stage: Stage, code: u16, enhanced: Option<EnhancedCode>, found: &PhraseSet) -> bool {
        self.stages & (1 << stage as u8) != 0
            && (self.codes.is_empty() || self.codes.iter().any(|&range| within(code, range)))
            && self.fits_enhanced(enhanced)
            && self.all.iter().all(|&p| found.contains(p))
            && [&self.any, &self.with].iter().all(|l| l.is_empty() || l.iter().any(|&p| found.contains(p)))
            && !self.none.iter().any(|&p| found.contains(p))
            // The promise of the module: nothing temporary is final.
            && (self.sub_status.status() != Status::Undeliverable || (code >= 500 && !says_temporary(enhanced)))
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
        // 421 closes the connection (RFC 5321 3.8), so there is no next transaction on it.
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

impl Phrase {
    /// Whether the phrase is not a part of a longer word, of a host name or of a URL.
    fn stands_alone(&self, text: &[u8], start: usize, end: usize) -> bool {
        // A name or a piece of a URL is evidence wherever it stands, as `spamhaus.org` in a link.
        let is_name = self.words.contains(['.', '_']);
        let is_word = |b: u8| b.is_ascii_alphanumeric() || (b == b'_' && !is_name);
        let in_word = |at: Option<usize>| at.and_then(|i| text.get(i)).is_some_and(|&b| is_word(b));
        let in_name = |at: Option<usize>, beyond: Option<usize>| {
            // Words of a phrase do not meet in a name, but a single one may be a label of it.
            !is_name
                && !self.words.contains(' ')
                && at.and_then(|i| text.get(i)).is_some_and(|b| matches!(b, b'.' | b'-'))
                && in_word(beyond)
        };
        let (before, after) = (start.checked_sub(1), Some(end));
        let bytes = self.words.as_bytes();
        let left = self.open.0
            || !bytes.first().copied().is_some_and(is_word)
            || !(in_word(before) || in_name(before, start.checked_sub(2)));
        let right = self.open.1
            || !bytes.last().copied().is_some_and(is_word)
            || !(in_word(after) || in_name(after, Some(end + 1)));
        left && right
    }
}

/// The phrases of all rules, each once.
#[derive(Default)]
struct Phrases {
    list: Vec<Phrase>,
    known: HashMap<(String, (bool, bool)), u16>,
}

impl Phrases {
    fn intern(&mut self, written: &str) -> Result<u16, String> {
        let open = (written.starts_with('*'), written.ends_with('*'));
        let (words, _) = text::plain(written.trim_matches('*'));
        if words.is_empty() {
            return Err(format!("`{written}` has no words in it"));
        }
        if written.trim_matches('*').contains('*') {
            return Err(format!(
                "`{written}`: a `*` stands for the rest of a word, at either end of a phrase"
            ));
        }
        if let Some(&known) = self.known.get(&(words.clone(), open)) {
            return Ok(known);
        }
        let n = u16::try_from(self.list.len()).ok().filter(|n| usize::from(*n) < MAX_PHRASES);
        let n = n.ok_or_else(|| format!("more than {MAX_PHRASES} phrases"))?;
        self.known.insert((words.clone(), open), n);
        self.list.push(Phrase { words, open, rules: Vec::new() });
        Ok(n)
    }
}

fn fault(id: &str, key: &'static str, problem: impl Into<String>) -> RulesError {
    RulesError::Rule { id: id.to_owned(), key, problem: problem.into() }
}

fn compile(written: Written, phrases: &mut Phrases) -> Result<Rule, RulesError> {
    let Written { id, verdict, .. } = written;
    if id.is_empty() {
        return Err(fault(&id, "id", "it is empty"));
    }
    if !is_said_by_replies(verdict) {
        return Err(fault(&id, "verdict", "no refusal says that"));
    }
    let blame = match written.blame {
        Some(b) if !blames(verdict).contains(&b) => {
            return Err(fault(&id, "blame", "not one that goes with the verdict"));
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
    let codes = patterns(&written.codes, code).map_err(|p| fault(&id, "codes", p))?;
    if verdict.status() == Status::Undeliverable && !codes.is_empty() && codes.iter().all(|r| r.1 < 500) {
        return Err(fault(&id, "codes", "a temporary refusal never makes an address undeliverable"));
    }
    let (absent, present): (Vec<_>, Vec<_>) = written.enhanced.into_iter().partition(|e| e == "none");
    let enhanced = patterns(&present, enhanced).map_err(|p| fault(&id, "enhanced", p))?;
    if !absent.is_empty() && !present.is_empty() {
        return Err(fault(&id, "enhanced", "`none` stands alone"));
    }
    let about_recipient = blame.or(blames(verdict).first().copied()) == Some(Blame::Recipient);
    let stages = Stage::ALL.iter().map(|(stage, _)| *stage).filter(|stage| {
        (written.stages.is_empty() || written.stages.contains(stage))
            && (!about_recipient || stage.knows_recipient())
    });
    let stages = stages.fold(0, |bits, stage| bits | 1 << stage as u8);
    if stages == 0 {
        return Err(fault(&id, "stages", "before RCPT no reply is about the recipient"));
    }
    let mut list = |key, written: &[String]| {
        let interned: Result<Vec<_>, _> = written.iter().map(|p| phrases.intern(p)).collect();
        interned.map_err(|problem| fault(&id, key, problem))
    };
    let (all, any) = (list("all", &written.all)?, list("any", &written.any)?);
    let (with, none) = (list("with", &written.with)?, list("none", &written.none)?);
    if any.is_empty() && !with.is_empty() {
        return Err(fault(&id, "with", "it goes with `any`"));
    }
    let unconditional = [&all, &any].iter().all(|l| l.is_empty())
        && codes.is_empty()
        && enhanced.is_empty()
        && absent.is_empty()
        && written.stages.is_empty();
    if unconditional {
        return Err(fault(&id, "any", "without any condition, it would apply to every refusal"));
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
    })
}

/// Whether a refusal can mean this; the rest comes from DNS, the network, or other knowledge.
fn is_said_by_replies(verdict: SubStatus) -> bool {
    verdict == SubStatus::Other || !blames(verdict).is_empty()
}

fn patterns<T>(written: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    written.iter().map(|p| parse(p).ok_or_else(|| format!("`{p}` is not a pattern"))).collect()
}

/// `550`, `55x`, `5xx`, of codes that refuse.
fn code(pattern: &str) -> Option<Range> {
    digits(pattern).filter(|&(low, high)| pattern.len() == 3 && low >= 400 && high < 600)
}

/// `5.1.1`, `x.2.2`, `5.7.*`, `5.7.6xx`.
fn enhanced(pattern: &str) -> Option<[Range; 3]> {
    let mut parts = pattern.split('.').map(|p| if p == "*" { Some((0, 999)) } else { digits(p) });
    let code = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(code)
}

/// Digits, of which the last may be left open by `x`.
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
