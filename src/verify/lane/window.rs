//! Holds a window of recipients: its questions, then the answers so far, how many of these are proved, and their
//! effect.
//!
//! A [`Window`] comes from the lane and becomes a [`SentWindow`]. The pipeline adds each [`Answer`], a fence proves it, and
//! `LaneInner::apply_answers` takes the proved ones and returns a [`BatchEffect`].

use std::sync::Arc;

use tokio::time::Instant;

use super::{next::LimitEffect, question::Question};
use crate::verify::{outcome::Outcome, policy::rejection_rate::ExpectedRejections};

/// The most windows in flight. Beyond four, throughput hardly grows, and a refusal arrives too late to limit the next
/// window.
pub(super) const MAX_WINDOWS_IN_FLIGHT: usize = 4;

/// A window of questions that is ready to be sent.
pub(super) struct Window {
    pub(super) questions: Vec<Question>,
    /// The rejections to expect of it.
    pub(super) expected: ExpectedRejections,
    /// Whether one of the questions needs SMTPUTF8.
    pub(super) smtputf8: bool,
    /// Whether this is the last window of the connection, because a new connection can ask more.
    pub(super) last: bool,
    /// Whether this is a bisected batch or a part of one: nothing else may be in flight with it.
    pub(super) alone: bool,
}

/// What a connection does next.
pub(super) enum NextWindow {
    /// Send this window.
    Window(Window),
    /// Send nothing for now.
    Wait,
    /// Send QUIT and close.
    Close,
}

/// One answer of the server, or several equal ones in a row.
pub(super) struct Answer {
    /// The meaning of the reply to RCPT, or of that to MAIL if the server refused the whole transaction.
    pub(super) outcome: Arc<Outcome>,
    /// When it arrived.
    pub(super) at: Instant,
    pub(super) count: usize,
}

/// A window that was sent. Its questions keep their buffer until the lane takes them back.
pub(super) struct SentWindow {
    pub(super) questions: Vec<Question>,
    /// The answers to the first of the questions.
    pub(super) answers: Vec<Answer>,
    pub(super) answered: usize,
    /// When the window was sent.
    pub(super) asked: Instant,
    /// Whether this is a bisected batch with nothing else in flight.
    pub(super) alone: bool,
    /// The number of answers that a fence has proved.
    pub(super) proven: usize,
    /// Whether the refusal rates contain the answers already, although no fence has proved them.
    pub(super) rated: bool,
    /// Whether the answers are void, because the server did not end the transaction before it.
    pub(super) void: bool,
    /// The answer to MAIL, once there is one.
    pub(super) mail: Option<Result<(), Arc<Outcome>>>,
    /// The number of recipients sent.
    pub(super) sent: usize,
    pub(super) expected: ExpectedRejections,
}

impl SentWindow {
    pub(super) fn new(questions: Vec<Question>, expected: ExpectedRejections, alone: bool) -> Self {
        Self {
            questions,
            answers: Vec::new(),
            answered: 0,
            asked: Instant::now(),
            alone,
            proven: 0,
            rated: false,
            void: false,
            mail: None,
            sent: 0,
            expected,
        }
    }

    /// Returns the recipients before the `nth` answer in its transaction. With none before it, it cannot exceed a
    /// limit.
    pub(super) fn position(&self, nth: usize) -> u32 {
        if matches!(self.mail, Some(Err(_))) { 0 } else { nth as u32 }
    }

    pub(super) fn answer(&mut self, outcome: &Arc<Outcome>, count: usize, at: Instant) {
        self.answered += count;
        match self.answers.last_mut() {
            Some(last) if last.at == at && Arc::ptr_eq(&last.outcome, outcome) => last.count += count,
            _ => self.answers.push(Answer { outcome: Arc::clone(outcome), at, count }),
        }
    }

    /// Returns whether a reply that names a mailbox belongs to the last `count` questions.
    ///
    /// Returns false if it belongs to another question, and `None` if the name proves nothing, as where an alias is
    /// resolved.
    ///
    /// Sendmail names the first recipient of a mailbox when it accepts another recipient with the same mailbox. So an
    /// acceptance that names an earlier recipient proves nothing either.
    pub(super) fn names(&self, named: &[u8], count: usize) -> Option<bool> {
        let is_it = |question: &Question| question.mailbox().as_str().as_bytes().eq_ignore_ascii_case(named);
        let first = self.answered - count;
        let accepted = self.answers.last().is_some_and(|answer| answer.outcome.is_positive());
        match self.questions[first..self.answered].iter().all(is_it) {
            true => Some(true),
            false if accepted && self.questions[..=first].iter().any(is_it) => None,
            false => self.questions.iter().any(is_it).then_some(false),
        }
    }

    pub(super) fn prove(&mut self) {
        self.proven = if self.void { 0 } else { self.answered };
    }

