//! The questions for a server: about an address of the list, about a domain, or whether the server is honest.

use std::cmp::Ordering;

use tokio::time::Instant;

use crate::{
    proto::Mailbox,
    verify::{item::Item, policy::rejection_rate::Cohort},
};

/// After this many lost connections, or moves to another one, the failure is the answer to the question.
const LOSSES: u8 = 2;

/// One thing to ask a server.
pub(super) enum Question {
    /// An address of the list.
    Item(Item),
    /// Whether a domain accepts just any local part.
    CatchAll { domain: u32, probe: Mailbox, losses: u8, attempts: u16 },
    /// Whether a mailbox that was accepted before still is. The answer makes no record.
    Control { domain: u32, mailbox: Mailbox, losses: u8 },
}

impl Question {
    /// Counts the loss of a connection. Returns the question as an error once it has lost too many.
    pub(super) fn count_loss(mut self) -> Result<Self, Self> {
        let (Self::Item(Item { losses, .. }) | Self::CatchAll { losses, .. } | Self::Control { losses, .. }) =
            &mut self;
        *losses += 1;
        if *losses < LOSSES { Ok(self) } else { Err(self) }
    }

    pub(super) fn mailbox(&self) -> Mailbox<&str> {
        match self {
            Self::Item(item) => item.mailbox(),
            Self::CatchAll { probe, .. } => probe.borrowed(),
            Self::Control { mailbox, .. } => mailbox.borrowed(),
        }
    }

    pub(super) fn needs_smtputf8(&self) -> bool {
        match self {
            Self::Item(item) => item.needs_smtputf8,
            Self::CatchAll { probe, .. } => probe.needs_smtputf8(),
            Self::Control { mailbox, .. } => mailbox.needs_smtputf8(),
        }
    }

    pub(super) fn domain(&self) -> u32 {
        match self {
            Self::Item(item) => item.domain,
            Self::CatchAll { domain, .. } | Self::Control { domain, .. } => *domain,
        }
    }

    /// Returns the recipients by whose answers the probability of a refusal is estimated.
    pub(super) fn cohort(&self) -> Cohort {
        match self {
            Self::Item(item) => Cohort::new(item.domain, item.attempts.into()),
            Self::CatchAll { domain, .. } => Cohort::random(*domain),
            Self::Control { domain, .. } => Cohort::new(*domain, 0),
        }
    }
}

/// A question that is asked again later. The earliest is the greatest, since `BinaryHeap` pops the greatest.
pub(super) struct DelayedQuestion {
    pub(super) due: Instant,
    pub(super) mx_set: usize,
    pub(super) question: Question,
}

impl PartialEq for DelayedQuestion {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for DelayedQuestion {}

impl PartialOrd for DelayedQuestion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DelayedQuestion {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

/// Calls `record` with the cohort and the length of each run of questions of one cohort.
pub(super) fn for_each_cohort(questions: &[Question], mut record: impl FnMut(Cohort, u32)) {
    for alike in questions.chunk_by(|one, next| one.cohort() == next.cohort()) {
        record(alike[0].cohort(), alike.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_mailbox_has_its_own_cohort() {
        let probe = Mailbox::parse("x7@example.com").unwrap();
        let question = Question::CatchAll { domain: 3, probe, losses: 0, attempts: 0 };
        assert_eq!(question.cohort(), Cohort::random(3));
        assert_ne!(question.cohort(), Cohort::new(3, 0));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_question_fits_into_a_cache_line() {
        assert!(size_of::<Question>() <= 64);
    }
}
