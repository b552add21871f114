//! A session: one dialogue over one stream of any kind.
//!
//! All other calls are made of three. [`queue`](Session::queue) encodes a command into the buffer.
//! [`flush`](Session::flush) writes the buffer in one piece. [`reply`](Session::reply) returns the next reply in order, and
//! the command that it answers. Commands may be queued and flushed ahead of replies as far
//! as the dialogue allows, so that many windows can be in flight.
//!
//! Writing never waits for a peer that itself waits for us to read: while a write is pending, replies are read.

mod idle_check;
mod message;
mod round_trip;
mod session_end;
pub(super) mod stop_and_wait;
mod timing;
mod transaction;
mod usage;

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};

use self::{
    round_trip::{CommandGroup, RoundTrip},
    session_end::{Break, SessionEnd},
    usage::SessionUsage,
};
use super::{SessionError, Timeouts, latencies::LatencyRecorder, log::Log};
use crate::{
    metrics::ServerMetrics,
    proto::{
        Command, Decoder, Dialogue, Extensions, MailParams, Mailbox, RcptParams, Reply, ReplyHead,
        ReversePath, State, Verb, encode_mail, encode_rcpt,
    },
};

/// The most octets of commands whose replies have not been read, 32 KiB: four windows of 100 recipients whose addresses
/// have 68 octets. Less costs time on a long line; more makes no server faster, and asks more of its buffers.
pub const MAX_IN_FLIGHT: usize = 32 * 1024;
/// Replies read ahead while a write is pending; beyond, the peer has to wait.
const MAX_READ_AHEAD: usize = 256 * 1024;
/// How much room there is for one read.
const READ_SIZE: usize = 8 * 1024;

