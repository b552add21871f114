//! Sends windows of recipients over one connection, keeps several in flight, and assigns each reply to its question.
//!
//! ```text
//! window   MAIL RCPT RCPT … RCPT RSET      one write
//! in flight  ├── window ──┤├── window ──┤├── window ──┤   while budget and session allow
//! ```
//!
//! A new window is sent only once no further reply is in the buffer. If all replies arrive together, this shows that
//! nothing is in flight any more.
//!
//! SMTP replies are matched to commands by order alone, so one extra reply shifts all later ones. Therefore answers are
//! held back until a [`Fence`] behind them proves that replies and commands are in step. If the connection breaks,
//! answers behind the last fence are dropped, and their questions are asked again on another connection.
//!
//! If a window breaks its connection, its questions are bisected: see [`queue`](super::queue).
//!
//! It decides no verdict. The [`LaneHandle`] passes answers to the lane in order, and returns unanswered questions.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    fence::{Fence, OutOfStep, TOO_MANY_COMMANDS, is_of_several_lines, unsolicited},
    handle::LaneHandle,
    pipeline_end::PipelineEnd,
    question::Question,
    queue::Bisection,
    window::{MAX_WINDOWS_IN_FLIGHT, NextWindow, SentWindow, Window},
};
use crate::{
    client::{Connection, SessionError},
    proto::{Command, MailParams, RcptParams, Reply, ReversePath, State, Verb},
    verify::policy::{rejection_budget::Budget, rejection_rate::ExpectedRejections},
};

/// Answers may be held back for this many round trips. After that no new window is sent until a fence proves them,
/// which costs one round trip.
const HELD_ROUND_TRIPS: u32 = 64;
/// The shortest and the longest time for which answers may be held back.
const HELD_TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(5));
/// A connection with unproved answers waits this long for more questions before it sends a fence. A further window can
/// serve as the fence.
const FENCE_DELAY: Duration = Duration::from_millis(20);

