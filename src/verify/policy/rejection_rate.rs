//! Sizes windows so that a connection does not exceed the errors that a server tolerates.
//!
//! Postfix counts refused recipients as errors. It delays each reply after 10 errors and disconnects at 20. It counts
//! RSET as junk, of which it accepts 100. Other servers have similar counters. So a connection retires at nine
//! rejections, or at the limit of the provider's rule.
//!
//! The rejections left also limit the recipients in flight: nine while nothing is known, more after acceptances, fewer
//! after refusals. After the tenth error, Postfix takes a second for each command. So more refusals than expected must
//! be rare.
//!
//! Refusal rates are kept per domain. Lists are often sorted by domain. On one server, a domain with valid addresses or
//! a catch-all may be next to a domain without any mailbox.
//!
//! The first few recipients of a domain are estimated from the other domains of the server. Otherwise a lane of many
//! small domains would never exceed nine recipients in flight. The estimate assumes that all of them get the same
//! answer, since a domain without any mailbox refuses all.
//!
//! Refusal rates are also kept per attempt, since one attempt predicts nothing about the next. A greylist delays all
//! recipients the first time and answers the second time. The recipients left for the third attempt are often those
//! with a full mailbox.
//!
//! So the estimate for a recipient uses recipients with the same number of attempts. The random mailboxes of catch-all
//! questions, which most servers refuse, have a rate of their own.

use std::ops::{AddAssign, SubAssign};

use foldhash::HashMap;

/// The rejections that are expected while there are few answers: most servers tolerate this many on one connection.
const TOLERATED_REJECTIONS: u32 = 9;
/// Answers that the estimate remembers.
const REMEMBERED_ANSWERS: f32 = 256.0;
/// Recipients of a domain that are estimated from other domains, and that count for those.
///
/// A domain with another rate costs at most these and the nine: fewer than the 20 at which Postfix disconnects. Several
/// such domains cost more. Where one domain in ten, of eight recipients each, has no mailbox, Postfix disconnects one
/// connection in 200.
const RECIPIENTS_BY_OTHER_DOMAINS: u32 = 8;
/// Standard deviations added to the expected rejections.
///
/// With this value, at most one connection in fifty has more refusals than expected, or one in ten where small domains
/// have no mailbox. With two, there are at least twice as many, and each costs seconds. With three, small windows cost
/// more.
const DEVIATIONS: f32 = 2.5;
/// Attempts with separate rates: one more than the usual schedule has.
const ATTEMPTS: usize = 6;
/// Stands for the number of attempts of a random mailbox, which exists only in a catch-all domain.
const RANDOM: u8 = ATTEMPTS as u8;

/// Recipients whose answers predict each other's: those of one domain at the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::verify) struct Cohort {
    domain: u32,
    /// The attempts before this one, where the last of [`ATTEMPTS`] stands for all further ones; or [`RANDOM`].
    attempts: u8,
}

impl Cohort {
    pub(in crate::verify) fn new(domain: u32, attempts: u32) -> Self {
        Self { domain, attempts: attempts.min(ATTEMPTS as u32 - 1) as u8 }
    }

    pub(in crate::verify) fn random(domain: u32) -> Self {
        Self { domain, attempts: RANDOM }
    }

    fn is_random(self) -> bool {
        self.attempts == RANDOM
    }
}

/// A number of recipients, with the mean and the variance of their refusals.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::verify) struct ExpectedRejections {
    pub(in crate::verify) recipients: u32,
    mean: f32,
    variance: f32,
}

impl ExpectedRejections {
    /// Returns the rejections to allow for: [`DEVIATIONS`] above the mean, but at most one for each recipient.
    fn rejections(self) -> f32 {
        (self.recipients as f32).min(self.mean + DEVIATIONS * self.variance.max(0.0).sqrt())
    }
}

impl AddAssign for ExpectedRejections {
    fn add_assign(&mut self, other: Self) {
        self.recipients += other.recipients;
        self.mean += other.mean;
        self.variance += other.variance;
    }
}

impl SubAssign for ExpectedRejections {
    fn sub_assign(&mut self, other: Self) {
        self.recipients = self.recipients.saturating_sub(other.recipients);
        self.mean -= other.mean;
        self.variance -= other.variance;
    }
}

