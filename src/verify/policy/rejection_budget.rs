//! What a connection may still be asked: transactions, recipients of one, and rejections until it is retired.

use super::rejection_rate::{ExpectedRejections, RemainingBudget};
use crate::verify::ProviderLimits;

/// What is left of one connection.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Budget {
    rejections: u32,
    /// Those of a fresh connection.
    all_rejections: u32,
    transactions: u32,
    recipients: u32,
}

impl Budget {
    /// A fresh connection to a server that announced limits of transactions and recipients (RFC 9422), or did not.
    pub(in crate::verify) fn new(
        limits: &ProviderLimits,
        mail_max: Option<u32>,
        rcpt_max: Option<u32>,
    ) -> Self {
        Self {
            rejections: limits.rejections,
            all_rejections: limits.rejections,
            transactions: limits.transactions.min(mail_max.unwrap_or(u32::MAX)),
            recipients: limits.recipients.min(rcpt_max.unwrap_or(u32::MAX)),
        }
    }

    /// Records refusals, whatever was refused.
    pub(in crate::verify) fn record_rejections(&mut self, count: usize) {
        self.rejections = self.rejections.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Records a transaction that begins.
    pub(in crate::verify) fn record_transaction(&mut self) {
        self.transactions = self.transactions.saturating_sub(1);
    }

    /// The recipients that a transaction may have on this connection.
    pub(in crate::verify) fn full_window(&self) -> u32 {
        self.recipients
    }

    /// Records that the server takes no more than so many recipients in a transaction.
    pub(in crate::verify) fn limit_recipients(&mut self, most: u32) {
        self.recipients = self.recipients.min(most.max(1));
    }

    /// Whether the connection should say goodbye once everything in flight is answered.
    pub(in crate::verify) fn is_exhausted(&self) -> bool {
        self.rejections == 0 || self.transactions == 0
    }

    /// Whether more than half of its rejections are used up, or it has fewer than three. Of what is left, each window uses
    /// up half again or less, and so has half the recipients of the one before: the next should be the last, where a new
    /// connection takes more.
    pub(in crate::verify) fn is_nearly_exhausted(&self) -> bool {
        self.rejections < self.all_rejections.div_ceil(2).max(3)
    }

    /// The rejections that may still come, beside what is in flight; none where the connection is to retire.
    pub(in crate::verify) fn remaining(&self, in_flight: ExpectedRejections) -> RemainingBudget {
        RemainingBudget { rejections: if self.is_exhausted() { 0 } else { self.rejections }, in_flight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_nearly_exhausted_once_more_than_half_is_used_up() {
        let mut budget = Budget::new(&ProviderLimits::default(), None, None);
        budget.record_rejections(4);
        assert!(!budget.is_nearly_exhausted());
        budget.record_rejections(1);
        assert!(budget.is_nearly_exhausted());
        let few = ProviderLimits { rejections: 2, ..ProviderLimits::default() };
        assert!(Budget::new(&few, None, None).is_nearly_exhausted());
    }
}
