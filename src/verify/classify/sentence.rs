//! Who is spoken of, and what is said: the two steps.
//!
//! A text is cut into items: subjects, predicates, words that restrict, words that say nothing, names, and words that
//! no vocabulary has. Each predicate looks for its subject beside it, across names and words that say nothing. A
//! subject that is reached across an unknown word is uncertain: "user certificate expired" is not about the user.

use std::{iter::Peekable, ops::Range};

use super::{
    phrases::Mention,
    predicate::{Meaning, Predicate, Side},
    text::{Mark, Plain, is_unspaced},
    verdict::Stage,
};
use crate::verify::Subject;

/// One piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentenceItem {
    Meaning(Meaning),
    /// A mailbox or path that was taken out.
    Address,
    /// A name in quotes, a number, a URL: it says nothing.
    Name,
    /// A host name or domain.
    Host,
    /// An IP address.
    Ip,
    /// A word that no vocabulary has.
    Unknown,
    Pause,
    Stop,
}

/// Who a predicate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) subject: Subject,
    /// The word may mean somebody else where the recipient has not been named: "user", "address".
    pub(super) someone: bool,
}

impl Who {
    pub(super) fn new(subject: Subject) -> Self {
        Self { subject, someone: false }
    }
}

/// A predicate, and its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) predicate: Predicate,
    pub(super) who: Option<Who>,
    /// Unknown words between the predicate and its subject, or around the subject; `None` if they are not side by side.
    pub(super) gap: Option<u32>,
    /// The sentence restricts what it says, or names somebody else.
    pub(super) restricted: bool,
    /// Unknown words follow in the sentence, or more is said in the clause.
    pub(super) goes_on: bool,
    /// The subject stands in another clause.
    pub(super) crossed: bool,
}

/// A subject, and how it is reached.
#[derive(Clone, Copy)]
struct Bound {
    who: Who,
    /// As in [`Assertion`].
    gap: Option<u32>,
    crossed: bool,
}

/// A text, cut into items.
#[derive(Debug)]
pub(super) struct Sentences {
    items: Vec<SentenceItem>,
    stage: Stage,
    /// There were more items.
    is_cut: bool,
}

const RECIPIENT: Who = Who { subject: Subject::Recipient, someone: false };
const SOMEONE: Who = Who { subject: Subject::Recipient, someone: true };
/// More items than a reply has; a hostile text costs no more, and what it says is not final.
const MAX_ITEMS: usize = 384;

impl Sentences {
    pub(super) fn new(text: &Plain, mentions: &[Mention], stage: Stage) -> Self {
        let mut sentences = Self { items: Vec::with_capacity(32), stage, is_cut: false };
        let mut marks = text.marks.iter().peekable();
        let mut at = 0;
        for mention in mentions {
            sentences.words(text, at..mention.range.start, &mut marks);
            while marks
                .next_if(|(place, _)| *place <= mention.range.start)
                .map(|(_, mark)| sentences.mark(*mark))
                .is_some()
            {}
            let named = text
                .names
                .iter()
                .any(|name| name.start <= mention.range.start && mention.range.end <= name.end);
            sentences.items.push(match mention.meaning {
                // The key of a value, a word in quotes.
                Meaning::Subject(_) | Meaning::Someone | Meaning::Filler if named => SentenceItem::Name,
                meaning => SentenceItem::Meaning(meaning),
            });
            while marks.next_if(|(place, _)| *place < mention.range.end).is_some() {}
            at = mention.range.end;
        }
        sentences.words(text, at..text.words.len(), &mut marks);
        marks.for_each(|(_, mark)| sentences.mark(*mark));
        sentences.is_cut = sentences.items.len() > MAX_ITEMS;
        sentences.items.truncate(MAX_ITEMS);
        sentences
    }

    fn mark(&mut self, mark: Mark) {
        self.items.push(match mark {
            Mark::Stop => SentenceItem::Stop,
            Mark::Pause => SentenceItem::Pause,
            Mark::Address => SentenceItem::Address,
        });
    }

