//! Puts the controls of [`harvest_defence`](crate::verify::policy::harvest_defence) into windows, and applies their
//! answers to provisional verdicts.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    next::ControlResult,
    peer::Peer,
    question::Question,
    state::LaneInner,
    window::{AnswerContext, BatchEffect, NextWindow, Window},
};
use crate::verify::{
    Event, Status,
    outcome::Outcome,
    policy::{
        breaker::{BlockScope, HeldVerdict, ProvisionalVerdict},
        rejection_rate::ExpectedRejections,
    },
    run_state::{RetryOwner, RunState},
};

/// What a connection may ask next with regard to controls.
pub(super) enum ControlStep {
    /// Ask the waiting questions.
    None,
    /// Ask a control alone.
    Control(Window),
    /// Ask nothing until the control has its answer.
    Wait,
    /// Close: the connection had its control, and another one is due.
    Close,
}

impl LaneInner {
    /// Puts a control before the questions that wait, if one is due. An `exhausted` connection has its control at its
    /// end.
    pub(super) fn control_step(&mut self, peer: &mut Peer, exhausted: bool, now: Instant) -> ControlStep {
        let mx_set = &mut self.mx_sets[peer.mx_set];
        if mx_set.waits_for_control() {
            return ControlStep::Wait;
        }
        if mx_set.harvest.needs_control() {
            if peer.harvest.controlled {
                return ControlStep::Close;
            }
            return self.control_window(peer, now).map_or(ControlStep::None, ControlStep::Control);
        }
        if mx_set.next_is_control() && peer.harvest.controlled {
            if mx_set.len() == 1 {
                return ControlStep::Close;
            }
            // The next connection asks the control, unless an acceptance comes first.
            mx_set.harvest.withdraw_control();
            self.pop(peer.mx_set);
        } else if !exhausted && mx_set.harvest.is_control_due(&peer.harvest) {
            self.put_control(peer.mx_set);
        }
        ControlStep::None
    }

    /// Returns a control for the end of the last window of a connection, if one is due there.
    pub(super) fn last_control(&mut self, peer: &mut Peer) -> Option<Question> {
        let harvest = &self.mx_sets[peer.mx_set].harvest;
        if harvest.is_sample_due(&peer.harvest) { self.control_on(peer) } else { None }
    }

    /// Returns a window with only a control instead of `next_window`, if the connection has no more to ask and a
    /// control is due.
    pub(super) fn closing_control(
        &mut self,
        peer: &mut Peer,
        next_window: NextWindow,
        now: Instant,
    ) -> NextWindow {
        let mx_set = &self.mx_sets[peer.mx_set];
        let due = mx_set.harvest.is_last_control_due(Some(&peer.harvest), mx_set.is_empty());
        if !due || self.breaker.blocked(now).is_some() {
            return next_window;
        }
        self.control_window(peer, now).map_or(next_window, NextWindow::Window)
    }

    /// Returns a window with only a control, if the rate limit allows one.
    fn control_window(&mut self, peer: &mut Peer, now: Instant) -> Option<Window> {
        if !self.take_token(now) {
            return None;
        }
        let control = self.control_on(peer)?;
        self.mx_sets[peer.mx_set].rates.record_asked(control.cohort(), 1);
        let (questions, expected) = (vec![control], ExpectedRejections::default());
        Some(Window { questions, expected, smtputf8: false, last: false, alone: false })
    }

    fn control_on(&mut self, peer: &mut Peer) -> Option<Question> {
        let (domain, mailbox) = self.mx_sets[peer.mx_set].harvest.take_control()?;
        peer.harvest.controlled = true;
        Some(Question::Control { domain, mailbox, losses: 0 })
    }

    /// Puts a control into the queue of an MX set at rest, if refusals there are provisional. Returns whether it did.
    pub(super) fn control_at_rest(&mut self, mx_set: usize, now: Instant) -> bool {
        let known = &self.mx_sets[mx_set];
        let due = known.harvest.is_last_control_due(None, true)
            && !known.harvest.needs_control()
            && self.breaker.has_provisional(mx_set)
            && known.pause_reason(now).is_none()
            && self.breaker.blocked(now).is_none();
        if due {
            self.put_control(mx_set);
        }
        due
    }

    /// Returns whether a caller waits for held verdicts of the MX set: one that schedules retries itself, or a call.
    pub(super) fn holds_verdicts_back(&self, mx_set: usize) -> bool {
        let waits =
            |run: &Arc<RunState>| run.options.is_call || run.options.retry_owner == RetryOwner::Caller;
        let waiting: Vec<u32> = self.event_batch.runs().filter(|run| waits(run)).map(|run| run.id).collect();
        self.breaker.holds_any(mx_set, |run| waiting.contains(&run))
    }

