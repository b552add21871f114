//! What becomes of connections, and what that says of their servers: opened, one too many, broken, never reached.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    peer::AnswerSource,
    queue::{QuestionBatch, Suspects},
    state::LaneInner,
};
use crate::verify::{Blame, CatchAll, SubStatus, outcome::Outcome, policy::harvest_defence::RefusalOrigin};

/// How long exchangers that could not be reached are left alone.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(60);
/// Connections in a row that break without an answer, after which nobody else is asked for a while.
const MAX_FRUITLESS_CONNECTIONS: u32 = 4;
/// Connections whose replies are out of step, after which nobody else is asked for a while. Two that end as they should
/// make up for one.
const MAX_OUT_OF_STEP_CONNECTIONS: u32 = 12;
/// Answers that make a connection worth its while; after less, there is a pause before the next.
const MIN_USEFUL_ANSWERS: u64 = 5;
/// Twice to eight times this is the pause: at most two connections a second to a server that keeps closing them.
const RECONNECT_DELAY: Duration = Duration::from_millis(60);
/// Times in a row that the server may close with blame on us and without an answer, before it counts as not wanting us.
const MAX_BLAMED_CLOSES: u32 = 3;

impl LaneInner {
    /// Records a connection that is open; false if another exchanger came first and is being asked, beside which
    /// this one must not be.
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

    /// Records a connection that ended as it should.
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

    /// Leaves the exchangers alone for a while. Those who wait for them get the reason.
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

    /// Records that a server that others are connected to refused one more: as many as it bears are there.
    pub(super) fn record_connection_refused(&mut self, mx_set: usize, now: Instant) {
        let live = self.mx_sets[mx_set].live;
        self.mx_sets[mx_set].proven_connections = live;
        if live > 0 {
            self.controller.record_refusal(live, now);
        }
    }

    /// Records a connection that broke, or was closed by the server, after `answer_count` answers; one of the suspects
    /// may be why.
    pub(super) fn record_lost(
        &mut self,
        source: &AnswerSource,
        answer_count: u64,
        outcome: &Outcome,
        suspects: Suspects,
        now: Instant,
    ) {
        // A part of a window that broke before tells nothing new of the server.
        let narrowed = matches!(suspects, Suspects::Halves(_));
        let silent = outcome.verdict.sub_status == SubStatus::TimeoutExceeded;
        self.ask_again(source, suspects, outcome, now);
        let known = &mut self.mx_sets[source.mx_set];
        known.unproductive = if answer_count < MIN_USEFUL_ANSWERS { known.unproductive + 1 } else { 0 };
        known.fruitless = match answer_count {
            0 => known.fruitless + u32::from(silent || !narrowed),
            _ => 0,
        };
        known.proven_connections = if known.unproductive > 0 { 0 } else { known.proven_connections };
        // A limit of the connection blames us too; as long as connections are answered, the next one is welcome.
        let unwelcome = answer_count == 0 && outcome.verdict.blame == Some(Blame::Us);
        known.blamed_closes = if unwelcome { known.blamed_closes + 1 } else { 0 };
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
            // This connection is not closed yet.
            self.mx_sets[source.mx_set].live -= 1;
            self.record_unreachable(source.mx_set, host, outcome, now);
            self.mx_sets[source.mx_set].live += 1;
        }
    }

    /// Has suspects asked about again. The one that was next to be answered, or was alone, has lost a connection: twice,
    /// and that is its answer.
    fn ask_again(&mut self, source: &AnswerSource, suspects: Suspects, outcome: &Outcome, now: Instant) {
        let batches = match suspects {
            Suspects::None => return,
            Suspects::Untested(batch) => vec![batch],
            Suspects::One(batch) => vec![self.count_losses(source, batch, outcome, now)],
            Suspects::Around([before, next, behind]) => {
                vec![before, self.count_losses(source, next, outcome, now), behind]
            }
            Suspects::Halves(halves) => halves.into(),
        };
        self.put_back_suspects(source.mx_set, batches);
    }

    /// Counts the loss of a connection for each question; those that have lost enough are settled.
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
