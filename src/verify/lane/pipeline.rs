//! One connection at work: transactions of many recipients, several of them in flight, every answer put to its question.
//!
//! ```text
//! window   MAIL RCPT RCPT … RCPT RSET      one write
//! in flight  ├── window ──┤├── window ──┤├── window ──┤   while the budget and the session have room
//! ```
//!
//! More is asked once no reply is at hand: then the end of what is in flight shows whenever it comes together.
//!
//! Replies are told apart by nothing but their order, so one reply too many would put every later one to the wrong
//! question. Therefore answers are held back until a [`Fence`] behind them has proved that they are in step. The answers
//! behind the last fence count for nothing if the connection breaks, and their questions are asked again elsewhere.
//!
//! A window that breaks its connection makes its questions suspects: see [`queue`](super::queue).
//!
//! Nothing here decides about verdicts: answers go to the lane in order, by the [`LaneHandle`] of the connection,
//! and what was asked without being answered goes back there.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    fence::{Fence, OutOfStep, TOO_MANY_COMMANDS, is_of_several_lines, unsolicited},
    handle::LaneHandle,
    question::Question,
    queue::Suspects,
    window::{MAX_WINDOWS_IN_FLIGHT, NextWindow, SentWindow, Window},
};
use crate::{
    client::{Connection, SessionError},
    proto::{Command, MailParams, RcptParams, Reply, ReversePath, State, Verb},
    verify::policy::{rejection_budget::Budget, rejection_rate::ExpectedRejections},
};

/// For how many round trips answers may be held back before no new window is sent, so that the connection becomes quiet:
/// that costs one of them.
const HELD_ROUND_TRIPS: u32 = 64;
/// How long that is at the least, and at the most.
const HELD_TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(5));
/// How long a connection with unproved answers waits for more to ask before it asks for a fence: a new question is one.
const FENCE_DELAY: Duration = Duration::from_millis(20);

/// Why a connection is done.
#[derive(Debug)]
pub(super) enum PipelineEnd {
    /// No more questions; the connection is as good as before.
    Idle,
    /// It has been asked enough, or was told to stop; nothing is in flight.
    Exhausted,
    /// It broke, and one of these may be why.
    Broken(SessionError, Suspects),
    /// The server closed the dialogue by 421, and one of these may be why.
    Closed(Reply, Suspects),
    /// Its watchdog has ended it, and what is in flight with it.
    Expired,
}

