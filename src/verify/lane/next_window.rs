//! Decides the next window of a connection: which questions and how many, or to wait, or to close.

use std::ops::RangeInclusive;

use tokio::time::Instant;

use super::{
    control::ControlStep,
    peer::Peer,
    question::{Question, for_each_cohort},
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

/// A window that the budget allows, and what decides whether it is worth a round trip.
struct WindowCandidate {
    /// The recipients that the budget allows.
    recipients: u32,
    /// The fewest and the most recipients that the connection can use now.
    sizes: RangeInclusive<u32>,
    /// The questions of the MX set that wait.
    waiting: usize,
    /// Whether the connection has used up most of its rejections.
    nearly_exhausted: bool,
    /// Whether the connection had any answer.
    has_answers: bool,
    /// Whether the server takes QUIT in the same write as the window.
    takes_quit_behind: bool,
    /// Whether the first question tests a domain for a catch-all.
    next_is_catch_all: bool,
}

/// What becomes of a [`WindowCandidate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WindowDecision {
    /// Send the window; QUIT behind it if it is the `last`.
    Send { last: bool },
    /// Send nothing for now.
    Wait,
    /// Close the connection, so that a new one can ask more.
    Close,
}

/// Decides whether a window is sent.
///
/// As the rejection budget shrinks, windows shrink, but each still costs a round trip. A new connection is cheaper while
/// more questions wait. So the next window is the last and carries QUIT. Where QUIT must be sent alone, a window of one
/// or two recipients is not worth it.
///
/// A catch-all question is worth its round trip. Other addresses wait for its answer, and the next connection may reach
/// another exchanger.
fn decide(candidate: &WindowCandidate) -> WindowDecision {
    let count = candidate.recipients;
    let ending =
        candidate.nearly_exhausted && count < *candidate.sizes.end() && (count as usize) < candidate.waiting;
    let last = ending && candidate.takes_quit_behind;
    let too_small =
        ending && count <= MIN_WORTHWHILE_RECIPIENTS && !(count > 0 && (last || candidate.next_is_catch_all));
    if candidate.has_answers && too_small {
        WindowDecision::Close
    } else if count == 0 || count < *candidate.sizes.start() {
        WindowDecision::Wait
    } else {
        WindowDecision::Send { last }
    }
}

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
        let refused = peer.ipv6 && self.mx_sets[peer.mx_set].is_ipv4_only();
        if self.breaker.blocked(now).is_some() || self.has_surplus_connections() || refused {
            return NextWindow::Close;
        }
        self.park_stalled(peer.mx_set);
        let allowed = self.rate_limiter.allowed(now);
        if self.mx_sets[peer.mx_set].is_empty() || allowed < self.min_window(self.mx_sets[peer.mx_set].len())
        {
            return NextWindow::Wait;
        }
        let slow = || {
            let slow_after = self.context.deadlines.slow_after;
            self.mx_sets[peer.mx_set].lag().lock().at(now) >= slow_after
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
        let decision = decide(&WindowCandidate {
            recipients: count,
            sizes: *sizes.start()..=most,
            waiting,
            nearly_exhausted,
            has_answers: peer.answer_count > 0,
            takes_quit_behind: peer.pipelining && !self.mx_sets[peer.mx_set].sends_quit_alone(),
            next_is_catch_all: self.mx_sets[peer.mx_set].next_is_catch_all(),
        });
        let last = match decision {
            WindowDecision::Send { last } => last,
            WindowDecision::Wait => return NextWindow::Wait,
            WindowDecision::Close => {
                self.wake_another(peer.mx_set);
                return NextWindow::Close;
            }
        };
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
        let rates = &mut self.mx_sets[peer.mx_set].rates;
        for_each_cohort(&questions, |cohort, count| rates.record_asked(cohort, count));
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
            self.mx_sets[mx_set].wake_one();
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
            if self.event_batch.len() >= BATCH_SIZE {
                self.flush();
            }
        }
        self.waiting += askable.len();
        askable.into_iter().rev().for_each(|question| self.mx_sets[peer.mx_set].queue.push_front(question));
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection with QUIT behind windows, whose budget is nearly used up while a hundred questions wait.
    fn ending(recipients: u32) -> WindowCandidate {
        WindowCandidate {
            recipients,
            sizes: 1..=100,
            waiting: 100,
            nearly_exhausted: true,
            has_answers: true,
            takes_quit_behind: true,
            next_is_catch_all: false,
        }
    }

    #[test]
    fn a_window_is_sent_with_or_without_quit_or_waits_or_closes() {
        use WindowDecision::{Close, Send, Wait};
        const LAST: WindowDecision = Send { last: true };
        const MORE: WindowDecision = Send { last: false };
        let fresh = |recipients| WindowCandidate { nearly_exhausted: false, ..ending(recipients) };
        let quit_alone = |recipients| WindowCandidate { takes_quit_behind: false, ..ending(recipients) };
        for (case, candidate, expected) in [
            ("a full window", fresh(100), MORE),
            ("any size is worth it while the budget lasts", fresh(1), MORE),
            ("no budget", fresh(0), Wait),
            ("too few behind other windows", WindowCandidate { sizes: 50..=100, ..fresh(49) }, Wait),
            ("just enough behind other windows", WindowCandidate { sizes: 50..=100, ..fresh(50) }, MORE),
            ("QUIT follows the last window", ending(30), LAST),
            ("QUIT follows even one recipient", ending(1), LAST),
            ("nothing to send", ending(0), Close),
            (
                "nothing to send, and no answer so far",
                WindowCandidate { has_answers: false, ..ending(0) },
                Wait,
            ),
            ("a full window is not the last", ending(100), MORE),
            ("all that wait fit", WindowCandidate { waiting: 30, ..ending(30) }, MORE),
            ("QUIT alone behind three", quit_alone(3), MORE),
            ("QUIT alone behind two", quit_alone(2), Close),
            (
                "QUIT alone, and no answer so far",
                WindowCandidate { has_answers: false, ..quit_alone(2) },
                MORE,
            ),
            ("a catch-all question", WindowCandidate { next_is_catch_all: true, ..quit_alone(1) }, MORE),
            (
                "a catch-all question, no budget",
                WindowCandidate { next_is_catch_all: true, ..quit_alone(0) },
                Close,
            ),
        ] {
            assert_eq!(decide(&candidate), expected, "{case}");
        }
    }
}