/// The rejections that a connection has left, and those expected of recipients in flight.
#[derive(Clone, Copy, Debug)]
pub(in crate::verify) struct RemainingBudget {
    pub(super) rejections: u32,
    pub(super) in_flight: ExpectedRejections,
}

impl RemainingBudget {
    /// Returns whether nothing more may be asked.
    pub(in crate::verify) fn is_exhausted(self) -> bool {
        self.rejections == 0
    }
}

/// The refusal rates of the domains of an MX set, over all connections to it.
#[derive(Clone, Debug, Default)]
pub(in crate::verify) struct RejectionRates {
    /// The rates of all domains by attempt. The last is that of random mailboxes, whose domains have no rate of their
    /// own.
    all: [RejectionRate; ATTEMPTS + 1],
    domains: HashMap<Cohort, DomainRate>,
}

#[derive(Clone, Debug, Default)]
struct DomainRate {
    rate: RejectionRate,
    answered: u32,
    /// Recipients in flight, or whose answers are not recorded yet.
    open: u32,
}

/// A cohort with recipients in the window being sized.
struct CohortTally {
    cohort: Cohort,
    answered: u32,
    /// Recipients in flight or in the window.
    open: u32,
    own: ExpectedRejections,
}

impl CohortTally {
    fn new(cohort: Cohort, known: Option<&DomainRate>) -> Self {
        let (answered, open) = known.map_or((0, 0), |known| (known.answered, known.open));
        let own = known.map_or_else(|| RejectionRate::default().expected(), |known| known.rate.expected());
        Self { cohort, answered, open, own }
    }

    /// Returns the expected rejections of the next recipient, where `others` is that of other domains.
    ///
    /// Most domains have valid mailboxes or none at all. If `k` recipients all get the same answer, their refusals have
    /// `k` squared times the variance of one. The next recipient adds `2 k + 1` times.
    fn next(&mut self, others: ExpectedRejections) -> ExpectedRejections {
        let before = self.open;
        self.open += 1;
        if self.answered.saturating_add(before) < RECIPIENTS_BY_OTHER_DOMAINS && others.mean < self.own.mean {
            ExpectedRejections { variance: others.variance * (2 * before + 1) as f32, ..others }
        } else {
            self.own
        }
    }
}

impl RejectionRates {
    /// Returns the expected rejections of the largest prefix of `recipients` that the budget allows.
    pub(in crate::verify) fn max_window(
        &self,
        budget: RemainingBudget,
        recipients: impl Iterator<Item = Cohort>,
    ) -> ExpectedRejections {
        let mut expected = ExpectedRejections::default();
        let all = self.all.each_ref().map(RejectionRate::expected);
        // A window usually has few domains, and a recipient is mostly of the same domain as the one before.
        let mut tallies: Vec<CohortTally> = Vec::new();
        for cohort in recipients {
            let others = all[usize::from(cohort.attempts)];
            let next = if cohort.is_random() {
                others
            } else {
                let at = tallies.iter().rposition(|known| known.cohort == cohort).unwrap_or_else(|| {
                    tallies.push(CohortTally::new(cohort, self.domains.get(&cohort)));
                    tallies.len() - 1
                });
                tallies[at].next(others)
            };
            let (mut with_next, mut in_flight) = (expected, budget.in_flight);
            with_next += next;
            in_flight += with_next;
            if in_flight.rejections() > budget.rejections as f32 {
                break;
            }
            expected = with_next;
        }
        expected
    }

    /// Forgets the rates of domains without recipients in flight.
    pub(in crate::verify) fn forget_domains(&mut self) {
        self.domains.retain(|_, known| known.open > 0);
    }

    /// Records that `count` recipients are asked about.
    pub(in crate::verify) fn record_asked(&mut self, cohort: Cohort, count: u32) {
        if !cohort.is_random() {
            self.domains.entry(cohort).or_default().open += count;
        }
    }

    /// Records that a recipient is no longer in flight: it got no answer, or its answer is recorded already.
    pub(in crate::verify) fn record_unanswered(&mut self, cohort: Cohort) {
        if let Some(known) = self.domains.get_mut(&cohort) {
            known.open = known.open.saturating_sub(1);
        }
    }

