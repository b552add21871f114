//! How a lane stands with its provider: whether it is wanted, and which verdicts are in doubt if it turns out not to be.
//!
//! Servers say "no such user" of everybody to clients that they do not like, and only then, or never, what they mean. So
//! a refusal for the recipient's sake counts for good once a later acceptance shows that we are still welcome. Until then
//! it is provisional: a burst of blame on us takes it back.
//!
//! | refusals | the server is no longer asked after |
//! |---|---|
//! | with blame on us | ten in a row |
//! | of the sender, or by a policy that asking again does not change | ten in a row, where no recipient of the domain was accepted or refused for its own sake; else a run that the answers before it do not explain |
//! | of a mailbox that was accepted before (see [`harvest_defence`](super::harvest_defence)) | one |
//!
//! Refusals of the sender and by policy often concern some recipients only, so others beside them count.

use std::{collections::VecDeque, mem, time::Duration};

use foldhash::{HashMap, HashSet};
use tokio::time::Instant;

use super::refusal_run::{RefusalRun, Threshold};
use crate::verify::{Blame, Record, SubStatus, Subject, item::Item, outcome::Outcome};

/// Refusals in a row with blame on us, after which nobody else is asked: the server has made itself clear.
const MAX_REFUSALS_IN_A_ROW: u32 = 10;
/// When a run of refusals of the sender, or by policy, is not explained by other answers.
const UNEXPLAINED: Threshold = Threshold { probability: 1e-5, length: 30 };
/// Provisional verdicts that are remembered; older ones are given for good.
const MAX_PROVISIONAL: usize = 4_096;
/// Octets of their addresses and replies, 1 MiB.
const MAX_PROVISIONAL_OCTETS: usize = 1 << 20;
/// For how long a provider that does not want us is left alone: at first, and at the most.
const BLOCK_DURATION: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3_600));

/// A verdict that a burst of blame would take back.
pub(in crate::verify) enum ProvisionalVerdict {
    /// Kept back until it is sure.
    Held(Box<HeldVerdict>),
    /// Told to the caller, who knows it by this number.
    Reported { id: u64, domain: u32 },
}

/// A verdict that is kept back, and all it takes to come to another one.
pub(in crate::verify) struct HeldVerdict {
    pub(in crate::verify) mx_set: usize,
    pub(in crate::verify) item: Item,
    pub(in crate::verify) record: Record,
}

impl ProvisionalVerdict {
    fn domain(&self) -> u32 {
        match self {
            Self::Held(held) => held.item.domain,
            Self::Reported { domain, .. } => *domain,
        }
    }

    /// What its texts take.
    fn octets(&self) -> usize {
        match self {
            Self::Held(held) => {
                held.record.address.len() + held.record.reply.as_ref().map_or(0, |reply| reply.len())
            }
            Self::Reported { .. } => 0,
        }
    }
}

/// What an answer with blame on us leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verify) enum BlockScope {
    /// Nothing yet.
    None,
    /// The domain does not want us; others at the same servers do.
    Domain,
    /// The provider does not want us.
    Lane,
}

/// Why and until when a provider is left alone.
#[derive(Clone, Debug)]
struct ProviderBlock {
    outcome: Outcome,
    until: Instant,
}

/// A provisional verdict, and where it comes from.
struct ProvisionalEntry {
    at: Instant,
    connection: u32,
    verdict: ProvisionalVerdict,
}

/// What is in doubt at a set of exchangers.
#[derive(Default)]
struct ProvisionalOfSet {
    /// In the order in which they were handed in, which is that of the answers on each connection.
    provisional: VecDeque<ProvisionalEntry>,
    /// When somebody was asked about who was accepted, the last time, as far as that counts for all connections.
    confirmed_until: Option<Instant>,
    /// A connection with an acceptance that was handed in behind so many of the verdicts.
    confirmed_by: Option<(u32, usize)>,
}

/// Refusals of the sender or by policy.
#[derive(Default)]
struct PolicyRun {
    run: RefusalRun,
    /// Refusals in a row, and the domain that they began with, unless there were several.
    row: (u32, Option<u32>),
    /// Domains of which a recipient was accepted, or refused for its own sake; and the last of them.
    judged: (HashSet<u32>, Option<u32>),
}