/// A connection with what it has in flight.
pub(super) struct Pipeline<'a> {
    connection: &'a mut Connection,
    budget: &'a mut Budget,
    fence: &'a mut Fence,
    from: &'a ReversePath,
    handle: &'a mut LaneHandle,
    /// Sent, and not wholly answered.
    windows: VecDeque<SentWindow>,
    /// Answered, and held back.
    held: Vec<SentWindow>,
    /// What the last window took.
    round_trip: Duration,
    /// That of all in flight.
    expected: ExpectedRejections,
    closing: Option<Reply>,
    stopped: bool,
    /// Whether QUIT was sent, behind the last window.
    quitting: bool,
    /// Whether the reply to a second greeting is due.
    greeting_owed: bool,
    /// The server refused RSET, and the transaction may go on.
    reset_refused: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        connection: &'a mut Connection,
        budget: &'a mut Budget,
        fence: &'a mut Fence,
        from: &'a ReversePath,
        handle: &'a mut LaneHandle,
    ) -> Self {
        Self {
            connection,
            budget,
            fence,
            from,
            handle,
            windows: VecDeque::new(),
            held: Vec::new(),
            round_trip: Duration::ZERO,
            expected: ExpectedRejections::default(),
            closing: None,
            stopped: false,
            quitting: false,
            greeting_owed: false,
            reset_refused: false,
        }
    }

    /// Asks until there are no questions left, or the connection is done for another reason.
    pub(super) async fn run(mut self) -> PipelineEnd {
        let watchdog = Arc::clone(&self.handle.watchdog);
        let (mut ended, expired) = tokio::select! {
            biased;
            ended = self.pump() => (ended, false),
            () = watchdog.expired() => (Ok(()), true),
        };
        let unproven = self.held.iter().any(|window| !window.is_proven());
        if self.quitting
            && self.windows.is_empty()
            && !unproven
            && !ended.as_ref().is_err_and(SessionError::is_out_of_step)
        {
            // Everything is answered, whatever became of the goodbye.
            (ended, self.closing, self.stopped) = (Ok(()), None, true);
        }
        if self.quitting && ended.is_err() {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].sends_quit_alone = true;
        }
        if ended.as_ref().is_err_and(SessionError::is_cut) && !unproven {
            self.windows.iter_mut().take(1).for_each(SentWindow::trust_first_refusal);
        }
        let suspects = self.give_up(&ended);
        match (ended, self.closing) {
            _ if expired => PipelineEnd::Expired,
            (_, Some(reply)) => PipelineEnd::Closed(reply, suspects),
            (Err(error), None) => PipelineEnd::Broken(error, suspects),
            (Ok(()), None) if self.stopped || self.budget.is_exhausted() => PipelineEnd::Exhausted,
            (Ok(()), None) => PipelineEnd::Idle,
        }
    }

    /// Lets the proved answers count, and gives back all other questions, but for the suspects.
    fn give_up(&mut self, ended: &Result<(), SessionError>) -> Suspects {
        if self.greeting_owed && self.windows.is_empty() && ended.is_err() {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].proves_by_greeting = false;
        }
        let cut = ended.as_ref().is_err_and(SessionError::is_cut);
        let unproven = self.held.iter().any(|window| !window.is_proven());
        let between = self.windows.front().is_none_or(|window| window.mail.is_none());
        if unproven && between && (cut || self.closing.is_some()) {
            // It closed between transactions: a limit that it did not announce. QUIT in time proves them all.
            self.handle.limit_transactions(0);
        }
        let (broken, mut suspects) = (self.held.len(), Suspects::None);
        self.held.extend(self.windows.drain(..));
        let useful = self.handle.peer.answer_count > 0 || self.held.iter().any(|window| window.proven > 0);
        let (mut back, mut unsure, mut tested) = (Vec::new(), Vec::new(), false);
        for (at, window) in self.held.iter_mut().enumerate() {
            let (next, began) = (window.next_unproven(cut), window.mail.is_some());
            let (alone, rest) = (mem::take(&mut window.alone), window.cut());
            tested |= alone;
            match (ended, &self.closing) {
                // Any answer may be another's.
                (Err(SessionError::Dialogue(_)), None) => unsure.extend(rest),
                // It ended between transactions and before anything was proved: fewer at once may be.
                (Err(_), _) | (_, Some(_)) if at < broken && between && (alone || !useful) => {
                    unsure.extend(rest)
                }
                (Ok(()), None) => back.extend(rest),
                _ if at != broken || rest.is_empty() => back.extend(rest),
                // Whatever ended the connection, it was not these.
                (_, Some(_)) if useful || !began => suspects = Suspects::untested(rest, alone, &mut back),
                _ if !began && (useful || matches!(ended, Err(SessionError::Timeout { .. }))) => {
                    suspects = Suspects::untested(rest, alone, &mut back);
                }
                _ if alone || !began => suspects = Suspects::any_of(rest),
                _ => suspects = Suspects::around(rest, next),
            }
        }
        if !unsure.is_empty() {
            unsure.extend(suspects.into_questions());
            suspects = Suspects::any_of(unsure);
        }
        self.held.retain(|window| window.answered > 0);
        self.handle.take_back(back, tested);
        self.commit();
        suspects
    }

    async fn pump(&mut self) -> Result<(), SessionError> {
        loop {
            while let Some(window) = self.room() {
                self.send_window(window).await?;
            }
            self.fence_behind()?;
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
            if self.quitting {
                return Ok(());
            }
            self.connection.check_quiet()?;
            self.commit();
            // Suspects that were asked without PIPELINING, where no fence is behind them yet.
            if self.reset_refused || self.held.iter().any(|window| window.alone) {
                self.fence()?;
                continue;
            }
            match self.room() {
                Some(window) => self.send_window(window).await?,
                None if self.held.is_empty() => return Ok(()),
                None => {
                    let waits = !self.stopped && !self.budget.is_exhausted() && !self.is_overdue();
                    match if waits && self.handle.has_more(FENCE_DELAY).await { self.room() } else { None } {
                        Some(window) => self.send_window(window).await?,
                        None => self.fence()?,
                    }
                }
            }
        }
    }

    /// Whether answers have been held back for too long.
    fn is_overdue(&self) -> bool {
        let patience = self.round_trip.saturating_mul(HELD_ROUND_TRIPS).clamp(HELD_TIME.0, HELD_TIME.1);
        let oldest = self.held.iter().chain(&self.windows).find_map(|window| window.answers.first());
        oldest.is_some_and(|first| self.connection.last_read() - first.at > patience)
    }

    /// The next window, if it may be sent now.
    fn room(&mut self) -> Option<Window> {
        let full = self.windows.len() == MAX_WINDOWS_IN_FLIGHT || !self.connection.has_room();
        let alone = self.windows.front().is_some_and(|window| window.alone || self.handle.refuses_rset);
        let over = self.stopped || self.quitting || self.closing.is_some();
        if over || self.greeting_owed || full || alone || self.is_overdue() {
            return None;
        }
        let full = self.budget.full_window();
        // A window behind others waits until it can be a good one: one write per recipient costs more than it gains.
        let quiet = self.windows.is_empty();
        let least = if quiet { 1 } else { full.div_ceil(2) };
        let ending = quiet && self.budget.is_nearly_exhausted();
        match self.handle.next_window(self.budget.remaining(self.expected), least..=full, quiet, ending) {
            NextWindow::Window(window) => Some(window),
            NextWindow::Wait => None,
            NextWindow::Close => {
                self.stopped = true;
                None
            }
        }
    }

    async fn send_window(&mut self, window: Window) -> Result<(), SessionError> {
        self.handle.lane.context.wait_for_capacity().await;
        let Window { questions, expected, smtputf8, last, alone } = window;
        let count = questions.len();
        self.budget.record_transaction();
        self.expected += expected;
        self.windows.push_back(SentWindow::new(questions, expected, alone));
        self.connection.queue_mail(self.from, &MailParams { smtputf8, ..MailParams::default() })?;
        for _ in 0..count {
            self.make_room().await?;
            let Some(window) = self.windows.back_mut() else { break };
            if self.closing.is_some() {
                let rest = window.questions.split_off(window.sent);
                self.handle.take_back(rest, false);
                break;
            }
            let question = &window.questions[window.sent];
            window.sent += 1;
            // Without PIPELINING the refusal of MAIL is known by now, and RCPT would be out of sequence.
            if self.connection.owed() == 0
                && let Some(Err(outcome)) = &window.mail
            {
                let outcome = Arc::clone(outcome);
                window.answer(&outcome, 1, self.connection.last_read());
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
                self.quitting = true;
            }
        }
        Ok(())
    }

    /// Asks for a fence behind what was just sent, in the same write, where answers would else be held back for long:
    /// behind the first windows of a connection, and behind suspects.
    fn fence_behind(&mut self) -> Result<(), SessionError> {
        let Some(window) = self.windows.back() else { return Ok(()) };
        let wanted = self.fence.is_fresh() || window.alone || self.handle.refuses_rset;
        // EHLO ends a group (RFC 2920 3.1); without PIPELINING it would cost a round trip.
        let may = self.connection.extensions().pipelining && self.connection.owed() > 0;
        let ready = !self.quitting && !self.greeting_owed && self.closing.is_none();
        if wanted && may && ready && self.fence.may_greet() {
            self.greet()?;
        }
        Ok(())
    }

    /// Asks for a fence by itself: EHLO as long as that is worth it, or else QUIT.
    fn fence(&mut self) -> Result<(), SessionError> {
        let stays = !self.stopped && !self.budget.is_exhausted();
        self.reset_refused = false;
        if stays && self.fence.may_greet() {
            return self.greet();
        }
        self.quitting = true;
        self.connection.queue(&Command::Quit)
    }

    fn greet(&mut self) -> Result<(), SessionError> {
        self.fence.record_greeting();
        self.greeting_owed = true;
        let name = self.handle.lane.context.config.client.name.clone();
        let greeting = match self.connection.greeted_by() {
            Some(Verb::Helo) => Command::Helo(name),
            _ => Command::Ehlo(name),
        };
        self.connection.queue(&greeting)
    }

    async fn make_room(&mut self) -> Result<(), SessionError> {
        while !self.connection.has_room() && self.closing.is_none() {
            self.next_reply().await?;
        }
        Ok(())
    }

    /// Takes the next reply, or several that say the same to recipients of one window, and tells whether it ended one.
    async fn next_reply(&mut self) -> Result<bool, SessionError> {
        let recipients = self.windows.front().filter(|window| window.mail.is_some());
        let most = recipients.map_or(1, |window| window.sent - window.answered);
        let (verb, reply, count) = self.connection.replies_alike(most).await?;
        if reply.is_closing() {
            // Whatever comes behind it answers nothing: the question it stands for is asked again elsewhere.
            self.closing.get_or_insert_with(|| reply.excerpt());
            return Ok(false);
        }
        let code = reply.code();
        match verb {
            Verb::Mail | Verb::Rcpt => {
                self.fence.record_reply(code, reply.as_bytes()).map_err(|OutOfStep| unsolicited(code))?;
            }
            Verb::Rset if self.fence.is_known_reset(reply.as_bytes()) => {
                self.end_window();
                self.prove();
                return Ok(true);
            }
            Verb::Quit => return self.quitted(code),
            // Behind a transaction only: before, it is the reply to something else.
            _ if code == TOO_MANY_COMMANDS && self.handle.transactions > 0 => {
                self.closing.get_or_insert_with(|| reply.excerpt());
                self.handle.limit_transactions(self.fence.greetings().into());
                return Ok(false);
            }
            _ => {
                let reply = reply.detach();
                return if verb == Verb::Rset { self.reset(&reply) } else { self.greeted(&reply) };
            }
        }
        let Some(window) = self.windows.front_mut() else { return Err(unsolicited(code)) };
        if !reply.is_positive() {
            self.budget.record_rejections(count);
        }
        if verb == Verb::Mail {
            window.mail = Some(match reply.is_positive() {
                true => Ok(()),
                false => Err(Arc::clone(self.handle.outcome(Verb::Mail, &reply, None))),
            });
            return Ok(false);
        }
        if let Some(Err(mail)) = &window.mail {
            let mail = Arc::clone(mail);
            window.answer(&mail, count, self.connection.last_read());
            return Ok(false);
        }
        self.handle.watchdog.record_answers(count);
        let question = &window.questions[window.answered];
        let (mailbox, random) = (question.mailbox(), matches!(question, Question::CatchAll { .. }));
        let outcome = self.handle.outcome(Verb::Rcpt, &reply, Some(mailbox.as_str()));
        let status = outcome.verdict.status();
        window.answer(outcome, count, self.connection.last_read());
        self.handle.peer.harvest.record_answers(status, count, random);
        if let Some(named) = self.handle.named_mailbox() {
            match window.names(named, count) {
                Some(true) => self.prove(),
                Some(false) => return Err(unsolicited(code)),
                None => {}
            }
        }
        Ok(false)
    }

    /// Takes the reply to RSET in words that are not known to be a fence, and tells that a window has ended.
    fn reset(&mut self, reply: &Reply) -> Result<bool, SessionError> {
        match reply.code() {
            // The server does not know the command, and the transaction goes on: what was asked behind it is void.
            500 | 502 => {
                self.reset_refused = true;
                self.handle.record_rset_refused();
                self.windows.iter_mut().skip(1).for_each(|window| window.void = true);
            }
            // RSET cannot fail otherwise (RFC 5321 4.1.1.5): this is the reply to something else.
            code if !reply.is_positive() || code == 221 => return Err(unsolicited(code)),
            code if is_of_several_lines(reply.as_bytes()) && self.connection.repeats_greeting(reply) => {
                return Err(unsolicited(code));
            }
            _ => self.fence.learn_reset(reply.as_bytes()),
        }
        self.end_window();
        Ok(true)
    }

    /// Takes the reply to a second greeting: a fence, or a sign that replies are out of step.
    fn greeted(&mut self, reply: &Reply) -> Result<bool, SessionError> {
        self.greeting_owed = false;
        let repeats = self.connection.repeats_greeting(reply);
        if !self.fence.is_greeting(reply.code(), reply.as_bytes(), repeats) {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].proves_by_greeting = false;
            return Err(unsolicited(reply.code()));
        }
        self.prove();
        let void = self.held.iter_mut().filter(|window| window.void);
        let back = void.flat_map(|window| mem::take(&mut window.questions)).collect();
        self.held.retain(|window| !window.void);
        self.handle.take_back(back, false);
        // A server that refuses both RSET and a second greeting ends a transaction only with the connection.
        self.reset_refused = false;
        self.stopped |= matches!(self.connection.state(), State::Mail | State::Rcpt);
        Ok(false)
    }

    /// Takes the reply to QUIT. Any other than 221 was meant for a command before it.
    fn quitted(&mut self, code: u16) -> Result<bool, SessionError> {
        if code != 221 {
            return Err(unsolicited(code));
        }
        self.prove();
        Ok(false)
    }

    /// Records that all replies so far are in step.
    fn prove(&mut self) {
        // Those before the last were proved with it, more often than not.
        for window in self.held.iter_mut().rev().take_while(|window| !window.is_proven()) {
            window.prove();
        }
        if let Some(window) = self.windows.front_mut() {
            window.prove();
        }
    }

    fn end_window(&mut self) {
        let Some(window) = self.windows.pop_front() else { return };
        self.round_trip = self.connection.last_read().saturating_duration_since(window.asked);
        self.handle.latencies.record(self.round_trip);
        self.handle.transactions += 1;
        self.expected -= window.expected;
        self.held.push(window);
        if self.windows.is_empty() {
            // To the bit, so that nothing is left of roundings.
            self.expected = ExpectedRejections::default();
        }
    }

    /// Lets the proved answers count.
    fn commit(&mut self) {
        let proven = self.held.iter().take_while(|window| window.is_proven()).count();
        let effect = self.handle.settle(self.held.drain(..proven));
        self.stopped |= effect.stop;
        if let Some(most) = effect.recipients {
            self.budget.limit_recipients(most);
        }
    }
}
