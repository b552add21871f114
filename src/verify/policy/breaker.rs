//! Decides when a lane stops asking its provider, and which verdicts are provisional because the provider may be
//! blocking us.
//!
//! A server that blocks us may refuse every recipient as "no such user". So a refusal with blame on the recipient is
//! final only once a later acceptance shows that the server does not block us. Until then the verdict is provisional: a
//! run of refusals with blame on us makes it void.
//!
//! | refusals | the provider is no longer asked after |
//! |---|---|
//! | with blame on us | ten in a row |
//! | permanent, of the sender or by a policy, if no recipient of the domain was accepted or refused on its own account | ten in a row |
//! | the same, if one was | a run that the answers before it do not explain |
//! | of a mailbox that was accepted before (see [`harvest_defence`](super::harvest_defence)) | one |
//!
//! Refusals of the sender and by policy often concern some recipients only, so the answers about other recipients
//! count.

use std::{collections::VecDeque, mem, time::Duration};

use foldhash::{HashMap, HashSet};
use tokio::time::Instant;

use super::refusal_run::{RefusalRun, Threshold};
use crate::verify::{Blame, Record, SubStatus, Subject, item::Item, outcome::Outcome};

/// After so many refusals in a row with blame on us, the provider is no longer asked.
const MAX_REFUSALS_IN_A_ROW: u32 = 10;
/// The limits beyond which other answers do not explain a run of refusals of the sender or by policy.
const UNEXPLAINED: Threshold = Threshold { probability: 1e-5, length: 30 };
/// Provisional verdicts that are remembered. Older ones become final.
const MAX_PROVISIONAL: usize = 4_096;
/// The octets of their addresses and replies that are remembered, 1 MiB.
const MAX_PROVISIONAL_OCTETS: usize = 1 << 20;
/// The shortest and the longest time for which a provider that blocks us is not asked.
const BLOCK_DURATION: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3_600));

/// A verdict that becomes void if the provider turns out to block us.
pub(in crate::verify) enum ProvisionalVerdict {
    /// A verdict that is held back until it is final.
    Held(Box<HeldVerdict>),
    /// A verdict that was reported to the caller, who knows it by this number.
    Reported { run: u32, id: u64, domain: u32 },
}

/// A verdict that is held back, with all that a further attempt needs.
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

    /// Returns the octets of its texts.
    fn octets(&self) -> usize {
        match self {
            Self::Held(held) => {
                held.record.address.len() + held.record.reply.as_ref().map_or(0, |reply| reply.len())
            }
            Self::Reported { .. } => 0,
        }
    }
}

/// What a refusal blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verify) enum BlockScope {
    /// Nothing.
    None,
    /// The domain: other domains at the same servers accept us.
    Domain,
    /// The whole lane of the provider.
    Lane,
}

/// The reason for a block, and its end.
#[derive(Clone, Debug)]
pub(in crate::verify) struct ProviderBlock {
    outcome: Outcome,
    until: Instant,
}

impl ProviderBlock {
    pub(in crate::verify) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }
}

/// A provisional verdict, its time and its connection.
struct ProvisionalEntry {
    at: Instant,
    connection: u32,
    verdict: ProvisionalVerdict,
}

/// The provisional verdicts of an MX set.
#[derive(Default)]
struct ProvisionalOfSet {
    /// The verdicts in the order in which they were added, which is that of the answers on each connection.
    provisional: VecDeque<ProvisionalEntry>,
    /// When the window of the last acceptance that confirms verdicts of all connections was sent.
    confirmed_until: Option<Instant>,
    /// The connection of the last acceptance, and the number of verdicts that were added before it.
    confirmed_by: Option<(u32, usize)>,
}

/// The refusals of the sender or by policy.
#[derive(Default)]
struct PolicyRun {
    run: RefusalRun,
    /// Refusals in a row, and their domain, unless there are several.
    row: (u32, Option<u32>),
    /// Domains with an accepted recipient, or one refused with blame on it; and the last of these domains.
    judged: (HashSet<u32>, Option<u32>),
}

