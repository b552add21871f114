//! Counts the instructions of the hot paths with valgrind. The result does not depend on other load.
//!
//! `cargo bench --bench instructions` compares each count with the reference in `instructions.txt` beside this file. It
//! fails if one differs by more than 3 %, in either direction, so that the reference follows each improvement.
//!
//! `-- --renew` writes the file again. A new compiler or dependency may require that as well; then say so in the
//! commit.
//!
//! The count of one operation comes from the difference of a thousand operations. So it excludes start and warm-up.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{
    env, fs,
    hint::black_box,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, exit},
    thread,
};

use bytes::BytesMut;
use smtp_pool::{
    pool::Pool,
    proto::{self, Decoder, Mailbox, RcptParams, Reply},
};
use tokio::runtime::Builder;

/// An environment variable for the counted process, with the name of the path and its number of operations.
const COUNTED: &str = "SMTP_POOL_BENCH_COUNTED";
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// The number of counted operations. The same number runs before them uncounted.
const COUNT: u64 = 1_000;
/// The maximum difference in percent.
const TOLERANCE: f64 = 3.0;
const REPLY: &[u8] = b"550 5.1.1 <user12@example.com>: Recipient address rejected: unknown\r\n";

/// A name, and a function that takes the path this many times.
type Path = (&'static str, fn(u64));

const PATHS: [Path; 6] = [
    ("reply", |n| decode(n, REPLY, usize::MAX)),
    ("replies_100", |n| decode(n, &REPLY.repeat(100), usize::MAX)),
    ("reply_dripped", |n| decode(n, REPLY, 1)),
    ("replies_100_kept", |n| {
        let (octets, mut decoder) = (REPLY.repeat(100), Decoder::new());
        for _ in 0..n {
            decoder.buffer().extend_from_slice(&octets);
            while let Some(reply) = decoder.decode().unwrap() {
                look_at(&reply);
            }
        }
    }),
    ("commands_100", encode),
    ("checkout", check_out),
];

fn main() {
    if let Ok(counted) = env::var(COUNTED) {
        let (name, n) = counted.split_once(' ').unwrap();
        return PATHS.iter().find(|(path, _)| *path == name).unwrap().1(n.parse().unwrap());
    }
    let asked = |flag: &str| env::args().any(|arg| arg == flag);
    if asked("--list") {
        return;
    }
    if asked("--test") {
        return PATHS.iter().for_each(|(_, path)| path(1));
    }
    let counts = PATHS.map(|(name, _)| (name, (counted(name, 2 * COUNT) - counted(name, COUNT)) / COUNT));
    if asked("--renew") {
        let lines: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        fs::write(REFERENCE, lines).unwrap();
    }
    let reference = fs::read_to_string(REFERENCE).unwrap();
    let reference = |name| {
        let mut lines = reference.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(path, _)| *path == name).map(|(_, count)| count.parse::<u64>().unwrap())
    };
    let mut missed = false;
    for (name, count) in counts {
        let Some(reference) = reference(name) else {
            println!("{name:20} {count:8} instructions, no reference");
            missed = true;
            continue;
        };
        let off = (count as f64 / reference as f64 - 1.0) * 100.0;
        println!("{name:20} {count:8} instructions, {off:+.1} % off {reference}");
        missed |= off.abs() > TOLERANCE;
    }
    if missed {
        println!(
            "some paths differ by more than {TOLERANCE} %; if that is intended, run `just instructions --renew`"
        );
    }
    exit(i32::from(missed));
}

/// Returns the instructions of this program for `n` operations of a path.
fn counted(name: &str, n: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .env(COUNTED, format!("{name} {n}"))
        .output()
        .expect("valgrind is installed");
    let report = String::from_utf8_lossy(&output.stderr);
    let line = report.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:")).unwrap();
    let digits: String = line.rsplit(':').next().unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn decode(n: u64, octets: &[u8], step: usize) {
    let mut decoder = Decoder::new();
    for _ in 0..n {
        for chunk in octets.chunks(step.min(octets.len())) {
            decoder.buffer().extend_from_slice(chunk);
            while let Some(reply) = decoder.decode_ref().unwrap() {
                look_at(&reply);
            }
        }
    }
}

fn look_at<B: AsRef<[u8]>>(reply: &Reply<B>) {
    black_box((reply.code(), reply.enhanced()));
    for line in reply.lines() {
        black_box(line);
    }
}

fn encode(n: u64) {
    let rcpt = |n| {
        let to = Mailbox::parse(&format!("user.number{n}@example.com")).unwrap();
        proto::Command::Rcpt { to, params: RcptParams::default() }
    };
    let commands: Vec<proto::Command> = (0..100).map(rcpt).collect();
    let mut out = BytesMut::with_capacity(8 * 1024);
    for _ in 0..n {
        out.clear();
        commands.iter().for_each(|command| command.encode(&mut out));
        black_box(&out);
    }
}

/// Checks out an idle connection of the pool, and returns it.
fn check_out(n: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mx.example.com\r\n").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("EHLO"));
        stream.write_all(b"250 mx.example.com\r\n").unwrap();
        // The loop ends when the client is gone.
        lines.for_each(drop);
    });
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let pool = Pool::builder().build().unwrap();
        for _ in 0..=n {
            drop(black_box(pool.get(&*name).await.unwrap()));
        }
        assert_eq!(pool.status().idle, 1);
    });
    server.join().unwrap();
}
