//! A session against any actions of a user and a server, compared with a second account of what answers what.

use std::{
    cell::RefCell,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use arbitrary::Arbitrary;
use tokio::{
    task::unconstrained,
    time::{Instant, sleep, timeout},
};

use super::wire::{End, Fault, Mood, Offer, Wire, metrics, paused};
use crate::{
    client::{Session, SessionError, Timeouts},
    metrics::ServerMetrics,
    proto::{
        ClientName, Command, DialogueError, MailParams, Mailbox, Mechanism, RcptParams, Reply, ReversePath,
        SaslResponse, State, Verb, properties::decode_all,
    },
};

/// What happens next: the first half is what a server does, the other what a user of the session does.
#[derive(Arbitrary, Clone, Debug)]
pub enum Step {
    /// The server answers like this from now on.
    Mood(Mood),
    /// Something goes wrong with the next answer.
    Fault(Fault),
    /// It says something unasked, or part of a reply, or anything else.
    Say(Vec<u8>),
    /// It closes the connection, or (`false`) breaks it.
    End(bool),
    /// It gives and takes a few octets at a time, or all at once again.
    Slow(bool),
    /// It takes nothing, or all again.
    Deaf(bool),
    /// So many milliseconds pass.
    Wait(u8),
    /// A command is queued.
    Queue(Call),
    /// A call is made and waited for.
    Run(Call),
    /// A call is made, polled so many times, and dropped.
    Cancel(Call, u8),
    /// A look at the session without waiting.
    CheckQuiet,
    /// The stream is taken for TLS, and a new session begins over it.
    Secure,
}

/// A call of a session.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Call {
    Reply,
    Alike(u8),
    Flush,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    Auth,
    AuthResponse,
    Envelope(u8),
    Verify,
    Mail,
    Rcpt,
    Data,
    Message,
    Chunk { last: bool },
    Rset,
    Noop,
    Quit,
}

const LIMIT: Duration = Duration::from_secs(30);

/// Checks a session against any steps, with calls dropped at any await. No call panics or hangs. No reply is taken for the
/// answer to another command. A session that is out of step with its server is not idle.
pub fn session_ops(offer: Offer, steps: &[Step]) {
    paused(async {
        let wire = Rc::new(RefCell::new(Wire::default()));
        wire.borrow_mut().offer = offer;
        let session = session(&wire, Session::new);
        let mut trial = Trial { session, wire, banner: true, dead: false, honest: true };
        trial.wire.borrow_mut().say(b"220 #banner\r\n");
        for step in steps {
            trial.step(step).await;
            trial.check_idle(step);
        }
    });
}

fn session(
    wire: &Rc<RefCell<Wire>>,
    make: fn(End, Timeouts, Arc<ServerMetrics>) -> Session<End>,
) -> Session<End> {
    let mut session = make(End(Rc::clone(wire)), Timeouts::all(LIMIT), metrics());
    session.set_connect_time(Duration::from_millis(wire.borrow().offer.connect.into()));
    session
}

struct Trial {
    session: Session<End>,
    wire: Rc<RefCell<Wire>>,
    /// Whether a banner is owed at first.
    banner: bool,
    /// Something final has happened.
    dead: bool,
    /// The server has said what it was asked for, in time or not, and nothing else.
    honest: bool,
}

impl Trial {
    async fn step(&mut self, step: &Step) {
        self.honest &= match step {
            Step::Mood(mood) => !matches!(mood, Mood::Says(_)),
            Step::Fault(fault) => matches!(fault, Fault::Split(_)),
            Step::Say(_) | Step::End(_) => false,
            // It answers a message once, for any recipients that were accepted.
            Step::Queue(Call::Lhlo) | Step::Run(Call::Lhlo) | Step::Cancel(Call::Lhlo, _) => false,
            _ => true,
        };
        match step {
            Step::Mood(mood) => self.wire.borrow_mut().mood = *mood,
            Step::Fault(fault) => self.wire.borrow_mut().fault = Some(*fault),
            Step::Wait(ms) => sleep(Duration::from_millis((*ms).into())).await,
            Step::Say(octets) => self.wire.borrow_mut().say(octets),
            Step::End(cleanly) => self.wire.borrow_mut().ended = Some(*cleanly),
            Step::Slow(slow) => self.wire.borrow_mut().slow = *slow,
            Step::Deaf(deaf) => self.wire.borrow_mut().deaf = *deaf,
            Step::Queue(call) => self.queue(*call),
            Step::Run(call) => self.run(*call).await,
            Step::Cancel(call, polls) => {
                // Polled in a row, without going back to the runtime, which would take this for greed.
                let done = {
                    let mut future = pin!(unconstrained(perform(&mut self.session, *call)));
                    let mut cx = Context::from_waker(Waker::noop());
                    (0..*polls).find_map(|_| match future.as_mut().poll(&mut cx) {
                        Poll::Ready(done) => Some(done),
                        Poll::Pending => None,
                    })
                };
                if let Some(Err(error)) = done {
                    self.failed(&error);
                }
            }
            Step::CheckQuiet => {
                let idle = self.session.is_idle();
                let quiet = self.session.check_quiet();
                match &quiet {
                    Err(error) if idle => self.failed(error),
                    // Replies that are owed may be there.
                    quiet => self.dead |= quiet.is_err(),
                }
                let wire = self.wire.borrow();
                let unread = wire.read < wire.said.len() && !wire.slow;
                assert!(!(idle && quiet.is_ok() && unread), "quiet, with {:?} to be read", wire.said);
            }
            Step::Secure if self.session.state() == State::Tls => self.secure(),
            Step::Secure => {}
        }
    }

