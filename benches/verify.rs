//! What an address costs the client: CPU time over real sockets, beside a bare loop that writes the same octets.
//!
//! | benchmark | what it does |
//! |---|---|
//! | `bare_loop` | writes MAIL, 100 RCPT and RSET at once, four such windows in flight, and counts reply lines by memchr |
//! | `session` | the same through [`Session`]: encoded from mailboxes, every reply decoded and put to its command |
//! | `verifier` | the whole: parsing, routing, lanes, windows, classification, records |
//!
//! The server is a process of its own, this binary started once more, so that its CPU time does not count. Run with
//! `cargo bench --all-features --bench verify`; the last lines give the ratios and fail where a goal is missed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{
    env,
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio, exit},
    sync::Arc,
    thread,
    time::Duration,
};

use cpu_time::ProcessTime;
use criterion::{Criterion, Throughput};
use memchr::memchr_iter;
use smtp_pool::{
    client::{Endpoint, Session, Timeouts},
    metrics::Metrics,
    proto::{self, ClientName, MailParams, Mailbox, RcptParams, ReversePath},
    verify::{Routes, Verifier, VerifierConfig},
};

/// Set in the environment of the process that is the server.
const SERVER: &str = "SMTP_POOL_BENCH_SERVER";
/// Recipients in a window.
const WINDOW: usize = 100;
/// Windows in flight.
const FLIGHT: usize = 4;
/// Addresses an iteration: several connections' worth for the verifier, whose lane says QUIT after 90 transactions.
const ADDRESSES: usize = 40_000;

fn main() {
    if env::var_os(SERVER).is_some() {
        serve();
    }
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut criterion = Criterion::default().configure_from_args();
    let addresses: Vec<String> = (0..ADDRESSES).map(|n| format!("user.number{n}@example.com")).collect();
    let mailboxes: Vec<Mailbox> = addresses.iter().map(|a| Mailbox::parse(a).unwrap()).collect();
    let verifier = verifier(server.addr);
    let mut totals = [(Duration::ZERO, 0); 3];

    let mut group = criterion.benchmark_group("verify_cpu");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    let mut connection = greeted(server.addr);
    let windows = windows(&addresses);
    group.bench_function("bare_loop", |b| {
        b.iter_custom(|n| cpu(&mut totals[0], n, || bare_loop(&mut connection, &windows)));
    });
    let mut session = runtime.block_on(session(server.addr));
    group.bench_function("session", |b| {
        b.iter_custom(|n| cpu(&mut totals[1], n, || runtime.block_on(pipelined(&mut session, &mailboxes))));
    });
    group.bench_function("verifier", |b| {
        b.iter_custom(|n| cpu(&mut totals[2], n, || runtime.block_on(verified(&verifier, &addresses))));
    });
    group.finish();
    criterion.final_summary();
    drop(server);
    if !env::args().any(|arg| arg == "--test" || arg == "--list") {
        report(&totals);
    }
}

/// CPU time of the process over `n` runs; adds to the total.
fn cpu(total: &mut (Duration, u64), n: u64, mut run: impl FnMut()) -> Duration {
    let start = ProcessTime::now();
    (0..n).for_each(|_| run());
    let spent = start.elapsed();
    total.0 += spent;
    total.1 += n;
    spent
}

fn report(totals: &[(Duration, u64); 3]) {
    let per_address = |&(spent, runs): &(Duration, u64)| {
        spent.as_secs_f64() * 1e9 / (runs.max(1) * ADDRESSES as u64) as f64
    };
    let [bare, session, verifier] = totals.each_ref().map(per_address);
    println!(
        "client CPU per address: bare loop {bare:.0} ns, session {session:.0} ns, verifier {verifier:.0} ns"
    );
    let mut missed = false;
    for (name, ratio, goal) in [("session", session / bare, 3.0), ("verifier", verifier / bare, 10.0)] {
        println!("{name}: {ratio:.2} times the bare loop, goal {goal}");
        missed |= ratio > goal;
    }
    exit(i32::from(missed));
}

