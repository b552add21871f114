//! One connection at work: transactions of many recipients, several of them in flight, every answer put to its question.
//!
//! ```text
//! window   MAIL RCPT RCPT … RCPT RSET      one write
//! in flight  ├── window ──┤├── window ──┤├── window ──┤   while the budget and the session have room
//! ```
//!
//! Replies are told apart by nothing but their order, so that one reply too many would put every later one to the wrong
//! question. Therefore answers are held back until the connection is quiet with every reply read, and count for
//! nothing if it turns out to be out of step before that.
//!
//! Nothing here decides about verdicts: answers go to the [`Questions`] in order, and what was asked without being
//! answered goes back there.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::throttle::Budget;
use crate::{
    client::{Connection, SessionError},
    proto::{Command, DialogueError, MailParams, Mailbox, RcptParams, Reply, ReversePath, Verb},
};

/// Windows in flight: beyond four, throughput hardly grows, and a refusal comes too late to be heeded.
const WINDOWS: u32 = 4;
/// How long answers may be held back before no new window is sent, so that the connection becomes quiet: one
/// round trip lost in five seconds.
const HELD: Duration = Duration::from_secs(5);

/// Where questions come from, and answers go to.
pub(super) trait Questions {
    /// A recipient to ask about.
    type Question;

    /// The mailbox to ask about.
    fn mailbox<'a>(&self, question: &'a Self::Question) -> &'a Mailbox;

    /// Questions that wait.
    fn waiting(&mut self) -> usize;

    /// How many of those that wait, at most `max`, may be asked while `left` rejections may come, and how many are to be
    /// reckoned with then.
    fn affordable(&self, left: f32, max: u32) -> (u32, f32);

    /// Whether one of those that wait needs SMTPUTF8.
    fn needs_smtputf8(&self) -> bool;

    /// The next question, which is sent `now`.
    fn next(&mut self, now: Instant) -> Option<Self::Question>;

    /// The answer to a question.
    fn answer(&mut self, question: Self::Question, answer: &Answer) -> Then<Self::Question>;

    /// All answers there were have been given.
    fn settled(&mut self);

    /// Takes a question back that got no answer; they come in reverse order, to stand first again.
    fn take_back(&mut self, question: Self::Question);
}

/// An answer of the server.
pub(super) struct Answer {
    /// What was refused or accepted: RCPT, or MAIL where the whole transaction was refused.
    pub(super) verb: Verb,
    pub(super) reply: Reply,
    /// Recipients before it in its transaction; after none, it cannot be one too many.
    pub(super) position: u32,
    /// When it came.
    pub(super) at: Instant,
}

/// What an answer means for the connection.
pub(super) enum Then<Q> {
    /// Go on.
    Continue,
    /// The server takes fewer recipients in a transaction; the question is to be asked again.
    SmallerTransactions(Q),
    /// The server wants another connection for this question.
    Reconnect(Q),
    /// Ask nothing more on this connection.
    Stop,
}

/// Why a connection is done.
#[derive(Debug)]
pub(super) enum End {
    /// No more questions; the connection is as good as before.
    Idle,
    /// It has been asked enough, or was told to stop; nothing is in flight.
    Spent,
    /// It broke.
    Broken(SessionError),
    /// The server closed the dialogue by 421.
    Closed(Reply),
}

/// What was sent and not yet answered.
enum Sent<Q> {
    Mail,
    Rcpt(Q),
    /// The end of a window, and the rejections that were reckoned with for it.
    Rset(f32),
}

/// A connection with what it has in flight.
pub(super) struct Probe<'a, Q: Questions> {
    connection: &'a mut Connection,
    budget: &'a mut Budget,
    from: &'a ReversePath,
    questions: &'a mut Q,
    sent: VecDeque<Sent<Q::Question>>,
    /// Answers held back; the lane keeps the memory, which can be that of thousands.
    answers: &'a mut Vec<(Q::Question, Answer)>,
    windows: u32,
    /// Rejections to reckon with for the windows in flight.
    risk: f32,
    /// The refusal of the MAIL that the replies at hand belong to.
    refused: Option<Reply>,
    /// Recipients answered so far in the transaction that the replies at hand belong to.
    position: u32,
    closing: Option<Reply>,
    stopped: bool,
}

impl<'a, Q: Questions> Probe<'a, Q> {
    pub(super) fn new(
        connection: &'a mut Connection,
        budget: &'a mut Budget,
        from: &'a ReversePath,
        questions: &'a mut Q,
        answers: &'a mut Vec<(Q::Question, Answer)>,
    ) -> Self {
        Self {
            connection,
            budget,
            from,
            questions,
            sent: VecDeque::new(),
            answers,
            windows: 0,
            risk: 0.0,
            refused: None,
            position: 0,
            closing: None,
            stopped: false,
        }
    }

    /// Asks until there are no questions left, or the connection is done for another reason.
    pub(super) async fn run(mut self) -> End {
        let ended = self.pump().await;
        for sent in self.sent.drain(..).rev() {
            if let Sent::Rcpt(question) = sent {
                self.questions.take_back(question);
            }
        }
        if self.is_doubtful(&ended) {
            self.answers.drain(..).rev().for_each(|(question, _)| self.questions.take_back(question));
        }
        self.commit();
        match (ended, self.closing) {
            (_, Some(reply)) => End::Closed(reply),
            (Err(error), None) => End::Broken(error),
            (Ok(()), None) if self.stopped || self.budget.is_spent() => End::Spent,
            (Ok(()), None) => End::Idle,
        }
    }

