//! The next window of a connection: which questions, how many of them, or none for now.

use std::ops::RangeInclusive;

use tokio::time::Instant;

use super::{
    control::ControlStep,
    peer::Peer,
    question::Question,
    state::LaneInner,
    window::{NextWindow, Window},
};
use crate::verify::{outcome::Outcome, policy::rejection_rate::RemainingBudget, run::BATCH_SIZE};

/// Recipients that are not worth a round trip of their own, if a new connection can ask more of them.
const MIN_WORTHWHILE_RECIPIENTS: u32 = 2;
/// Questions at once to a provider that did not want us a while ago.
const PROBATION_WINDOW: u32 = 3;
/// Recipients in a window to a host that lags: what is unanswered when it is given up is lost.
const SLOW_WINDOW: u32 = 2;

impl LaneInner {
    /// A window of so many questions, of which no more are refused than there are rejections `left`.
    pub(super) fn next_window(
        &mut self,
        peer: &mut Peer,
        budget: RemainingBudget,
        sizes: RangeInclusive<u32>,
        quiet: bool,
        nearly_exhausted: bool,
        now: Instant,
    ) -> NextWindow {
        // Nobody else is told: until this connection is closed, the others are as many too many.
        let refused = peer.ipv6 && self.mx_sets[peer.mx_set].ipv4_only;
        if self.breaker.blocked(now).is_some() || self.has_surplus_connections() || refused {
            return NextWindow::Close;
        }
        let allowed = self.rate_limiter.allowed(now);
        if self.mx_sets[peer.mx_set].is_empty() || allowed < self.min_window(self.mx_sets[peer.mx_set].len())
        {
            return NextWindow::Wait;
        }
        let slow = || {
            let slow_after = self.context.deadlines.slow_after;
            self.mx_sets[peer.mx_set].lag.lock().at(now) >= slow_after
        };
        let most = match () {
            () if self.breaker.is_on_probation(now) => PROBATION_WINDOW,
            () if slow() => SLOW_WINDOW.min(*sizes.end()),
            () => *sizes.end(),
        };
        let most = most.min(allowed);
        let alone = self.mx_sets[peer.mx_set].queue.is_batch_next();
        if alone && !quiet {
            return NextWindow::Wait;
        }
        if !alone {
            self.settle_unaskable(peer, most, now);
        }
        match self.control_step(peer, budget.is_exhausted(), now) {
            ControlStep::None => {}
            ControlStep::Control(window) => return NextWindow::Window(window),
            ControlStep::Wait => return NextWindow::Wait,
            ControlStep::Close => return NextWindow::Close,
        }
        let waiting = self.mx_sets[peer.mx_set].len();
        let expected = self.mx_sets[peer.mx_set].max_window(budget, most);
        let count = expected.recipients;
        // Round trips for ever fewer recipients, until the last rejection is used up, take longer than to begin anew, where
        // there is more to ask: one more, in which goodbye is said, or none of one or two where it would not be understood.
        // Not so whether a domain accepts anything, which is worth one: others wait for it, and who answers the next
        // connection may be another exchanger.
        let nearly_exhausted = nearly_exhausted && count < most && (count as usize) < waiting;
        let last = nearly_exhausted && peer.pipelining && !self.mx_sets[peer.mx_set].sends_quit_alone;
        let few = nearly_exhausted
            && count <= MIN_WORTHWHILE_RECIPIENTS
            && !(count > 0 && (last || self.mx_sets[peer.mx_set].next_is_catch_all()));
        if peer.answer_count > 0 && few {
            self.wake_another(peer.mx_set);
            return NextWindow::Close;
        }
        if count == 0 || count < *sizes.start() {
            return NextWindow::Wait;
        }
        // Nobody does as a rule, and then nobody has to be looked at.
        let smtputf8 = self.mx_sets[peer.mx_set].needs_smtputf8();
        let asked = self.context.timestamp(now);
        let mut questions = peer.spare_buffers.pop().unwrap_or_default();
        questions.reserve(count as usize);
        if alone {
            self.mx_sets[peer.mx_set].queue.take_batch(count as usize, &mut questions);
            self.waiting -= questions.len();
        }
        while questions.len() < count as usize
            && let Some(question) = self.pop(peer.mx_set)
        {
            questions.push(question);
        }
        for question in &mut questions {
            match question {
                Question::Item(item) => item.record_start(asked),
                Question::Control { .. } => peer.harvest.controlled = true,
                Question::CatchAll { .. } => {}
            }
        }
        if last && !alone && questions.len() < most as usize {
            questions.extend(self.last_control(peer));
        }
        let smtputf8 = smtputf8 && questions.iter().any(|question| question.needs_smtputf8());
        for alike in questions.chunk_by(|one, next| one.cohort() == next.cohort()) {
            self.mx_sets[peer.mx_set].rates.record_asked(alike[0].cohort(), alike.len() as u32);
        }
        self.rate_limiter.take(questions.len() as u32);
        self.wake_another(peer.mx_set);
        NextWindow::Window(Window { questions, expected, smtputf8, last, alone })
    }

    /// Uses the rate of one recipient, if it allows one.
    pub(super) fn take_token(&mut self, now: Instant) -> bool {
        let allowed = self.rate_limiter.allowed(now) > 0;
        self.rate_limiter.take(u32::from(allowed));
        allowed
    }

    /// What came at once woke one connection, and what that leaves behind is for the next that stands idle.
    fn wake_another(&self, mx_set: usize) {
        if !self.mx_sets[mx_set].is_empty() {
            self.mx_sets[mx_set].wake.notify_one();
        }
    }

    /// Settles those that the server cannot be asked about, among as many of the next as make a window: so that it is
    /// whole, and nobody is in it of whom it was not reckoned with how many will be refused.
    fn settle_unaskable(&mut self, peer: &Peer, most: u32, now: Instant) {
        let understood = peer.smtputf8 || !self.mx_sets[peer.mx_set].needs_smtputf8();
        if understood && !self.breaker.blocks_any_domain() {
            return;
        }
        let mut askable = Vec::new();
        while askable.len() < most as usize
            && let Some(question) = self.pop(peer.mx_set)
        {
            if let Some(outcome) = self.breaker.domain_block(question.domain()).cloned() {
                self.settle_unreached(peer.source(), question, &outcome, now);
            } else if !peer.smtputf8 && question.needs_smtputf8() {
                self.settle(peer.source(), question, &Outcome::no_smtputf8(), now);
            } else {
                askable.push(question);
            }
            if self.event_batch.events.len() >= BATCH_SIZE {
                self.flush();
            }
        }
        self.waiting += askable.len();
        askable.into_iter().rev().for_each(|question| self.mx_sets[peer.mx_set].queue.push_front(question));
        self.flush();
    }
}
