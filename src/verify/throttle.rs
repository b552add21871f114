//! How much a connection may still be asked, so that the server never loses its patience.
//!
//! Postfix delays each reply after 10 errors and disconnects at 20, counts refused recipients as errors, and RSET as
//! junk of which it takes 100; other servers have such counters too. So a connection is retired at nine rejections, or
//! what the provider's rule says, and no more recipients are in flight than the rejections left allow: nine while
//! nothing is known, more as acceptances come in, fewer as soon as refusals do.
//!
//! What is known is known of a domain. Lists are sorted by domain more often than not, and behind one server a domain
//! with good addresses, or one that accepts anything, is next to one that nobody is left at. Only the first few
//! recipients of a domain are judged by the other domains of the server, or else a lane of many small domains would
//! never get beyond nine.
//!
//! Nor does the share of one attempt tell anything of the next. A greylist puts off everybody the first time and answers
//! the second time, and those who are left for the third are the ones whose mailbox is full: one attempt after the other
//! is good, bad, or worse throughout. So recipients are judged by those who were asked about as often.

use foldhash::HashMap;

use super::Limits;

/// The rejections that few answers make one reckon with: those that most servers bear on one connection.
const REJECTIONS: u32 = 9;
/// Answers that the estimate of the rejection rate remembers.
const MEMORY: f32 = 256.0;
/// Recipients of a domain that are judged by other domains, and count for those. A domain that is nothing like them
/// costs no more than these and the nine: together less than the twenty at which Postfix disconnects.
const FIRST: u32 = 8;
/// Attempts that are judged apart: one more than the usual schedule has.
const ATTEMPTS: usize = 6;

/// Recipients that are judged by each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kin {
    domain: u32,
    /// Attempts before this one, of which the last of [`ATTEMPTS`] stands for all further ones.
    attempts: u8,
}

impl Kin {
    pub(super) fn new(domain: u32, attempts: u32) -> Self {
        Self { domain, attempts: attempts.min(ATTEMPTS as u32 - 1) as u8 }
    }
}

/// The share of recipients that the domains of a server refuse, as seen so far, over all connections to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// By attempts.
    all: [RejectionRate; ATTEMPTS],
    domains: HashMap<Kin, DomainRate>,
}

#[derive(Clone, Debug, Default)]
struct DomainRate {
    rate: RejectionRate,
    answered: u32,
    /// In flight, or answered and not yet noted.
    open: u32,
}

impl Rates {
    /// How many of `recipients`, in this order, may be asked while `left` rejections may come, and the risk of it.
    pub(super) fn affordable(&self, left: f32, recipients: impl Iterator<Item = Kin>) -> (u32, f32) {
        let (mut count, mut risk) = (0, 0.0);
        let all = self.all.each_ref().map(RejectionRate::risk);
        // Few domains as a rule, and mostly the one before.
        let mut met: Vec<(Kin, u32, f32)> = Vec::new();
        for kin in recipients {
            let at = met.iter().rposition(|(known, ..)| *known == kin).unwrap_or_else(|| {
                let known = self.domains.get(&kin);
                let (ahead, later) =
                    known.map_or((0, 1.0), |known| (known.answered + known.open, known.rate.risk()));
                met.push((kin, ahead, later));
                met.len() - 1
            });
            let (_, ahead, later) = met[at];
            met[at].1 += 1;
            let next = if ahead < FIRST { later.min(all[usize::from(kin.attempts)]) } else { later };
            if risk + next > left {
                break;
            }
            (count, risk) = (count + 1, risk + next);
        }
        (count, risk)
    }

    /// Takes note that so many recipients are asked about.
    pub(super) fn ask(&mut self, kin: Kin, count: u32) {
        self.domains.entry(kin).or_default().open += count;
    }

    /// Takes note that one that was asked about got no answer.
    pub(super) fn take_back(&mut self, kin: Kin) {
        let known = self.domains.entry(kin).or_default();
        known.open = known.open.saturating_sub(1);
    }

