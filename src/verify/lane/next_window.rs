//! Decides the next window of a connection: which questions and how many, or to wait, or to close.

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

/// A window of at most so many recipients is not worth a round trip if a new connection can ask more.
const MIN_WORTHWHILE_RECIPIENTS: u32 = 2;
/// Recipients in a window to a provider that blocked us before.
const PROBATION_WINDOW: u32 = 3;
/// Recipients in a window to a slow host. The answers still outstanding when it is given up are lost.
const SLOW_WINDOW: u32 = 2;

impl LaneInner {
    /// Returns the next window: `sizes` bounds its questions, and their expected rejections stay within `budget`.
    pub(super) fn next_window(
        &mut self,
        peer: &mut Peer,
        budget: RemainingBudget,
        sizes: RangeInclusive<u32>,
        quiet: bool,
        nearly_exhausted: bool,
        now: Instant,
    ) -> NextWindow {
        // No other connection is woken: until this one is closed, the lane has as many too many as before.
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
        // As the rejection budget shrinks, windows shrink, but each still costs a round trip. A new connection is
        // cheaper while more questions wait. So the next window is the last and carries QUIT. Where QUIT must be sent
        // alone, a window of one or two recipients is not worth it.
        //
        // A catch-all question is worth its round trip. Other addresses wait for its answer, and the next connection
        // may reach another exchanger.
        let nearly_exhausted = nearly_exhausted && count < most && (count as usize) < waiting;
        let last = nearly_exhausted && peer.pipelining && !self.mx_sets[peer.mx_set].sends_quit_alone;
        let too_small = nearly_exhausted
            && count <= MIN_WORTHWHILE_RECIPIENTS
            && !(count > 0 && (last || self.mx_sets[peer.mx_set].next_is_catch_all()));
        if peer.answer_count > 0 && too_small {
            self.wake_another(peer.mx_set);
            return NextWindow::Close;
        }
        if count == 0 || count < *sizes.start() {
            return NextWindow::Wait;
        }
        // Few lists need SMTPUTF8. The questions are searched only if any of them does.
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

    /// Takes the rate of one recipient, and returns whether the rate limit allows it.
    pub(super) fn take_token(&mut self, now: Instant) -> bool {
        let allowed = self.rate_limiter.allowed(now) > 0;
        self.rate_limiter.take(u32::from(allowed));
        allowed
    }

    /// Wakes the next idle connection if questions are left. A batch of new questions wakes only one.
    fn wake_another(&self, mx_set: usize) {
        if !self.mx_sets[mx_set].is_empty() {
            self.mx_sets[mx_set].wake.notify_one();
        }
    }

    /// Settles the questions that the server cannot be asked, among as many of the next as a window holds.
    ///
    /// So the window is full, and its expected rejections cover exactly the recipients in it.
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