    /// Adds the words of a range that has no mention in it.
    fn words<'a>(
        &mut self,
        text: &Plain,
        range: Range<usize>,
        marks: &mut Peekable<impl Iterator<Item = &'a (usize, Mark)>>,
    ) {
        let mut at = range.start;
        for word in text.words[range].split(' ').filter_map(|word| {
            let start = at;
            at += word.len() + 1;
            (!word.is_empty()).then_some((start, word))
        }) {
            let (start, word) = word;
            while let Some((_, mark)) = marks.next_if(|(place, _)| *place <= start) {
                self.mark(*mark);
            }
            let named = text.names.iter().any(|name| name.start <= start && start < name.end);
            // The rest of a name that has a mention in it: "resolver.adr.recipientnotfound".
            let ends =
                (text.words[..start].chars().next_back(), text.words[start + word.len()..].chars().next());
            let attached =
                word.is_ascii() && [ends.0, ends.1].iter().flatten().any(char::is_ascii_alphanumeric);
            let item = if named || attached { Some(SentenceItem::Name) } else { unmentioned(word) };
            self.items.extend(item);
        }
    }

    /// Whether the text says nothing but that a recipient is rejected, so that its code decides.
    pub(super) fn is_bare(&self) -> bool {
        self.items.iter().all(|item| match item {
            SentenceItem::Meaning(meaning) => matches!(
                meaning,
                Meaning::Someone
                    | Meaning::Subject(Subject::Recipient)
                    | Meaning::Predicate(Predicate::Rejected, _)
                    | Meaning::Filler
            ),
            SentenceItem::Unknown | SentenceItem::Ip => false,
            _ => true,
        })
    }

    /// Whether the text restricts what it says, or names us.
    pub(super) fn is_restricted(&self) -> bool {
        let restricts = |item: &SentenceItem| match item {
            SentenceItem::Meaning(Meaning::Qualifier) => true,
            SentenceItem::Meaning(Meaning::Subject(subject) | Meaning::Statement(subject, _)) => {
                is_us(*subject)
            }
            _ => false,
        };
        self.is_cut || self.items.iter().any(restricts)
    }

    /// All that the text says.
    pub(super) fn assertions(&self) -> impl Iterator<Item = Assertion> {
        self.items.iter().enumerate().filter_map(|(at, item)| {
            let SentenceItem::Meaning(meaning) = item else { return None };
            let (predicate, bound) = match *meaning {
                Meaning::Predicate(predicate, side) => (predicate, self.bind(at, side, predicate)),
                Meaning::Statement(subject, predicate) => {
                    // "no such list owner", "access list not found".
                    let beside = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
                    let beside = || beside.clone().filter_map(|n| self.items.get(n));
                    let unknown = beside().filter(|item| **item == SentenceItem::Unknown).count() as u32;
                    let gap = (!beside().any(|item| is_foreign(*item))).then_some(unknown);
                    (predicate, Some(Bound { who: Who::new(subject), gap, crossed: false }))
                }
                _ => return None,
            };
            let who = bound.map(|bound| bound.who);
            let (start, end) = self.sentence(at);
            let rest = &self.items[at + 1..end];
            let restricts = |item: &SentenceItem| is_restriction(*item, who.map(|who| who.subject));
            let restricted = self.is_cut || self.items[start..end].iter().any(restricts) || strays(rest);
            let clause = rest.iter().take_while(|item| !ends_clause(**item));
            let goes_on =
                rest.contains(&SentenceItem::Unknown) || clause.into_iter().any(|item| says_more(*item));
            let gap = bound.and_then(|bound| bound.gap);
            let crossed = bound.is_some_and(|bound| bound.crossed);
            Some(Assertion { predicate, who, gap, restricted, goes_on, crossed })
        })
    }

    /// The sentence around an item.
    fn sentence(&self, at: usize) -> (usize, usize) {
        let start =
            self.items[..at].iter().rposition(|item| *item == SentenceItem::Stop).map_or(0, |stop| stop + 1);
        let end = self.items[at..]
            .iter()
            .position(|item| *item == SentenceItem::Stop)
            .map_or(self.items.len(), |n| at + n);
        (start, end)
    }

    /// The items of the clause around an item, without itself, from the nearest on.
    fn clause(&self, at: usize) -> impl Iterator<Item = SentenceItem> {
        let before = self.items[..at].iter().rev().take_while(|item| !ends_clause(**item));
        before.chain(self.items[at + 1..].iter().take_while(|item| !ends_clause(**item))).copied()
    }

    /// The subject of the predicate at `at`, and the unknown words in the way.
    fn bind(&self, at: usize, side: Side, predicate: Predicate) -> Option<Bound> {
        let before = self.before(at);
        let after = (side != Side::Before).then(|| self.after(at, before.is_none())).flatten();
        // "Your IP has no PTR record" is about us, whatever is missing.
        let before =
            before.filter(|before| side != Side::After || (is_us(before.who.subject) && !before.crossed));
        let beside = match (before, after) {
            // Another clause yields to what stands beside the predicate.
            (Some(before), Some(after)) if before.crossed => Some(after),
            (Some(before), Some(after)) => {
                let after_decides = match (before.who.subject, after.who.subject) {
                    (Subject::Recipient, Subject::Recipient) => after.gap < before.gap,
                    (Subject::Recipient, _) => true,
                    (one, other) => is_us(other) && !is_us(one),
                };
                Some(if after_decides { after } else { before })
            }
            (before, after) => before.or(after),
        };
        let loose = |who: Who| Bound { who, gap: None, crossed: false };
        let (start, end) = self.sentence(at);
        let sentence = || {
            self.items[start..at].iter().rev().chain(&self.items[at + 1..end]).filter_map(|item| who(*item))
        };
        let named = || sentence().find(|who| is_us(who.subject) && !who.someone);
        let us =
            || named().or_else(|| self.clause(at).filter_map(who).find(|who| is_us(who.subject))).map(loose);
        match beside {
            // A refusal is about us where the sentence names us.
            Some(bound) if predicate.refuses() && !is_us(bound.who.subject) => us().or(Some(bound)),
            Some(bound) if bound.crossed && bound.who.subject == Subject::Recipient => {
                let foreign = self.clause(at).filter_map(who).find(|who| who.subject != Subject::Recipient);
                foreign.map(loose).or(Some(bound))
            }
            Some(bound) => Some(bound),
            None => {
                let foreign = sentence().find(|who| who.subject != Subject::Recipient);
                us().or_else(|| foreign.or_else(|| sentence().next()).map(loose))
            }
        }
    }

    /// The noun behind a predicate: "no such user"; if nothing stands before it, also behind a colon.
    fn after(&self, at: usize, alone: bool) -> Option<Bound> {
        let skipped = |item: &SentenceItem| {
            matches!(
                item,
                SentenceItem::Meaning(Meaning::Filler) | SentenceItem::Name | SentenceItem::Address
            )
        };
        let mut first = at + 1 + self.items[at + 1..].iter().position(|item| !skipped(item))?;
        // "not found: user ann", but not "catch-all disabled, user unknown".
        let opens = || {
            !self.items[..at].iter().rev().take_while(|item| !ends_clause(**item)).any(|item| !skipped(item))
        };
        let crossed = alone && self.items[first] == SentenceItem::Pause && opens();
        if crossed {
            first += 1 + self.items[first + 1..].iter().position(|item| !skipped(item))?;
        }
        let mut found = who(self.items[first])?;
        let (mut gap, mut of) = (0, false);
        for item in self.items[first + 1..].iter().copied() {
            match (item, who(item)) {
                // "invalid message recipient" is a recipient, "invalid recipient domain" a domain.
                (_, Some(next)) => found = if of { foreigner(found, next) } else { head(found, next) },
                (SentenceItem::Meaning(Meaning::Preposition), _) => of = true,
                (SentenceItem::Meaning(Meaning::Filler) | SentenceItem::Name | SentenceItem::Address, _) => {}
                (SentenceItem::Unknown, _) => {
                    gap = u32::from(!of);
                    break;
                }
                _ => break,
            }
        }
        Some(Bound { who: found, gap: Some(gap), crossed })
    }

    /// The noun before a predicate: "user does not exist"; whether it stands in another clause.
    fn before(&self, at: usize) -> Option<Bound> {
        let (mut gap, mut crossed, mut address, mut of) = (0, false, false, false);
        for n in (0..at).rev() {
            let item = self.items[n];
            if let Some(found) = who(item) {
                let (found, more) = self.phrase_before(n, found);
                return Some(Bound { who: found, gap: Some(gap + more), crossed });
            }
            match item {
                SentenceItem::Meaning(Meaning::Filler) | SentenceItem::Name => {}
                SentenceItem::Meaning(Meaning::Predicate(..)) => {}
                SentenceItem::Address => address = true,
                SentenceItem::Meaning(Meaning::Preposition) => of = true,
                SentenceItem::Pause => crossed = true,
                SentenceItem::Unknown if gap < 2 => gap += 1,
                SentenceItem::Stop => break,
                _ => return None,
            }
        }
        // "<ann@example.org> does not exist".
        let bare = address && !of && matches!(self.stage, Stage::Rcpt | Stage::Data);
        bare.then_some(Bound { who: SOMEONE, gap: Some(gap), crossed })
    }

    /// The whole noun phrase that ends at `end`, and the unknown words that belong to it.
    fn phrase_before(&self, end: usize, mut found: Who) -> (Who, u32) {
        let mut of = false;
        let mut direct = true;
        for n in (0..end).rev() {
            let item = self.items[n];
            match (item, who(item)) {
                // "message recipient unknown" is about the recipient, "sender address unknown" is not.
                (_, Some(before)) if of => {
                    found = foreigner(before, found);
                    of = false;
                }
                (_, Some(before)) => found = head(before, found),
                (SentenceItem::Meaning(Meaning::Preposition), _) => of = true,
                (SentenceItem::Meaning(Meaning::Filler), _) => direct = false,
                (SentenceItem::Name | SentenceItem::Address, _) => {}
                // "token for this address", "posting address".
                (SentenceItem::Unknown | SentenceItem::Meaning(Meaning::Predicate(..)), _) => {
                    return (found, u32::from(of || (direct && item == SentenceItem::Unknown)));
                }
                _ => break,
            }
        }
        (found, 0)
    }
}

