//! How a lane stands with its provider: whether it is wanted, and which verdicts are in doubt if it turns out not to be.
//!
//! Servers say "no such user" of everybody to clients that they do not like, and only then, or never, what they mean. So
//! a refusal for the recipient's sake counts for good once a later acceptance shows that we are still welcome. Until then
//! it is a suspect: a burst of blame on us takes it back.

use std::{collections::VecDeque, mem, time::Duration};

use foldhash::HashMap;
use tokio::time::Instant;

use super::{Record, engine::Item, outcome::Outcome};

/// Refusals in a row with blame on us, after which nobody else is asked: the server has made itself clear.
const BLAMED: u32 = 10;
/// Suspects that are remembered; older ones are given for good.
const MAX_SUSPECTS: usize = 4_096;
/// For how long a provider that does not want us is left alone: at first, and at the most.
const ALONE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3_600));

/// A verdict that a burst of blame would take back.
pub(super) enum Suspect {
    /// Kept back until it is sure.
    Kept(Box<Kept>),
    /// Told to the caller, who knows it by this number.
    Told { id: u64, domain: u32 },
}

/// A verdict that is kept back, and all it takes to come to another one.
pub(super) struct Kept {
    pub(super) group: usize,
    pub(super) item: Item,
    pub(super) record: Record,
}

impl Suspect {
    fn domain(&self) -> u32 {
        match self {
            Self::Kept(kept) => kept.item.domain,
            Self::Told { domain, .. } => *domain,
        }
    }
}

/// What an answer with blame on us leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing yet.
    None,
    /// The domain does not want us; others at the same servers do.
    Domain,
    /// The provider does not want us.
    Lane,
}

/// Why and until when a provider is left alone.
#[derive(Clone, Debug)]
struct Blocked {
    outcome: Outcome,
    until: Instant,
}

/// What is in doubt at a set of exchangers.
#[derive(Default)]
struct Doubt {
    suspects: VecDeque<(Instant, Suspect)>,
    /// When somebody was asked about who was accepted, the last time.
    sure_until: Option<Instant>,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Standing {
    /// Refusals in a row with blame on us, and the domain that they began with, unless there were several.
    row: (u32, Option<u32>),
    /// The domains of the last acceptances, of which at most one is the domain in question.
    clean: (Option<u32>, Option<u32>),
    /// By group: one tenant of a provider may be told lies while another is not.
    doubts: HashMap<usize, Doubt>,
    /// Suspects of all groups.
    suspects: usize,
    blocked: Option<Blocked>,
    trips: u32,
    /// Domains that do not want us.
    domains: HashMap<u32, Outcome>,
}

impl Standing {
    /// What the provider said, while it is left alone.
    pub(super) fn blocked(&self, now: Instant) -> Option<&Outcome> {
        self.blocked.as_ref().filter(|blocked| now < blocked.until).map(|blocked| &blocked.outcome)
    }

    /// What it said when it was last found not to want us, whether it is tried again by now or not.
    pub(super) fn verdict(&self) -> Option<&Outcome> {
        self.blocked.as_ref().map(|blocked| &blocked.outcome)
    }

