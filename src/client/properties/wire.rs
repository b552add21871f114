//! A server in memory without a task of its own, which keeps a record of all that went over the wire.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use arbitrary::Arbitrary;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    metrics::{Metrics, ServerMetrics},
    proto::Verb,
};

/// How the server answers the next commands.
#[derive(Arbitrary, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As one hopes.
    #[default]
    Obliging,
    /// With this code for every command; taken modulo the codes that there are.
    Says(u16),
    /// Not at all.
    Mute,
}

/// What goes wrong with the next reply.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It comes twice, the second time so many milliseconds later, and holds up no other.
    Twice(u8),
    /// It comes behind the next one.
    Swap,
    /// It does not come.
    Skip,
    /// It comes in two pieces, so many milliseconds apart; the others wait for it. Nothing is wrong with that.
    Split(u8),
    /// Its lines carry different codes.
    Mixed,
}

/// What EHLO is answered with, and how far away the server is.
#[derive(Arbitrary, Clone, Copy, Debug, Default)]
pub struct Offer {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// How long each reply takes, in milliseconds.
    pub round_trip: u8,
    /// How long the TCP handshake is said to have taken, in milliseconds: less than a round trip, or more.
    pub connect: u8,
}

#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) mood: Mood,
    pub(super) offer: Offer,
    /// Answers to the next lines of any kind. The mood decides once none are left.
    pub(super) answers: VecDeque<Vec<u8>>,
    /// Closes the connection where there are none left.
    pub(super) no_more: bool,
    /// What becomes of the next reply.
    pub(super) fault: Option<Fault>,
    /// The reply that the next one overtakes.
    held: Option<Vec<u8>>,
    /// Replies on their way, in order, and when they arrive.
    coming: VecDeque<(Instant, Vec<u8>)>,
    /// Those that hold up no other.
    surplus: Vec<(Instant, Vec<u8>)>,
    /// What arrived last was the first piece of a reply.
    cut: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// All that has arrived of what the server said.
    pub(super) said: Vec<u8>,
    /// How much of it was read.
    pub(super) read: usize,
    /// Commands as they arrived.
    pub(super) heard: Vec<Verb>,
    /// Lines as they arrived, without their ends.
    pub(super) lines: Vec<Vec<u8>>,
    line: Vec<u8>,
    /// Nothing comes and nothing goes any more; cleanly or with an error.
    pub(super) ended: Option<bool>,
    /// Gives and takes a few octets at a time, with a pause before each.
    pub(super) slow: bool,
    /// Takes nothing.
    pub(super) deaf: bool,
    paused: [bool; 2],
}

impl Wire {
    /// A reply with a number, so that no two are alike.
    fn answer(&mut self, verb: Verb) {
        let code = match (self.mood, verb) {
            (Mood::Mute, _) => return,
            (Mood::Says(code), _) => 200 + code % 400,
            (Mood::Obliging, Verb::Connect | Verb::StartTls) => 220,
            (Mood::Obliging, Verb::Data) => 354,
            (Mood::Obliging, Verb::Auth) => 334,
            (Mood::Obliging, Verb::AuthResponse) => 235,
            (Mood::Obliging, Verb::Quit) => 221,
            (Mood::Obliging, _) => 250,
        };
        let number = self.heard.len();
        if matches!(verb, Verb::Ehlo | Verb::Lhlo) {
            let pipelining = if self.offer.pipelining { "PIPELINING" } else { "HELP" };
            let starttls = if self.offer.starttls { "STARTTLS" } else { "HELP" };
            let lines = [format!("#{number}"), pipelining.into(), starttls.into()];
            let lines = lines.map(|line| format!("{code}-{line}\r\n")).concat();
            self.reply(format!("{lines}{code} CHUNKING\r\n").into_bytes());
        } else {
            self.reply(format!("{code} #{number}\r\n").into_bytes());
        }
    }

    /// Sends a reply, with what is to go wrong with it.
    fn reply(&mut self, mut reply: Vec<u8>) {
        let arrival = Instant::now() + Duration::from_millis(self.offer.round_trip.into());
        let ms = |ms: u8| Duration::from_millis(ms.into());
        match self.fault.take() {
            Some(Fault::Swap) if self.held.is_none() => {
                self.held = Some(reply);
                return;
            }
            Some(Fault::Skip) => return,
            Some(Fault::Twice(late)) => {
                self.surplus.push((arrival + ms(late), reply.clone()));
                self.come(arrival, reply);
            }
            Some(Fault::Split(pause)) => {
                let rest = reply.split_off(reply.len() / 2);
                self.come(arrival, reply);
                self.come(arrival + ms(pause), rest);
            }
            Some(Fault::Mixed) => {
                reply.splice(0..0, b"599-two codes\r\n".iter().copied());
                self.come(arrival, reply);
            }
            Some(Fault::Swap) | None => self.come(arrival, reply),
        }
        if let Some(held) = self.held.take() {
            self.come(arrival, held);
        }
    }