    /// Records `count` equal answers.
    pub(in crate::verify) fn record_answers(&mut self, cohort: Cohort, rejected: bool, count: u32) {
        self.record_unproven(cohort, rejected, count);
        if let Some(known) = self.domains.get_mut(&cohort) {
            known.open = known.open.saturating_sub(count);
        }
    }

    /// Records `count` equal answers whose recipients may be asked again. They stay in flight until
    /// [`record_unanswered`](Self::record_unanswered).
    pub(in crate::verify) fn record_unproven(&mut self, cohort: Cohort, rejected: bool, count: u32) {
        let all = &mut self.all[usize::from(cohort.attempts)];
        if cohort.is_random() {
            return all.record(rejected, count);
        }
        let known = self.domains.entry(cohort).or_default();
        known.rate.record(rejected, count);
        all.record(rejected, count.min(RECIPIENTS_BY_OTHER_DOMAINS.saturating_sub(known.answered)));
        known.answered = known.answered.saturating_add(count);
    }
}

/// The share of recipients that are refused.
#[derive(Clone, Debug, Default)]
struct RejectionRate {
    asked: f32,
    rejected: f32,
}

impl RejectionRate {
    fn record(&mut self, rejected: bool, count: u32) {
        let mut left = count as f32;
        while left > 0.0 {
            if self.asked >= REMEMBERED_ANSWERS {
                self.asked *= 0.5;
                self.rejected *= 0.5;
            }
            let next = left.min((REMEMBERED_ANSWERS - self.asked).max(1.0));
            self.asked += next;
            self.rejected += if rejected { next } else { 0.0 };
            left -= next;
        }
    }

    /// Returns the expected rejections of one recipient by the rule of succession. A few answers are not trusted: doubt
    /// falls with the square of their number.
    ///
    /// The variance is that of a known probability. In doubt it is that of rare events, which is no less.
    fn expected(&self) -> ExpectedRejections {
        let mean = (self.rejected + 1.0) / (self.asked + 1.0);
        let doubt =
            TOLERATED_REJECTIONS as f32 / (TOLERATED_REJECTIONS as f32 + self.asked * self.asked / 32.0);
        let mean = mean.max(doubt / 2.0);
        ExpectedRejections { recipients: 1, mean, variance: mean * (1.0 - mean * (1.0 - doubt)) }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, iter};

    use proptest::prelude::*;

    use super::*;
    use crate::verify::{ProviderLimits, policy::rejection_budget::Budget};

    fn first(domain: u32) -> Cohort {
        Cohort::new(domain, 0)
    }

    /// Returns how many recipients of one domain may be asked about in one transaction.
    fn max_window(budget: &Budget, rates: &RejectionRates, in_flight: u32, cohort: Cohort) -> u32 {
        let in_flight = ExpectedRejections { recipients: in_flight, mean: in_flight as f32, variance: 0.0 };
        let recipients = iter::repeat_n(cohort, budget.full_window() as usize);
        rates.max_window(budget.remaining(in_flight), recipients).recipients
    }

    #[test]
    fn the_window_of_an_unknown_server_is_its_rejection_limit() {
        let budget = Budget::new(&ProviderLimits::default(), None, None);
        assert_eq!(max_window(&budget, &RejectionRates::default(), 0, first(1)), 9);
        assert_eq!(max_window(&budget, &RejectionRates::default(), 5, first(1)), 4);
    }

    #[test]
    fn a_domain_that_accepts_is_asked_a_hundred_at_a_time_and_another_is_not() {
        let mut rates = RejectionRates::default();
        (0..200).for_each(|_| rates.record_answers(first(1), false, 1));
        let budget = Budget::new(&ProviderLimits::default(), None, None);
        assert_eq!(max_window(&budget, &rates, 0, first(1)), 100);
        assert!(max_window(&budget, &rates, 0, first(2)) < 20);
    }

    #[test]
    fn small_domains_share_their_rate() {
        let mut rates = RejectionRates::default();
        (0..200).for_each(|domain| rates.record_answers(first(domain), false, 1));
        let budget = Budget::new(&ProviderLimits::default(), None, None);
        let strangers = (1_000..1_100).map(first);
        assert_eq!(
            rates.max_window(budget.remaining(ExpectedRejections::default()), strangers).recipients,
            100
        );
    }

