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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Endpoint,
        verify::{
            Event,
            lane::{
                question::Question,
                state::Lane,
                testing::{events, item, lane, outcome, source},
            },
        },
    };

    const CLOSED: &str = "421 4.3.2 Shutting down";

    /// Adds an MX set with a question and `live` open connections to `mx1`.
    fn mx_set(lane: &Lane, live: u32) -> usize {
        let mut state = lane.lock();
        let ends = ["mx1", "mx2"].map(|host| Endpoint { host: host.into(), addrs: Vec::new() });
        let mx_set = state.add(ends.to_vec());
        state.take_in(mx_set, [item("ann@example.com")].into_iter());
        (0..live).for_each(|_| assert!(state.record_connected(mx_set, &"mx1".into())));
        mx_set
    }

    fn batch(address: &str) -> QuestionBatch {
        vec![Question::Item(item(address))]
    }

    #[tokio::test]
    async fn a_failure_beside_open_connections_is_a_limit_and_settles_no_question() {
        for (live, waiting) in [(0, 0), (1, 1)] {
            let (lane, mut event_batches) = lane();
            let (mx_set, now) = (mx_set(&lane, live), Instant::now());
            let mut state = lane.lock();
            state.record_unreachable(mx_set, &"mx1".into(), &outcome(CLOSED), now);
            state.flush();
            assert_eq!((state.waiting, state.mx_sets[mx_set].queue.total()), (waiting, waiting));
            assert_eq!(events(&mut event_batches).len(), 1 - waiting);
            assert_eq!(state.mx_sets[mx_set].pause_reason(now).is_some(), live == 0);
            assert!(state.mx_sets[mx_set].pause_reason(now + UNREACHABLE_PAUSE).is_none());
        }
    }

    #[tokio::test]
    async fn connections_that_break_without_an_answer_pause_the_servers_unless_another_is_open() {
        for (live, paused) in [(1, true), (2, false)] {
            let (lane, _events) = lane();
            let (mx_set, now) = (mx_set(&lane, live), Instant::now());
            let mut state = lane.lock();
            let mut lost = 0;
            while state.mx_sets[mx_set].pause_reason(now).is_none() && lost < 10 {
                state.record_lost(&source(mx_set, "mx1"), 0, &outcome(CLOSED), Bisection::None, now);
                lost += 1;
            }
            assert_eq!(lost < 10, paused, "{live} open, {lost} lost");
            assert_eq!(state.mx_sets[mx_set].live(), live, "the worker counts its own end");
        }
    }

    #[tokio::test]
    async fn a_question_that_broke_two_connections_alone_gets_the_failure() {
        let (lane, mut event_batches) = lane();
        let (mx_set, now) = (lane.lock().add(Vec::new()), Instant::now());
        let mut state = lane.lock();
        let mut first = batch("ann@example.com");
        first.extend(batch("bob@example.com"));
        let (source, outcome) = (source(mx_set, "mx1"), outcome(CLOSED));
        state.record_lost(&source, 1, &outcome, Bisection::around(first, 0), now);
        state.flush();
        assert_eq!((state.waiting, events(&mut event_batches).len()), (2, 0));
        let mut next = Vec::new();
        state.mx_sets[mx_set].queue.take_batch(100, &mut next);
        state.waiting -= next.len();
        let asked: Vec<_> = next.iter().map(|question| question.mailbox().to_string()).collect();
        assert_eq!(asked, ["ann@example.com"], "alone in its window");
        state.record_lost(&source, 1, &outcome, Bisection::any_of(next), now);
        state.flush();
        let events = events(&mut event_batches);
        let [Event::Done { record, .. } | Event::Later { record, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((record.address.as_str(), state.waiting), ("ann@example.com", 1));
    }

    #[tokio::test]
    async fn an_address_whose_exchanger_was_replaced_gets_its_record_without_a_probe() {
        let (lane, mut event_batches) = lane();
        let (mx_set, now) = (mx_set(&lane, 1), Instant::now());
        let mut state = lane.lock();
        let ann = state.pop(mx_set).unwrap();
        state.settle(&source(mx_set, "mx1"), ann, &outcome("250 2.1.5 Ok"), now);
        assert_eq!(state.waiting, 1, "the probe");
        state.closed(mx_set, true);
        assert!(state.record_connected(mx_set, &"mx2".into()));
        state.flush();
        let events = events(&mut event_batches);
        let [Event::Done { record, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((record.catch_all, state.waiting), (CatchAll::Inconclusive, 0));
    }
}
