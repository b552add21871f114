//! A server in memory that answers as it is told to, well or badly.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A server in memory, without a task of its own: it answers each line as it is written, by [`Server::answer`].
///
/// `BANNER` and `MESSAGE` stand for the opening and for the message behind 354.
pub(super) struct Server {
    answer: Box<dyn FnMut(&str) -> Act + Send>,
    input: Vec<u8>,
    output: VecDeque<u8>,
    in_message: bool,
    end: Option<io::ErrorKind>,
    /// Ends reading with `end`, or with the end of the stream, once `output` is empty.
    ended: bool,
    /// Repeats this forever once `output` is empty, an octet a second if it is to drip.
    endless: &'static [u8],
    repeating: bool,
    drip: Option<Pin<Box<Sleep>>>,
    /// Gives and takes a few octets at a time, with a pause before each.
    slow: bool,
    /// Whether the last poll to read, to write and to flush was answered by a pause.
    paused: [bool; 3],
    pub(super) writes: Arc<Mutex<Vec<String>>>,
}

/// What a server does in place of, or after, a proper reply.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Say(String),
    Silence,
    Drip,
    Endless(&'static [u8]),
    /// The stream ends after these octets.
    Close(&'static str),
    Reset,
}

pub(super) fn says(text: &str) -> Act {
    Act::Say(format!("{text}\r\n"))
}

/// Says yes to all, in words that tell which command it answers.
pub(super) fn yes(line: &str) -> Act {
    let verb = line.split([' ', ':']).next().unwrap();
    match verb {
        "BANNER" => says("220 BANNER"),
        "EHLO" => says("250-EHLO\r\n250-PIPELINING\r\n250 CHUNKING"),
        "DATA" => says("354 DATA"),
        "QUIT" => says("221 QUIT"),
        _ => says(&format!("250 {verb}")),
    }
}

/// Answers as [`yes`], without PIPELINING.
pub(super) fn one_by_one(line: &str) -> Act {
    if line.starts_with("EHLO") { says("250 EHLO") } else { yes(line) }
}

impl Server {
    pub(super) fn new(mut answer: impl FnMut(&str) -> Act + Send + 'static) -> Self {
        let banner = answer("BANNER");
        let mut server = Self {
            answer: Box::new(answer),
            input: Vec::new(),
            output: VecDeque::new(),
            in_message: false,
            end: None,
            ended: false,
            endless: b"",
            repeating: false,
            drip: None,
            slow: false,
            paused: [false; 3],
            writes: Arc::default(),
        };
        server.act(banner);
        server
    }

    pub(super) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    fn act(&mut self, act: Act) {
        match act {
            _ if self.ended => {}
            Act::Say(text) => {
                self.in_message = text.starts_with("354");
                self.output.extend(text.bytes());
            }
            Act::Silence => {}
            Act::Drip => {
                self.endless = b"250-x ";
                self.drip = Some(Box::pin(sleep(Duration::from_secs(1))));
            }
            Act::Endless(octets) => self.endless = octets,
            Act::Close(octets) => {
                self.output.extend(octets.bytes());
                self.ended = true;
            }
            Act::Reset => (self.ended, self.end) = (true, Some(io::ErrorKind::ConnectionReset)),
        }
    }

    /// Answers the lines that are there.
    fn serve(&mut self) {
        while let Some(end) = self.input.iter().position(|&b| b == b'\n') {
            let line = String::from_utf8(self.input.drain(..=end).collect()).unwrap();
            let act = match (self.in_message, line.trim_end()) {
                (true, ".") => (self.answer)("MESSAGE"),
                (true, _) => continue,
                (false, line) => (self.answer)(line),
            };
            self.in_message = false;
            self.act(act);
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

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pause(0, cx) {
            return Poll::Pending;
        }
        if self.output.is_empty() && !self.endless.is_empty() {
            let times = if self.drip.is_some() { 1 } else { 1000 };
            let octets = self.endless.repeat(times);
            self.output.extend(octets);
            self.repeating = true;
        }
        let dripping = self.repeating && self.drip.is_some();
        if dripping && let Some(drip) = &mut self.drip {
            std::task::ready!(drip.as_mut().poll(cx));
            drip.as_mut().reset(Instant::now() + Duration::from_secs(1));
        }
        let most = match (dripping, self.slow && !self.repeating) {
            (true, _) => 1,
            (_, true) => 5,
            _ => usize::MAX,
        };
        let n = most.min(buf.remaining()).min(self.output.len());
        if n == 0 {
            return match (self.ended, self.end) {
                (true, Some(kind)) => Poll::Ready(Err(kind.into())),
                (true, None) => Poll::Ready(Ok(())),
                (false, _) => Poll::Pending,
            };
        }
        let octets: Vec<u8> = self.output.drain(..n).collect();
        buf.put_slice(&octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.pause(1, cx) {
            return Poll::Pending;
        }
        let data = if self.slow { &data[..data.len().min(7)] } else { data };
        self.writes.lock().unwrap().push(String::from_utf8_lossy(data).into_owned());
        self.input.extend_from_slice(data);
        if !self.slow {
            self.serve();
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Slow ones keep what is written until then, as TLS does.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pause(2, cx) {
            return Poll::Pending;
        }
        self.serve();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
