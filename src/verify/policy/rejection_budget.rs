//! Counts what a connection may still be asked: transactions, recipients per transaction, and rejections until it
//! retires.

use super::rejection_rate::{ExpectedRejections, RemainingBudget};
use crate::verify::ProviderLimits;

/// The remaining budget of one connection.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Budget {
    rejections: u32,
    /// The rejections of a new connection.
    all_rejections: u32,
    transactions: u32,
    recipients: u32,
}

impl Budget {
    /// Returns the budget of a new connection. The server may have announced limits of transactions and recipients (RFC
    /// 9422).
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

    /// Records `count` refusals of MAIL or RCPT.
    pub(in crate::verify) fn record_rejections(&mut self, count: usize) {
        self.rejections = self.rejections.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Records a transaction that begins.
    pub(in crate::verify) fn record_transaction(&mut self) {
        self.transactions = self.transactions.saturating_sub(1);
    }

    /// Returns the most recipients of a transaction on this connection.
    pub(in crate::verify) fn full_window(&self) -> u32 {
        self.recipients
    }

    /// Records that the server accepts at most so many recipients in a transaction.
    pub(in crate::verify) fn limit_recipients(&mut self, most: u32) {
        self.recipients = self.recipients.min(most.max(1));
    }

    /// Returns whether the connection must send QUIT once everything in flight is answered.
    pub(in crate::verify) fn is_exhausted(&self) -> bool {
        self.rejections == 0 || self.transactions == 0
    }

    /// Returns whether more than half of the rejections are used up, or fewer than three are left.
    ///
    /// Each further window uses up about half of what is left, and so has half the recipients of the one before. The
    /// next window should then be the last where a new connection can ask more.
    pub(in crate::verify) fn is_nearly_exhausted(&self) -> bool {
        self.rejections < self.all_rejections.div_ceil(2).max(3)
    }

    /// Returns the rejections that may still come besides those in flight; none if the connection is to retire.
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