    /// Takes note of the answers to so many that were asked about.
    pub(super) fn note(&mut self, kin: Kin, rejected: bool, count: u32) {
        let known = self.domains.entry(kin).or_default();
        known.open = known.open.saturating_sub(count);
        known.rate.note(rejected, count);
        self.all[usize::from(kin.attempts)].note(rejected, count.min(FIRST.saturating_sub(known.answered)));
        known.answered = known.answered.saturating_add(count);
    }
}

/// A share of recipients that are refused.
#[derive(Clone, Debug, Default)]
struct RejectionRate {
    asked: f32,
    rejected: f32,
}

impl RejectionRate {
    fn note(&mut self, rejected: bool, count: u32) {
        let mut left = count as f32;
        while left > 0.0 {
            if self.asked >= MEMORY {
                self.asked *= 0.5;
                self.rejected *= 0.5;
            }
            let next = left.min((MEMORY - self.asked).max(1.0));
            self.asked += next;
            self.rejected += if rejected { next } else { 0.0 };
            left -= next;
        }
    }

    /// The rejections to reckon with for one recipient: twice those to be expected, so that about half of what is
    /// reckoned with comes.
    ///
    /// The rate is what the rule of succession expects, and a few answers are not trusted to tell it: doubt goes with
    /// the square of the answers seen.
    fn risk(&self) -> f32 {
        let expected = 2.0 * (self.rejected + 1.0) / (self.asked + 1.0);
        let doubt = REJECTIONS as f32 / (REJECTIONS as f32 + self.asked * self.asked / 32.0);
        expected.max(doubt).min(1.0)
    }
}

/// What is left of one connection.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    rejections: u32,
    transactions: u32,
    recipients: u32,
}

impl Budget {
    /// A fresh connection to a server that announced limits of transactions and recipients (RFC 9422), or did not.
    pub(super) fn new(limits: &Limits, mail_max: Option<u32>, rcpt_max: Option<u32>) -> Self {
        Self {
            rejections: limits.rejections,
            transactions: limits.transactions.min(mail_max.unwrap_or(u32::MAX)),
            recipients: limits.recipients.min(rcpt_max.unwrap_or(u32::MAX)),
        }
    }

