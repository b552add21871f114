//! Splits a text into subjects and predicates, and finds the subject of each predicate.
//!
//! A text becomes a list of items: subjects, predicates, qualifiers, fillers, names and unknown words. Each predicate
//! looks for its subject beside it, across names and fillers. A subject behind an unknown word is uncertain: "user
//! certificate expired" is not about the user.

use std::{iter::Peekable, ops::Range};

use super::{
    phrases::Mention,
    predicate::{Meaning, Predicate, Side},
    text::{Mark, Plain, is_unspaced},
    verdict::Stage,
};
use crate::verify::Subject;

/// An item of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentenceItem {
    Meaning(Meaning),
    /// A mailbox or path, which was removed from the text.
    Address,
    /// A name in quotes, a number or a URL. It has no meaning.
    Name,
    /// A host name or domain.
    Host,
    /// An IP address.
    Ip,
    /// A word in no vocabulary.
    Unknown,
    Pause,
    Stop,
}

/// The subject of a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) subject: Subject,
    /// Whether the word is ambiguous without a named recipient: "user", "address".
    pub(super) someone: bool,
}

impl Who {
    pub(super) fn new(subject: Subject) -> Self {
        Self { subject, someone: false }
    }
}

/// A predicate and its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) predicate: Predicate,
    pub(super) who: Option<Who>,
    /// Unknown words between predicate and subject, or around the subject. `None` if they are not side by side.
    pub(super) gap: Option<u32>,
    /// Whether the sentence has a qualifier or names another subject.
    pub(super) restricted: bool,
    /// Whether unknown words follow in the sentence, or more meanings in the clause.
    pub(super) goes_on: bool,
    /// Whether the subject is in another clause.
    pub(super) crossed: bool,
}

/// A subject, and its distance from the predicate.
#[derive(Clone, Copy)]
struct BoundSubject {
    who: Who,
    /// As in [`Assertion`].
    gap: Option<u32>,
    crossed: bool,
}

/// A text as items.
#[derive(Debug)]
pub(super) struct Sentences {
    items: Vec<SentenceItem>,
    stage: Stage,
    /// Whether the text had more items.
    is_cut: bool,
}

const RECIPIENT: Who = Who { subject: Subject::Recipient, someone: false };
const SOMEONE: Who = Who { subject: Subject::Recipient, someone: true };
/// More items than a real reply has. A longer text is cut, and its meaning is never final.
const MAX_ITEMS: usize = 384;

impl Sentences {
    pub(super) fn new(text: &Plain, mentions: &[Mention], stage: Stage) -> Self {
        let mut sentences = Self { items: Vec::with_capacity(32), stage, is_cut: false };
        let mut marks = text.marks.iter().peekable();
        let mut at = 0;
        for mention in mentions {
            sentences.words(text, at..mention.range.start, &mut marks);
            while marks
                .next_if(|(position, _)| *position <= mention.range.start)
                .map(|(_, mark)| sentences.mark(*mark))
                .is_some()
            {}
            let named = text
                .names
                .iter()
                .any(|name| name.start <= mention.range.start && mention.range.end <= name.end);
            sentences.items.push(match mention.meaning {
                // The value of a key, or a word in quotes.
                Meaning::Subject(_) | Meaning::Someone | Meaning::Filler if named => SentenceItem::Name,
                meaning => SentenceItem::Meaning(meaning),
            });
            while marks.next_if(|(position, _)| *position < mention.range.end).is_some() {}
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

    /// Adds the words of a range without mentions.
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
            while let Some((_, mark)) = marks.next_if(|(position, _)| *position <= start) {
                self.mark(*mark);
            }
            let named = text.names.iter().any(|name| name.start <= start && start < name.end);
            // The rest of a name that contains a mention: "resolver.adr.recipientnotfound".
            let ends =
                (text.words[..start].chars().next_back(), text.words[start + word.len()..].chars().next());
            let attached =
                word.is_ascii() && [ends.0, ends.1].iter().flatten().any(char::is_ascii_alphanumeric);
            let item = if named || attached { Some(SentenceItem::Name) } else { unmentioned(word) };
            self.items.extend(item);
        }
    }

    /// Returns whether the text says only that a recipient is rejected. Its code then decides.
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