    #[test]
    fn an_answer_without_proof_counts_once_and_stays_in_flight() {
        let mut before = RejectionRates::default();
        before.record_answers(first(1), false, 200);
        before.record_asked(first(1), 50);
        let (mut early, mut proven) = (before.clone(), before);
        early.record_unproven(first(1), true, 50);
        let budget = Budget::new(&ProviderLimits::default(), None, None);
        assert!(max_window(&budget, &early, 0, first(1)) < max_window(&budget, &proven, 0, first(1)));
        assert_eq!(early.domains[&first(1)].open, 50);
        (0..50).for_each(|_| early.record_unanswered(first(1)));
        proven.record_answers(first(1), true, 50);
        assert_eq!(max_window(&budget, &early, 0, first(1)), max_window(&budget, &proven, 0, first(1)));
        assert_eq!(early.domains[&first(1)].open, 0);
    }

    #[test]
    fn each_attempt_has_its_own_rate() {
        let (mut rates, budget) =
            (RejectionRates::default(), Budget::new(&ProviderLimits::default(), None, None));
        let again = Cohort::new(1, 1);
        (0..50).for_each(|_| rates.record_answers(first(1), true, 1));
        (0..200).for_each(|_| rates.record_answers(again, false, 1));
        assert_eq!(max_window(&budget, &rates, 0, again), 100);
        assert_eq!(max_window(&budget, &rates, 0, first(1)), 9);
        assert_eq!(max_window(&budget, &rates, 0, Cohort::new(1, 2)), 9);
    }

    #[test]
    fn random_mailboxes_share_their_rate() {
        let (mut rates, budget) =
            (RejectionRates::default(), Budget::new(&ProviderLimits::default(), None, None));
        (0..200).for_each(|domain| rates.record_answers(first(domain), false, 1));
        let max_window = |rates: &RejectionRates| {
            rates
                .max_window(budget.remaining(ExpectedRejections::default()), (0..100).map(Cohort::random))
                .recipients
        };
        assert_eq!(max_window(&rates), 9, "without any answer");
        (0..50).for_each(|domain| rates.record_answers(Cohort::random(domain), true, 1));
        assert_eq!(max_window(&rates), 9);
        (0..1_000).for_each(|domain| rates.record_answers(Cohort::random(domain), false, 1));
        assert_eq!(max_window(&rates), 100, "a server of catch-alls");
    }

    #[test]
    fn nearly_certain_refusals_add_no_variance() {
        let (mut rates, budget) =
            (RejectionRates::default(), Budget::new(&ProviderLimits::default(), None, None));
        rates.record_answers(first(1), false, 200);
        (0..200).for_each(|domain| rates.record_answers(Cohort::random(domain), true, 1));
        let window = |random| {
            let recipients = (0..random).map(Cohort::random).chain(iter::repeat(first(1))).take(100);
            rates.max_window(budget.remaining(ExpectedRejections::default()), recipients).recipients
        };
        assert_eq!(window(4), 100);
        assert!((20..100).contains(&window(7)), "{}", window(7));
        assert_eq!(window(20), 9);
    }

    #[test]
    fn few_connections_have_more_refusals_than_expected() {
        let mut random = fastrand::Rng::with_seed(7);
        for share in [0.05, 0.1, 0.3] {
            let (mut rates, mut too_many) = (RejectionRates::default(), 0);
            // The first connections learn the rate.
            for connection in 0..2_100 {
                let mut budget = Budget::new(&ProviderLimits::default(), None, None);
                let mut refused = 0;
                while !budget.is_exhausted() {
                    let last = budget.is_nearly_exhausted();
                    for _ in 0..max_window(&budget, &rates, 0, first(1)) {
                        let rejected = random.f64() < share;
                        rates.record_answers(first(1), rejected, 1);
                        refused += u32::from(rejected);
                        budget.record_rejections(usize::from(rejected));
                    }
                    if last {
                        break;
                    }
                }
                too_many += u32::from(connection >= 100 && refused > 9);
            }
            assert!(too_many <= 40, "{too_many} of 2,000 connections where {share} are refused");
        }
    }