    fn queue(&mut self, call: Call) {
        let before = (self.session.owed(), self.session.is_idle());
        let session = &mut self.session;
        let queued = match call {
            Call::Mail => session.queue_mail(&ReversePath::Null, &MailParams::default()),
            Call::Rcpt => session.queue_rcpt(&mailbox(), &RcptParams::default()),
            Call::Chunk { last } => session.queue_chunk(b"text\r\n", last),
            _ => match command(call) {
                Some(command) => session.queue(&command),
                None => return,
            },
        };
        match queued {
            Ok(()) => assert!(session.owed() > before.0 && !session.is_idle()),
            Err(error) => {
                assert_eq!((session.owed(), session.is_idle()), before, "{error}");
                self.failed(&error);
            }
        }
    }

    async fn run(&mut self, call: Call) {
        let (started, owed) = (Instant::now(), self.session.owed());
        let most = LIMIT * u32::try_from(2 * owed + 20).unwrap_or(u32::MAX);
        let done = timeout(most, perform(&mut self.session, call)).await;
        let done = done.unwrap_or_else(|_| panic!("{call:?} took {:?}", started.elapsed()));
        match done {
            Ok(replies) if call == Call::Verify => self.check_verdict(&replies),
            Ok(replies) if !self.dead => self.check_pairs(&replies),
            Ok(_) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// A server that does nothing wrong is not taken for one that does, however near it seemed and however slow it is.
    fn failed(&mut self, error: &SessionError) {
        let accuses = match error {
            SessionError::Dialogue(error) => matches!(error, DialogueError::Unsolicited(_)),
            SessionError::Decode(_) | SessionError::Ambiguous { .. } | SessionError::Injected => true,
            _ => false,
        };
        assert!(!accuses || !self.honest || self.dead, "{error:?}: to {:?}", self.wire.borrow().heard);
        self.dead |= is_final(error);
    }

    fn secure(&mut self) {
        let fresh = session(&self.wire, Session::secured);
        let before = std::mem::replace(&mut self.session, fresh);
        let taken = before.into_stream();
        let mut wire = self.wire.borrow_mut();
        let clean = decode_all([&wire.said[..wire.read]]).1 == Some(0);
        assert!(taken.is_err() || clean || self.dead, "injected octets would pass for secured ones");
        if taken.is_err() {
            wire.ended = Some(false);
        }
        // The record starts again with what has not been read.
        let read = wire.read;
        let unread = wire.said.split_off(read);
        (wire.said, wire.read) = (unread, 0);
        wire.heard.clear();
        (self.banner, self.dead) = (false, taken.is_err());
    }

    /// Returns what answers what by the record of the wire, and how many replies are owed in all.
    fn pairs(&self) -> (Vec<(Verb, Reply)>, usize) {
        let wire = self.wire.borrow();
        let mut replies = decode_all([&wire.said[..]]).0.into_iter().map_while(Result::ok);
        let (mut pairs, mut owed) = (Vec::new(), 0);
        let (mut lmtp, mut accepted) = (false, 0);
        for verb in self.banner.then_some(Verb::Connect).into_iter().chain(wire.heard.iter().copied()) {
            // RFC 2033 4.2
            let each = lmtp && matches!(verb, Verb::Message | Verb::BdatLast);
            let times = if each { usize::max(accepted, 1) } else { 1 };
            owed += times;
            for reply in replies.by_ref().take(times) {
                match (verb, reply.is_positive()) {
                    (Verb::Rcpt, true) => accepted += 1,
                    (Verb::Ehlo | Verb::Helo | Verb::Lhlo, true) => {
                        (lmtp, accepted) = (verb == Verb::Lhlo, 0)
                    }
                    (Verb::Mail | Verb::Rset, true) => accepted = 0,
                    _ => {}
                }
                pairs.push((verb, reply));
            }
            if matches!(verb, Verb::Message | Verb::BdatLast) {
                accepted = 0;
            }
        }
        (pairs, owed)
    }

    /// The replies that a call gave are the last of those that have been read, and answer what they are said to answer.
    fn check_pairs(&self, replies: &[(Verb, Reply)]) {
        // What a broken connection did not take is not in the record.
        if replies.is_empty() || self.wire.borrow().ended.is_some() {
            return;
        }
        let (pairs, _) = self.pairs();
        // Not by what is owed: some of that may not be sent yet.
        let wire = self.wire.borrow();
        let read = decode_all([&wire.said[..wire.read - self.session.unread()]]).0.len();
        assert_eq!(&pairs[read - replies.len()..read], replies, "of {pairs:?}");
    }

    /// The verdict is the answer to the last command of its kind, if the server answers nothing but what it was asked.
    fn check_verdict(&self, replies: &[(Verb, Reply)]) {
        let wire = self.wire.borrow();
        for (verb, reply) in replies.iter().filter(|_| self.honest && !self.dead) {
            let last = wire.heard.iter().rposition(|heard| heard == verb).map(|at| format!("#{}", at + 1));
            assert_eq!(Some(&*reply.text()), last.as_deref(), "the answer to {verb} of {:?}", wire.heard);
        }
    }

    /// A session is idle only if its server said what was asked for and no more, as far as it was read.
    fn check_idle(&self, step: &Step) {
        if !self.session.is_idle() {
            return;
        }
        assert!(!self.dead, "idle after {step:?}, and a final error before");
        assert_eq!((self.session.state(), self.session.owed()), (State::Ready, 0));
        let (_, owed) = self.pairs();
        let wire = self.wire.borrow();
        let (read, rest) = decode_all([&wire.said[..wire.read]]);
        assert_eq!((read.len(), rest), (owed, Some(0)), "after {step:?}: {read:?} to {:?}", wire.heard);
        assert!(read.iter().all(Result::is_ok), "{read:?}");
    }
}

fn is_final(error: &SessionError) -> bool {
    let refused = |error: &DialogueError| !matches!(error, DialogueError::Unsolicited(_));
    !matches!(
        error,
        SessionError::NothingOwed | SessionError::Ambiguous { .. } | SessionError::NotOffered { .. }
    ) && !matches!(error, SessionError::Dialogue(error) if refused(error))
}

/// Makes the call, and gives the replies that it gives.
async fn perform(session: &mut Session<End>, call: Call) -> Result<Vec<(Verb, Reply)>, SessionError> {
    let one = |verb| move |reply| vec![(verb, reply)];
    match call {
        Call::Reply => session.reply().await.map(|pair| vec![pair]),
        Call::Alike(most) => {
            let (verb, reply, count) = session.replies_alike(usize::from(most)).await?;
            Ok(vec![(verb, reply.detach()); count])
        }
        Call::Flush => session.flush().await.map(|()| vec![]),
        Call::Envelope(rcpts) => {
            let rcpts = vec![mailbox(); usize::from(rcpts % 8)];
            let done = session.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).await?;
            let rcpts = done.rcpts.into_iter().map(|reply| (Verb::Rcpt, reply));
            Ok([(Verb::Mail, done.mail)].into_iter().chain(rcpts).collect())
        }
        Call::Verify => session
            .verify_email(&ReversePath::Null, &mailbox())
            .await
            .map(|said| vec![(said.verb, said.reply)]),
        Call::Data => {
            let reply = session.data(b"text").await?;
            // Whether the message was sent is in the record, and may not be told from the code.
            let sent = session.stream().0.borrow().heard.last() == Some(&Verb::Message);
            Ok(one(if sent { Verb::Message } else { Verb::Data })(reply))
        }
        Call::Message => session.message(b"text").await.map(one(Verb::Message)),
        Call::AuthResponse => session.auth_response(&response()).await.map(one(Verb::AuthResponse)),
        Call::Quit => session.quit().await.map(one(Verb::Quit)),
        Call::Chunk { last } => {
            session.queue_chunk(b"text\r\n", last)?;
            session.reply().await.map(|pair| vec![pair])
        }
        _ => {
            let Some(command) = command(call) else { return Ok(vec![]) };
            let greeting = matches!(call, Call::Ehlo | Call::Helo | Call::Lhlo);
            let reply =
                if greeting { session.greet(&command).await } else { session.command(&command).await };
            reply.map(one(command.verb()))
        }
    }
}

/// The command, where the call is one.
fn command(call: Call) -> Option<Command> {
    let name = || ClientName::parse("client.example.org").expect("a name");
    Some(match call {
        Call::Ehlo => Command::Ehlo(name()),
        Call::Helo => Command::Helo(name()),
        Call::Lhlo => Command::Lhlo(name()),
        Call::StartTls => Command::StartTls,
        Call::Auth => Command::Auth {
            mechanism: Mechanism::new("PLAIN").expect("a mechanism"),
            initial: Some(response()),
        },
        Call::Mail => Command::Mail { from: ReversePath::Null, params: MailParams::default() },
        Call::Rcpt => Command::Rcpt { to: mailbox(), params: RcptParams::default() },
        Call::Data => Command::Data,
        Call::Rset => Command::Rset,
        Call::Noop => Command::Noop,
        Call::Quit => Command::Quit,
        Call::Reply
        | Call::Alike(_)
        | Call::Flush
        | Call::AuthResponse
        | Call::Envelope(_)
        | Call::Verify
        | Call::Message
        | Call::Chunk { .. } => return None,
    })
}

fn mailbox() -> Mailbox {
    Mailbox::parse("user@example.com").expect("a mailbox")
}

fn response() -> SaslResponse {
    SaslResponse::new(b"secret").expect("short enough")
}