    /// Takes note of refusals, whatever was refused.
    pub(super) fn reject(&mut self, count: usize) {
        self.rejections = self.rejections.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Takes note of a transaction that begins.
    pub(super) fn begin(&mut self) {
        self.transactions = self.transactions.saturating_sub(1);
    }

    /// The recipients that a transaction may have on this connection.
    pub(super) fn full_window(&self) -> u32 {
        self.recipients
    }

    /// Takes note that the server takes no more than so many recipients in a transaction.
    pub(super) fn limit_recipients(&mut self, most: u32) {
        self.recipients = self.recipients.min(most.max(1));
    }

    /// Whether the connection should say goodbye once everything in flight is answered.
    pub(super) fn is_spent(&self) -> bool {
        self.rejections == 0 || self.transactions == 0
    }

    /// The rejections that may still come while those of `risk` are reckoned with; 0 is to wait, or to retire.
    pub(super) fn left(&self, risk: f32) -> f32 {
        if self.is_spent() { 0.0 } else { (self.rejections as f32 - risk).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, iter};

    use proptest::prelude::*;

    use super::*;

    fn first(domain: u32) -> Kin {
        Kin::new(domain, 0)
    }

    /// Recipients of one domain that may be asked about, in one transaction.
    fn affordable(budget: &Budget, rates: &Rates, risk: f32, kin: Kin) -> u32 {
        rates.affordable(budget.left(risk), iter::repeat_n(kin, budget.full_window() as usize)).0
    }

    #[test]
    fn an_unknown_server_is_asked_no_more_than_it_may_refuse() {
        let budget = Budget::new(&Limits::default(), None, None);
        assert_eq!(affordable(&budget, &Rates::default(), 0.0, first(1)), 9);
        assert_eq!(affordable(&budget, &Rates::default(), 5.0, first(1)), 4);
    }

    #[test]
    fn a_domain_that_accepts_is_asked_a_hundred_at_a_time_and_another_is_not() {
        let mut rates = Rates::default();
        (0..200).for_each(|_| rates.note(first(1), false, 1));
        let budget = Budget::new(&Limits::default(), None, None);
        assert_eq!(affordable(&budget, &rates, 0.0, first(1)), 100);
        assert!(affordable(&budget, &rates, 0.0, first(2)) < 20);
    }

    #[test]
    fn small_domains_are_judged_by_each_other() {
        let mut rates = Rates::default();
        (0..200).for_each(|domain| rates.note(first(domain), false, 1));
        assert_eq!(rates.affordable(9.0, (1_000..1_100).map(first)).0, 100);
    }

    #[test]
    fn one_attempt_tells_nothing_of_another() {
        let (mut rates, budget) = (Rates::default(), Budget::new(&Limits::default(), None, None));
        let again = Kin::new(1, 1);
        (0..50).for_each(|_| rates.note(first(1), true, 1));
        (0..200).for_each(|_| rates.note(again, false, 1));
        assert_eq!(affordable(&budget, &rates, 0.0, again), 100);
        assert_eq!(affordable(&budget, &rates, 0.0, first(1)), 9);
        assert_eq!(affordable(&budget, &rates, 0.0, Kin::new(1, 2)), 9);
    }

    #[test]
    fn announced_limits_hold() {
        let mut budget = Budget::new(&Limits::default(), Some(1), Some(3));
        assert_eq!(affordable(&budget, &Rates::default(), 0.0, first(1)), 3);
        budget.begin();
        assert!(budget.is_spent());
    }

    #[test]
    fn outlooks_one_recipient_per_transaction_is_learnt() {
        let mut budget = Budget::new(&Limits::default(), None, None);
        budget.limit_recipients(1);
        assert_eq!(affordable(&budget, &Rates::default(), 0.0, first(1)), 1);
    }

    proptest! {
        /// A list sorted by domain, each domain of any quality, in random order and perhaps behind a greylist, never
        /// brings a connection to the twentieth error, with every refusal asked about once or twice more.
        #[test]
        fn postfix_never_disconnects(
            domains in prop::collection::vec(
                (prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64], any::<bool>()), 1..8
            ),
            size in 1..400usize,
            patience in 1..400usize,
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rates = Rates::default();
            let firsts = |domain| iter::repeat_n(first(domain as u32), size);
            let mut list: VecDeque<Kin> = (0..domains.len()).flat_map(firsts).collect();
            // Whoever was put off or refused, and after how many others they come again.
            let mut later = VecDeque::new();
            let mut asked = 0;
            while !list.is_empty() || !later.is_empty() {
                let mut budget = Budget::new(&Limits::default(), None, None);
                let mut errors = 0;
                while !budget.is_spent() {
                    while later.front().is_some_and(|&(due, _)| due <= asked || list.is_empty()) {
                        list.extend(later.pop_front().map(|(_, kin)| kin));
                    }
                    if list.is_empty() {
                        break;
                    }
                    let waiting = list.iter().take(budget.full_window() as usize).copied();
                    let (window, _) = rates.affordable(budget.left(0.0), waiting);
                    prop_assert!(window > 0, "a connection with a budget can go on");
                    budget.begin();
                    for kin in list.drain(..window as usize) {
                        let (quality, greylists) = domains[kin.domain as usize];
                        let rejected = match (greylists, kin.attempts) {
                            (true, 0) => true,
                            (false, 0) | (true, 1) => random.f64() >= quality,
                            // They are still who they were.
                            _ => true,
                        };
                        rates.note(kin, rejected, 1);
                        asked += 1;
                        if rejected && kin.attempts < 2 {
                            let again = Kin::new(kin.domain, u32::from(kin.attempts) + 1);
                            later.push_back((asked + patience, again));
                        }
                        if rejected {
                            budget.reject(1);
                            errors += 1;
                        }
                    }
                }
                prop_assert!(errors < 20, "{errors} errors on one connection");
            }
        }
    }
}