/// The circuit breaker of one provider.
#[derive(Default)]
pub(in crate::verify) struct ProviderBreaker {
    /// Refusals in a row with blame on us, and their domain, unless there are several.
    row: (u32, Option<u32>),
    /// The domains of the last two acceptances, of which at most one is the domain in question.
    clean: (Option<u32>, Option<u32>),
    policy: PolicyRun,
    /// The provisional verdicts by MX set: a provider may block us at some of its customers only.
    by_mx_set: HashMap<usize, ProvisionalOfSet>,
    /// The number of provisional verdicts of all MX sets, and below it the octets of their texts.
    provisional: usize,
    octets: usize,
    blocked: Option<ProviderBlock>,
    trips: u32,
    /// Domains that block us, and until when.
    domains: HashMap<u32, ProviderBlock>,
    /// How often a control showed that a server refuses existing mailboxes as unknown.
    pub(in crate::verify) harvest_defences: u32,
    /// Answers that refuse the sender.
    pub(in crate::verify) sender_refusals: u64,
}

impl ProviderBreaker {
    /// Returns the reply of the provider for which it is not asked now.
    pub(in crate::verify) fn blocked(&self, now: Instant) -> Option<&Outcome> {
        self.blocked.as_ref().filter(|blocked| now < blocked.until).map(|blocked| &blocked.outcome)
    }

    /// Returns the reply for which the provider was last blocked, even if it may be asked again by now.
    pub(in crate::verify) fn last_block(&self) -> Option<&Outcome> {
        self.blocked.as_ref().map(|blocked| &blocked.outcome)
    }