/// A word without a meaning in any vocabulary.
fn unmentioned(word: &str) -> Option<SentenceItem> {
    if word.starts_with("{ip}") {
        return Some(SentenceItem::Ip);
    }
    let letters = word.trim_matches(|c: char| !c.is_alphanumeric());
    let quoted = word.starts_with('\'') && word.trim_end_matches('.').ends_with('\'') && word.len() > 2;
    let dotted = |word: &str| {
        word.rsplit_once('.').is_some_and(|(name, last)| {
            name.ends_with(|c: char| c.is_alphanumeric())
                && last.len() > 1
                && last.bytes().all(|octet| octet.is_ascii_lowercase())
        })
    };
    Some(match letters {
        "" => return None,
        // "l'", "d'", "'s".
        _ if word.starts_with('\'') || word.ends_with('\'') && word.len() < 4 => {
            if quoted {
                SentenceItem::Name
            } else {
                SentenceItem::Meaning(Meaning::Filler)
            }
        }
        _ if dotted(letters) => SentenceItem::Host,
        _ if letters.contains(|c: char| c.is_ascii_digit() || c == '_') => SentenceItem::Name,
        _ if letters.chars().nth(1).is_none() && !letters.contains(is_unspaced) => SentenceItem::Name,
        _ => SentenceItem::Unknown,
    })
}