/// An SMTP dialogue over `S`.
///
/// Cancellation: every method may be dropped at any await. What was queued, sent and received so far is kept, replies
/// stay owed, and [`is_idle`](Self::is_idle) is false until they have been read.
pub struct Session<S> {
    stream: S,
    out: BytesMut,
    /// The stream has taken octets that it may still hold: TLS does until it is flushed.
    unflushed: bool,
    decoder: Decoder,
    dialogue: Dialogue,
    extensions: Extensions,
    /// The last greeting that was accepted, and the hash of its reply, which is too long to be kept.
    greeting: Option<(Verb, u64)>,
    usage: SessionUsage,
    timeouts: Timeouts,
    latencies: LatencyRecorder,
    log: Log,
    groups: VecDeque<CommandGroup>,
    in_flight: usize,
    round_trip: RoundTrip,
    /// The last reply owed, while the session listens for one too many.
    framed: Option<ReplyHead>,
    /// Since when the reply that is due has been waited for.
    waiting: Option<Instant>,
    read_at: Instant,
    ended: Option<SessionEnd>,
    /// The last read left no room, so that the stream may hold more than was asked of it.
    filled: bool,
    /// Why writing failed; what the peer had said by then may still be there to be read.
    unwritable: Option<Break>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session over a stream just opened; the banner is owed.
    pub fn new(stream: S, timeouts: Timeouts, metrics: Arc<ServerMetrics>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            out: BytesMut::new(),
            unflushed: false,
            decoder: Decoder::new(),
            dialogue: Dialogue::new(),
            extensions: Extensions::default(),
            greeting: None,
            usage: SessionUsage::default(),
            timeouts: timeouts.bounded(),
            latencies: LatencyRecorder::new(metrics),
            log: Log::new(),
            groups: VecDeque::from([CommandGroup::new(now, 1, 0)]),
            in_flight: 0,
            round_trip: RoundTrip::default(),
            framed: None,
            waiting: None,
            read_at: now,
            ended: None,
            filled: false,
            unwritable: None,
        }
    }

    /// Queues a command.
    ///
    /// # Errors
    /// The command is out of sequence, or may not be sent before an earlier reply is read; nothing has happened then.
    /// Or an answer is there that nobody asked for, which would be taken for the answer to this command: that is final.
    pub fn queue(&mut self, command: &Command) -> Result<(), SessionError> {
        self.queue_with(command.verb(), |out| command.encode(out))?;
        if let Command::Rcpt { to, .. } = command {
            self.usage.record_domain(to.domain(), &self.extensions.limits);
        }
        Ok(())
    }

    /// Queues MAIL, without building a [`Command`].
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub fn queue_mail(&mut self, from: &ReversePath, params: &MailParams) -> Result<(), SessionError> {
        self.queue_with(Verb::Mail, |out| encode_mail(from, params, out))
    }

    /// Queues RCPT, without building a [`Command`].
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub fn queue_rcpt<T: AsRef<str>>(
        &mut self,
        to: &Mailbox<T>,
        params: &RcptParams,
    ) -> Result<(), SessionError> {
        self.queue_with(Verb::Rcpt, |out| encode_rcpt(to, params, out))?;
        self.usage.record_domain(to.domain(), &self.extensions.limits);
        Ok(())
    }

    fn queue_with(&mut self, verb: Verb, encode: impl FnOnce(&mut BytesMut)) -> Result<(), SessionError> {
        let owed = self.dialogue.owed();
        if owed == 0 && self.is_answered() {
            return Err(self.unsolicited());
        }
        self.dialogue.send(verb)?;
        if verb == Verb::Mail {
            self.usage.record_mail();
        }
        let replies = self.dialogue.owed() - owed;
        let before = self.out.len();
        encode(&mut self.out);
        let octets = self.out.len() - before;
        self.log.queued(verb, &self.out[before..]);
        self.in_flight += octets;
        match self.groups.back_mut() {
            // Not flushed yet: the same flight.
            Some(group) if before > 0 => {
                group.replies += replies;
                group.octets += octets;
            }
            _ => self.groups.push_back(CommandGroup::new(self.read_at, replies, octets)),
        }
        Ok(())
    }

    /// Returns whether another command of a group may be queued without waiting for a reply. That is so if nothing is owed,
    /// or if the server offers PIPELINING and fewer than [`MAX_IN_FLIGHT`] octets are unanswered.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.dialogue.owed() == 0 || (self.extensions.pipelining && self.in_flight < MAX_IN_FLIGHT)
    }

    /// Writes what is queued, in one piece.
    ///
    /// A write that fails is reported with the first reply that is missing: those before it may tell why.
    ///
    /// # Errors
    /// [`SessionError::Timeout`] after the deadline of the command whose reply is due.
    pub async fn flush(&mut self) -> Result<(), SessionError> {
        let verb = self.dialogue.due().unwrap_or(Verb::Noop);
        self.write(verb).await.map_err(|error| self.fail(verb, error))
    }

    /// Writes what is queued, while the reply to `verb` is due.
    async fn write(&mut self, verb: Verb) -> Result<(), SessionError> {
        if self.out.is_empty() && !self.unflushed {
            return Ok(());
        }
        let now = Instant::now();
        if let Some(group) = self.groups.back_mut() {
            group.sent = now;
            group.is_timed = group.octets == self.out.len();
        }
        let written = timeout_at(now + self.timeouts.of(verb), poll_fn(|cx| self.poll_flush(cx))).await;
        written.map_err(|_| SessionError::Timeout { verb })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_open() && (self.unflushed || !self.out.is_empty()) {
            let stream = pin!(&mut self.stream);
            let step = match self.out.is_empty() {
                true => stream.poll_flush(cx).map_ok(|()| 0),
                false => stream.poll_write(cx, &self.out),
            };
            match step {
                Poll::Ready(Ok(0)) if self.out.is_empty() => self.unflushed = false,
                Poll::Ready(Ok(0)) => self.unwritable = Some(Break::Io(io::ErrorKind::WriteZero)),
                Poll::Ready(Ok(n)) => {
                    self.out.advance(n);
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => self.unwritable = Some(Break::of(&e)),
                Poll::Pending if self.decoder.buffered() >= MAX_READ_AHEAD => return Poll::Pending,
                Poll::Pending => {
                    let buf = self.decoder.buffer();
                    buf.reserve(READ_SIZE);
                    match pin!(self.stream.read_buf(buf)).poll(cx) {
                        Poll::Ready(read) => self.record_read(read),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
        self.out.clear();
        self.unflushed = false;
        Poll::Ready(())
    }

    fn record_read(&mut self, read: io::Result<usize>) {
        match read {
            Ok(0) => self.ended = Some(SessionEnd::Eof),
            // TLS without close_notify, as many servers end it. A cut reply is still incomplete.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.ended = Some(SessionEnd::Eof),
            Ok(_) => {
                self.read_at = Instant::now();
                self.filled = self.decoder.buffer().spare_capacity_mut().is_empty();
            }
            Err(e) => self.ended = Some(SessionEnd::Error(Break::of(&e))),
        }
    }

    /// The next reply, and what it answers; flushes before it waits for one.
    ///
    /// The deadline is that of the command ([`Timeouts`]) and covers the whole reply, however it drips in.
    ///
    /// A reply that comes in less than half of the smallest round trip of the connection is suspect. It can hardly
    /// answer what was just sent. Then the last reply owed is returned only after a wait in which nothing more comes. The wait is as
    /// long as the slowest answer took, at most 1 s.
    ///
    /// # Errors
    /// Nothing is owed, the deadline passed, the peer closed, what came is not a reply, or it answers nothing that was
    /// asked. All but the first are final: the session is of no further use.
    pub async fn reply(&mut self) -> Result<(Verb, Reply), SessionError> {
        let (verb, head) = self.next_reply().await?;
        Ok((verb, self.decoder.keep(head)))
    }

    /// Returns the next reply as [`reply`](Self::reply) does, but lends it: it stays in the buffer until the next call. That
    /// saves the reference counts of a reply that is kept.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub async fn reply_ref(&mut self) -> Result<(Verb, Reply<&[u8]>), SessionError> {
        let (verb, head) = self.next_reply().await?;
        Ok((verb, self.decoder.lend(head)))
    }

    /// Returns the next reply as [`reply_ref`](Self::reply_ref) does, and how many replies are the same, at least 1 and at
    /// most `most`. These have arrived behind it with the same octets, and answer the same verb in commands that were flushed
    /// together. Only the first is waited for.
    ///
    /// A server that is asked about a hundred recipients says the same to most, and this looks at it once. Which replies
    /// are taken for one depends on how they happened to arrive.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    ///
    /// ```
    /// # use smtp_pool::{client::{Session, SessionError, Timeouts}, metrics::Metrics, proto::*};
    /// # use tokio::io::AsyncWriteExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (client, mut server) = tokio::io::duplex(1024);
    /// # let mut session = Session::new(client, Timeouts::default(), Metrics::new().server("mx.example.com"));
    /// # server.write_all(b"220 mx\r\n").await?;
    /// # session.banner().await?;
    /// # let ehlo = Command::Ehlo(ClientName::parse("client.example.org")?);
    /// # let greeted = tokio::join!(session.greet(&ehlo), server.write_all(b"250-mx\r\n250 PIPELINING\r\n"));
    /// # greeted.0?;
    /// session.queue_mail(&ReversePath::Null, &MailParams::default())?;
    /// for address in ["ann@example.com", "bob@example.com", "cem@example.com"] {
    ///     session.queue_rcpt(&Mailbox::parse(address)?, &RcptParams::default())?;
    /// }
    /// session.flush().await?;
    /// # server.write_all(b"250 ok\r\n250 ok\r\n250 ok\r\n550 no\r\n").await?;
    /// session.reply().await?; // to MAIL
    /// let (verb, reply, count) = session.replies_alike(usize::MAX).await?;
    /// assert_eq!((verb, reply.code(), count), (Verb::Rcpt, 250, 2)); // Ann and Bob
    /// let (verb, reply, count) = session.replies_alike(usize::MAX).await?;
    /// assert_eq!((verb, reply.code(), count), (Verb::Rcpt, 550, 1)); // Cem
    /// # Ok(()) }
    /// ```
    pub async fn replies_alike(&mut self, most: usize) -> Result<(Verb, Reply<&[u8]>, usize), SessionError> {
        // Those to commands of another flight may have come before it was sent.
        let mut most = self.groups.front().map_or(1, |group| group.replies.min(most));
        let (verb, head) = self.next_reply().await?;
        if self.round_trip.suspicion().is_some() {
            most = 1;
        }
        let mut count = 1;
        while count < most && self.dialogue.due() == Some(verb) && self.decoder.repeats(count) {
            self.dialogue.receive(&self.decoder.framed(head))?;
            count += 1;
        }
        if count > 1 {
            self.record_replies(verb, head, count - 1);
        }
        Ok((verb, self.decoder.lend_first(head, count), count))
    }

    /// Returns whether the next reply has probably arrived. That is so if a line is in the buffer, which may be the first of
    /// several, or if the last read filled the buffer.
    ///
    /// It costs no system call. A caller with more commands does best to wait until nothing is at hand. Then the commands go
    /// out in one piece, after all replies that came together.
    #[must_use]
    pub fn is_at_hand(&self) -> bool {
        self.decoder.has_line() || self.filled
    }

    /// Waits for the next reply, and leaves it in the buffer.
    #[inline]
    async fn next_reply(&mut self) -> Result<(Verb, ReplyHead), SessionError> {
        let verb = self.dialogue.due().ok_or(SessionError::NothingOwed)?;
        match self.read_reply(verb).await {
            Ok(head) => Ok((verb, head)),
            Err(error) => Err(self.fail(verb, error)),
        }
    }

    async fn read_reply(&mut self, verb: Verb) -> Result<ReplyHead, SessionError> {
        if self.groups.len() == 1 && !self.out.is_empty() {
            // Of the flight that is due nothing is sent yet, so that nothing which is there can answer it.
            let unsent = self.groups.front().is_some_and(|group| group.octets == self.out.len());
            if unsent && self.is_answered() {
                return Err(self.unsolicited());
            }
            self.write(verb).await?;
        }
        loop {
            let framed = match self.framed {
                None => self.decoder.frame()?,
                framed => framed,
            };
            if let Some(head) = framed {
                if self.groups.front().is_some_and(|group| group.is_timed) {
                    self.time_first(head)?;
                }
                if let Some(most) = self.round_trip.suspicion()
                    && self.dialogue.owed() == 1
                {
                    self.framed = Some(head);
                    self.listen_for_surplus(most).await?;
                }
                self.framed = None;
                self.waiting = None;
                self.dialogue.receive(&self.decoder.framed(head))?;
                self.record_replies(verb, head, 1);
                return Ok(head);
            }
            // Not before all replies at hand are taken: what is queued meanwhile goes out in one write.
            self.write(verb).await?;
            if self.ended.is_some() {
                return Err(self.end(verb));
            }
            let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.timeouts.of(verb);
            let buf = self.decoder.buffer();
            buf.reserve(READ_SIZE);
            let read = timeout_at(deadline, self.stream.read_buf(buf)).await;
            self.record_read(read.map_err(|_| SessionError::Timeout { verb })?);
        }
    }

    /// Records a failure, and ends the session: a late reply must not be taken for the answer to another command.
    fn fail(&mut self, verb: Verb, error: SessionError) -> SessionError {
        self.latencies.failed(verb, &error);
        self.log.failed(verb, &error);
        self.ended.get_or_insert(SessionEnd::Eof);
        error
    }

    /// Returns a session over a stream that is now inside TLS. It owes no banner, and forgets all that was learnt before.
    pub fn secured(stream: S, timeouts: Timeouts, metrics: Arc<ServerMetrics>) -> Self {
        let mut session = Self::new(stream, timeouts, metrics);
        session.groups.clear();
        session.dialogue.secured();
        session
    }
}

impl<S> Session<S> {
    /// Returns what the server offers, by its reply to the last greeting.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the state of the dialogue.
    #[must_use]
    pub fn state(&self) -> State {
        self.dialogue.state()
    }

    /// Returns the number of replies that the server owes.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.dialogue.owed()
    }

    /// Returns whether the session is between transactions, with nothing owed, nothing unread and nothing unsent. Only
    /// then may it be used for something else.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.dialogue.is_idle()
            && self.decoder.buffered() == 0
            && self.out.is_empty()
            && !self.unflushed
            && !self.filled
            && self.is_open()
    }

    /// Frees the buffers of a session that will not be used for a while.
    #[inline]
    pub fn release_buffers(&mut self) {
        self.decoder.shrink();
        self.dialogue.shrink();
        if self.groups.capacity() > 0 {
            self.groups.shrink_to_fit();
        }
        if self.out.is_empty() && self.out.capacity() > 0 {
            self.out = BytesMut::new();
        }
    }

    pub(super) fn set_log(&mut self, log: Log) {
        self.log = log;
    }

    fn is_open(&self) -> bool {
        self.ended.is_none() && self.unwritable.is_none()
    }

    /// Returns when octets last came from the server.
    #[must_use]
    pub fn last_read(&self) -> Instant {
        self.read_at
    }

    /// Returns the number of octets that were read and not taken.
    pub(super) fn unread(&self) -> usize {
        self.decoder.buffered()
    }

    /// Returns the stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

/// Counts, and no octets: what is unsent may hold a secret.
impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("dialogue", &self.dialogue)
            .field("unsent", &self.out.len())
            .field("unread", &self.decoder.buffered())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