fn windows(addresses: &[String]) -> Vec<Vec<u8>> {
    let window = |chunk: &[String]| {
        let mut octets = b"MAIL FROM:<>\r\n".to_vec();
        chunk.iter().for_each(|address| octets.extend(format!("RCPT TO:<{address}>\r\n").as_bytes()));
        octets.extend(b"RSET\r\n");
        octets
    };
    addresses.chunks(WINDOW).map(window).collect()
}

fn greeted(addr: SocketAddr) -> TcpStream {
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

fn bare_loop(stream: &mut TcpStream, windows: &[Vec<u8>]) {
    let mut buf = [0; 16 * 1024];
    let (mut sent, mut lines) = (0, 0);
    while lines < windows.len() * (WINDOW + 2) {
        while sent < windows.len() && sent < lines / (WINDOW + 2) + FLIGHT {
            stream.write_all(&windows[sent]).unwrap();
            sent += 1;
        }
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "the server closed");
        lines += memchr_iter(b'\n', &buf[..n]).count();
    }
}

async fn session(addr: SocketAddr) -> Session<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut session = Session::new(stream, Timeouts::default(), Metrics::new().server("mx.example.com"));
    session.banner().await.unwrap();
    let ehlo = proto::Command::Ehlo(ClientName::parse("client.example.org").unwrap());
    assert!(session.greet(&ehlo).await.unwrap().is_positive());
    session
}

async fn pipelined(session: &mut Session<tokio::net::TcpStream>, mailboxes: &[Mailbox]) {
    let (from, mail, rcpt) = (ReversePath::Null, MailParams::default(), RcptParams::default());
    let mut windows = mailboxes.chunks(WINDOW);
    let (mut sent, mut answered) = (0, 0);
    loop {
        while sent < answered / (WINDOW + 2) + FLIGHT
            && let Some(window) = windows.next()
        {
            session.queue_mail(&from, &mail).unwrap();
            window.iter().for_each(|mailbox| session.queue_rcpt(mailbox, &rcpt).unwrap());
            session.queue(&proto::Command::Rset).unwrap();
            session.flush().await.unwrap();
            sent += 1;
        }
        if session.owed() == 0 {
            return;
        }
        let (_, reply) = session.reply().await.unwrap();
        assert!(black_box(&reply).is_positive());
        answered += 1;
    }
}

fn verifier(addr: SocketAddr) -> Verifier {
    let mut routes = Routes::new();
    routes.insert("*", Ok(vec![Endpoint { host: "mx.example.com".into(), addrs: vec![addr] }]));
    let mut config = VerifierConfig::new(ClientName::parse("client.example.org").unwrap());
    config.routes = routes;
    Verifier::new(config, Arc::new(Metrics::new())).unwrap()
}

async fn verified(verifier: &Verifier, addresses: &[String]) {
    let mut records = verifier.verify_all(addresses.to_vec());
    let mut count = 0;
    while let Some(record) = records.next().await {
        assert_eq!(record.smtp_code, Some(250));
        count += 1;
    }
    assert_eq!(count, addresses.len());
}

struct Server {
    process: Child,
    addr: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let exe = env::current_exe().unwrap();
        let mut process = Command::new(exe).env(SERVER, "1").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, addr: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that says yes to everything, as fast as it can.
fn serve() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().unwrap();
        thread::spawn(move || yes(stream));
    }
}

fn yes(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut replies = b"220 mx.example.com ESMTP\r\n".to_vec();
    let mut buf = Vec::with_capacity(64 * 1024);
    let mut chunk = [0; 64 * 1024];
    loop {
        if stream.write_all(&replies).is_err() {
            return;
        }
        replies.clear();
        let Ok(n @ 1..) = stream.read(&mut chunk) else { return };
        buf.extend_from_slice(&chunk[..n]);
        let mut start = 0;
        for end in memchr_iter(b'\n', &buf) {
            replies.extend_from_slice(match buf[start] {
                b'E' => b"250-mx.example.com\r\n250 PIPELINING\r\n".as_slice(),
                b'M' => b"250 2.1.0 Ok\r\n",
                b'R' if buf[start + 1] == b'C' => b"250 2.1.5 Ok\r\n",
                b'Q' => b"221 2.0.0 Bye\r\n",
                _ => b"250 2.0.0 Ok\r\n",
            });
            start = end + 1;
        }
        buf.drain(..start);
    }
}
