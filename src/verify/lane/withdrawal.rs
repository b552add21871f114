//! Takes back questions that are not to be asked.
//!
//! Questions of runs that have ended are dropped. Those of runs whose callers take no events are set aside for a time.

use super::{
    question::{DelayedQuestion, Question},
    state::LaneInner,
};

impl LaneInner {
    /// Returns whether the run of a question has ended, so that nobody waits for the answer.
    pub(super) fn is_withdrawn(&mut self, question: &Question) -> bool {
        matches!(question, Question::Item(item) if self.event_batch.run(item.run).is_none())
    }

    /// Drops the questions of a run that has ended.
    pub(in crate::verify) fn withdraw(&mut self, run: u32) {
        if !self.event_batch.knows(run) {
            return;
        }
        let is_of = |question: &Question| matches!(question, Question::Item(item) if item.run == run);
        for mx_set in &mut self.mx_sets {
            self.waiting -= mx_set.withdraw(run);
        }
        let mx_sets = &self.mx_sets;
        self.delayed.retain(|DelayedQuestion { mx_set, question, .. }| match question {
            Question::CatchAll { domain, .. } => mx_sets[*mx_set].is_asked(*domain),
            question => !is_of(question),
        });
        self.parked.retain(|(_, question)| !is_of(question));
    }

    /// Sets the questions of an MX set aside whose runs have too many events that were not taken.
    pub(super) fn park_stalled(&mut self, mx_set: usize) {
        let stalled: Vec<u32> =
            self.event_batch.runs().filter(|run| run.capacity.backlog.is_full()).map(|run| run.id).collect();
        if stalled.is_empty() {
            return;
        }
        let is_stalled =
            |question: &Question| matches!(question, Question::Item(item) if stalled.contains(&item.run));
        let taken = self.mx_sets[mx_set].queue.take_where(is_stalled);
        self.waiting -= taken.len();
        self.parked.extend(taken.into_iter().map(|question| (mx_set, question)));
    }

    /// Puts the questions of a run back that were set aside.
    pub(in crate::verify) fn unpark(&mut self, run: u32) {
        let is_of = |(_, question): &mut (usize, Question)| matches!(question, Question::Item(item) if item.run == run);
        let taken: Vec<_> = self.parked.extract_if(.., is_of).collect();
        for (mx_set, question) in taken {
            self.waiting += 1;
            self.mx_sets[mx_set].queue.push(question);
            self.wake(mx_set);
        }
    }
}