/// See the [module](self).
#[derive(Default)]
pub(in crate::verify) struct ProviderBreaker {
    /// Refusals in a row with blame on us, and the domain that they began with, unless there were several.
    row: (u32, Option<u32>),
    /// The domains of the last acceptances, of which at most one is the domain in question.
    clean: (Option<u32>, Option<u32>),
    policy: PolicyRun,
    /// By MX set: one tenant of a provider may be told lies while another is not.
    by_mx_set: HashMap<usize, ProvisionalOfSet>,
    /// Provisional verdicts of all MX sets, and octets of their texts.
    provisional: usize,
    octets: usize,
    blocked: Option<ProviderBlock>,
    trips: u32,
    /// Domains that do not want us.
    domains: HashMap<u32, Outcome>,
    /// How often a server was found to refuse everybody as if nobody existed.
    pub(in crate::verify) harvest_defences: u32,
    /// Answers that refuse the sender.
    pub(in crate::verify) sender_refusals: u64,
}

impl ProviderBreaker {
    /// What the provider said, while it is left alone.
    pub(in crate::verify) fn blocked(&self, now: Instant) -> Option<&Outcome> {
        self.blocked.as_ref().filter(|blocked| now < blocked.until).map(|blocked| &blocked.outcome)
    }

    /// What it said when it was last found not to want us, whether it is tried again by now or not.
    pub(in crate::verify) fn last_block(&self) -> Option<&Outcome> {
        self.blocked.as_ref().map(|blocked| &blocked.outcome)
    }

