//! Both ends of a connection for the benchmarks. The server accepts every command, at once or after a latency. The bare
//! loop is the client that every other client is compared with.

use std::{
    collections::VecDeque,
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use memchr::memchr_iter;
#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use smtp_pool::{
    client::{Session, Timeouts},
    metrics::Metrics,
    proto::{self, ClientName, MailParams, Mailbox, RcptParams, ReversePath},
};

/// An environment variable for the process of the server, with the latency of its replies in ms.
const SERVER: &str = "SMTP_POOL_BENCH_SERVER";
/// The number of recipients in a window.
pub(crate) const WINDOW: usize = 100;
/// The number of windows in flight.
pub(crate) const FLIGHT: usize = 4;

/// A server in another process of this binary, so that its CPU time does not count.
pub(crate) struct Server {
    process: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts a server that answers each read after `latency`, and reads on meanwhile.
    pub(crate) fn start(latency: Duration) -> Self {
        let exe = env::current_exe().unwrap();
        let millis = latency.as_millis().to_string();
        let mut process = Command::new(exe).env(SERVER, millis).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, addr: line.trim().parse().unwrap() }
    }

    /// Serves until it is killed, if this is the process of the server. `main` calls it first.
    #[expect(clippy::print_stdout, reason = "the parent waits for the address")]
    pub(crate) fn serve_if_asked() {
        let Some(millis) = env::var_os(SERVER) else { return };
        let latency = Duration::from_millis(millis.to_str().unwrap().parse().unwrap());
        if latency.is_zero() {
            let _ = stay_on(1);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().unwrap();
            thread::spawn(
                move || if latency.is_zero() { say_yes(stream) } else { say_yes_late(stream, latency) },
            );
        }
    }
}

/// Binds this thread, and those that it starts, to the `n`th core that it may run on. Returns the cores that it could
/// use before.
#[cfg(target_os = "linux")]
pub(crate) fn stay_on(n: usize) -> Option<CpuSet> {
    let before = sched_getaffinity(None).unwrap();
    let core = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core)).nth(n)?;
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
    Some(before)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_on(_: usize) -> Option<()> {
    None
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server accepts recipients that begin like this by name, so that each reply is different.
const DISTINCT: &[u8] = b"<distinct.";
const BANNER: &[u8] = b"220 mx.example.com ESMTP\r\n";

fn say_yes(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut replies = BANNER.to_vec();
    let mut commands = Commands::new(stream.try_clone().unwrap());
    loop {
        if stream.write_all(&replies).is_err() || !commands.answer(&mut replies) {
            return;
        }
    }
}

fn say_yes_late(stream: TcpStream, latency: Duration) {
    stream.set_nodelay(true).unwrap();
    let mut commands = Commands::new(stream.try_clone().unwrap());
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut stream = stream;
        for (due, replies) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if stream.write_all(&replies).is_err() {
                return;
            }
        }
    });
    let mut replies = BANNER.to_vec();
    while sender.send((Instant::now() + latency, std::mem::take(&mut replies))).is_ok() {
        if !commands.answer(&mut replies) {
            return;
        }
    }
}

struct Commands {
    stream: TcpStream,
    buf: Vec<u8>,
    chunk: Box<[u8]>,
}

impl Commands {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buf: Vec::new(), chunk: vec![0; 64 * 1024].into() }
    }

    /// Reads once, and answers what it read. Returns whether there may be more.
    fn answer(&mut self, replies: &mut Vec<u8>) -> bool {
        replies.clear();
        let Ok(n @ 1..) = self.stream.read(&mut self.chunk) else { return false };
        self.buf.extend_from_slice(&self.chunk[..n]);
        let mut start = 0;
        for end in memchr_iter(b'\n', &self.buf) {
            let line = &self.buf[start..end];
            start = end + 1;
            if let Some(mailbox) = line.strip_prefix(b"RCPT TO:")
                && mailbox.starts_with(DISTINCT)
            {
                replies.extend_from_slice(b"250 2.1.5 ");
                replies.extend_from_slice(mailbox.trim_ascii_end());
                replies.extend_from_slice(b" Ok\r\n");
                continue;
            }
            replies.extend_from_slice(match line {
                [b'E', ..] => b"250-mx.example.com\r\n250 PIPELINING\r\n".as_slice(),
                [b'M', ..] => b"250 2.1.0 Ok\r\n",
                [b'R', b'C', ..] => b"250 2.1.5 Ok\r\n",
                [b'Q', ..] => b"221 2.0.0 Bye\r\n",
                _ => b"250 2.0.0 Ok\r\n",
            });
        }
        self.buf.drain(..start);
        true
    }
}

