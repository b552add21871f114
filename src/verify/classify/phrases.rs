//! The phrases of all rules and vocabularies. One pass of one automaton (Aho–Corasick) finds them.

use std::{collections::HashMap, ops::Range};

use aho_corasick::AhoCorasick;

use super::{
    predicate::{Meaning, Side},
    text::{self, Plain},
};

pub(super) const MAX_RULES: usize = 512;
pub(super) const MAX_PHRASES: usize = 16_384;
pub(super) type RuleSet = Bits<{ MAX_RULES / 64 }>;
pub(super) type PhraseSet = Bits<{ MAX_PHRASES / 64 }>;

/// A set of small numbers, without heap memory.
#[derive(Clone, Debug)]
pub(super) struct Bits<const N: usize>([u64; N]);

impl<const N: usize> Default for Bits<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Bits<N> {
    /// Adds `n`; returns whether it is new.
    pub(super) fn insert(&mut self, n: usize) -> bool {
        let (word, bit) = (&mut self.0[n / 64], 1 << (n % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Adds all of `other`.
    pub(super) fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    pub(super) fn contains(&self, n: u16) -> bool {
        self.0[usize::from(n) / 64] & (1 << (n % 64)) != 0
    }

    /// Iterates in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let next = |w: &u64| Some(w & (w - 1)).filter(|w| *w != 0);
            std::iter::successors(Some(word).filter(|w| *w != 0), next)
                .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

/// A phrase of the automaton.
#[derive(Debug)]
struct Phrase {
    words: String,
    /// Whether the word may continue to the left or right: `*listed`, `greylist*`.
    open: (bool, bool),
    /// The rules that this phrase may decide.
    rules: Vec<usize>,
    /// Its meaning in a sentence.
    meaning: Option<Meaning>,
}

/// Collects the phrases of a file, each once.
#[derive(Default)]
pub(super) struct PhraseBuilder {
    list: Vec<Phrase>,
    known: HashMap<(String, (bool, bool)), u16>,
}

impl PhraseBuilder {
    /// Adds a phrase as written in a file, and returns its number.
    pub(super) fn intern(&mut self, written: &str) -> Result<u16, String> {
        let open = (written.starts_with('*'), written.ends_with('*'));
        let inner = written.trim_matches('*');
        let words = text::plain(inner).words;
        if words.is_empty() {
            return Err(format!("`{written}` contains no words"));
        }
        if inner.contains('*') {
            return Err(format!("`{written}`: `*` is valid only at the start or end of a phrase"));
        }
        if let Some(&known) = self.known.get(&(words.clone(), open)) {
            return Ok(known);
        }
        let n = u16::try_from(self.list.len()).ok().filter(|n| usize::from(*n) < MAX_PHRASES);
        let n = n.ok_or_else(|| format!("more than {MAX_PHRASES} phrases"))?;
        self.known.insert((words.clone(), open), n);
        self.list.push(Phrase { words, open, rules: Vec::new(), meaning: None });
        Ok(n)
    }

    /// Makes the scanner try `rule` if it finds the phrase.
    pub(super) fn add_rule(&mut self, phrase: u16, rule: usize) {
        self.list[usize::from(phrase)].rules.push(rule);
    }

    /// Sets the meaning of a phrase in a sentence. Fails with the other meaning if the phrase has one.
    ///
    /// A predicate may precede its subject in one language and follow it in another. A preposition of one language may
    /// be a filler in another.
    pub(super) fn set_meaning(&mut self, phrase: u16, meaning: Meaning) -> Result<(), Meaning> {
        use Meaning::{Filler, Predicate, Preposition};
        let known = &mut self.list[usize::from(phrase)].meaning;
        *known = Some(match (*known, meaning) {
            (Some(Predicate(one, side)), Predicate(other, another)) if one == other => {
                Predicate(one, if side == another { side } else { Side::Either })
            }
            (Some(Preposition), Filler) | (Some(Filler), Preposition) => Preposition,
            (Some(other), meaning) if other != meaning => return Err(other),
            _ => meaning,
        });
        Ok(())
    }

    pub(super) fn build(self) -> Result<Phrases, String> {
        let automaton = match self.list.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(self.list.iter().map(|p| &p.words)))
                .transpose()
                .map_err(|error| error.to_string())?,
        };
        Ok(Phrases { automaton, list: self.list })
    }
}

/// The phrases, and the automaton over them.
#[derive(Debug, Default)]
pub(super) struct Phrases {
    /// `None` if there is no phrase.
    automaton: Option<AhoCorasick>,
    list: Vec<Phrase>,
}

/// A phrase with a meaning, and its position.
#[derive(Clone, Debug)]
pub(super) struct Mention {
    pub(super) range: Range<usize>,
    pub(super) meaning: Meaning,
}

/// The phrases found in a text.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) phrases: PhraseSet,
    /// The rules that a phrase may decide.
    pub(super) rules: RuleSet,
    /// In order and without overlaps. At one position, the longest counts.
    pub(super) mentions: Vec<Mention>,
}

impl Phrases {
    pub(super) fn scan(&self, text: &Plain) -> Scan {
        let words = &*text.words;
        let mut scan = Scan::default();
        for hit in self.automaton.iter().flat_map(|a| a.find_overlapping_iter(words)) {
            let n = hit.pattern().as_usize();
            let phrase = &self.list[n];
            if !phrase.stands_alone(words, hit.start(), hit.end()) {
                continue;
            }
            if let Some(meaning) = phrase.meaning {
                let range = hit.start()..phrase.word_end(words, hit.end());
                scan.mentions.push(Mention { range, meaning });
            }
            if scan.phrases.insert(n) {
                for &rule in &phrase.rules {
                    scan.rules.insert(rule);
                }
            }
        }
        let split = |mention: &Mention| {
            let inside = mention.range.start + 1..mention.range.end;
            let marks = &text.marks[text.marks.partition_point(|(at, _)| *at < inside.start)..];
            marks.iter().take_while(|(at, _)| *at < inside.end).any(|(_, mark)| *mark != text::Mark::Address)
        };
        scan.mentions.retain(|mention| !split(mention));
        scan.mentions.sort_by_key(|mention| (mention.range.start, usize::MAX - mention.range.end));
        let mut end = 0;
        scan.mentions.retain(|mention| {
            let free = mention.range.start >= end;
            end = if free { mention.range.end } else { end };
            free
        });
        scan
    }
}

impl Phrase {
    /// Returns whether the phrase is not part of a longer word, a host name or a URL.
    fn stands_alone(&self, text: &str, start: usize, end: usize) -> bool {
        // A name or a part of a URL counts everywhere, such as `spamhaus.org` in a link.
        let is_name = self.words.contains(['.', '_']);
        let is_word = |c: char| text::is_word(c) || (c == '_' && !is_name);
        let single = !self.words.contains(' ');
        // A word may be a label of a host name, or part of a compound: "user-agent".
        let joins = |c: char| !is_name && (c == '-' || (single && c == '.'));
        let joined = |next: Option<char>, beyond: Option<char>| {
            next.is_some_and(is_word) || (next.is_some_and(joins) && beyond.is_some_and(is_word))
        };
        let (mut before, mut after) = (text[..start].chars().rev(), text[end..].chars());
        if text[..start].ends_with('{') {
            // `ip` is not in `{ip}`.
            return false;
        }
        let left = self.open.0
            || !self.words.chars().next().is_some_and(is_word)
            || !joined(before.next(), before.next());
        let right = self.open.1
            || !self.words.chars().next_back().is_some_and(is_word)
            || !joined(after.next(), after.next());
        left && right
    }

    /// Returns the end of the last word of the phrase.
    fn word_end(&self, text: &str, end: usize) -> usize {
        let rest = &text[end..];
        match self.open.1 {
            true => end + rest.find(|c| !text::is_word(c) && c != '-').unwrap_or(rest.len()),
            false => end,
        }
    }
}