    /// Returns whether the block is over, and a few questions may test whether the provider still blocks us.
    pub(in crate::verify) fn is_on_probation(&self, now: Instant) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| now >= blocked.until)
    }

    /// Returns whether any domain blocks us.
    pub(in crate::verify) fn blocks_any_domain(&self) -> bool {
        !self.domains.is_empty()
    }

    /// Returns the reply with which the domain blocks us.
    pub(in crate::verify) fn domain_block(&self, domain: u32) -> Option<&Outcome> {
        self.domains.get(&domain).map(|block| &block.outcome)
    }

    /// Records that a recipient was accepted whose window was sent at `asked`. The refusals before it are honest.
    ///
    /// Connections commit their answers late. So an acceptance proves nothing about answers that came after its window
    /// was sent. Unless `everywhere`, it also proves nothing about answers on other connections.
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

    /// Records that a recipient was accepted, or refused with blame on the recipient.
    fn record_recipient_answer(&mut self, domain: u32) {
        let PolicyRun { run, row, judged } = &mut self.policy;
        run.record_acceptance();
        *row = (0, None);
        if judged.1 != Some(domain) {
            judged.0.insert(domain);
            judged.1 = Some(domain);
        }
    }

    /// Records the refusal of a recipient of `domain`, for any reason. `others` tells whether recipients of other
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
        // 530 demands TLS or AUTH (RFC 3207 4, RFC 4954 6), which is no block of us.
        let policy =
            verdict.sub_status == SubStatus::PolicyRejected && verdict.subject != Some(Subject::Connection);
        match verdict.blame {
            _ if verdict.retry.is_none() && (sender || policy) => {
                self.row = (0, None);
                self.record_policy_refusal(domain, outcome, others, now)
            }
            Some(Blame::Us) => self.record_blame(domain, outcome, now),
            // The row ends, but only an acceptance shows that the block is over.
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
        // Other domains of the server may have other rules. They do not if a second domain refuses in the same way and
        // no answer speaks against it.
        let first = !nothing_else || self.domains.is_empty();
        if !several && first && self.blocked.is_none() && (self.has_clean_beside(domain) || others()) {
            self.block_domain(domain, outcome, now);
            return BlockScope::Domain;
        }
        self.block(outcome, now);
        BlockScope::Lane
    }

    /// Returns whether recipients of another domain were accepted lately.
    fn has_clean_beside(&self, domain: u32) -> bool {
        [self.clean.0, self.clean.1].into_iter().flatten().any(|clean| clean != domain)
    }

    /// Returns the block that makes a refusal of a recipient of the domain void: a server that blocks us may use any
    /// text.
    pub(in crate::verify) fn distrust_reason(&self, domain: u32) -> Option<&Outcome> {
        self.last_block().or_else(|| self.domain_block(domain))
    }

    /// Adds a provisional verdict of an answer that came `at` this time.
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

    /// Returns whether an MX set has provisional verdicts.
    pub(in crate::verify) fn has_provisional(&self, mx_set: usize) -> bool {
        self.by_mx_set.get(&mx_set).is_some_and(|of_set| !of_set.provisional.is_empty())
    }

    /// Returns whether verdicts of an MX set are held back from a run of which `is_run` is true.
    pub(in crate::verify) fn holds_any(&self, mx_set: usize, is_run: impl Fn(u32) -> bool) -> bool {
        let is_held = |entry: &ProvisionalEntry| matches!(&entry.verdict, ProvisionalVerdict::Held(held) if is_run(held.item.run));
        self.by_mx_set.get(&mx_set).is_some_and(|of_set| of_set.provisional.iter().any(is_held))
    }

    /// Takes the verdicts of an MX set that are final: confirmed ones, and the oldest beyond the memory limits.
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

    /// Takes all provisional verdicts, because no answer can contradict them any more.
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
        // One domain of many may have its own rules.
        if !several && self.has_clean_beside(domain) && self.domains.is_empty() && self.blocked.is_none() {
            self.block_domain(domain, outcome, now);
            self.row = (0, None);
            return BlockScope::Domain;
        }
        self.block(outcome, now);
        BlockScope::Lane
    }

    fn block_domain(&mut self, domain: u32, outcome: &Outcome, now: Instant) {
        let until = now + BLOCK_DURATION.1;
        self.domains.insert(domain, ProviderBlock { outcome: outcome.clone(), until });
    }

    /// Forgets the domains whose block is over.
    pub(in crate::verify) fn expire_domain_blocks(&mut self, now: Instant) {
        self.domains.retain(|_, block| now < block.until);
    }

    /// Blocks the provider for the usual time.
    pub(in crate::verify) fn block(&mut self, outcome: &Outcome, now: Instant) {
        self.block_for(None, outcome, now);
    }

    /// Blocks the provider. The first block lasts `first` if that is less than usual, and each further one twice as
    /// long.
    pub(in crate::verify) fn block_for(&mut self, first: Option<Duration>, outcome: &Outcome, now: Instant) {
        let first = first.map_or(BLOCK_DURATION.0, |first| first.min(BLOCK_DURATION.0));
        let alone = first.saturating_mul(1 << self.trips.min(8)).min(BLOCK_DURATION.1);
        self.blocked = Some(ProviderBlock { outcome: outcome.clone(), until: now + alone });
        self.trips += 1;
        self.row = (0, None);
    }

    /// Takes the provisional verdicts of the domain, or all of them.
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

    /// Takes about `most` provisional verdicts of an MX set: those of whole connections, the earliest first.
    ///
    /// A connection is chosen only if `unlikely` is true of the number of its provisional verdicts.
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

    /// Subtracts verdicts from the counts.
    fn remove(&mut self, taken: impl IntoIterator<Item = ProvisionalEntry>) -> Vec<ProvisionalVerdict> {
        let taken: Vec<_> = taken.into_iter().map(|entry| entry.verdict).collect();
        self.provisional -= taken.len();
        self.octets -= taken.iter().map(ProvisionalVerdict::octets).sum::<usize>();
        taken
    }

    /// Returns the block of the provider, and how many there were in a row.
    pub(in crate::verify) fn block_and_trips(&self) -> Option<(ProviderBlock, u32)> {
        self.blocked.clone().map(|block| (block, self.trips))
    }

    /// Continues with the block of another breaker.
    pub(in crate::verify) fn continue_block(&mut self, (block, trips): (ProviderBlock, u32)) {
        (self.blocked, self.trips) = (Some(block), trips);
    }

    /// Returns whether there is no provisional verdict and every block is over.
    pub(in crate::verify) fn is_clear(&self, now: Instant) -> bool {
        let is_over = |block: &ProviderBlock| block.is_over(now);
        self.provisional == 0
            && self.blocked.as_ref().is_none_or(is_over)
            && self.domains.values().all(is_over)
    }

    /// Forgets the domains with answers about recipients, except the last: that there was one still counts.
    pub(in crate::verify) fn forget_domains(&mut self) {
        let (judged, last) = &mut self.policy.judged;
        judged.retain(|domain| Some(*domain) == *last);
    }

    /// Returns the end of the block.
    pub(in crate::verify) fn blocked_until(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|blocked| blocked.until)
    }
}

#[cfg(test)]
mod tests;
