//! Applies how the connections of an MX set end: opened, refused beside others, broken, or never reached. Decides
//! how long its servers are not asked.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    connection_health::{LossEffect, LostConnection},
    peer::AnswerSource,
    queue::{Bisection, QuestionBatch},
    state::LaneInner,
};
use crate::verify::{Blame, CatchAll, SubStatus, outcome::Outcome, policy::harvest_defence::RefusalOrigin};

/// Time for which unreachable exchangers are not asked.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(60);

impl LaneInner {
    /// Records that a connection is open. Returns false if another exchanger of the set is being asked, beside which
    /// this one must not be used.
    #[must_use]
    pub(super) fn record_connected(&mut self, mx_set: usize, host: &Arc<str>) -> bool {
        let known = &mut self.mx_sets[mx_set];
        let waiting = known.queue.total();
        let Some(unsure) = known.record_connected(host) else { return false };
        self.waiting -= waiting - known.queue.total();
        self.accept_all(mx_set, unsure, CatchAll::Inconclusive);
        true
    }

    /// Records a connection that ended normally.
    pub(super) fn record_good_end(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].health.record_good_end();
    }

    /// Records a connection whose replies were out of step.
    pub(super) fn record_out_of_step(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].health.record_out_of_step();
    }

    /// Records that no connection to `host`, or to any other exchanger, could be opened.
    pub(super) fn record_unreachable(
        &mut self,
        mx_set: usize,
        host: &Arc<str>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let live = self.mx_sets[mx_set].live();
        self.record_unreachable_beside(live, mx_set, host, outcome, now);
    }

    /// Records the same, while `others` are the connections that are open besides.
    fn record_unreachable_beside(
        &mut self,
        others: u32,
        mx_set: usize,
        host: &Arc<str>,
        outcome: &Outcome,
        now: Instant,
    ) {
        if others > 0 {
            return self.record_refused_beside(others, mx_set, now);
        }
        self.mx_sets[mx_set].health.record_unreachable();
        self.pause_mx_set(mx_set, Some(Arc::clone(host)), outcome, now);
        if outcome.verdict.sub_status == SubStatus::Blocked {
            self.block_provider(outcome, now);
        }
    }

    /// Pauses the MX set. Its questions get `outcome`.
    pub(super) fn pause_mx_set(
        &mut self,
        mx_set: usize,
        host: Option<Arc<str>>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let pause = self
            .context
            .config
            .pause(1)
            .map_or(UNREACHABLE_PAUSE, |scheduled| scheduled.min(UNREACHABLE_PAUSE));
        self.mx_sets[mx_set].pause(now + pause, outcome.clone());
        self.paused_until = self.paused_until.max(Some(now + pause));
        let source = AnswerSource { mx_set, origin: RefusalOrigin::default(), host, tls: None };
        for question in self.take(mx_set) {
            self.settle(&source, question, outcome, now);
        }
    }

    /// Records that the server refused an extra connection. The connections open now are its limit for one minute.
    pub(super) fn record_connection_refused(&mut self, mx_set: usize, now: Instant) {
        self.record_refused_beside(self.mx_sets[mx_set].live(), mx_set, now);
    }

    fn record_refused_beside(&mut self, others: u32, mx_set: usize, now: Instant) {
        self.mx_sets[mx_set].health.record_refused(others);
        if others > 0 {
            self.controller.record_refusal(others, now);
        }
    }

    /// Records a connection that broke, or that the server closed, after `answer_count` answers. Questions in
    /// `bisection` may be the cause.
    pub(super) fn record_lost(
        &mut self,
        source: &AnswerSource,
        answer_count: u64,
        outcome: &Outcome,
        bisection: Bisection,
        now: Instant,
    ) {
        let lost = LostConnection {
            answers: answer_count,
            timed_out: outcome.verdict.sub_status == SubStatus::TimeoutExceeded,
            known_batch: matches!(bisection, Bisection::Halves(_)),
            blamed: outcome.verdict.blame == Some(Blame::Us),
        };
        self.ask_again(source, bisection, outcome, now);
        let effect = self.mx_sets[source.mx_set].health.record_lost(lost, now);
        self.controller.record_trouble(now);
        match (effect, &source.host) {
            (LossEffect::Block, _) => self.block_provider(outcome, now),
            (LossEffect::Pause, Some(host)) => {
                // This connection still counts as live.
                let others = self.mx_sets[source.mx_set].live() - 1;
                self.record_unreachable_beside(others, source.mx_set, host, outcome, now);
            }
            (LossEffect::Pause, None) | (LossEffect::Reconnect, _) => {}
        }
    }

    /// Puts the questions of a broken window back. The one that was next to be answered, or was alone, has lost a
    /// connection. After two losses the failure is its answer.
    fn ask_again(&mut self, source: &AnswerSource, bisection: Bisection, outcome: &Outcome, now: Instant) {
        let batches = match bisection {
            Bisection::None => return,
            Bisection::Untested(batch) => vec![batch],
            Bisection::One(batch) => vec![self.count_losses(source, batch, outcome, now)],
            Bisection::Around([before, next, behind]) => {
                vec![before, self.count_losses(source, next, outcome, now), behind]
            }
            Bisection::Halves(halves) => halves.into(),
        };
        self.put_back_batches(source.mx_set, batches);
    }

    /// Counts the loss of a connection for each question. Settles those that have lost too many.
    fn count_losses(
        &mut self,
        source: &AnswerSource,
        batch: QuestionBatch,
        outcome: &Outcome,
        now: Instant,
    ) -> QuestionBatch {
        let mut left = Vec::new();
        for question in batch {
            match question.count_loss() {
                Ok(question) => left.push(question),
                Err(question) => {
                    self.mx_sets[source.mx_set].rates.record_unanswered(question.cohort());
                    self.settle(source, question, outcome, now);
                }
            }
        }
        left
    }
}
