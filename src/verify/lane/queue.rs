//! Holds the questions of an MX set that wait. Most may be asked together; batches that may have broken a connection
//! are asked by bisection.
//!
//! One recipient can break the connection: its reply is malformed, or the server resets or stops answering. The other
//! recipients of the window must not fail with it. So the questions of a window that broke are asked again in
//! *batches*. Each batch has a window of its own, with nothing else in flight. A batch that breaks its connection is
//! halved:
//!
//! ```text
//! window that broke        a b c D e f g h      D was the next to be answered
//! batches                  a b c │ D │ e f g h
//! a batch that breaks      e f │ g h            until one recipient is alone
//! ```

use std::{collections::VecDeque, fmt, mem};

use super::question::Question;

/// Questions that are asked again together in a window of their own.
pub(super) type QuestionBatch = Vec<Question>;

/// The questions that may have broken a connection, split into batches for the next step of the bisection.
pub(super) enum Bisection {
    /// No question.
    None,
    /// A batch that did not break the connection. It is asked again as it is.
    Untested(QuestionBatch),
    /// A single question, which was alone in its window.
    One(QuestionBatch),
    /// The questions before the next one to be answered, that one, and those behind it.
    Around([QuestionBatch; 3]),
    /// Both halves of a batch, of which any question may be the cause.
    Halves([QuestionBatch; 2]),
}

impl Bisection {
    /// Keeps a bisected batch (`alone`) as it is. Other questions did not break the connection and go to `back`.
    pub(super) fn untested(questions: Vec<Question>, alone: bool, back: &mut Vec<Question>) -> Self {
        if alone {
            return Self::Untested(questions);
        }
        back.extend(questions);
        Self::None
    }

    /// Splits questions of which any may have broken the connection.
    pub(super) fn any_of(mut questions: Vec<Question>) -> Self {
        if questions.len() == 1 {
            return Self::One(questions);
        }
        let second = questions.split_off(questions.len().div_ceil(2));
        Self::Halves([questions, second])
    }

    /// Splits the questions of a window that broke when the `next` of them was to be answered.
    pub(super) fn around(mut questions: Vec<Question>, next: usize) -> Self {
        if questions.len() == 1 {
            return Self::One(questions);
        }
        let mut rest = questions.split_off(next.min(questions.len()));
        let behind = rest.split_off(rest.len().min(1));
        Self::Around([questions, rest, behind])
    }

    /// Returns all questions in their order.
    pub(super) fn into_questions(self) -> Vec<Question> {
        match self {
            Self::None => Vec::new(),
            Self::Untested(batch) | Self::One(batch) => batch,
            Self::Around(batches) => batches.into_iter().flatten().collect(),
            Self::Halves(batches) => batches.into_iter().flatten().collect(),
        }
    }
}

impl fmt::Debug for Bisection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = |batches: &[QuestionBatch]| batches.iter().map(Vec::len).collect::<Vec<_>>();
        match self {
            Self::None => f.write_str("None"),
            Self::Untested(batch) => f.debug_tuple("Untested").field(&batch.len()).finish(),
            Self::One(_) => f.write_str("One"),
            Self::Around(batches) => f.debug_tuple("Around").field(&sizes(batches)).finish(),
            Self::Halves(batches) => f.debug_tuple("Halves").field(&sizes(batches)).finish(),
        }
    }
}

/// The questions of an MX set that wait.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Question>,
    batches: VecDeque<QuestionBatch>,
    /// Whether a batch is in flight. The next one waits until its end.
    batch_in_flight: bool,
    /// Questions that need SMTPUTF8.
    utf8: usize,
}

impl Queue {
    /// Returns the number of questions that may be asked now.
    pub(super) fn len(&self) -> usize {
        if self.batch_in_flight { self.waiting.len() } else { self.total() }
    }

    /// Returns whether no question may be asked now.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of all questions, including those that may not be asked yet.
    pub(super) fn total(&self) -> usize {
        self.waiting.len() + self.batches.iter().map(Vec::len).sum::<usize>()
    }

    /// Returns whether any question needs SMTPUTF8.
    pub(super) fn needs_smtputf8(&self) -> bool {
        self.utf8 > 0
    }

    /// Adds a question behind the others.
    #[inline]
    pub(super) fn push(&mut self, question: Question) {
        self.utf8 += usize::from(question.needs_smtputf8());
        self.waiting.push_back(question);
    }

