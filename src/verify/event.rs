//! Input and output of a run for callers that store retries and verdicts themselves, such as a durable job.
//!
//! The caller numbers each address, sends it as a [`Task`], and receives [`Event`]s with the number. The engine holds
//! only addresses in progress. The caller stores everything else.

use std::time::Duration;

use super::{CatchAll, LaneStatus, Record};

/// An address to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The caller's number for the address. Events carry it. Two tasks in progress must not share a number.
    pub id: u64,
    /// The address as given.
    pub address: String,
    /// The number of earlier attempts, in this run or another. 0 for a new address. Above 65,535 counts as that.
    pub attempts: u32,
}

impl Task {
    /// Returns a task for a new address.
    #[must_use]
    pub fn new(id: u64, address: impl Into<String>) -> Self {
        Self { id, address: address.into(), attempts: 0 }
    }

    /// Sets the number of earlier attempts.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }
}

/// The result of a task, or a change that concerns several tasks.
///
/// Every task gets exactly one [`Done`](Self::Done) or [`Later`](Self::Later).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The verdict is there.
    Done {
        /// [`Task::id`].
        id: u64,
        /// The verdict.
        record: Record,
    },
    /// The answer was temporary, for example greylisting. The caller should send the task again after this time, with
    /// [`Record::attempts`] as its `attempts`. The run may end before that.
    Later {
        /// [`Task::id`].
        id: u64,
        /// The record so far. It is the verdict if the task is not sent again.
        record: Record,
        /// The pause before the next attempt.
        after: Duration,
    },
    /// The result of a catch-all test: whether a domain accepts any local part. Each run that uses the lane of the domain
    /// then gets it. Store it, and pass it to later runs of the same job ([`Verifier::start`](super::Verifier::start)).
    CatchAll {
        /// The domain, in lower-case A-labels.
        domain: Box<str>,
        /// The result. It is never [`CatchAll::NotRun`].
        answer: CatchAll,
    },
    /// A server refuses this client, so its recent refusals may not concern the mailboxes. The [`Done`](Self::Done)
    /// records of these tasks are void. The caller should send the tasks again.
    Reopened {
        /// [`Task::id`] of each.
        ids: Vec<u64>,
    },
    /// The provider of a lane began or stopped to refuse this client.
    Lane(Box<LaneStatus>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value over 128 octets, two cache lines, is moved by a call of `memcpy`.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_event_is_moved_in_line() {
        assert!(size_of::<Event>() <= 128);
    }
}
