//! What goes into a run, and what comes out of it, for a caller that keeps its own books: a durable job, say.
//!
//! The caller names each address by a number of its own, feeds it as a [`Task`], and gets [`Event`]s about the number.
//! The engine remembers of an address only what is under way, so that the books are the caller's alone.

use std::time::Duration;

use super::{CatchAll, LaneStatus, Record};

/// An address to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What the caller knows it by; events carry it. Two tasks under way should not share one.
    pub id: u64,
    /// The address, as it was given.
    pub address: String,
    /// How often it has been asked before, in this run or an earlier one: 0 for a new one.
    pub attempts: u32,
}

/// What became of a task, or of what the tasks have in common.
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
    /// The answer was a temporary one, as greylisting gives it. The task should be fed again, with
    /// [`Record::attempts`] as its `attempts`, when the time has passed; this run may be over by then.
    Later {
        /// [`Task::id`].
        id: u64,
        /// What is known so far: the verdict, should nobody ask again.
        record: Record,
        /// When to ask again, from now.
        after: Duration,
    },
    /// Whether a domain accepts any local part: worth keeping, and to be handed to later runs of the same job.
    CatchAll {
        /// The domain, in lower-case A-labels.
        domain: Box<str>,
        /// The answer: never [`CatchAll::NotRun`].
        answer: CatchAll,
    },
    /// A server turned out not to want us, so that what it refused lately may be no verdict about the mailbox: the
    /// records of these tasks, [`Done`](Self::Done) before, are void, and the tasks should be fed again.
    Reopened {
        /// [`Task::id`] of each.
        ids: Vec<u64>,
    },
    /// A lane began or ceased to be blocked.
    Lane(Box<LaneStatus>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Past two lines of the cache, each move is a call.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_event_is_moved_in_line() {
        assert!(size_of::<Event>() <= 128);
    }
}
