//! The octets of one connection: reads them, and writes replies when they are due.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    select,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{Delay, HostConfig};

/// The octets of one read: a group of some hundred RCPT.
const READ: usize = 16 * 1024;

/// The most packets under way to the client. Beyond it nothing is read, as with a full socket buffer.
const MAX_LATE: usize = 1024;

/// The time that a closed connection continues to read. Closing with unread octets would reset the connection, and
/// the client could lose replies.
const LINGER: Duration = Duration::from_secs(1);

/// The timing of the pending replies. By default all are sent in one packet.
#[derive(Debug, Default)]
pub(super) struct ReplyTiming {
    /// Offsets within the replies, ascending, where a packet ends. The next one follows after the delay.
    pub(super) cuts: Vec<(usize, Delay)>,
    /// Replies that are sent later than the others, and do not delay them.
    pub(super) late: Vec<(Delay, Bytes)>,
}

/// Octets under way.
#[derive(Debug)]
struct Packet {
    due: Instant,
    octets: Bytes,
    /// True if it ends in the middle of a reply.
    is_cut: bool,
}

/// A stream whose connection can be reset.
pub(super) trait Reset {
    /// Sets the connection to end with RST when the stream is dropped.
    fn reset(&self) -> io::Result<()>;
}

impl Reset for TcpStream {
    fn reset(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Reset for TlsStream<TcpStream> {
    fn reset(&self) -> io::Result<()> {
        self.get_ref().0.reset()
    }
}

/// A stream with its buffers and the latency of the host.
#[derive(Debug)]
pub(super) struct Transport<S> {
    stream: S,
    /// Octets received from the client.
    pub(super) input: BytesMut,
    /// Replies to send.
    pub(super) out: BytesMut,
    /// Replies sent that have not arrived yet, with their arrival times.
    late: VecDeque<Packet>,
    /// Late replies that delay no others, in any order.
    surplus: Vec<Packet>,
    /// True if the last packet ended in the middle of a reply.
    is_cut: bool,
    latency: Delay,
    /// The limit of the client's silence.
    idle: Duration,
    rng: Rng,
}

impl<S: AsyncRead + AsyncWrite + Reset + Unpin> Transport<S> {
    pub(super) fn new(stream: S, config: &HostConfig, mut rng: Rng) -> Self {
        let idle = config.idle_timeout.draw(&mut rng);
        let (input, out, late, surplus) = Default::default();
        Self { stream, input, out, late, surplus, is_cut: false, latency: config.latency, idle, rng }
    }

    /// Returns the stream. Received octets that are not used yet are dropped.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Reads more, and delivers late replies meanwhile. Returns false if the client has closed.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::TimedOut`] if the client is silent for too long.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.late.len() + self.surplus.len() > MAX_LATE {
            self.drain().await?;
        }
        self.input.reserve(READ);
        let deadline = Instant::now() + self.idle;
        loop {
            let due = self.next_due().filter(|&due| due < deadline);
            // Only one of the two sleeps is armed at a time, to save timer operations.
            select! {
                biased;
                () = sleep_until(due.unwrap_or(deadline)), if due.is_some() => self.send_next().await?,
                read = self.stream.read_buf(&mut self.input) => return Ok(read? > 0),
                () = sleep_until(deadline), if due.is_none() => return Err(ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Sends the replies at once, or with the latency of the host. In a tarpit, sends them octet by octet.
    pub(super) async fn send(&mut self, octet_delay: Option<Delay>, timing: ReplyTiming) -> io::Result<()> {
        for (delay, octets) in timing.late {
            let due = Instant::now() + self.latency.draw(&mut self.rng) + delay.draw(&mut self.rng);
            self.surplus.push(Packet { due, octets, is_cut: false });
        }
        if self.out.is_empty() {
            return Ok(());
        }
        if let Some(delay) = octet_delay {
            return self.drip(delay).await;
        }
        if self.latency.is_zero() && self.late.is_empty() && timing.cuts.is_empty() {
            write(&mut self.stream, &self.out, self.idle).await?;
            self.out.clear();
            return Ok(());
        }
        let arrival = Instant::now() + self.latency.draw(&mut self.rng);
        // Octets do not overtake each other.
        let mut due = self.late.back().map_or(arrival, |last| last.due.max(arrival));
        let mut start = 0;
        for (cut, pause) in timing.cuts {
            let octets = self.out.split_to(cut - start).freeze();
            self.late.push_back(Packet { due, octets, is_cut: true });
            due += pause.draw(&mut self.rng);
            start = cut;
        }
        self.late.push_back(Packet { due, octets: self.out.split().freeze(), is_cut: false });
        Ok(())
    }

    async fn drip(&mut self, delay: Delay) -> io::Result<()> {
        while !self.late.is_empty() {
            self.send_next().await?;
        }
        for octet in self.out.split() {
            sleep(delay.draw(&mut self.rng)).await;
            write(&mut self.stream, &[octet], self.idle).await?;
        }
        Ok(())
    }

    /// Waits, and delivers late replies meanwhile.
    pub(super) async fn pause(&mut self, delay: Delay) -> io::Result<()> {
        let end = Instant::now() + delay.draw(&mut self.rng);
        while self.next_due().is_some_and(|due| due <= end) {
            self.send_next().await?;
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Waits until all replies have arrived.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        while self.next_due().is_some() {
            self.send_next().await?;
        }
        Ok(())
    }

    /// Returns the time when the next packet is due.
    fn next_due(&self) -> Option<Instant> {
        let next = self.late.front().map(|packet| packet.due);
        next.into_iter().chain(self.next_surplus().map(|index| self.surplus[index].due)).min()
    }

    /// Returns the index of the surplus reply that is due first. None in the middle of another reply.
    fn next_surplus(&self) -> Option<usize> {
        if self.is_cut {
            return None;
        }
        (0..self.surplus.len()).min_by_key(|&index| self.surplus[index].due)
    }

    async fn send_next(&mut self) -> io::Result<()> {
        let Some(due) = self.next_due() else { return Ok(()) };
        if due > Instant::now() {
            sleep_until(due).await;
        }
        // If this future is dropped while it waits, nothing is lost: the packet is removed only afterwards.
        let surplus = self.next_surplus().filter(|&index| self.surplus[index].due == due);
        let packet = match surplus {
            Some(index) => Some(self.surplus.swap_remove(index)),
            None => self.late.pop_front(),
        };
        if let Some(Packet { octets, is_cut, .. }) = packet {
            self.is_cut = is_cut;
            write(&mut self.stream, &octets, self.idle).await?;
        }
        Ok(())
    }

    /// Returns true if the client sends nothing for this long.
    pub(super) async fn is_silent(&mut self, delay: Delay) -> io::Result<bool> {
        let delay = delay.draw(&mut self.rng);
        match timeout(delay, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read.map(|_| false),
            Err(_) => Ok(true),
        }
    }

    /// Reads without answering, until the client closes or is silent for too long.
    pub(super) async fn ignore(&mut self) -> io::Result<()> {
        self.drain().await?;
        while self.fill().await? {
            self.input.clear();
        }
        Ok(())
    }

    /// Sends a reply without end, until the client closes or the time limit passes.
    pub(super) async fn send_without_end(&mut self) -> io::Result<()> {
        self.drain().await?;
        let lines = b"250-and one more thing\r\n".repeat(64);
        let forever = async {
            loop {
                self.stream.write_all(&lines).await?;
                self.stream.flush().await?;
            }
        };
        timeout(self.idle, forever).await?
    }

    /// Closes or resets the connection.
    pub(super) async fn end(self, reset: bool) -> io::Result<()> {
        if reset { self.reset().await } else { self.close().await }
    }

    /// Sends everything, then closes with RST.
    pub(super) async fn reset(mut self) -> io::Result<()> {
        self.drain().await?;
        self.stream.reset()
    }

    /// Closes so that the client can read everything that was sent.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.drain().await?;
        self.stream.shutdown().await?;
        let discard = async {
            loop {
                self.input.clear();
                self.input.reserve(READ);
                if self.stream.read_buf(&mut self.input).await? == 0 {
                    return Ok(());
                }
            }
        };
        timeout(LINGER, discard).await?
    }

    /// Appends octets that need not be a reply.
    pub(super) fn put(&mut self, octets: &[u8]) {
        self.out.put_slice(octets);
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8], within: Duration) -> io::Result<()> {
    let written = async {
        stream.write_all(octets).await?;
        stream.flush().await
    };
    timeout(within, written).await?
}