    /// Asks unproved questions of an MX set at rest again on other connections, unless their verdicts were reported.
    /// Returns whether there were any.
    pub(super) fn ask_again_at_rest(&mut self, mx_set: usize, now: Instant) -> bool {
        let known = &self.mx_sets[mx_set];
        let rests = known.pause_reason(now).is_some() || self.breaker.blocked(now).is_some();
        if rests || !self.breaker.has_provisional(mx_set) {
            return false;
        }
        let harvest = &mut self.mx_sets[mx_set].harvest;
        let most = harvest.ask_again();
        let provisional =
            self.breaker.take_unconfirmed(mx_set, most, |refusals| harvest.is_improbable(refusals));
        let mut asked = false;
        for verdict in provisional.into_iter().rev() {
            match verdict {
                ProvisionalVerdict::Held(held) => {
                    let HeldVerdict { mut item, record, .. } = *held;
                    item.address = record.address;
                    item.attempts -= 1;
                    self.put_back(mx_set, Question::Item(item));
                    asked = true;
                }
                reported => self.report(reported),
            }
        }
        asked
    }

    /// Drops a control without an answer, so that it is never bisected.
    pub(super) fn withdraw_control(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].harvest.withdraw_control();
        self.wake(mx_set);
    }

    fn put_control(&mut self, mx_set: usize) {
        if let Some((domain, mailbox)) = self.mx_sets[mx_set].harvest.take_control() {
            self.put_next(mx_set, Question::Control { domain, mailbox, losses: 0 });
        }
    }

    /// Records that a recipient was accepted whose window was sent at `asked`.
    pub(super) fn record_acceptance(&mut self, peer: &mut Peer, domain: u32, asked: Instant) {
        let harvest = &mut self.mx_sets[peer.mx_set].harvest;
        harvest.record_acceptance(&mut peer.harvest, asked);
        let everywhere = harvest.trusts_connections();
        self.breaker.record_acceptance(peer.mx_set, peer.harvest.number, everywhere, domain, asked);
    }

    /// Records the refusal of a recipient of the list, or of a `random` one. Returns what it blocks.
    pub(super) fn record_refusal(
        &mut self,
        peer: &mut Peer,
        domain: u32,
        random: bool,
        answer: AnswerContext<'_>,
    ) -> BlockScope {
        let AnswerContext { outcome, at, .. } = answer;
        if outcome.verdict.status() == Status::Undeliverable {
            self.mx_sets[peer.mx_set].harvest.record_refusal(&mut peer.harvest, domain, random);
        }
        let others = || self.mx_sets.iter().any(|mx_set| mx_set.has_other_domain(domain));
        let scope = self.breaker.record_refusal(domain, outcome, others, at);
        self.apply_block(scope, domain, outcome, at);
        scope
    }

    /// Applies the answer to a control.
    pub(super) fn settle_control(
        &mut self,
        peer: &mut Peer,
        domain: u32,
        answer: AnswerContext<'_>,
        effect: &mut BatchEffect,
    ) {
        let AnswerContext { outcome, at, .. } = answer;
        let harvest = &mut self.mx_sets[peer.mx_set].harvest;
        let defended = harvest.active_defence().is_some();
        match ControlResult::of(outcome.verdict.status(), defended) {
            ControlResult::Accepted => {
                // The next connection has its own control for its refusals.
                effect.stop |= defended;
                harvest.record_control_accepted();
            }
            ControlResult::Refused => {
                let defence = Outcome::harvest_defence();
                if harvest.record_control_refused(domain, &defence, at) {
                    self.breaker.harvest_defences += 1;
                }
                if self.breaker.blocked(at).is_none() {
                    let first = self.context.config.pause(1);
                    self.breaker.block_for(first, &defence, at);
                    self.controller.reset();
                }
                self.forget_recent();
                let provisional = self.breaker.take_provisional_at(peer.mx_set);
                self.replace_provisional(provisional, &defence, at);
                effect.stop = true;
            }
            ControlResult::Lost => harvest.record_control_lost(),
        }
    }

    /// Forgets the verdicts of recent calls at the servers of the lane, which may be void.
    pub(super) fn forget_recent(&self) {
        let exchangers = self.mx_sets.iter().flat_map(|mx_set| mx_set.exchangers().iter());
        let hosts: HashSet<_> = exchangers.map(|exchanger| Arc::clone(&exchanger.host)).collect();
        self.context.recent.forget(&hosts);
    }

    /// Replaces provisional verdicts by `outcome`.
    pub(super) fn replace_provisional(
        &mut self,
        provisional: Vec<ProvisionalVerdict>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let (mut reopened, mut held) = (BTreeMap::<u32, Vec<u64>>::new(), Vec::new());
        for verdict in provisional {
            match verdict {
                ProvisionalVerdict::Reported { run, id, .. } => reopened.entry(run).or_default().push(id),
                ProvisionalVerdict::Held(verdict) => held.push(verdict),
            }
        }
        // This event comes first, so that the caller does not take the run for finished.
        for (run, ids) in reopened {
            self.event_batch.finish(run, ids.len());
            self.event_batch.push(run, Event::Reopened { ids });
        }
        for HeldVerdict { mx_set, item, record } in held.into_iter().map(|held| *held) {
            self.replace_verdict(mx_set, item, record, outcome, now);
        }
    }

    /// Reports all provisional verdicts as final.
    pub(super) fn report_provisional(&mut self) {
        let confirmed = self.breaker.take_all();
        confirmed.into_iter().for_each(|verdict| self.report(verdict));
    }

    pub(super) fn report(&mut self, verdict: ProvisionalVerdict) {
        match verdict {
            ProvisionalVerdict::Held(held) => {
                self.context.done(&held.item, held.record, &mut self.event_batch);
            }
            ProvisionalVerdict::Reported { run, .. } => self.event_batch.finish(run, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::Mailbox,
        verify::{
            CatchAll,
            item::Item,
            lane::{state::Lane, testing},
            policy::rejection_budget::Budget,
        },
    };

    fn lane() -> Arc<Lane> {
        testing::lane().0
    }

    fn item(n: usize) -> Item {
        Item { domain: 1, ..testing::item(&format!("user{n}@example.com")) }
    }

    /// Makes ten questions wait at an MX set that accepted many recipients and then refused ten.
    fn refuse_ten(state: &mut LaneInner, peer: &mut Peer) {
        state.take_in(peer.mx_set, (0..10).map(item));
        let harvest = &mut state.mx_sets[peer.mx_set].harvest;
        peer.harvest = harvest.record_connection(9);
        let ann = Mailbox::parse("ann@example.com").unwrap();
        harvest.add_control(1, ann.borrowed(), Some(CatchAll::Refused));
        (0..50).for_each(|_| harvest.record_acceptance(&mut peer.harvest, Instant::now()));
        (0..10).for_each(|_| harvest.record_refusal(&mut peer.harvest, 1, false));
    }

    fn next_window(state: &mut LaneInner, lane: &Lane, peer: &mut Peer) -> NextWindow {
        let budget = Budget::new(&lane.limits, None, None).remaining(ExpectedRejections::default());
        state.next_window(peer, budget, 1..=100, true, false, Instant::now())
    }

    fn controls(questions: &[Question]) -> usize {
        questions.iter().filter(|question| matches!(question, Question::Control { .. })).count()
    }

    #[tokio::test]
    async fn a_control_that_loses_its_connection_is_dropped_alone() {
        let lane = lane();
        let mut state = lane.lock();
        let mx_set = state.add(Vec::new());
        let mut peer = Peer::without_connection(mx_set);
        state.mx_sets[mx_set].set_live(1);
        refuse_ten(&mut state, &mut peer);
        let NextWindow::Window(window) = next_window(&mut state, &lane, &mut peer) else {
            panic!("no window")
        };
        let (asked, waiting) = (window.questions.len(), state.waiting);
        assert_eq!(controls(&window.questions), 1);
        assert!(peer.harvest.controlled && state.mx_sets[mx_set].harvest.is_control_pending());
        state.put_back_batches(mx_set, [window.questions]);
        assert_eq!((state.waiting, state.mx_sets[mx_set].queue.total()), (waiting + asked - 1, 10));
        assert!(!state.mx_sets[mx_set].harvest.is_control_pending());
        // After its control, a connection leaves the next one to another connection. The other questions are asked.
        let NextWindow::Window(window) = next_window(&mut state, &lane, &mut peer) else {
            panic!("no window")
        };
        assert_eq!(controls(&window.questions), 0);
        assert_eq!(window.questions.len() + state.waiting, 10);
    }

    #[tokio::test]
    async fn after_a_detection_a_control_is_asked_alone_and_the_others_wait() {
        let lane = lane();
        let mut state = lane.lock();
        let mx_set = state.add(Vec::new());
        let [mut first, mut second] = [(); 2].map(|()| Peer::without_connection(mx_set));
        state.mx_sets[mx_set].set_live(2);
        refuse_ten(&mut state, &mut first);
        // A bisected batch that waits does not come before the control.
        let batch = (0..2).filter_map(|_| state.pop(mx_set)).collect();
        state.put_back_batches(mx_set, [batch]);
        let defence = Outcome::harvest_defence();
        assert!(state.mx_sets[mx_set].harvest.record_control_refused(1, &defence, Instant::now()));
        let NextWindow::Window(window) = next_window(&mut state, &lane, &mut first) else {
            panic!("no window")
        };
        assert_eq!((window.questions.len(), controls(&window.questions), window.alone), (1, 1, false));
        assert!(matches!(next_window(&mut state, &lane, &mut second), NextWindow::Wait));
        assert!(state.mx_sets[mx_set].waits_for_control());
        window.questions.into_iter().for_each(|question| state.put_back(mx_set, question));
        assert!(!state.mx_sets[mx_set].waits_for_control());
        assert!(
            matches!(next_window(&mut state, &lane, &mut first), NextWindow::Close),
            "one per connection"
        );
        let NextWindow::Window(window) = next_window(&mut state, &lane, &mut second) else {
            panic!("no window")
        };
        assert_eq!(controls(&window.questions), 1);
        assert_eq!((state.waiting, state.mx_sets[mx_set].queue.total()), (10, 10));
    }
}