    #[test]
    fn domains_without_any_mailbox_end_few_connections() {
        let mut random = fastrand::Rng::with_seed(11);
        for (size, share) in
            [(2, 0.1), (4, 0.1), (4, 0.3), (8, 0.1), (8, 0.2), (8, 0.3), (20, 0.1), (50, 0.2)]
        {
            let (mut rates, mut list) = (RejectionRates::default(), VecDeque::new());
            let (mut domain, mut too_many, mut cut) = (0, 0, 0);
            // The first connections learn the rate.
            for connection in 0..2_200 {
                let mut budget = Budget::new(&ProviderLimits::default(), None, None);
                let mut refused = 0;
                while !budget.is_exhausted() {
                    while list.len() < 100 {
                        domain += 1;
                        list.extend(iter::repeat_n((first(domain), random.f64() < share), size));
                    }
                    let last = budget.is_nearly_exhausted();
                    let waiting = list.iter().take(100).map(|(cohort, _)| *cohort);
                    let window =
                        rates.max_window(budget.remaining(ExpectedRejections::default()), waiting).recipients;
                    for (cohort, dead) in list.drain(..window as usize) {
                        rates.record_answers(cohort, dead, 1);
                        refused += u32::from(dead);
                        budget.record_rejections(usize::from(dead));
                    }
                    if last {
                        break;
                    }
                }
                too_many += u32::from(connection >= 200 && refused > 9);
                cut += u32::from(connection >= 200 && refused >= 20);
            }
            assert!(too_many <= 200 && cut <= 10, "{too_many}, {cut} of 2,000, {share} of domains of {size}");
        }
    }

    #[test]
    fn announced_limits_hold() {
        let mut budget = Budget::new(&ProviderLimits::default(), Some(1), Some(3));
        assert_eq!(max_window(&budget, &RejectionRates::default(), 0, first(1)), 3);
        budget.record_transaction();
        assert!(budget.is_exhausted());
    }

    #[test]
    fn outlooks_one_recipient_per_transaction_is_learnt() {
        let mut budget = Budget::new(&ProviderLimits::default(), None, None);
        budget.limit_recipients(1);
        assert_eq!(max_window(&budget, &RejectionRates::default(), 0, first(1)), 1);
    }

    proptest! {
        /// No list brings a connection to the twentieth error.
        ///
        /// Lists are sorted by domain. Each domain has any share of valid addresses and perhaps a greylist. Each
        /// refused recipient is asked about once or twice more.
        #[test]
        fn postfix_never_disconnects(
            domains in prop::collection::vec(
                (prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64], any::<bool>()), 1..8
            ),
            size in 1..400usize,
            delay in 1..400usize,
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rates = RejectionRates::default();
            let firsts = |domain| iter::repeat_n(first(domain as u32), size);
            let mut list: VecDeque<Cohort> = (0..domains.len()).flat_map(firsts).collect();
            // Recipients that were delayed or refused, and the number of others after which they are asked again.
            let mut later = VecDeque::new();
            let mut asked = 0;
            while !list.is_empty() || !later.is_empty() {
                let mut budget = Budget::new(&ProviderLimits::default(), None, None);
                let mut errors = 0;
                while !budget.is_exhausted() {
                    while later.front().is_some_and(|&(due, _)| due <= asked || list.is_empty()) {
                        list.extend(later.pop_front().map(|(_, cohort)| cohort));
                    }
                    if list.is_empty() {
                        break;
                    }
                    let waiting = list.iter().take(budget.full_window() as usize).copied();
                    let window = rates.max_window(budget.remaining(ExpectedRejections::default()), waiting).recipients;
                    prop_assert!(window > 0, "a connection with a budget can go on");
                    budget.record_transaction();
                    for cohort in list.drain(..window as usize) {
                        let (quality, greylists) = domains[cohort.domain as usize];
                        let rejected = match (greylists, cohort.attempts) {
                            (true, 0) => true,
                            (false, 0) | (true, 1) => random.f64() >= quality,
                            // Their answers stay the same.
                            _ => true,
                        };
                        rates.record_answers(cohort, rejected, 1);
                        asked += 1;
                        if rejected && cohort.attempts < 2 {
                            let again = Cohort::new(cohort.domain, u32::from(cohort.attempts) + 1);
                            later.push_back((asked + delay, again));
                        }
                        if rejected {
                            budget.record_rejections(1);
                            errors += 1;
                        }
                    }
                }
                prop_assert!(errors < 20, "{errors} errors on one connection");
            }
        }
    }
}