    /// Returns whether the text has a qualifier, or names the client or the sender.
    pub(super) fn is_restricted(&self) -> bool {
        let restricts = |item: &SentenceItem| match item {
            SentenceItem::Meaning(Meaning::Qualifier) => true,
            SentenceItem::Meaning(Meaning::Subject(subject) | Meaning::Statement(subject, _)) => {
                is_client_side(*subject)
            }
            _ => false,
        };
        self.is_cut || self.items.iter().any(restricts)
    }

    /// Returns all assertions of the text.
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
                    let gap = (!beside().any(|item| is_other_subject(*item))).then_some(unknown);
                    (predicate, Some(BoundSubject { who: Who::new(subject), gap, crossed: false }))
                }
                _ => return None,
            };
            let who = bound.map(|bound| bound.who);
            let (start, end) = self.sentence(at);
            let rest = &self.items[at + 1..end];
            let restricts = |item: &SentenceItem| is_restriction(*item, who.map(|who| who.subject));
            let restricted =
                self.is_cut || self.items[start..end].iter().any(restricts) || leaves_recipient(rest);
            let clause = rest.iter().take_while(|item| !ends_clause(**item));
            let goes_on =
                rest.contains(&SentenceItem::Unknown) || clause.into_iter().any(|item| adds_meaning(*item));
            let gap = bound.and_then(|bound| bound.gap);
            let crossed = bound.is_some_and(|bound| bound.crossed);
            Some(Assertion { predicate, who, gap, restricted, goes_on, crossed })
        })
    }

    /// Returns the range of the sentence around an item.
    fn sentence(&self, at: usize) -> (usize, usize) {
        let start =
            self.items[..at].iter().rposition(|item| *item == SentenceItem::Stop).map_or(0, |stop| stop + 1);
        let end = self.items[at..]
            .iter()
            .position(|item| *item == SentenceItem::Stop)
            .map_or(self.items.len(), |n| at + n);
        (start, end)
    }

    /// Returns the items of the clause around an item, without the item, nearest first.
    fn clause(&self, at: usize) -> impl Iterator<Item = SentenceItem> {
        let before = self.items[..at].iter().rev().take_while(|item| !ends_clause(**item));
        before.chain(self.items[at + 1..].iter().take_while(|item| !ends_clause(**item))).copied()
    }

    /// Finds the subject of the predicate at `at`, and counts the unknown words between them.
    fn bind(&self, at: usize, side: Side, predicate: Predicate) -> Option<BoundSubject> {
        let before = self.before(at);
        let after = (side != Side::Before).then(|| self.after(at, before.is_none())).flatten();
        // "Your IP has no PTR record" is about the client, not about the missing record.
        let before = before
            .filter(|before| side != Side::After || (is_client_side(before.who.subject) && !before.crossed));
        let beside = match (before, after) {
            // A subject beside the predicate precedes one in another clause.
            (Some(before), Some(after)) if before.crossed => Some(after),
            (Some(before), Some(after)) => {
                let after_decides = match (before.who.subject, after.who.subject) {
                    (Subject::Recipient, Subject::Recipient) => after.gap < before.gap,
                    (Subject::Recipient, _) => true,
                    (one, other) => is_client_side(other) && !is_client_side(one),
                };
                Some(if after_decides { after } else { before })
            }
            (before, after) => before.or(after),
        };
        let not_adjacent = |who: Who| BoundSubject { who, gap: None, crossed: false };
        let (start, end) = self.sentence(at);
        let sentence = || {
            self.items[start..at].iter().rev().chain(&self.items[at + 1..end]).filter_map(|item| who(*item))
        };
        let named = || sentence().find(|who| is_client_side(who.subject) && !who.someone);
        let own = || {
            named()
                .or_else(|| self.clause(at).filter_map(who).find(|who| is_client_side(who.subject)))
                .map(not_adjacent)
        };
        match beside {
            // A refusal is about the client or sender if the sentence names one.
            Some(bound) if predicate.refuses() && !is_client_side(bound.who.subject) => own().or(Some(bound)),
            Some(bound) if bound.crossed && bound.who.subject == Subject::Recipient => {
                let other = self.clause(at).filter_map(who).find(|who| who.subject != Subject::Recipient);
                other.map(not_adjacent).or(Some(bound))
            }
            Some(bound) => Some(bound),
            None => {
                let other = sentence().find(|who| who.subject != Subject::Recipient);
                own().or_else(|| other.or_else(|| sentence().next()).map(not_adjacent))
            }
        }
    }

    /// Finds the noun after a predicate: "no such user". If no noun precedes it, the noun may follow a colon.
    fn after(&self, at: usize, alone: bool) -> Option<BoundSubject> {
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
                (_, Some(next)) => {
                    found = if of { other_than_recipient(found, next) } else { head(found, next) }
                }
                (SentenceItem::Meaning(Meaning::Preposition), _) => of = true,
                (SentenceItem::Meaning(Meaning::Filler) | SentenceItem::Name | SentenceItem::Address, _) => {}
                (SentenceItem::Unknown, _) => {
                    gap = u32::from(!of);
                    break;
                }
                _ => break,
            }
        }
        Some(BoundSubject { who: found, gap: Some(gap), crossed })
    }

    /// Finds the noun before a predicate: "user does not exist". It may be in another clause.
    fn before(&self, at: usize) -> Option<BoundSubject> {
        let (mut gap, mut crossed, mut address, mut of) = (0, false, false, false);
        for n in (0..at).rev() {
            let item = self.items[n];
            if let Some(found) = who(item) {
                let (found, more) = self.phrase_before(n, found);
                return Some(BoundSubject { who: found, gap: Some(gap + more), crossed });
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
        bare.then_some(BoundSubject { who: SOMEONE, gap: Some(gap), crossed })
    }

    /// Returns the subject of the noun phrase that ends at `end`, and the number of its unknown words.
    fn phrase_before(&self, end: usize, mut found: Who) -> (Who, u32) {
        let mut of = false;
        let mut direct = true;
        for n in (0..end).rev() {
            let item = self.items[n];
            match (item, who(item)) {
                // "message recipient unknown" is about the recipient, "sender address unknown" is not.
                (_, Some(before)) if of => {
                    found = other_than_recipient(before, found);
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

/// Returns the item of a word that has no meaning in any vocabulary.
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

/// Returns the subject that a noun names.
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

/// Returns the subject of two connected nouns: the one that is not the recipient, and client or sender before others.
///
/// The first noun governs the second: "recipient of the message" is a recipient, "format of the address" is not.
fn other_than_recipient(one: Who, other: Who) -> Who {
    match (one.subject, other.subject) {
        (Subject::Recipient, Subject::Recipient) if one.someone => other,
        (Subject::Recipient, Subject::Content) => one,
        (Subject::Recipient, _) => other,
        (one, subject) if is_client_side(subject) && !is_client_side(one) => other,
        _ => one,
    }
}

/// Returns whether the subject is the client or the sender.
fn is_client_side(subject: Subject) -> bool {
    matches!(subject, Subject::Client | Subject::Sender)
}

/// Returns the subject of two adjacent nouns. A host name or an IP address before a noun only names it.
fn head(first: Who, last: Who) -> Who {
    let names = first.someone && first.subject != Subject::Recipient;
    match (first.subject, last.subject) {
        _ if names => last,
        (Subject::Recipient, Subject::Content) => last,
        _ => other_than_recipient(first, last),
    }
}

fn ends_clause(item: SentenceItem) -> bool {
    matches!(item, SentenceItem::Pause | SentenceItem::Stop)
}

fn is_other_subject(item: SentenceItem) -> bool {
    who(item).is_some_and(|who| who.subject != Subject::Recipient && !who.someone)
}

/// Returns whether an item restricts what a sentence says about its subject.
fn is_restriction(item: SentenceItem, about: Option<Subject>) -> bool {
    match item {
        SentenceItem::Meaning(Meaning::Qualifier) => true,
        SentenceItem::Meaning(Meaning::Subject(subject) | Meaning::Statement(subject, _)) => {
            !matches!(subject, Subject::Recipient | Subject::Content) && Some(subject) != about
        }
        _ => false,
    }
}

/// Returns whether an item after a predicate adds more than a name for its subject.
fn adds_meaning(item: SentenceItem) -> bool {
    let SentenceItem::Meaning(meaning) = item else { return false };
    let names =
        [Meaning::Subject(Subject::Recipient), Meaning::Subject(Subject::RecipientDomain), Meaning::Someone];
    meaning != Meaning::Filler && !names.contains(&meaning)
}

/// Returns whether the rest of a sentence moves away from the recipient: "for visitors", "in newsletters".
fn leaves_recipient(rest: &[SentenceItem]) -> bool {
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