    /// Whether the answers held back may stand at the wrong questions.
    fn is_doubtful(&self, ended: &Result<(), SessionError>) -> bool {
        match ended {
            Err(SessionError::Decode(_) | SessionError::Dialogue(_)) => true,
            // A server that says nothing to some RCPT answers RSET, and then there is nothing more to come: its
            // acceptance was taken for that of a recipient. A refusal in its place would not be the answer to RSET.
            Err(SessionError::Timeout { .. }) => {
                self.answers.last().is_some_and(|(_, answer)| answer.reply.is_positive())
            }
            _ => false,
        }
    }

    async fn pump(&mut self) -> Result<(), SessionError> {
        loop {
            while let Some((recipients, risk)) = self.room() {
                self.window(recipients, risk).await?;
            }
            // Room comes with the end of a window.
            while self.connection.owed() > 0 && self.closing.is_none() {
                if self.next_reply().await? {
                    break;
                }
            }
            if self.closing.is_some() {
                return Ok(());
            }
            if self.connection.owed() > 0 {
                continue;
            }
            self.connection.check_quiet()?;
            self.commit();
            if self.room().is_none() {
                return Ok(());
            }
        }
    }

    /// How many recipients the next window may have, if it may be sent now, and the rejections to reckon with.
    fn room(&mut self) -> Option<(u32, f32)> {
        let held =
            self.answers.first().is_some_and(|(_, first)| self.connection.last_read() - first.at > HELD);
        let full = self.windows == WINDOWS || !self.connection.has_room();
        if self.stopped || self.closing.is_some() || held || full {
            return None;
        }
        if self.questions.waiting() == 0 {
            return None;
        }
        let full = self.budget.full_window();
        let (recipients, risk) = self.questions.affordable(self.budget.left(self.risk), full);
        // A window behind others waits until it can be a good one: one write per recipient costs more than it gains.
        let worth = self.windows == 0 || recipients >= full / 2;
        (recipients > 0 && worth).then_some((recipients, risk))
    }

    async fn window(&mut self, recipients: u32, risk: f32) -> Result<(), SessionError> {
        let now = Instant::now();
        let smtputf8 = self.connection.extensions().smtputf8 && self.questions.needs_smtputf8();
        self.budget.begin();
        self.windows += 1;
        self.risk += risk;
        self.connection.queue_mail(self.from, &MailParams { smtputf8, ..MailParams::default() })?;
        self.sent.push_back(Sent::Mail);
        for _ in 0..recipients {
            self.make_room().await?;
            if self.stopped || self.closing.is_some() {
                break;
            }
            let Some(question) = self.questions.next(now) else { break };
            // Without PIPELINING the refusal of MAIL is known by now, and RCPT would be out of sequence.
            if self.connection.owed() == 0
                && let Some(mail) = &self.refused
            {
                let (reply, at) = (mail.clone(), self.connection.last_read());
                self.answers.push((question, Answer { verb: Verb::Mail, reply, position: 0, at }));
                continue;
            }
            let queued =
                self.connection.queue_rcpt(self.questions.mailbox(&question), &RcptParams::default());
            self.sent.push_back(Sent::Rcpt(question));
            queued?;
        }
        self.make_room().await?;
        if self.closing.is_none() {
            self.connection.queue(&Command::Rset)?;
            self.sent.push_back(Sent::Rset(risk));
        }
        self.connection.flush().await
    }

    async fn make_room(&mut self) -> Result<(), SessionError> {
        while !self.connection.has_room() && self.closing.is_none() {
            self.next_reply().await?;
        }
        Ok(())
    }

    /// Takes the next reply, and tells whether it ended a window.
    async fn next_reply(&mut self) -> Result<bool, SessionError> {
        let (_, reply) = self.connection.reply().await?;
        if reply.is_closing() {
            // Whatever comes behind it answers nothing: the question it stands for is asked again elsewhere.
            self.closing.get_or_insert(reply);
            return Ok(false);
        }
        match self.sent.pop_front() {
            Some(Sent::Mail) => {
                self.position = 0;
                self.refused = (!reply.is_positive()).then_some(reply);
                if self.refused.is_some() {
                    self.budget.reject();
                }
            }
            Some(Sent::Rcpt(question)) => self.recipient(question, reply),
            // RSET cannot fail (RFC 5321 4.1.1.5): this is the reply to something else.
            Some(Sent::Rset(_)) if !reply.is_positive() => {
                return Err(DialogueError::Unsolicited(reply.code()).into());
            }
            Some(Sent::Rset(risk)) => {
                self.windows -= 1;
                // To the bit, so that nothing is left of roundings.
                self.risk = if self.windows == 0 { 0.0 } else { self.risk - risk };
                self.refused = None;
                return Ok(true);
            }
            None => {}
        }
        Ok(false)
    }

    fn recipient(&mut self, question: Q::Question, reply: Reply) {
        let (at, position) = (self.connection.last_read(), self.position);
        self.position += 1;
        if !reply.is_positive() {
            self.budget.reject();
        }
        let answer = match &self.refused {
            Some(mail) => Answer { verb: Verb::Mail, reply: mail.clone(), position: 0, at },
            None => Answer { verb: Verb::Rcpt, reply, position, at },
        };
        self.answers.push((question, answer));
    }

    /// Lets the answers count.
    fn commit(&mut self) {
        // Questions taken back come in reverse order.
        let mut back = Vec::new();
        for (question, answer) in self.answers.drain(..) {
            match self.questions.answer(question, &answer) {
                Then::Continue => {}
                Then::Stop => self.stopped = true,
                Then::SmallerTransactions(question) => {
                    self.budget.limit_recipients(answer.position);
                    back.push(question);
                }
                Then::Reconnect(question) => {
                    self.stopped = true;
                    back.push(question);
                }
            }
        }
        back.into_iter().rev().for_each(|question| self.questions.take_back(question));
        self.questions.settled();
    }
}
