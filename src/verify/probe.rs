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
//! Nothing here decides about verdicts: answers go to the desk of the lane in order, by the [`Seat`] of the connection,
//! and what was asked without being answered goes back there.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    desk::{Draw, Seat, Window},
    outcome::Outcome,
    question::Question,
    throttle::Budget,
};
use crate::{
    client::{Connection, SessionError},
    proto::{Command, DialogueError, MailParams, RcptParams, Reply, ReversePath, Verb},
};

/// Windows in flight: beyond four, throughput hardly grows, and a refusal comes too late to be heeded.
const WINDOWS: u32 = 4;
/// How long answers may be held back before no new window is sent, so that the connection becomes quiet: one
/// round trip lost in five seconds.
const HELD: Duration = Duration::from_secs(5);

/// An answer of the server.
pub(super) struct Answer {
    /// What was said to RCPT, or to MAIL where the whole transaction was refused.
    pub(super) outcome: Arc<Outcome>,
    /// Recipients before it in its transaction; after none, it cannot be one too many.
    pub(super) position: u32,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// When it came.
    pub(super) at: Instant,
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
enum Sent {
    /// The beginning of a window, and when that was.
    Mail(Instant),
    Rcpt(Question),
    /// The end of a window, and the rejections that were reckoned with for it.
    Rset(f32),
}

/// A connection with what it has in flight.
pub(super) struct Probe<'a> {
    connection: &'a mut Connection,
    budget: &'a mut Budget,
    from: &'a ReversePath,
    seat: &'a mut Seat,
    sent: VecDeque<Sent>,
    /// Answers held back.
    answers: Vec<(Question, Answer)>,
    windows: u32,
    /// Rejections to reckon with for the windows in flight.
    risk: f32,
    /// The refusal of the MAIL that the replies at hand belong to.
    refused: Option<Arc<Outcome>>,
    /// When the transaction was begun that the replies at hand belong to.
    asked: Instant,
    /// Recipients answered so far in the transaction that the replies at hand belong to.
    position: u32,
    closing: Option<Reply>,
    stopped: bool,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        connection: &'a mut Connection,
        budget: &'a mut Budget,
        from: &'a ReversePath,
        seat: &'a mut Seat,
    ) -> Self {
        Self {
            connection,
            budget,
            from,
            seat,
            sent: VecDeque::new(),
            answers: Vec::new(),
            windows: 0,
            risk: 0.0,
            refused: None,
            asked: Instant::now(),
            position: 0,
            closing: None,
            stopped: false,
        }
    }

    /// Asks until there are no questions left, or the connection is done for another reason.
    pub(super) async fn run(mut self) -> End {
        let ended = self.pump().await;
        let unanswered = self.sent.drain(..).filter_map(|sent| match sent {
            Sent::Rcpt(question) => Some(question),
            _ => None,
        });
        let unanswered: Vec<_> = unanswered.collect();
        if self.is_doubtful(&ended) {
            let void = self.answers.drain(..).map(|(question, _)| question);
            self.seat.take_back(void.chain(unanswered).collect());
        } else {
            self.seat.take_back(unanswered);
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
                self.answers.last().is_some_and(|(_, answer)| answer.outcome.is_positive())
            }
            _ => false,
        }
    }

    async fn pump(&mut self) -> Result<(), SessionError> {
        loop {
            while let Some(window) = self.room() {
                self.window(window).await?;
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
            match self.room() {
                Some(window) => self.window(window).await?,
                None => return Ok(()),
            }
        }
    }

    /// The next window, if it may be sent now.
    fn room(&mut self) -> Option<Window> {
        let held =
            self.answers.first().is_some_and(|(_, first)| self.connection.last_read() - first.at > HELD);
        let full = self.windows == WINDOWS || !self.connection.has_room();
        if self.stopped || self.closing.is_some() || held || full {
            return None;
        }
        let full = self.budget.full_window();
        // A window behind others waits until it can be a good one: one write per recipient costs more than it gains.
        let least = if self.windows == 0 { 1 } else { full.div_ceil(2) };
        match self.seat.draw(self.budget.left(self.risk), least..=full) {
            Draw::Window(window) => Some(window),
            Draw::Nothing => None,
            Draw::Leave => {
                self.stopped = true;
                None
            }
        }
    }

    async fn window(&mut self, window: Window) -> Result<(), SessionError> {
        let Window { questions, risk, smtputf8 } = window;
        let mut questions = questions.into_iter();
        let asked = self.ask(&mut questions, risk, smtputf8).await;
        let rest: Vec<_> = questions.collect();
        if !rest.is_empty() {
            self.seat.take_back(rest);
        }
        asked
    }

    async fn ask(
        &mut self,
        questions: &mut std::vec::IntoIter<Question>,
        risk: f32,
        smtputf8: bool,
    ) -> Result<(), SessionError> {
        let now = Instant::now();
        self.budget.begin();
        self.windows += 1;
        self.risk += risk;
        self.connection.queue_mail(self.from, &MailParams { smtputf8, ..MailParams::default() })?;
        self.sent.push_back(Sent::Mail(now));
        while !questions.as_slice().is_empty() {
            self.make_room().await?;
            if self.stopped || self.closing.is_some() {
                break;
            }
            let Some(question) = questions.next() else { break };
            // Without PIPELINING the refusal of MAIL is known by now, and RCPT would be out of sequence.
            if self.connection.owed() == 0
                && let Some(mail) = &self.refused
            {
                let (outcome, at) = (Arc::clone(mail), self.connection.last_read());
                self.answers.push((question, Answer { outcome, position: 0, asked: now, at }));
                continue;
            }
            let queued = self.connection.queue_rcpt(question.mailbox(), &RcptParams::default());
            self.sent.push_back(Sent::Rcpt(question));
            queued?;
        }
        self.make_room().await?;
        if self.closing.is_none() {
            self.connection.queue(&Command::Rset)?;
            self.sent.push_back(Sent::Rset(risk));
        }
        Ok(())
    }

    async fn make_room(&mut self) -> Result<(), SessionError> {
        while !self.connection.has_room() && self.closing.is_none() {
            self.next_reply().await?;
        }
        Ok(())
    }

    /// Takes the next reply, and tells whether it ended a window.
    async fn next_reply(&mut self) -> Result<bool, SessionError> {
        let (_, reply) = self.connection.reply_ref().await?;
        if reply.is_closing() {
            // Whatever comes behind it answers nothing: the question it stands for is asked again elsewhere.
            self.closing.get_or_insert_with(|| reply.detach());
            return Ok(false);
        }
        match self.sent.pop_front() {
            Some(Sent::Mail(asked)) => {
                (self.asked, self.position) = (asked, 0);
                self.refused = (!reply.is_positive()).then(|| self.seat.outcome(Verb::Mail, &reply));
                if self.refused.is_some() {
                    self.budget.reject();
                }
            }
            Some(Sent::Rcpt(question)) => {
                if !reply.is_positive() {
                    self.budget.reject();
                }
                let (outcome, position) = match &self.refused {
                    Some(mail) => (Arc::clone(mail), 0),
                    None => (self.seat.outcome(Verb::Rcpt, &reply), self.position),
                };
                self.position += 1;
                let (asked, at) = (self.asked, self.connection.last_read());
                self.answers.push((question, Answer { outcome, position, asked, at }));
            }
            // RSET cannot fail (RFC 5321 4.1.1.5): this is the reply to something else.
            Some(Sent::Rset(_)) if !reply.is_positive() => {
                return Err(DialogueError::Unsolicited(reply.code()).into());
            }
            Some(Sent::Rset(risk)) => {
                self.windows -= 1;
                self.seat.note_latency(self.connection.last_read().saturating_duration_since(self.asked));
                // To the bit, so that nothing is left of roundings.
                self.risk = if self.windows == 0 { 0.0 } else { self.risk - risk };
                self.refused = None;
                return Ok(true);
            }
            None => {}
        }
        Ok(false)
    }

    /// Lets the answers count.
    fn commit(&mut self) {
        let settled = self.seat.settle(&mut self.answers);
        self.stopped |= settled.stop;
        if let Some(most) = settled.recipients {
            self.budget.limit_recipients(most);
        }
    }
}
