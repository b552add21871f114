//! A window of recipients: its questions, and once it was sent the answers to the first of them, how far these are proved,
//! and what they lead to.

use std::sync::Arc;

use tokio::time::Instant;

use super::question::Question;
use crate::verify::{outcome::Outcome, policy::rejection_rate::ExpectedRejections};

/// Windows in flight: beyond four, throughput hardly grows, and a refusal comes too late to be heeded.
pub(super) const MAX_WINDOWS_IN_FLIGHT: usize = 4;

/// A window of questions.
pub(super) struct Window {
    pub(super) questions: Vec<Question>,
    pub(super) expected: ExpectedRejections,
    /// Whether one of them needs SMTPUTF8.
    pub(super) smtputf8: bool,
    /// Whether the connection is worth nothing more, and there is more to ask on another.
    pub(super) last: bool,
    /// Whether these are suspects, beside which nothing else is asked.
    pub(super) alone: bool,
}

/// What a connection may do.
pub(super) enum NextWindow {
    Window(Window),
    /// Nothing for now.
    Wait,
    /// Say goodbye.
    Close,
}

/// An answer of the server, or several in a row that say the same.
pub(super) struct Answer {
    /// What was said to RCPT, or to MAIL where the whole transaction was refused.
    pub(super) outcome: Arc<Outcome>,
    /// When it came.
    pub(super) at: Instant,
    pub(super) count: usize,
}

/// A window that was sent. Its questions stay where they are, from the lane and back to it.
pub(super) struct SentWindow {
    pub(super) questions: Vec<Question>,
    /// To the first of the questions.
    pub(super) answers: Vec<Answer>,
    pub(super) answered: usize,
    /// When it was asked.
    pub(super) asked: Instant,
    /// Whether its questions are suspects, asked with nothing beside them.
    pub(super) alone: bool,
    /// Answers that a fence has proved.
    pub(super) proven: usize,
    /// The server did not end the transaction before it, so that its answers mean nothing.
    pub(super) void: bool,
    /// What was said to MAIL, once something was.
    pub(super) mail: Option<Result<(), Arc<Outcome>>>,
    /// Recipients sent.
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
            void: false,
            mail: None,
            sent: 0,
            expected,
        }
    }

    /// Recipients before the one of the `nth` answer in its transaction; after none, it cannot be one too many.
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

    /// Whether a reply that names a mailbox, the answer to the last `count` questions, names theirs; false if it is that
    /// of another question, none if it is nobody's, as where an alias is resolved.
    ///
    /// Sendmail names the first recipient of a mailbox when it accepts another recipient with the same mailbox. So an
    /// acceptance that names an earlier recipient shows nothing either.
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

    /// The first recipient of a transaction is refused, and the connection is closed: no other command than its own can
    /// have got a refusal. gmx and ukr.net close so.
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

    /// Which of the questions behind the proved answers was next to be answered when the connection ended; where it was
    /// `cut` right behind a refusal, the one refused, since some servers close then.
    pub(super) fn next_unproven(&self, cut: bool) -> usize {
        let refused = self.answers.last().is_some_and(|answer| !answer.outcome.is_positive());
        (self.answered - self.proven).saturating_sub(usize::from(cut && refused))
    }

    /// Gives up the answers that are not proved, and gives their questions and those without an answer back.
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

/// What a flight of answers means for its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchEffect {
    /// Ask nothing more on it.
    pub(super) stop: bool,
    /// The server takes no more recipients than this in a transaction.
    pub(super) recipients: Option<u32>,
}

/// An answer, and its circumstances.
#[derive(Clone, Copy)]
pub(super) struct AnswerContext<'a> {
    pub(super) outcome: &'a Outcome,
    /// Recipients before it in its transaction.
    pub(super) position: u32,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// When it came.
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
    fn answers_behind_the_last_proof_are_given_up() {
        let (mut window, now) = (window(&["a", "b", "c", "d", "e"]), Instant::now());
        let (yes, no) = (outcome(250), outcome(550));
        window.answer(&yes, 3, now);
        window.proven = 2;
        window.answer(&no, 1, now);
        assert_eq!(
            (window.next_unproven(false), window.next_unproven(true)),
            (2, 1),
            "d closed, or e was next"
        );
        let rest: Vec<_> =
            window.cut().iter().map(|question| question.mailbox().local_part().to_owned()).collect();
        assert_eq!(rest, ["c", "d", "e"]);
        assert_eq!((window.answered, window.answers.len(), window.answers[0].count), (2, 1, 2));
        assert!(window.is_proven(), "what is left of it");
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
    fn a_reply_that_names_another_recipient_of_the_window_is_known() {
        let mut window = window(&["ann", "bob", "ann"]);
        window.answer(&outcome(550), 1, Instant::now());
        assert_eq!(window.names(b"Ann@example.com", 1), Some(true));
        assert_eq!(window.names(b"bob@example.com", 1), Some(false));
        assert_eq!(window.names(b"alias@internal.example", 1), None);
        window.answer(&outcome(550), 1, Instant::now());
        assert_eq!(window.names(b"ann@example.com", 2), Some(false), "said to bob as well");
    }
}
