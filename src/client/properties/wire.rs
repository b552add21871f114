//! A server in memory without a task of its own, which keeps a record of all that went over the wire.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use arbitrary::Arbitrary;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
    /// With this code, whatever the command; taken modulo the codes that there are.
    Says(u16),
    /// Not at all.
    Mute,
}

/// What EHLO is answered with.
#[derive(Arbitrary, Clone, Copy, Debug, Default)]
pub struct Offer {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
}

#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) mood: Mood,
    pub(super) offer: Offer,
    /// Answers to the next lines, whatever they are; the mood decides once there are none left.
    pub(super) answers: VecDeque<Vec<u8>>,
    /// Closes the connection where there are none left.
    pub(super) no_more: bool,
    /// All that the server said.
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
            self.say(format!("{code}-#{number}\r\n{code}-{pipelining}\r\n{code}-{starttls}\r\n").as_bytes());
            self.say(format!("{code} CHUNKING\r\n").as_bytes());
        } else {
            self.say(format!("{code} #{number}\r\n").as_bytes());
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
        let most = if wire.slow { 5 } else { usize::MAX };
        let n = most.min(buf.remaining()).min(wire.said.len() - wire.read);
        if n == 0 {
            return match wire.ended {
                None => Poll::Pending,
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