    /// Marks a refusal of the first recipient as proved if the server closed right behind it. No other command of the
    /// transaction can have got a refusal. gmx and ukr.net close in this way.
    pub(super) fn trust_first_refusal(&mut self) {
        if let (Some(Ok(())), [Answer { outcome, count: 1, .. }]) = (&self.mail, &*self.answers)
            && outcome.code.is_some_and(|code| code >= 400)
        {
            self.prove();
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven == self.questions.len()
    }

    /// Returns the index, behind the proved answers, of the question that was next when the connection ended. If the
    /// connection was `cut` right behind a refusal, it is the refused one, since some servers close then.
    pub(super) fn next_unproven(&self, cut: bool) -> usize {
        let refused = self.answers.last().is_some_and(|answer| !answer.outcome.is_positive());
        (self.answered - self.proven).saturating_sub(usize::from(cut && refused))
    }

    /// Drops the unproved answers. Returns their questions and those without an answer.
    pub(super) fn cut(&mut self) -> Vec<Question> {
        let mut left = self.proven;
        self.answers.retain_mut(|answer| {
            answer.count = answer.count.min(left);
            left -= answer.count;
            answer.count > 0
        });
        self.answered = self.proven;
        self.questions.split_off(self.proven)
    }
}

/// The effect of a batch of answers on its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchEffect {
    /// Whether to ask nothing more on the connection.
    pub(super) stop: bool,
    /// The most recipients that the server accepts in a transaction, if the batch showed a limit.
    pub(super) recipients: Option<u32>,
}

impl BatchEffect {
    /// Adds the effect of one answer.
    pub(super) fn add(&mut self, limit: LimitEffect) {
        self.stop |= limit.stop;
        self.recipients = self.recipients.into_iter().chain(limit.recipients).min();
    }
}

/// An answer with its position and times.
#[derive(Clone, Copy)]
pub(super) struct AnswerContext<'a> {
    pub(super) outcome: &'a Outcome,
    /// The recipients before it in its transaction.
    pub(super) position: u32,
    /// When its window was sent.
    pub(super) asked: Instant,
    /// When it arrived.
    pub(super) at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::Mailbox, verify::Unreachable};

    fn window(names: &[&str]) -> SentWindow {
        let question = |name: &&str| {
            let probe = Mailbox::parse(&format!("{name}@example.com")).unwrap();
            Question::CatchAll { domain: 0, probe, losses: 0, attempts: 0 }
        };
        SentWindow::new(names.iter().map(question).collect(), ExpectedRejections::default(), false)
    }

    fn outcome(code: u16) -> Arc<Outcome> {
        let outcome = Outcome::of_unreachable(&Unreachable::NullMx);
        Arc::new(Outcome { code: Some(code), ..outcome })
    }

    #[test]
    fn answers_behind_the_last_fence_are_dropped() {
        let (mut window, now) = (window(&["a", "b", "c", "d", "e"]), Instant::now());
        let (yes, no) = (outcome(250), outcome(550));
        window.answer(&yes, 3, now);
        window.proven = 2;
        window.answer(&no, 1, now);
        assert_eq!(
            (window.next_unproven(false), window.next_unproven(true)),
            (2, 1),
            "d was refused and closed, or e was next"
        );
        let rest: Vec<_> =
            window.cut().iter().map(|question| question.mailbox().local_part().to_owned()).collect();
        assert_eq!(rest, ["c", "d", "e"]);
        assert_eq!((window.answered, window.answers.len(), window.answers[0].count), (2, 1, 2));
        assert!(window.is_proven(), "the rest is proved");
    }

    #[test]
    fn an_acceptance_may_name_an_earlier_recipient_with_the_same_mailbox() {
        let (mut window, now) = (window(&["a", "b", "c", "d"]), Instant::now());
        window.answer(&outcome(250), 2, now);
        assert_eq!(window.names(b"a@example.com", 2), None, "of both");
        assert_eq!(window.names(b"b@example.com", 2), Some(false), "of the first");
        assert_eq!(window.names(b"B@example.com", 1), Some(true));
        assert_eq!(window.names(b"a@example.com", 1), None);
        assert_eq!(window.names(b"c@example.com", 1), Some(false));
        assert_eq!(window.names(b"list@example.com", 1), None);
        window.answer(&outcome(550), 1, now);
        assert_eq!(window.names(b"c@example.com", 1), Some(true));
        assert_eq!(window.names(b"a@example.com", 1), Some(false), "a refusal");
    }

    #[test]
    fn a_void_window_is_never_proved() {
        let mut window = window(&["a"]);
        window.answer(&outcome(250), 1, Instant::now());
        window.void = true;
        window.prove();
        assert!(!window.is_proven());
        assert_eq!(window.cut().len(), 1);
    }

    #[test]
    fn a_reply_that_names_another_recipient_of_the_window_is_detected() {
        let mut window = window(&["ann", "bob", "ann"]);
        window.answer(&outcome(550), 1, Instant::now());
        assert_eq!(window.names(b"Ann@example.com", 1), Some(true));
        assert_eq!(window.names(b"bob@example.com", 1), Some(false));
        assert_eq!(window.names(b"alias@internal.example", 1), None);
        window.answer(&outcome(550), 1, Instant::now());
        assert_eq!(window.names(b"ann@example.com", 2), Some(false), "bob got it as well");
    }
}