    /// The time is over, and a few may be asked to find out whether it still does not want us.
    pub(in crate::verify) fn is_on_probation(&self, now: Instant) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| now >= blocked.until)
    }

    /// Whether any domain does not want us.
    pub(in crate::verify) fn blocks_any_domain(&self) -> bool {
        !self.domains.is_empty()
    }

    /// What a domain said that does not want us.
    pub(in crate::verify) fn domain_block(&self, domain: u32) -> Option<&Outcome> {
        self.domains.get(&domain)
    }

    /// Records that a recipient was accepted who was `asked` about at a time: whatever was said before was meant.
    /// Connections read their answers when they like, and hand them in late, so that an acceptance proves nothing about
    /// what was said after its question; nor, unless `everywhere`, about what was said on another connection.
    pub(in crate::verify) fn record_acceptance(
        &mut self,
        mx_set: usize,
        connection: u32,
        everywhere: bool,
        domain: u32,
        asked: Instant,
    ) {
        self.row = (0, None);
        self.record_recipient_answer(domain);
        if self.clean.0 != Some(domain) {
            self.clean = (Some(domain), self.clean.0);
        }
        if self.blocked.as_ref().is_none_or(|blocked| blocked.until <= asked) {
            (self.blocked, self.trips) = (None, 0);
        }
        let of_set = self.by_mx_set.entry(mx_set).or_default();
        of_set.confirmed_by = Some((connection, of_set.provisional.len()));
        if everywhere {
            of_set.confirmed_until = of_set.confirmed_until.max(Some(asked));
        }
    }

    /// Records that a recipient was accepted, or refused for its own sake.
    fn record_recipient_answer(&mut self, domain: u32) {
        let PolicyRun { run, row, judged } = &mut self.policy;
        run.record_acceptance();
        *row = (0, None);
        if judged.1 != Some(domain) {
            judged.0.insert(domain);
            judged.1 = Some(domain);
        }
    }

    /// Records a refusal of a recipient of `domain`, whatever its reason. `others` tells whether recipients of other
    /// domains wait.
    pub(in crate::verify) fn record_refusal(
        &mut self,
        domain: u32,
        outcome: &Outcome,
        others: impl FnOnce() -> bool,
        now: Instant,
    ) -> BlockScope {
        let verdict = &outcome.verdict;
        let sender = verdict.subject == Some(Subject::Sender);
        self.sender_refusals += u64::from(sender);
        // 530 demands TLS or AUTH of the connection (RFC 3207 4, RFC 4954 6): that is no refusal of us.
        let policy =
            verdict.sub_status == SubStatus::PolicyRejected && verdict.subject != Some(Subject::Connection);
        match verdict.blame {
            _ if verdict.retry.is_none() && (sender || policy) => {
                self.row = (0, None);
                self.record_policy_refusal(domain, outcome, others, now)
            }
            Some(Blame::Us) => self.record_blame(domain, outcome, now),
            // It breaks the row; but only an acceptance shows that we are welcome again.
            blame => {
                self.row = (0, None);
                if blame == Some(Blame::Recipient) {
                    self.record_recipient_answer(domain);
                }
                BlockScope::None
            }
        }
    }

    fn record_policy_refusal(
        &mut self,
        domain: u32,
        outcome: &Outcome,
        others: impl FnOnce() -> bool,
        now: Instant,
    ) -> BlockScope {
        let probation = self.is_on_probation(now);
        let PolicyRun { run, row, judged } = &mut self.policy;
        run.record_refusal();
        let several = row.0 > 0 && row.1 != Some(domain);
        *row = (row.0 + 1, (!several).then_some(domain));
        let nothing_else = judged.0.is_empty();
        let unjudged = nothing_else || !several && !judged.0.contains(&domain);
        let stop = unjudged && row.0 >= MAX_REFUSALS_IN_A_ROW || run.is_improbable(UNEXPLAINED);
        if !stop && !probation {
            return BlockScope::None;
        }
        *row = (0, None);
        run.forget();
        // Other domains of the server may have other rules, unless a second one had the same and none had others.
        let first = !nothing_else || self.domains.is_empty();
        if !several && first && self.blocked.is_none() && (self.has_clean_beside(domain) || others()) {
            self.domains.insert(domain, outcome.clone());
            return BlockScope::Domain;
        }
        self.block(outcome, now);
        BlockScope::Lane
    }

    /// Tells whether recipients of another domain were accepted lately.
    fn has_clean_beside(&self, domain: u32) -> bool {
        [self.clean.0, self.clean.1].into_iter().flatten().any(|clean| clean != domain)
    }

    /// Why a refusal of a recipient of the domain tells nothing: who does not want us may say so in any words.
    pub(in crate::verify) fn distrust_reason(&self, domain: u32) -> Option<&Outcome> {
        self.last_block().or_else(|| self.domain_block(domain))
    }

    /// Remembers a verdict that was given `at` a time and is not sure yet.
    pub(in crate::verify) fn add_provisional(
        &mut self,
        mx_set: usize,
        connection: u32,
        at: Instant,
        verdict: ProvisionalVerdict,
    ) {
        self.octets += verdict.octets();
        let entry = ProvisionalEntry { at, connection, verdict };
        self.by_mx_set.entry(mx_set).or_default().provisional.push_back(entry);
        self.provisional += 1;
    }

    /// Tells whether anything is in doubt at an MX set.
    pub(in crate::verify) fn has_provisional(&self, mx_set: usize) -> bool {
        self.by_mx_set.get(&mx_set).is_some_and(|of_set| !of_set.provisional.is_empty())
    }

    /// Tells whether any verdict is kept back at an MX set.
    pub(in crate::verify) fn holds_any(&self, mx_set: usize) -> bool {
        let is_held = |entry: &ProvisionalEntry| matches!(entry.verdict, ProvisionalVerdict::Held(_));
        self.by_mx_set.get(&mx_set).is_some_and(|of_set| of_set.provisional.iter().any(is_held))
    }

    /// Takes the provisional verdicts of an MX set that have become sure, or are too many to be remembered.
    pub(in crate::verify) fn take_confirmed(&mut self, mx_set: usize) -> Vec<ProvisionalVerdict> {
        let Some(of_set) = self.by_mx_set.get_mut(&mx_set) else { return Vec::new() };
        let confirmed_by = of_set.confirmed_by.take();
        let until = of_set.confirmed_until;
        let mut confirmed = Vec::new();
        let is_confirmed = |nth: usize, entry: &ProvisionalEntry| {
            let by_itself = confirmed_by.is_some_and(|(on, before)| entry.connection == on && nth < before);
            by_itself || until.is_some_and(|until| entry.at < until)
        };
        let before = confirmed_by.map_or(0, |(_, before)| before);
        let mut left = VecDeque::new();
        for (nth, entry) in of_set.provisional.drain(..before).enumerate() {
            match is_confirmed(nth, &entry) {
                true => confirmed.push(entry.verdict),
                false => left.push_back(entry),
            }
        }
        if !left.is_empty() {
            left.append(&mut of_set.provisional);
            of_set.provisional = left;
        }
        let octets_of = |confirmed: &[ProvisionalVerdict]| {
            confirmed.iter().map(ProvisionalVerdict::octets).sum::<usize>()
        };
        let (mut provisional, mut octets) =
            (self.provisional - confirmed.len(), self.octets - octets_of(&confirmed));
        while provisional > MAX_PROVISIONAL || octets > MAX_PROVISIONAL_OCTETS {
            let Some(ProvisionalEntry { verdict, .. }) = of_set.provisional.pop_front() else { break };
            provisional -= 1;
            octets -= verdict.octets();
            confirmed.push(verdict);
        }
        (self.provisional, self.octets) = (provisional, octets);
        confirmed
    }

    /// Nothing more will come that could cast doubt on what was kept back.
    pub(in crate::verify) fn take_all(&mut self) -> Vec<ProvisionalVerdict> {
        self.take_provisional(None)
    }

    /// Records an answer with blame on us, about a recipient of `domain`.
    fn record_blame(&mut self, domain: u32, outcome: &Outcome, now: Instant) -> BlockScope {
        let several = self.row.0 > 0 && self.row.1 != Some(domain);
        self.row = (self.row.0 + 1, (!several).then_some(domain));
        if self.row.0 < MAX_REFUSALS_IN_A_ROW && !self.is_on_probation(now) {
            return BlockScope::None;
        }
        // One domain of many may have rules of its own.
        if !several && self.has_clean_beside(domain) && self.domains.is_empty() && self.blocked.is_none() {
            self.domains.insert(domain, outcome.clone());
            self.row = (0, None);
            return BlockScope::Domain;
        }
        self.block(outcome, now);
        BlockScope::Lane
    }

    /// The provider does not want us.
    pub(in crate::verify) fn block(&mut self, outcome: &Outcome, now: Instant) {
        self.block_for(None, outcome, now);
    }

    /// Leaves the provider alone, the first time for as long as is given if that is less than usual.
    pub(in crate::verify) fn block_for(&mut self, first: Option<Duration>, outcome: &Outcome, now: Instant) {
        let first = first.map_or(BLOCK_DURATION.0, |first| first.min(BLOCK_DURATION.0));
        let alone = first.saturating_mul(1 << self.trips.min(8)).min(BLOCK_DURATION.1);
        self.blocked = Some(ProviderBlock { outcome: outcome.clone(), until: now + alone });
        self.trips += 1;
        self.row = (0, None);
    }

    /// The provisional verdicts of the domain, or all of them.
    pub(in crate::verify) fn take_provisional(&mut self, domain: Option<u32>) -> Vec<ProvisionalVerdict> {
        let of = |verdict: &ProvisionalVerdict| domain.is_none_or(|domain| verdict.domain() == domain);
        let mut all = Vec::new();
        for of_set in self.by_mx_set.values_mut() {
            let (taken, left): (Vec<_>, Vec<_>) =
                mem::take(&mut of_set.provisional).into_iter().partition(|entry| of(&entry.verdict));
            (of_set.provisional, of_set.confirmed_by) = (left.into(), None);
            all.extend(taken);
        }
        self.remove(all)
    }

    /// Takes the provisional verdicts of the connections to an MX set on which so many in doubt are `unlikely`: of whole
    /// connections, the earliest first, until there are `most`.
    pub(in crate::verify) fn take_unconfirmed(
        &mut self,
        mx_set: usize,
        most: usize,
        unlikely: impl Fn(usize) -> bool,
    ) -> Vec<ProvisionalVerdict> {
        let Some(of_set) = self.by_mx_set.get_mut(&mx_set).filter(|_| most > 0) else { return Vec::new() };
        let mut counts: HashMap<u32, usize> = HashMap::default();
        for entry in &of_set.provisional {
            *counts.entry(entry.connection).or_default() += 1;
        }
        let (mut chosen, mut wanted): (HashMap<u32, bool>, _) = (HashMap::default(), most);
        let (taken, left): (Vec<_>, Vec<_>) =
            mem::take(&mut of_set.provisional).into_iter().partition(|entry| {
                *chosen.entry(entry.connection).or_insert_with(|| {
                    let count = counts.get(&entry.connection).copied().unwrap_or(0);
                    let choose = wanted > 0 && unlikely(count);
                    wanted = wanted.saturating_sub(if choose { count } else { 0 });
                    choose
                })
            });
        (of_set.provisional, of_set.confirmed_by) = (left.into(), None);
        self.remove(taken)
    }

    /// Takes the provisional verdicts of an MX set.
    pub(in crate::verify) fn take_provisional_at(&mut self, mx_set: usize) -> Vec<ProvisionalVerdict> {
        let Some(of_set) = self.by_mx_set.get_mut(&mx_set) else { return Vec::new() };
        of_set.confirmed_by = None;
        let taken = mem::take(&mut of_set.provisional);
        self.remove(taken)
    }

    /// Records that these are no longer provisional.
    fn remove(&mut self, taken: impl IntoIterator<Item = ProvisionalEntry>) -> Vec<ProvisionalVerdict> {
        let taken: Vec<_> = taken.into_iter().map(|entry| entry.verdict).collect();
        self.provisional -= taken.len();
        self.octets -= taken.iter().map(ProvisionalVerdict::octets).sum::<usize>();
        taken
    }

    /// Whether nothing is in doubt, and nobody does not want us.
    pub(in crate::verify) fn is_clear(&self) -> bool {
        self.provisional == 0 && self.blocked.is_none() && self.domains.is_empty()
    }

    /// Forgets of which domains recipients were judged, but for the last: that there was any is still known.
    pub(in crate::verify) fn forget_domains(&mut self) {
        let (judged, last) = &mut self.policy.judged;
        judged.retain(|domain| Some(*domain) == *last);
    }

    /// When the provider will be tried again.
    pub(in crate::verify) fn blocked_until(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|blocked| blocked.until)
    }
}

#[cfg(test)]
mod tests;
