//! How much a connection may still be asked, so that the server never loses its patience.
//!
//! Postfix delays each reply after 10 errors and disconnects at 20, counts refused recipients as errors, and RSET as
//! junk of which it takes 100; other servers have such counters too. So a connection is retired at nine rejections,
//! and no more recipients are in flight than the rejections left allow at the rate seen so far on this server: nine
//! while nothing is known, more as acceptances come in, fewer as soon as refusals do.

/// Rejections after which a connection is retired: one before the tenth error of Postfix, the first to be delayed.
const REJECTIONS: u32 = 9;
/// Transactions after which a connection is retired: each ends with a RSET, and Postfix takes 100 of them.
const TRANSACTIONS: u32 = 90;
/// Recipients in one transaction: what RFC 5321 4.5.3.1.8 has every server take.
const RECIPIENTS: u32 = 100;
/// Answers that the estimate of the rejection rate remembers.
const MEMORY: f32 = 256.0;

/// The share of recipients that a server refuses, as seen so far, over all connections to it.
#[derive(Clone, Debug, Default)]
pub(super) struct RejectionRate {
    asked: f32,
    rejected: f32,
}

impl RejectionRate {
    pub(super) fn note(&mut self, rejected: bool) {
        if self.asked >= MEMORY {
            self.asked *= 0.5;
            self.rejected *= 0.5;
        }
        self.asked += 1.0;
        self.rejected += f32::from(u8::from(rejected));
    }

    /// How many recipients may be in flight so that about half of `rejections` come back.
    ///
    /// The rate is what the rule of succession expects, and a few answers are not trusted to tell it: the number
    /// opens up with the square of the answers seen.
    fn in_flight(&self, rejections: u32) -> u32 {
        let expected = (2.0 * (self.rejected + 1.0) / (self.asked + 1.0)).min(1.0);
        let trusted = REJECTIONS as f32 + self.asked * self.asked / 32.0;
        (rejections as f32 / expected).min(trusted) as u32
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
    /// A fresh connection to a server with the limits it announced (RFC 9422), if any.
    pub(super) fn new(mail_max: Option<u32>, rcpt_max: Option<u32>) -> Self {
        Self {
            rejections: REJECTIONS,
            transactions: TRANSACTIONS.min(mail_max.unwrap_or(u32::MAX)),
            recipients: RECIPIENTS.min(rcpt_max.unwrap_or(u32::MAX)),
        }
    }

    /// Takes note of a refusal, whatever was refused.
    pub(super) fn reject(&mut self) {
        self.rejections = self.rejections.saturating_sub(1);
    }

    /// Takes note of a transaction that begins.
    pub(super) fn begin(&mut self) {
        self.transactions = self.transactions.saturating_sub(1);
    }

    /// The recipients that a transaction may have on this connection.
    pub(super) fn full_window(&self) -> u32 {
        self.recipients
    }

    /// Takes note that the server takes no more than `accepted` recipients in a transaction.
    pub(super) fn limit_recipients(&mut self, accepted: u32) {
        self.recipients = self.recipients.min(accepted.max(1));
    }

    /// Whether the connection should say goodbye once everything in flight is answered.
    pub(super) fn is_spent(&self) -> bool {
        self.rejections == 0 || self.transactions == 0
    }

    /// How many recipients the next transaction may have while `in_flight` are unanswered; 0 is to wait, or to retire.
    pub(super) fn next(&self, rate: &RejectionRate, in_flight: u32) -> u32 {
        if self.is_spent() {
            return 0;
        }
        rate.in_flight(self.rejections).saturating_sub(in_flight).min(self.recipients)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_server_is_asked_no_more_than_it_may_refuse() {
        let budget = Budget::new(None, None);
        assert_eq!(budget.next(&RejectionRate::default(), 0), 9);
        assert_eq!(budget.next(&RejectionRate::default(), 5), 4);
    }

    #[test]
    fn a_server_that_accepts_is_asked_a_hundred_at_a_time() {
        let mut rate = RejectionRate::default();
        (0..200).for_each(|_| rate.note(false));
        assert_eq!(Budget::new(None, None).next(&rate, 0), 100);
        assert_eq!(Budget::new(None, None).next(&rate, 300), 100);
    }

    #[test]
    fn announced_limits_hold() {
        let mut budget = Budget::new(Some(1), Some(3));
        assert_eq!(budget.next(&RejectionRate::default(), 0), 3);
        budget.begin();
        assert!(budget.is_spent());
    }

    #[test]
    fn outlooks_one_recipient_per_transaction_is_learnt() {
        let mut budget = Budget::new(None, None);
        budget.limit_recipients(1);
        assert_eq!(budget.next(&RejectionRate::default(), 0), 1);
    }

    proptest! {
        /// A list of any quality in random order never brings a connection to the twentieth error.
        #[test]
        fn postfix_never_disconnects(quality in 0.0..1.0f64, seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rate = RejectionRate::default();
            for _connection in 0..50 {
                let mut budget = Budget::new(None, None);
                let mut errors = 0;
                while !budget.is_spent() {
                    let window = budget.next(&rate, 0);
                    prop_assert!(window > 0, "a connection with a budget can go on");
                    budget.begin();
                    for _ in 0..window {
                        let rejected = random.f64() > quality;
                        rate.note(rejected);
                        if rejected {
                            budget.reject();
                            errors += 1;
                        }
                    }
                }
                prop_assert!(errors < 20, "{errors} errors on one connection");
            }
        }
    }
}