    /// Adds a question to be asked next.
    pub(super) fn push_front(&mut self, question: Question) {
        self.utf8 += usize::from(question.needs_smtputf8());
        self.waiting.push_front(question);
    }

    /// Takes the next question that is in no batch.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Question> {
        let question = self.waiting.pop_front()?;
        self.utf8 -= usize::from(question.needs_smtputf8());
        Some(question)
    }

    /// Returns the questions that come next, in their order: those of the next batch, or those that wait.
    pub(super) fn next(&self) -> impl Iterator<Item = &Question> {
        let batch = self.next_batch().map(|batch| batch.iter()).into_iter().flatten();
        let waiting = self.next_batch().is_none().then_some(self.waiting.iter()).into_iter().flatten();
        batch.chain(waiting)
    }

    /// Returns whether a batch comes next.
    pub(super) fn is_batch_next(&self) -> bool {
        self.next_batch().is_some()
    }

    fn next_batch(&self) -> Option<&QuestionBatch> {
        // A control tests whether the server is honest, so it comes before all other questions.
        let control = matches!(self.waiting.front(), Some(Question::Control { .. }));
        self.batches.front().filter(|_| !self.batch_in_flight && !control)
    }

    /// Takes up to `most` questions of the next batch. They are asked with nothing else in flight, and the rest of the
    /// batch stays next. [`batch_done`](Self::batch_done) ends the batch.
    pub(super) fn take_batch(&mut self, most: usize, questions: &mut Vec<Question>) {
        let Some(batch) = self.batches.front_mut() else { return };
        let count = batch.len().min(most);
        questions.extend(batch.drain(..count));
        if batch.is_empty() {
            self.batches.pop_front();
        }
        self.utf8 -= questions.iter().filter(|question| question.needs_smtputf8()).count();
        self.batch_in_flight = true;
    }

    /// Records that the batch is no longer in flight.
    pub(super) fn batch_done(&mut self) {
        self.batch_in_flight = false;
    }

    /// Adds batches to be asked next, each in a window of its own. Empty batches are left out.
    pub(super) fn push_batches(&mut self, batches: impl DoubleEndedIterator<Item = QuestionBatch>) {
        for batch in batches.rev().filter(|batch| !batch.is_empty()) {
            self.utf8 += batch.iter().filter(|question| question.needs_smtputf8()).count();
            self.batches.push_front(batch);
        }
    }

    /// Takes all questions, batches first.
    pub(super) fn take(&mut self) -> VecDeque<Question> {
        self.utf8 = 0;
        let mut all: VecDeque<_> = mem::take(&mut self.batches).into_iter().flatten().collect();
        all.append(&mut self.waiting);
        all
    }

    /// Drops the questions for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(&Question) -> bool) {
        let all = |batches: &VecDeque<QuestionBatch>, waiting: &VecDeque<Question>| {
            batches.iter().flatten().chain(waiting).filter(|question| question.needs_smtputf8()).count()
        };
        self.waiting.retain(&keep);
        self.batches.iter_mut().for_each(|batch| batch.retain(&keep));
        self.batches.retain(|batch| !batch.is_empty());
        self.utf8 = all(&self.batches, &self.waiting);
    }

    /// Takes the questions for which `is_taken` returns true, except those in batches.
    pub(super) fn take_where(&mut self, is_taken: impl Fn(&Question) -> bool) -> Vec<Question> {
        let (taken, waiting): (Vec<_>, Vec<_>) = mem::take(&mut self.waiting).into_iter().partition(is_taken);
        self.waiting = waiting.into();
        self.utf8 -= taken.iter().filter(|question| question.needs_smtputf8()).count();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::Mailbox, verify::lane::question::Question};

    fn question(name: u32) -> Question {
        let probe = Mailbox::parse(&format!("u{name}@example.com")).unwrap();
        Question::CatchAll { domain: name, probe, losses: 0, attempts: 0 }
    }

    fn questions(names: impl IntoIterator<Item = u32>) -> Vec<Question> {
        names.into_iter().map(question).collect()
    }

    fn names<'a>(questions: impl IntoIterator<Item = &'a Question>) -> Vec<u32> {
        questions.into_iter().map(Question::domain).collect()
    }

    fn taken(queue: &mut Queue, most: usize) -> Vec<Question> {
        let mut questions = Vec::new();
        queue.take_batch(most, &mut questions);
        questions
    }

    #[test]
    fn batches_come_first_one_at_a_time() {
        let mut queue = Queue::default();
        questions(0..3).into_iter().for_each(|question| queue.push(question));
        queue.push_batches([questions([7, 8]), questions([]), questions([9])].into_iter());
        assert_eq!((queue.len(), queue.total(), queue.is_batch_next()), (6, 6, true));
        assert_eq!(names(queue.next()), [7, 8]);
        assert_eq!(names(&taken(&mut queue, 100)), [7, 8]);
        // Questions outside batches may be asked meanwhile.
        assert_eq!((queue.len(), queue.total(), queue.is_batch_next()), (3, 4, false));
        assert_eq!(names(queue.next()), [0, 1, 2]);
        assert_eq!(queue.pop().map(|question| question.domain()), Some(0));
        queue.batch_done();
        assert_eq!(names(queue.next()), [9]);
        assert_eq!(names(&queue.take()), [9, 1, 2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_rest_of_a_batch_stays_next() {
        let mut queue = Queue::default();
        queue.push_batches([questions(0..5)].into_iter());
        assert_eq!(names(&taken(&mut queue, 2)), [0, 1]);
        queue.batch_done();
        assert_eq!(names(&taken(&mut queue, 9)), [2, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_question_that_was_next_is_asked_alone() {
        let Bisection::Around(batches) = Bisection::around(questions(0..9), 3) else {
            panic!("not around it")
        };
        assert_eq!(batches.each_ref().map(names), [vec![0, 1, 2], vec![3], vec![4, 5, 6, 7, 8]]);
        let Bisection::Around(batches) = Bisection::around(questions(0..2), 2) else {
            panic!("not around it")
        };
        assert_eq!(batches.each_ref().map(names), [vec![0, 1], vec![], vec![]]);
        assert!(matches!(Bisection::around(questions([4]), 0), Bisection::One(_)));
    }

    /// The bisection finds the question that breaks connections within `log2(count) + 2` connections.
    #[test]
    fn bisection_finds_one_of_many_questions() {
        for count in 1..=128 {
            for bad in 0..count {
                let mut queue = Queue::default();
                queue.push_batches([questions(0..count)].into_iter());
                let (mut broken, mut alone) = (0, false);
                while queue.is_batch_next() {
                    let batch = taken(&mut queue, 100);
                    queue.batch_done();
                    if !names(&batch).contains(&bad) {
                        continue;
                    }
                    broken += 1;
                    match Bisection::any_of(batch) {
                        Bisection::Halves(halves) => queue.push_batches(halves.into_iter()),
                        Bisection::One(batch) => alone = names(&batch) == [bad],
                        bisection => panic!("{bisection:?}"),
                    }
                }
                assert!(alone && broken <= count.ilog2() + 2, "{bad} of {count}: {broken}");
            }
        }
    }

    #[test]
    fn all_questions_come_back_in_order() {
        for bisection in [Bisection::around(questions(0..9), 3), Bisection::any_of(questions(0..9))] {
            assert_eq!(names(&bisection.into_questions()), (0..9).collect::<Vec<_>>());
        }
        let mut back = Vec::new();
        assert!(matches!(Bisection::untested(questions(0..3), false, &mut back), Bisection::None));
        assert_eq!(names(&back), [0, 1, 2]);
        let batch = Bisection::untested(questions(0..3), true, &mut back).into_questions();
        assert_eq!((batch.len(), back.len()), (3, 3));
    }

    #[test]
    fn questions_that_need_smtputf8_are_counted_in_queue_and_batches() {
        let utf8 = || Question::CatchAll {
            domain: 1,
            probe: Mailbox::parse("jürgen@example.com").unwrap(),
            losses: 0,
            attempts: 0,
        };
        let mut queue = Queue::default();
        queue.push(utf8());
        queue.push_batches([vec![utf8(), question(2)]].into_iter());
        assert_eq!(queue.utf8, 2);
        drop(taken(&mut queue, 1));
        assert_eq!(queue.utf8, 1);
        queue.retain(|question| !question.needs_smtputf8());
        assert!(!queue.needs_smtputf8() && queue.total() == 1);
    }
}