/// Returns MAIL, RCPT for each address and RSET, for every [`WINDOW`] of addresses.
pub(crate) fn windows(addresses: &[String]) -> Vec<Vec<u8>> {
    let window = |chunk: &[String]| {
        let mut octets = b"MAIL FROM:<>\r\n".to_vec();
        chunk.iter().for_each(|address| octets.extend(format!("RCPT TO:<{address}>\r\n").as_bytes()));
        octets.extend(b"RSET\r\n");
        octets
    };
    addresses.chunks(WINDOW).map(window).collect()
}

/// Returns a connection after EHLO.
pub(crate) fn greeted(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"EHLO client.example.org\r\n").unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while !line.starts_with("250 ") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    stream
}

/// Runs the bound: writes whole windows, `flight` of them ahead of the replies, and counts reply lines with memchr.
pub(crate) fn bare_loop(stream: &mut TcpStream, windows: &[Vec<u8>], flight: usize) {
    let mut buf = [0; 16 * 1024];
    let mut expected: VecDeque<usize> = VecDeque::new();
    let (mut sent, mut lines) = (0, 0);
    while sent < windows.len() || !expected.is_empty() {
        while sent < windows.len() && expected.len() < flight {
            stream.write_all(&windows[sent]).unwrap();
            expected.push_back(WINDOW + 2);
            sent += 1;
        }
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "the server closed");
        lines += memchr_iter(b'\n', &buf[..n]).count();
        while let Some(&first) = expected.front()
            && lines >= first
        {
            lines -= first;
            expected.pop_front();
        }
    }
}

/// Returns a session after EHLO.
pub(crate) async fn session(addr: SocketAddr) -> Session<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut session = Session::new(stream, Timeouts::default(), Metrics::new().server("mx.example.com"));
    session.banner().await.unwrap();
    let ehlo = proto::Command::Ehlo(ClientName::parse("client.example.org").unwrap());
    assert!(session.greet(&ehlo).await.unwrap().is_positive());
    session
}

/// Sends the same octets as the bare loop, encoded from mailboxes. Each reply is decoded and matched with its command.
pub(crate) async fn pipelined(
    session: &mut Session<tokio::net::TcpStream>,
    mailboxes: &[Mailbox],
    flight: usize,
) {
    let (from, mail, rcpt) = (ReversePath::Null, MailParams::default(), RcptParams::default());
    let mut windows = mailboxes.chunks(WINDOW);
    let (mut sent, mut answered) = (0, 0);
    loop {
        while sent < answered / (WINDOW + 2) + flight
            && let Some(window) = windows.next()
        {
            session.queue_mail(&from, &mail).unwrap();
            window.iter().for_each(|mailbox| session.queue_rcpt(mailbox, &rcpt).unwrap());
            session.queue(&proto::Command::Rset).unwrap();
            sent += 1;
        }
        if session.owed() == 0 {
            return;
        }
        let (_, reply) = session.reply_ref().await.unwrap();
        assert!(std::hint::black_box(&reply).is_positive());
        answered += 1;
    }
}

pub(crate) fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user.number{n}@example.com")).collect()
}

pub(crate) fn mailboxes(addresses: &[String]) -> Vec<Mailbox> {
    addresses.iter().map(|address| Mailbox::parse(address).unwrap()).collect()
}
