//! What becomes of connections, and what that says of their servers: opened, one too many, broken, never reached.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    handle::Source,
    queue::{Batch, Suspects},
    state::LaneInner,
};
use crate::verify::{Blame, CatchAll, SubStatus, outcome::Outcome, policy::harvest_defence::Origin};

/// How long exchangers that could not be reached are left alone.
const REST: Duration = Duration::from_secs(60);
/// Connections in a row that break without an answer, after which nobody else is asked for a while.
const FRUITLESS: u32 = 4;
/// Connections whose replies are out of step, after which nobody else is asked for a while. Two that end as they should
/// make up for one.
const OUT_OF_STEP: u32 = 12;
/// Answers that make a connection worth its while; after less, there is a pause before the next.
const WORTH: u64 = 5;
/// Twice to eight times this is the pause: at most two connections a second to a server that keeps closing them.
const PAUSE: Duration = Duration::from_millis(60);
/// Times in a row that the server may close with blame on us and without an answer, before it counts as not wanting us.
const TURNED_AWAY: u32 = 3;

impl LaneInner {
    /// Takes note of a connection that is open; false if another exchanger came first and is being asked, beside which
    /// this one must not be.
    #[must_use]
    pub(super) fn connected(&mut self, mx_set: usize, host: &Arc<str>) -> bool {
        let known = &mut self.mx_sets[mx_set];
        if known.live > 0 && known.answering.as_ref() != Some(host) {
            return false;
        }
        known.connecting = known.connecting.saturating_sub(1);
        known.live += 1;
        known.borne = known.borne.max(known.live);
        known.reached();
        let waiting = known.queue.total();
        let unsure = known.answers(host);
        self.waiting -= waiting - known.queue.total();
        self.accept_all(mx_set, unsure, CatchAll::Inconclusive);
        true
    }

    /// Takes note of a connection that ended as it should.
    pub(super) fn went_well(&mut self, mx_set: usize) {
        let known = &mut self.mx_sets[mx_set];
        (known.fruitless, known.poor, known.turned_away) = (0, 0, 0);
        known.out_of_step = known.out_of_step.saturating_sub(1);
    }

    /// Records a connection whose replies were out of step.
    pub(super) fn went_out_of_step(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].out_of_step += 2;
    }

    /// Takes note that no connection to `host`, or to any other exchanger, could be opened.
    pub(super) fn unreachable(&mut self, mx_set: usize, host: &Arc<str>, outcome: &Outcome, now: Instant) {
        let known = &mut self.mx_sets[mx_set];
        if known.live > 0 {
            return self.one_too_many(mx_set, now);
        }
        (known.fruitless, known.out_of_step, known.borne) = (0, 0, 0);
        self.leave_alone(mx_set, Some(Arc::clone(host)), outcome, now);
        if outcome.verdict.sub_status == SubStatus::Blocked {
            self.block_provider(outcome, now);
        }
    }

    /// Leaves the exchangers alone for a while. Those who wait for them get the reason.
    pub(super) fn leave_alone(
        &mut self,
        mx_set: usize,
        host: Option<Arc<str>>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let rest = self.context.config.pause(1).map_or(REST, |pause| pause.min(REST));
        self.mx_sets[mx_set].rest = Some((now + rest, outcome.clone()));
        self.rest_until = self.rest_until.max(Some(now + rest));
        let source = Source { mx_set, origin: Origin::default(), host, tls: None };
        for question in self.take(mx_set) {
            self.settle(&source, question, outcome, now);
        }
    }

    /// Takes note that a server that others are connected to refused one more: as many as it bears are there.
    pub(super) fn one_too_many(&mut self, mx_set: usize, now: Instant) {
        let live = self.mx_sets[mx_set].live;
        self.mx_sets[mx_set].borne = live;
        if live > 0 {
            self.controller.record_refusal(live, now);
        }
    }

    /// Takes note of a connection that broke, or was closed by the server, after `answer_count` answers; one of the suspects may
    /// be why.
    pub(super) fn lost(
        &mut self,
        source: &Source,
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
        known.poor = if answer_count < WORTH { known.poor + 1 } else { 0 };
        known.fruitless = match answer_count {
            0 => known.fruitless + u32::from(silent || !narrowed),
            _ => 0,
        };
        known.borne = if known.poor > 0 { 0 } else { known.borne };
        // A limit of the connection blames us too; as long as connections are answered, the next one is welcome.
        let unwelcome = answer_count == 0 && outcome.verdict.blame == Some(Blame::Us);
        known.turned_away = if unwelcome { known.turned_away + 1 } else { 0 };
        if known.poor > 0 {
            known.not_before = Some(now + PAUSE.saturating_mul(1 << known.poor.min(3)));
        }
        let (turned_away, useless) =
            (known.turned_away, known.fruitless >= FRUITLESS || known.out_of_step >= 2 * OUT_OF_STEP);
        self.controller.record_trouble(now);
        if turned_away >= TURNED_AWAY {
            self.block_provider(outcome, now);
        } else if useless && let Some(host) = &source.host {
            // This connection is not closed yet.
            self.mx_sets[source.mx_set].live -= 1;
            self.unreachable(source.mx_set, host, outcome, now);
            self.mx_sets[source.mx_set].live += 1;
        }
    }

    /// Has suspects asked about again. The one that was next to be answered, or was alone, has lost a connection: twice,
    /// and that is its answer.
    fn ask_again(&mut self, source: &Source, suspects: Suspects, outcome: &Outcome, now: Instant) {
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
    fn count_losses(&mut self, source: &Source, batch: Batch, outcome: &Outcome, now: Instant) -> Batch {
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