/// Whom a noun names.
fn who(item: SentenceItem) -> Option<Who> {
    match item {
        SentenceItem::Meaning(Meaning::Subject(Subject::Recipient)) => Some(RECIPIENT),
        SentenceItem::Meaning(Meaning::Subject(subject)) => Some(Who { subject, someone: false }),
        SentenceItem::Meaning(Meaning::Someone) => Some(SOMEONE),
        SentenceItem::Host => Some(Who { subject: Subject::RecipientDomain, someone: true }),
        SentenceItem::Ip => Some(Who { subject: Subject::Client, someone: true }),
        _ => None,
    }
}

/// Of two nouns that belong together, the one that is not the recipient, and us before others.
///
/// The first one rules the other: "recipient of the message" is a recipient, "format of the address" is none.
fn foreigner(one: Who, other: Who) -> Who {
    match (one.subject, other.subject) {
        (Subject::Recipient, Subject::Recipient) if one.someone => other,
        (Subject::Recipient, Subject::Content) => one,
        (Subject::Recipient, _) => other,
        (one, subject) if is_us(subject) && !is_us(one) => other,
        _ => one,
    }
}

/// Whether the subject is on our side of the connection.
fn is_us(subject: Subject) -> bool {
    matches!(subject, Subject::Client | Subject::Sender)
}

/// Of two nouns side by side, the one that the phrase is about; a host name or an address before a noun only names it.
fn head(first: Who, last: Who) -> Who {
    let names = first.someone && first.subject != Subject::Recipient;
    match (first.subject, last.subject) {
        _ if names => last,
        (Subject::Recipient, Subject::Content) => last,
        _ => foreigner(first, last),
    }
}

fn ends_clause(item: SentenceItem) -> bool {
    matches!(item, SentenceItem::Pause | SentenceItem::Stop)
}

fn is_foreign(item: SentenceItem) -> bool {
    who(item).is_some_and(|who| who.subject != Subject::Recipient && !who.someone)
}

/// Whether an item makes a sentence say less of its subject than it seems to.
fn is_restriction(item: SentenceItem, about: Option<Subject>) -> bool {
    match item {
        SentenceItem::Meaning(Meaning::Qualifier) => true,
        SentenceItem::Meaning(Meaning::Subject(subject) | Meaning::Statement(subject, _)) => {
            !matches!(subject, Subject::Recipient | Subject::Content) && Some(subject) != about
        }
        _ => false,
    }
}

/// Whether an item behind a predicate is more than a name for its subject.
fn says_more(item: SentenceItem) -> bool {
    let SentenceItem::Meaning(meaning) = item else { return false };
    let names =
        [Meaning::Subject(Subject::Recipient), Meaning::Subject(Subject::RecipientDomain), Meaning::Someone];
    meaning != Meaning::Filler && !names.contains(&meaning)
}

/// Whether the rest of a sentence leads away from the recipient: "for visitors", "in newsletters".
fn strays(rest: &[SentenceItem]) -> bool {
    let mut of = false;
    for item in rest {
        match item {
            SentenceItem::Meaning(Meaning::Preposition) => of = true,
            SentenceItem::Meaning(Meaning::Filler) | SentenceItem::Name => {}
            SentenceItem::Unknown | SentenceItem::Meaning(Meaning::Subject(Subject::Content)) if of => {
                return true;
            }
            _ => of = false,
        }
    }
    false
}
