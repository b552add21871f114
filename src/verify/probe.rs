//! One connection at work: transactions of many recipients, several of them in flight, every answer put to its question.
//!
//! ```text
//! window   MAIL RCPT RCPT … RCPT RSET      one write
//! in flight  ├── window ──┤├── window ──┤├── window ──┤   while the budget and the session have room
//! ```
//!
//! More is asked once no reply is at hand: then the end of what is in flight shows whenever it comes together.
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
    desk::{Draw, Window},
    outcome::Outcome,
    question::Question,
    seat::Seat,
    throttle::{Budget, Risk},
};
use crate::{
    client::{Connection, SessionError},
    proto::{Command, DialogueError, MailParams, RcptParams, Reply, ReversePath, Verb},
};

/// Windows in flight: beyond four, throughput hardly grows, and a refusal comes too late to be heeded.
pub(super) const WINDOWS: usize = 4;
/// For how many round trips answers may be held back before no new window is sent, so that the connection becomes quiet:
/// that costs one of them.
const HELD: u32 = 64;
/// How long that is at the least, and at the most.
const HELD_FOR: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(5));

/// An answer of the server, or several in a row that say the same.
pub(super) struct Answer {
    /// What was said to RCPT, or to MAIL where the whole transaction was refused.
    pub(super) outcome: Arc<Outcome>,
    /// When it came.
    pub(super) at: Instant,
    pub(super) count: usize,
}

/// A window that was sent. Its questions stay where they are, from the desk and back to it.
pub(super) struct Flight {
    pub(super) questions: Vec<Question>,
    /// To the first of the questions.
    pub(super) answers: Vec<Answer>,
    pub(super) answered: usize,
    /// When it was asked.
    pub(super) asked: Instant,
    /// What was said to MAIL, once something was.
    mail: Option<Result<(), Arc<Outcome>>>,
    /// Recipients sent.
    sent: usize,
    risk: Risk,
}

impl Flight {
    /// Recipients before the one of the `nth` answer in its transaction; after none, it cannot be one too many.
    pub(super) fn position(&self, nth: usize) -> u32 {
        if matches!(self.mail, Some(Err(_))) { 0 } else { nth as u32 }
    }