    /// The time is over, and a few may be asked to find out whether it still does not want us.
    pub(super) fn is_on_probation(&self, now: Instant) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| now >= blocked.until)
    }

    /// Whether any domain does not want us.
    pub(super) fn refuses_any(&self) -> bool {
        !self.domains.is_empty()
    }

    /// What a domain said that does not want us.
    pub(super) fn refuses(&self, domain: u32) -> Option<&Outcome> {
        self.domains.get(&domain)
    }

    /// Takes note that a recipient was accepted who was `asked` about at a time: whatever was said before was meant.
    /// Connections read their answers when they like, and hand them in late, so that an acceptance proves nothing about
    /// what was said after its question.
    pub(super) fn accepted(&mut self, group: usize, domain: u32, asked: Instant) {
        self.row = (0, None);
        if self.clean.0 != Some(domain) {
            self.clean = (Some(domain), self.clean.0);
        }
        if self.blocked.as_ref().is_none_or(|blocked| blocked.until <= asked) {
            (self.blocked, self.trips) = (None, 0);
        }
        let doubt = self.doubts.entry(group).or_default();
        doubt.sure_until = doubt.sure_until.max(Some(asked));
    }

    /// Takes note of an answer that neither accepts nor blames us. It breaks the row; but only an acceptance shows that we
    /// are welcome again.
    pub(super) fn answered(&mut self) {
        self.row = (0, None);
    }

    /// Why a refusal of a recipient of the domain tells nothing: who does not want us may say so in any words.
    pub(super) fn distrusts(&self, domain: u32) -> Option<&Outcome> {
        self.verdict().or_else(|| self.refuses(domain))
    }

    /// Remembers a verdict that was given `at` a time and is not sure yet.
    pub(super) fn suspect(&mut self, group: usize, at: Instant, suspect: Suspect) {
        self.doubts.entry(group).or_default().suspects.push_back((at, suspect));
        self.suspects += 1;
    }

    /// One after the other, the suspects of a group that have become sure, or too many to be remembered.
    pub(super) fn sure(&mut self, group: usize) -> Option<Suspect> {
        let doubt = self.doubts.get_mut(&group)?;
        let (at, _) = doubt.suspects.front()?;
        let sure = doubt.sure_until.is_some_and(|until| *at < until) || self.suspects > MAX_SUSPECTS;
        if !sure {
            return None;
        }
        self.suspects -= 1;
        doubt.suspects.pop_front().map(|(_, suspect)| suspect)
    }

    /// Nothing more will come that could cast doubt on what was kept back.
    pub(super) fn release(&mut self) -> Vec<Suspect> {
        self.take_suspects(None)
    }

    /// Takes note of an answer with blame on us, about a recipient of `domain`.
    pub(super) fn blamed(&mut self, domain: u32, outcome: &Outcome, now: Instant) -> Finding {
        let several = self.row.0 > 0 && self.row.1 != Some(domain);
        self.row = (self.row.0 + 1, (!several).then_some(domain));
        if self.row.0 < BLAMED && !self.is_on_probation(now) {
            return Finding::None;
        }
        // One domain of many may have rules of its own.
        let others = [self.clean.0, self.clean.1].into_iter().flatten().any(|clean| clean != domain);
        if !several && others && self.domains.is_empty() && self.blocked.is_none() {
            self.domains.insert(domain, outcome.clone());
            self.row = (0, None);
            return Finding::Domain;
        }
        self.block(outcome, now);
        Finding::Lane
    }

    /// The provider does not want us.
    pub(super) fn block(&mut self, outcome: &Outcome, now: Instant) {
        let alone = ALONE.0.saturating_mul(1 << self.trips.min(8)).min(ALONE.1);
        self.blocked = Some(Blocked { outcome: outcome.clone(), until: now + alone });
        self.trips += 1;
        self.row = (0, None);
    }

    /// The suspects of the domain, or all of them.
    pub(super) fn take_suspects(&mut self, domain: Option<u32>) -> Vec<Suspect> {
        let of = |suspect: &Suspect| domain.is_none_or(|domain| suspect.domain() == domain);
        let mut all = Vec::new();
        for doubt in self.doubts.values_mut() {
            let (taken, left): (Vec<_>, Vec<_>) =
                mem::take(&mut doubt.suspects).into_iter().partition(|(_, suspect)| of(suspect));
            doubt.suspects = left.into();
            all.extend(taken.into_iter().map(|(_, suspect)| suspect));
        }
        self.suspects -= all.len();
        all
    }

    /// When the provider will be tried again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|blocked| blocked.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Unreachable;

    fn told(id: u64, domain: u32) -> Suspect {
        Suspect::Told { id, domain }
    }

    fn ids(suspects: impl IntoIterator<Item = Suspect>) -> Vec<u64> {
        let id = |suspect| match suspect {
            Suspect::Told { id, .. } => id,
            Suspect::Kept(kept) => kept.item.id,
        };
        suspects.into_iter().map(id).collect()
    }

    fn outcome() -> Outcome {
        Outcome::of_unreachable(&Unreachable::NullMx)
    }

    /// The last finding after so many answers with blame on us.
    fn blame(standing: &mut Standing, domain: u32, times: u32, now: Instant) -> Finding {
        (0..times).map(|_| standing.blamed(domain, &outcome(), now)).last().unwrap()
    }

    #[test]
    fn an_acceptance_clears_suspects_and_a_burst_takes_them_back() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        standing.suspect(0, at(1), told(1, 1));
        standing.suspect(0, at(3), told(2, 1));
        standing.accepted(9, 5, at(4));
        assert!(standing.sure(0).is_none(), "said by somebody else");
        standing.accepted(0, 1, at(2));
        assert_eq!(ids(standing.sure(0)), [1]);
        assert!(standing.sure(0).is_none(), "said after the last acceptance");
        assert_eq!(blame(&mut standing, 1, BLAMED - 1, now), Finding::None);
        standing.answered();
        assert_eq!(blame(&mut standing, 5, BLAMED / 2, now), Finding::None);
        assert_eq!(blame(&mut standing, 1, BLAMED / 2, now), Finding::Lane);
        assert_eq!(ids(standing.take_suspects(None)), [2]);
        assert!(standing.blocked(now).is_some());
    }

    #[test]
    fn one_domain_of_many_is_blocked_alone_and_a_second_one_means_all() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.accepted(0, 1, now);
        standing.suspect(0, now, told(7, 2));
        standing.suspect(0, now, told(8, 1));
        assert_eq!(blame(&mut standing, 2, BLAMED, now), Finding::Domain);
        assert!(standing.refuses(2).is_some() && standing.refuses(1).is_none());
        assert_eq!(ids(standing.take_suspects(Some(2))), [7]);
        assert_eq!(blame(&mut standing, 3, BLAMED, now), Finding::Lane);
        assert_eq!(ids(standing.take_suspects(None)), [8]);
    }

    #[test]
    fn after_a_while_one_refusal_more_is_enough_and_the_while_grows() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        blame(&mut standing, 1, BLAMED, now);
        let later = now + ALONE.0;
        assert!(standing.blocked(later).is_none() && standing.is_on_probation(later));
        assert_eq!(blame(&mut standing, 1, 1, later), Finding::Lane);
        assert!(standing.blocked(later + ALONE.0).is_some());
        let again = later + 2 * ALONE.0;
        assert!(standing.is_on_probation(again));
        standing.accepted(0, 1, later);
        assert!(standing.is_on_probation(again), "said before");
        standing.accepted(0, 1, again);
        assert!(!standing.is_on_probation(again) && standing.verdict().is_none());
    }
}
