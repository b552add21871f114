//! Keeps the health of the connections of an MX set: opened, refused beside others, broken, or never reached. Decides
//! how long its servers are not asked.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    peer::AnswerSource,
    queue::{Bisection, QuestionBatch},
    state::LaneInner,
};
use crate::verify::{Blame, CatchAll, SubStatus, outcome::Outcome, policy::harvest_defence::RefusalOrigin};

/// Time for which unreachable exchangers are not asked.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(60);
/// After so many connections in a row without an answer, the MX set pauses.
const MAX_FRUITLESS_CONNECTIONS: u32 = 4;
/// After so many connections whose replies are out of step, the MX set pauses. Two connections that end normally cancel
/// one.
const MAX_OUT_OF_STEP_CONNECTIONS: u32 = 12;
/// A connection with fewer answers is unproductive: a pause follows before the next.
const MIN_USEFUL_ANSWERS: u64 = 5;
/// The pause is two to eight times this: a server that keeps closing gets at most two connections per second.
const RECONNECT_DELAY: Duration = Duration::from_millis(60);
/// After so many closes in a row without an answer and with blame on us, the provider counts as blocking us.
const MAX_BLAMED_CLOSES: u32 = 3;

impl LaneInner {
    /// Records that a connection is open. Returns false if another exchanger of the set is being asked, beside which
    /// this one must not be used.
    #[must_use]
    pub(super) fn record_connected(&mut self, mx_set: usize, host: &Arc<str>) -> bool {
        let known = &mut self.mx_sets[mx_set];
        if known.live > 0 && known.answering.as_ref() != Some(host) {
            return false;
        }
        known.connecting = known.connecting.saturating_sub(1);
        known.live += 1;
        known.proven_connections = known.proven_connections.max(known.live);
        known.record_reached();
        let waiting = known.queue.total();
        let unsure = known.set_answering(host);
        self.waiting -= waiting - known.queue.total();
        self.accept_all(mx_set, unsure, CatchAll::Inconclusive);
        true
    }

    /// Records a connection that ended normally.
    pub(super) fn record_good_end(&mut self, mx_set: usize) {
        let known = &mut self.mx_sets[mx_set];
        (known.fruitless, known.unproductive, known.blamed_closes) = (0, 0, 0);
        known.out_of_step = known.out_of_step.saturating_sub(1);
    }

    /// Records a connection whose replies were out of step.
    pub(super) fn record_out_of_step(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].out_of_step += 2;
    }

    /// Records that no connection to `host`, or to any other exchanger, could be opened.
    pub(super) fn record_unreachable(
        &mut self,
        mx_set: usize,
        host: &Arc<str>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let known = &mut self.mx_sets[mx_set];
        if known.live > 0 {
            return self.record_connection_refused(mx_set, now);
        }
        (known.fruitless, known.out_of_step, known.proven_connections) = (0, 0, 0);
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
        self.mx_sets[mx_set].paused = Some((now + pause, outcome.clone()));
        self.paused_until = self.paused_until.max(Some(now + pause));
        let source = AnswerSource { mx_set, origin: RefusalOrigin::default(), host, tls: None };
        for question in self.take(mx_set) {
            self.settle(&source, question, outcome, now);
        }
    }

    /// Records that the server refused an extra connection. The connections open now are its limit for one minute.
    pub(super) fn record_connection_refused(&mut self, mx_set: usize, now: Instant) {
        let live = self.mx_sets[mx_set].live;
        self.mx_sets[mx_set].proven_connections = live;
        if live > 0 {
            self.controller.record_refusal(live, now);
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
        // A part of a window that broke before tells nothing new of the server.
        let narrowed = matches!(bisection, Bisection::Halves(_));
        let silent = outcome.verdict.sub_status == SubStatus::TimeoutExceeded;
        self.ask_again(source, bisection, outcome, now);
        let known = &mut self.mx_sets[source.mx_set];
        known.unproductive = if answer_count < MIN_USEFUL_ANSWERS { known.unproductive + 1 } else { 0 };
        known.fruitless = match answer_count {
            0 => known.fruitless + u32::from(silent || !narrowed),
            _ => 0,
        };
        known.proven_connections = if known.unproductive > 0 { 0 } else { known.proven_connections };
        // A limit of the connection blames us too. It is no block as long as connections get answers.
        let blamed = answer_count == 0 && outcome.verdict.blame == Some(Blame::Us);
        known.blamed_closes = if blamed { known.blamed_closes + 1 } else { 0 };
        if known.unproductive > 0 {
            known.not_before = Some(now + RECONNECT_DELAY.saturating_mul(1 << known.unproductive.min(3)));
        }
        let (blamed_closes, useless) = (
            known.blamed_closes,
            known.fruitless >= MAX_FRUITLESS_CONNECTIONS
                || known.out_of_step >= 2 * MAX_OUT_OF_STEP_CONNECTIONS,
        );
        self.controller.record_trouble(now);
        if blamed_closes >= MAX_BLAMED_CLOSES {
            self.block_provider(outcome, now);
        } else if useless && let Some(host) = &source.host {
            // This connection still counts as live.
            self.mx_sets[source.mx_set].live -= 1;
            self.record_unreachable(source.mx_set, host, outcome, now);
            self.mx_sets[source.mx_set].live += 1;
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