    fn answer(&mut self, outcome: &Arc<Outcome>, count: usize, at: Instant) {
        self.answered += count;
        match self.answers.last_mut() {
            Some(last) if last.at == at && Arc::ptr_eq(&last.outcome, outcome) => last.count += count,
            _ => self.answers.push(Answer { outcome: Arc::clone(outcome), at, count }),
        }
    }
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

/// A connection with what it has in flight.
pub(super) struct Probe<'a> {
    connection: &'a mut Connection,
    budget: &'a mut Budget,
    from: &'a ReversePath,
    seat: &'a mut Seat,
    /// Sent, and not wholly answered.
    flights: VecDeque<Flight>,
    /// Answered, and held back.
    held: Vec<Flight>,
    /// What the last window took.
    round_trip: Duration,
    /// That of all in flight.
    risk: Risk,
    closing: Option<Reply>,
    stopped: bool,
    /// Whether QUIT was sent, behind the last window.
    leaving: bool,
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
            flights: VecDeque::new(),
            held: Vec::new(),
            round_trip: Duration::ZERO,
            risk: Risk::default(),
            closing: None,
            stopped: false,
            leaving: false,
        }
    }

    /// Asks until there are no questions left, or the connection is done for another reason.
    pub(super) async fn run(mut self) -> End {
        let mut ended = self.pump().await;
        if self.leaving && self.flights.is_empty() && !is_out_of_step(&ended) {
            // Everything is answered, whatever became of the goodbye.
            (ended, self.closing, self.stopped) = (Ok(()), None, true);
        }
        if self.leaving && ended.is_err() {
            self.seat.desk.lock().groups[self.seat.group].quits_apart = true;
        }
        let doubtful = self.is_doubtful(&ended);
        self.held.extend(self.flights.drain(..));
        let mut back = Vec::new();
        for flight in &mut self.held {
            if doubtful {
                flight.answers.clear();
                flight.answered = 0;
            }
            back.extend(flight.questions.drain(flight.answered..));
        }
        self.seat.take_back(back);
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
        let silent = match ended {
            _ if is_out_of_step(ended) => return true,
            Err(SessionError::Timeout { .. }) => true,
            // QUIT makes an end of what would be a silence otherwise.
            Err(_) => self.leaving,
            Ok(()) => false,
        };
        // A server that says nothing to some RCPT answers RSET, and then there is nothing more to come: its acceptance was
        // taken for that of a recipient. A refusal in its place would not be the answer to RSET.
        let last = self.held.iter().chain(&self.flights).rev().find_map(|flight| flight.answers.last());
        silent && last.is_some_and(|answer| answer.outcome.is_positive())
    }

    async fn pump(&mut self) -> Result<(), SessionError> {
        loop {
            while let Some(window) = self.room() {
                self.window(window).await?;
            }
            // Room comes with the end of a window. It is used when nothing more is at hand: often that is the end of all
            // windows, which came together, and then the connection is quiet for nothing.
            let mut room = false;
            while self.connection.owed() > 0 && self.closing.is_none() {
                room |= self.next_reply().await?;
                if room && !self.connection.is_at_hand() {
                    break;
                }
            }
            if self.closing.is_some() {
                return Ok(());
            }
            if self.connection.owed() > 0 {
                continue;
            }
            // Behind the answer to QUIT there is nothing but the end.
            if self.leaving {
                return Ok(());
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
        let patience = self.round_trip.saturating_mul(HELD).clamp(HELD_FOR.0, HELD_FOR.1);
        let oldest = self.held.iter().chain(&self.flights).find_map(|flight| flight.answers.first());
        let held = oldest.is_some_and(|first| self.connection.last_read() - first.at > patience);
        let full = self.flights.len() == WINDOWS || !self.connection.has_room();
        if self.stopped || self.leaving || self.closing.is_some() || held || full {
            return None;
        }
        let full = self.budget.full_window();
        // A window behind others waits until it can be a good one: one write per recipient costs more than it gains.
        let quiet = self.flights.is_empty();
        let least = if quiet { 1 } else { full.div_ceil(2) };
        let worn = quiet && self.budget.is_worn();
        match self.seat.draw(self.budget.left(self.risk), least..=full, worn) {
            Draw::Window(window) => Some(window),
            Draw::Nothing => None,
            Draw::Leave => {
                self.stopped = true;
                None
            }
        }
    }

    async fn window(&mut self, window: Window) -> Result<(), SessionError> {
        let Window { questions, risk, smtputf8, last } = window;
        let (asked, count) = (Instant::now(), questions.len());
        self.budget.begin();
        self.risk += risk;
        let flight = Flight { questions, answers: Vec::new(), answered: 0, asked, mail: None, sent: 0, risk };
        self.flights.push_back(flight);
        self.connection.queue_mail(self.from, &MailParams { smtputf8, ..MailParams::default() })?;
        for _ in 0..count {
            self.make_room().await?;
            let Some(flight) = self.flights.back_mut() else { break };
            if self.closing.is_some() {
                let rest = flight.questions.split_off(flight.sent);
                self.seat.take_back(rest);
                break;
            }
            let question = &flight.questions[flight.sent];
            flight.sent += 1;
            // Without PIPELINING the refusal of MAIL is known by now, and RCPT would be out of sequence.
            if self.connection.owed() == 0
                && let Some(Err(outcome)) = &flight.mail
            {
                let outcome = Arc::clone(outcome);
                flight.answer(&outcome, 1, self.connection.last_read());
                continue;
            }
            self.connection.queue_rcpt(&question.mailbox(), &RcptParams::default())?;
        }
        self.make_room().await?;
        if self.closing.is_none() {
            self.connection.queue(&Command::Rset)?;
            // Goodbye costs no round trip of its own (RFC 2920 3.1: QUIT may end a group).
            if last {
                self.connection.queue(&Command::Quit)?;
                self.leaving = true;
            }
        }
        Ok(())
    }

    async fn make_room(&mut self) -> Result<(), SessionError> {
        while !self.connection.has_room() && self.closing.is_none() {
            self.next_reply().await?;
        }
        Ok(())
    }

    /// Takes the next reply, or several that say the same to recipients of one window, and tells whether it ended one.
    async fn next_reply(&mut self) -> Result<bool, SessionError> {
        let recipients = self.flights.front().filter(|flight| flight.mail.is_some());
        let most = recipients.map_or(1, |flight| flight.sent - flight.answered);
        let (_, reply, count) = self.connection.replies_alike(most).await?;
        if reply.is_closing() {
            // Whatever comes behind it answers nothing: the question it stands for is asked again elsewhere.
            self.closing.get_or_insert_with(|| reply.detach());
            return Ok(false);
        }
        let Some(flight) = self.flights.front_mut() else {
            // That to QUIT. Any other but 221 was meant for a command before it.
            let code = reply.code();
            return if code == 221 { Ok(false) } else { Err(DialogueError::Unsolicited(code).into()) };
        };
        if flight.mail.is_none() {
            flight.mail = Some(match reply.is_positive() {
                true => Ok(()),
                false => Err(Arc::clone(self.seat.outcome(Verb::Mail, &reply, None))),
            });
            if !reply.is_positive() {
                self.budget.reject(1);
            }
        } else if flight.answered < flight.sent {
            if !reply.is_positive() {
                self.budget.reject(count);
            }
            match &flight.mail {
                Some(Err(mail)) => {
                    let mail = Arc::clone(mail);
                    flight.answer(&mail, count, self.connection.last_read());
                }
                _ => {
                    let question = &flight.questions[flight.answered];
                    let (mailbox, random) =
                        (question.mailbox(), matches!(question, Question::CatchAll { .. }));
                    let outcome = self.seat.outcome(Verb::Rcpt, &reply, Some(mailbox.as_str()));
                    let status = outcome.verdict.status();
                    flight.answer(outcome, count, self.connection.last_read());
                    self.seat.harvest.read(status, count, random);
                }
            }
        } else if !reply.is_positive() || reply.code() == 221 {
            // RSET cannot fail (RFC 5321 4.1.1.5): this is the reply to something else.
            let code = reply.code();
            return Err(DialogueError::Unsolicited(code).into());
        } else {
            self.round_trip = self.connection.last_read().saturating_duration_since(flight.asked);
            self.seat.windows.note(self.round_trip);
            self.risk -= flight.risk;
            self.held.extend(self.flights.pop_front());
            if self.flights.is_empty() {
                // To the bit, so that nothing is left of roundings.
                self.risk = Risk::default();
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets the answers count.
    fn commit(&mut self) {
        let settled = self.seat.settle(&mut self.held);
        self.stopped |= settled.stop;
        if let Some(most) = settled.recipients {
            self.budget.limit_recipients(most);
        }
    }
}

/// Whether replies came that fit no command.
fn is_out_of_step(ended: &Result<(), SessionError>) -> bool {
    matches!(ended, Err(SessionError::Decode(_) | SessionError::Dialogue(_)))
}