/// A connection and its windows in flight.
pub(super) struct Pipeline<'a> {
    connection: &'a mut Connection,
    budget: &'a mut Budget,
    fence: &'a mut Fence,
    from: &'a ReversePath,
    handle: &'a mut LaneHandle,
    /// Windows sent whose replies are not complete.
    windows: VecDeque<SentWindow>,
    /// Windows answered in full that wait for a fence.
    held: Vec<SentWindow>,
    /// The round trip of the last window.
    round_trip: Duration,
    /// The expected rejections of all windows in flight.
    expected: ExpectedRejections,
    closing: Option<Reply>,
    stopped: bool,
    /// Whether QUIT was sent behind the last window.
    quitting: bool,
    /// Whether the reply to a second EHLO or HELO is outstanding.
    greeting_owed: bool,
    /// Whether the server refused RSET, so that the transaction may still be open.
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

    /// Sends windows until there are no questions left or the connection has to end.
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
            // Every question has its answer. The fate of QUIT does not matter.
            (ended, self.closing, self.stopped) = (Ok(()), None, true);
        }
        if self.quitting && ended.is_err() {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].record_quit_failed();
        }
        if ended.as_ref().is_err_and(SessionError::is_cut) && !unproven {
            self.windows.iter_mut().take(1).for_each(SentWindow::trust_first_refusal);
        }
        let bisection = self.give_up(&ended);
        match (ended, self.closing) {
            _ if expired => PipelineEnd::Expired,
            (_, Some(reply)) => PipelineEnd::Closed(reply, bisection),
            (Err(error), None) => PipelineEnd::Broken(error, bisection),
            (Ok(()), None) if self.stopped || self.budget.is_exhausted() => PipelineEnd::Exhausted,
            (Ok(()), None) => PipelineEnd::Idle,
        }
    }

    /// Commits the proved answers, and returns unanswered questions to the lane, except those that may have broken the
    /// connection.
    fn give_up(&mut self, ended: &Result<(), SessionError>) -> Bisection {
        if self.greeting_owed && self.windows.is_empty() && ended.is_err() {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].record_greeting_failed();
        }
        let cut = ended.as_ref().is_err_and(SessionError::is_cut);
        let unproven = self.held.iter().any(|window| !window.is_proven());
        let between = self.windows.front().is_none_or(|window| window.mail.is_none());
        if unproven && between && (cut || self.closing.is_some()) {
            // The server closed between transactions, so it has a limit that it did not announce. QUIT within the limit
            // proves the answers.
            self.handle.limit_transactions(0);
        }
        let (broken, mut bisection) = (self.held.len(), Bisection::None);
        self.held.extend(self.windows.drain(..));
        let useful = self.handle.peer.answer_count > 0 || self.held.iter().any(|window| window.proven > 0);
        let (mut back, mut unsure, mut batch_done) = (Vec::new(), Vec::new(), false);
        for (at, window) in self.held.iter_mut().enumerate() {
            let (next, began) = (window.next_unproven(cut), window.mail.is_some());
            let (alone, rest) = (mem::take(&mut window.alone), window.cut());
            batch_done |= alone;
            match (ended, &self.closing) {
                // The replies are out of step, so each answer may belong to another question.
                (Err(SessionError::Dialogue(_)), None) => unsure.extend(rest),
                // It ended between transactions and before any answer was proved. A smaller window may succeed.
                (Err(_), _) | (_, Some(_)) if at < broken && between && (alone || !useful) => {
                    unsure.extend(rest)
                }
                (Ok(()), None) => back.extend(rest),
                _ if at != broken || rest.is_empty() => back.extend(rest),
                // These questions did not end the connection.
                (_, Some(_)) if useful || !began => bisection = Bisection::untested(rest, alone, &mut back),
                _ if !began && (useful || matches!(ended, Err(SessionError::Timeout { .. }))) => {
                    bisection = Bisection::untested(rest, alone, &mut back);
                }
                _ if alone || !began => bisection = Bisection::any_of(rest),
                _ => bisection = Bisection::around(rest, next),
            }
        }
        if !unsure.is_empty() {
            unsure.extend(bisection.into_questions());
            bisection = Bisection::any_of(unsure);
        }
        self.held.retain(|window| window.answered > 0);
        self.handle.take_back(back, batch_done);
        self.commit();
        bisection
    }

    async fn pump(&mut self) -> Result<(), SessionError> {
        loop {
            while let Some(window) = self.room() {
                self.send_window(window).await?;
            }
            self.fence_behind()?;
            // The end of a window makes room for the next, which is sent once the buffer holds no further reply. Often
            // all windows end together, and then nothing is in flight: a fence is not needed.
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
            // After the reply to QUIT the server closes the connection.
            if self.quitting {
                return Ok(());
            }
            self.connection.check_quiet()?;
            self.commit();
            // A bisected batch that was sent without PIPELINING has no fence behind it yet.
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

    /// Returns whether answers have been held back for too long.
    fn is_overdue(&self) -> bool {
        let limit = self.round_trip.saturating_mul(HELD_ROUND_TRIPS).clamp(HELD_TIME.0, HELD_TIME.1);
        let oldest = self.held.iter().chain(&self.windows).find_map(|window| window.answers.first());
        oldest.is_some_and(|first| self.connection.last_read() - first.at > limit)
    }

    /// Takes the next window from the lane, if one may be sent now.
    fn room(&mut self) -> Option<Window> {
        let full = self.windows.len() == MAX_WINDOWS_IN_FLIGHT || !self.connection.has_room();
        let alone = self.windows.front().is_some_and(|window| window.alone || self.handle.refuses_rset);
        let over = self.stopped || self.quitting || self.closing.is_some();
        if over || self.greeting_owed || full || alone || self.is_overdue() {
            return None;
        }
        let full = self.budget.full_window();
        // Behind other windows, a small window waits until it is at least half full. Many small writes cost more than
        // they gain.
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
        let Window { questions, expected, smtputf8, last, alone } = window;
        let count = questions.len();
        self.budget.record_transaction();
        // The server accepts no further transaction, so QUIT ends this one (RFC 5321 4.1.1.10) and is its fence.
        let quit_ends = !last && self.budget.is_exhausted() && self.handle.takes_quit_behind();
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
            // Without PIPELINING the reply to MAIL is known here. After its refusal, RCPT is out of sequence.
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
            if !quit_ends {
                self.connection.queue(&Command::Rset)?;
            }
            // QUIT costs no round trip of its own (RFC 2920 3.1: QUIT may end a group).
            if last || quit_ends {
                self.connection.queue(&Command::Quit)?;
                self.quitting = true;
            }
        }
        Ok(())
    }

    /// Sends a fence in the same write as the last window where answers would otherwise be held back for long.
    ///
    /// This is so behind the first windows of a connection, behind a bisected batch, and where the server refuses RSET.
    fn fence_behind(&mut self) -> Result<(), SessionError> {
        let Some(window) = self.windows.back() else { return Ok(()) };
        let wanted = self.fence.is_fresh() || window.alone || self.handle.refuses_rset;
        // EHLO ends a group (RFC 2920 3.1); without PIPELINING it would cost a round trip.
        let may = self.connection.extensions().pipelining && self.connection.owed() > 0;
        let ready = !self.quitting && !self.greeting_owed && self.closing.is_none();
        // If the connection accepts no more questions, QUIT is its fence.
        if wanted && may && ready && !self.budget.is_exhausted() && self.fence.may_greet() {
            self.greet()?;
        }
        Ok(())
    }

    /// Sends a fence alone: EHLO while the connection stays open and greetings are left, QUIT otherwise.
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

    /// Reads the next reply, or several equal replies to recipients of one window. Returns whether a window ended.
    async fn next_reply(&mut self) -> Result<bool, SessionError> {
        let recipients = self.windows.front().filter(|window| window.mail.is_some());
        let most = recipients.map_or(1, |window| window.sent - window.answered);
        let (verb, reply, count) = self.connection.replies_alike(most).await?;
        if reply.is_closing() {
            // Replies behind it answer no question. Those questions are asked again on another connection.
            self.closing.get_or_insert_with(|| reply.excerpt());
            if verb == Verb::Quit {
                self.end_window();
            }
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
            // This applies behind a transaction only. Before one, the reply belongs to another command.
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

    /// Handles a reply to RSET whose text is not known to be a fence. Returns true: a window has ended.
    fn reset(&mut self, reply: &Reply) -> Result<bool, SessionError> {
        match reply.code() {
            // The server does not know RSET, so the transaction goes on. Answers of the windows behind it are void.
            500 | 502 => {
                self.reset_refused = true;
                self.handle.record_rset_refused();
                self.windows.iter_mut().skip(1).for_each(|window| window.void = true);
            }
            // RSET cannot fail for another reason (RFC 5321 4.1.1.5), so the reply belongs to another command.
            code if !reply.is_positive() || code == 221 => return Err(unsolicited(code)),
            code if is_of_several_lines(reply.as_bytes()) && self.connection.repeats_greeting(reply) => {
                return Err(unsolicited(code));
            }
            _ => self.fence.learn_reset(reply.as_bytes()),
        }
        self.end_window();
        if let Some(window) = self.held.last_mut() {
            self.handle.lane.lock().rate(self.handle.peer.mx_set, window);
        }
        Ok(true)
    }

    /// Handles the reply to a second greeting: it is a fence, or it shows that replies are out of step.
    fn greeted(&mut self, reply: &Reply) -> Result<bool, SessionError> {
        self.greeting_owed = false;
        let repeats = self.connection.repeats_greeting(reply);
        if !self.fence.judge_greeting(reply.code(), reply.as_bytes(), repeats) {
            self.handle.lane.lock().mx_sets[self.handle.peer.mx_set].record_greeting_failed();
            return Err(unsolicited(reply.code()));
        }
        self.prove();
        let void = self.held.iter_mut().filter(|window| window.void);
        let back = void.flat_map(|window| mem::take(&mut window.questions)).collect();
        self.held.retain(|window| !window.void);
        self.handle.take_back(back, false);
        // If a server refuses both RSET and a second greeting, only the end of the connection ends a transaction.
        self.reset_refused = false;
        self.stopped |= matches!(self.connection.state(), State::Mail | State::Rcpt);
        Ok(false)
    }

    /// Handles the reply to QUIT. Any code but 221 belongs to a command before it.
    fn quitted(&mut self, code: u16) -> Result<bool, SessionError> {
        if code != 221 {
            return Err(unsolicited(code));
        }
        // Where QUIT is sent in place of RSET, it ends the transaction.
        self.end_window();
        self.prove();
        Ok(false)
    }

    /// Marks all answers so far as proved: the replies are in step.
    fn prove(&mut self) {
        // Windows before the last proved one are proved already.
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
            // The sum is set to zero exactly, so that rounding errors do not add up.
            self.expected = ExpectedRejections::default();
        }
    }

    /// Commits the proved answers to the lane.
    fn commit(&mut self) {
        let proven = self.held.iter().take_while(|window| window.is_proven()).count();
        let effect = self.handle.settle(self.held.drain(..proven));
        self.stopped |= effect.stop;
        if let Some(most) = effect.recipients {
            self.budget.limit_recipients(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        client::Endpoint,
        verify::{
            Event,
            lane::{
                state::Lane,
                testing::{events, item, lane_with},
                watchdog::Watchdog,
            },
            run_state::RetryOwner,
        },
    };

    const EXTENSIONS: &str = "250-mx1\r\n250 PIPELINING";

    /// Starts a server that answers each command as `answer` says, or 250. It returns the exchanger.
    async fn server(mut answer: impl FnMut(&str) -> Option<&'static str> + Send + 'static) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = vec![listener.local_addr().unwrap()];
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"220 mx1 ESMTP\r\n").await.unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                let usual = match &line[..4] {
                    "EHLO" => EXTENSIONS,
                    "QUIT" => "221 2.0.0 Bye",
                    _ => "250 2.0.0 Ok",
                };
                let reply = format!("{}\r\n", answer(&line).unwrap_or(usual));
                if write.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Endpoint { host: "mx1".into(), addrs }
    }

    /// Asks a server about two addresses over one connection. Returns the lane, the end, and the status codes of the
    /// records.
    async fn run(exchanger: Endpoint) -> (Arc<Lane>, PipelineEnd, Vec<(String, Option<u16>)>) {
        let (lane, mut event_batches) = lane_with(RetryOwner::Caller, |config| config.catch_all = false);
        let mx_set = lane.lock().add(vec![exchanger.clone()]);
        let items = ["ann@example.com", "bob@example.com"].map(item);
        lane.lock().take_in(mx_set, items.into_iter());
        let mut connection = lane.context.connect(&exchanger, Duration::from_secs(30)).await.unwrap();
        let watchdog = Watchdog::without_connection(Arc::clone(&lane), mx_set);
        let mut handle = LaneHandle::join(Arc::clone(&lane), mx_set, &connection, watchdog).unwrap();
        let (mut budget, mut fence) = (Budget::new(&lane.limits, None, None), Fence::new(true));
        let from = &lane.context.config.from;
        let end = Pipeline::new(&mut connection, &mut budget, &mut fence, from, &mut handle).run().await;
        let records = events(&mut event_batches).into_iter().map(|event| match event {
            Event::Done { record, .. } => (record.address, record.smtp_code),
            other => panic!("{other:?}"),
        });
        let records = records.collect();
        (lane, end, records)
    }

    fn asked_again(bisection: Bisection) -> Vec<String> {
        bisection.into_questions().iter().map(|question| question.mailbox().to_string()).collect()
    }

    #[tokio::test]
    async fn each_reply_goes_to_its_question() {
        let refusal = |line: &str| line.contains("bob@").then_some("550 5.1.1 User unknown");
        let (_lane, end, records) = run(server(refusal).await).await;
        assert!(matches!(end, PipelineEnd::Idle), "{end:?}");
        let wanted = [("ann@example.com".into(), Some(250)), ("bob@example.com".into(), Some(550))];
        assert_eq!(records, wanted);
    }

    #[tokio::test]
    async fn a_reply_that_names_another_recipient_voids_every_answer_in_flight() {
        let swapped = |line: &str| match line {
            line if line.contains("ann@") => Some("550 5.1.1 <bob@example.com>: User unknown"),
            line if line.contains("bob@") => Some("550 5.1.1 <ann@example.com>: User unknown"),
            _ => None,
        };
        let (_lane, end, records) = run(server(swapped).await).await;
        let PipelineEnd::Broken(SessionError::Dialogue(_), bisection) = end else { panic!("{end:?}") };
        assert!(matches!(&bisection, Bisection::Halves(_)), "any of them may be the cause");
        assert_eq!(asked_again(bisection), ["ann@example.com", "bob@example.com"]);
        assert_eq!(records, []);
    }

    #[tokio::test]
    async fn a_close_drops_unproved_answers_and_suspects_the_next_question() {
        let closes = |line: &str| line.contains("bob@").then_some("421 4.3.2 Shutting down");
        let (lane, end, records) = run(server(closes).await).await;
        let PipelineEnd::Closed(reply, bisection) = end else { panic!("{end:?}") };
        assert_eq!(reply.code(), 421);
        let Bisection::Around([before, next, behind]) = &bisection else { panic!("{bisection:?}") };
        assert_eq!([before.len(), next.len(), behind.len()], [1, 1, 0]);
        assert_eq!(asked_again(bisection), ["ann@example.com", "bob@example.com"]);
        assert_eq!((records, lane.lock().waiting), (vec![], 0));
    }

    #[tokio::test]
    async fn a_refusal_of_rset_is_recorded_and_a_greeting_proves_the_answers() {
        let refusal = |line: &str| (line == "RSET").then_some("502 5.5.1 Command not implemented");
        let (lane, _end, records) = run(server(refusal).await).await;
        assert!(lane.lock().mx_sets[0].refuses_rset());
        assert_eq!(records.len(), 2);
    }

    #[tokio::test]
    async fn a_greeting_that_does_not_repeat_the_first_is_no_fence() {
        let mut greetings = 0;
        let other = move |line: &str| {
            greetings += u32::from(line.starts_with("EHLO"));
            (greetings > 1 && line.starts_with("EHLO")).then_some("550 5.5.1 No second greeting")
        };
        let (lane, end, records) = run(server(other).await).await;
        assert!(matches!(end, PipelineEnd::Broken(SessionError::Dialogue(_), _)), "{end:?}");
        assert!(!lane.lock().mx_sets[0].proves_by_greeting());
        assert_eq!(records, []);
    }
}