    fn come(&mut self, due: Instant, octets: Vec<u8>) {
        // Octets do not overtake each other.
        let due = self.coming.back().map_or(due, |&(last, _)| last.max(due));
        self.coming.push_back((due, octets));
    }

    /// Lets arrive what is due, and tells when more will be.
    fn arrive(&mut self) -> Option<Instant> {
        loop {
            let next = self.coming.front().map(|&(due, _)| due);
            // None in the middle of another reply.
            let first = (0..self.surplus.len()).min_by_key(|&n| self.surplus[n].0).filter(|_| !self.cut);
            let surplus = first.map(|n| self.surplus[n].0).filter(|&due| next.is_none_or(|next| due < next));
            let due = surplus.or(next)?;
            if due > Instant::now() {
                return Some(due);
            }
            let octets = match (surplus, first) {
                (Some(_), Some(n)) => self.surplus.swap_remove(n).1,
                _ => self.coming.pop_front()?.1,
            };
            self.cut = !octets.ends_with(b"\n");
            self.say(&octets);
        }
    }

    pub(super) fn say(&mut self, octets: &[u8]) {
        if self.ended.is_none() {
            self.said.extend_from_slice(octets);
        }
    }

    fn hear(&mut self, line: Vec<u8>) {
        let text = String::from_utf8_lossy(&line).into_owned();
        self.lines.push(line);
        let verb = match text.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => Verb::Ehlo,
            "HELO" => Verb::Helo,
            "LHLO" => Verb::Lhlo,
            "STARTTLS" => Verb::StartTls,
            "AUTH" => Verb::Auth,
            "MAIL" => Verb::Mail,
            "RCPT" => Verb::Rcpt,
            "DATA" => Verb::Data,
            "." => Verb::Message,
            "BDAT" if text.ends_with("LAST") => Verb::BdatLast,
            "BDAT" => Verb::Bdat,
            "RSET" => Verb::Rset,
            "NOOP" => Verb::Noop,
            "VRFY" => Verb::Vrfy,
            "QUIT" => Verb::Quit,
            // A message or a chunk, which are of one line each.
            "text" => return,
            _ => Verb::AuthResponse,
        };
        self.heard.push(verb);
        match self.answers.pop_front() {
            Some(answer) => self.say(&answer),
            None if self.no_more => self.ended = Some(true),
            None => self.answer(verb),
        }
    }

    fn pause(&mut self, direction: usize, cx: &Context<'_>) -> bool {
        let paused = self.slow && !self.paused[direction];
        self.paused[direction] = paused;
        if paused {
            cx.waker().wake_by_ref();
        }
        paused
    }
}

/// The client's end of a [`Wire`].
#[derive(Clone, Debug)]
pub(super) struct End(pub(super) Rc<RefCell<Wire>>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        if wire.pause(0, cx) {
            return Poll::Pending;
        }
        let more = wire.arrive();
        let most = if wire.slow { 5 } else { usize::MAX };
        let n = most.min(buf.remaining()).min(wire.said.len() - wire.read);
        if n == 0 {
            return match wire.ended {
                None => {
                    wire.timer = more.map(|due| Box::pin(sleep_until(due)));
                    let woken = wire.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                    if woken {
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
                Some(true) => Poll::Ready(Ok(())),
                Some(false) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        buf.put_slice(&wire.said[wire.read..wire.read + n]);
        wire.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        if wire.ended.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if wire.deaf || wire.pause(1, cx) {
            return Poll::Pending;
        }
        let data = if wire.slow { &data[..data.len().min(7)] } else { data };
        for &octet in data {
            wire.line.push(octet);
            if octet == b'\n' {
                let line = std::mem::take(&mut wire.line);
                wire.hear(line.trim_ascii_end().to_vec());
            }
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The same ones each time: histograms are large, and nothing is asked of them.
pub(super) fn metrics() -> Arc<ServerMetrics> {
    static METRICS: LazyLock<Arc<ServerMetrics>> = LazyLock::new(|| Metrics::new().server("mx.example.com"));
    Arc::clone(&METRICS)
}

/// Runs a future under a clock that stands still, and moves on only when there is nothing else to do.
pub(super) fn paused<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime without I/O").block_on(future)
}
