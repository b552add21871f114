//! Measures the CPU time of the codec: decoding replies and encoding commands, without sockets or a runtime.
//!
//! | group | work |
//! |---|---|
//! | `replies_one` | one reply of 69 octets arrives and is decoded to code, enhanced code and text |
//! | `replies_100` | a hundred of them arrive at once, as the answer to a pipelined flight |
//! | `replies_dripped` | one of them arrives octet by octet |
//! | `ehlo_200` | a reply of 200 lines arrives at once, and the text of every line is read |
//! | `ehlo_200_dripped` | the same octet by octet, which shows work that is not linear |
//! | `commands_100` | MAIL, 100 RCPT and RSET are encoded into one buffer |
//!
//! "Arrives" is a copy into a buffer, in place of a read. Every codec and every bound has this cost. The bound of the
//! replies is one memchr for each line end.
//!
//! The bound of the commands copies the same octets line by line from separate allocations, as mailboxes are stored.
//! Beside it stands a single memcpy of all octets.
//!
//! `smtp-pool` decodes borrowed replies. `smtp-pool, kept` decodes replies that share the buffer and can outlive it.
//! For the peers, run `cargo bench --manifest-path benches/peers/Cargo.toml --bench codec`.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{fmt::Write, hint::black_box};

use bytes::BytesMut;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use memchr::memchr;
use smtp_pool::proto::{Command, Decoder, MailParams, Mailbox, RcptParams, Reply, ReversePath};

use self::cpu::CpuTime;

#[path = "cpu/mod.rs"]
pub(crate) mod cpu;

/// A refusal in the words of Postfix.
pub(crate) const REPLY: &[u8] = b"550 5.1.1 <user12@example.com>: Recipient address rejected: unknown\r\n";
/// The number of replies in a pipelined flight, and of recipients in a batch.
pub(crate) const FLIGHT: usize = 100;
/// The number of lines of the long reply to EHLO.
pub(crate) const LINES: usize = 200;

fn main() {
    let mut criterion = cpu::criterion();
    ours(&mut criterion);
    criterion.final_summary();
}

/// Measures the bounds and this crate, in groups that peers can join.
pub(crate) fn ours(criterion: &mut Criterion<CpuTime>) {
    for (name, octets, replies, step) in reply_groups() {
        let mut group = group(criterion, name, replies);
        let mut buf = BytesMut::with_capacity(octets.len());
        group.bench_function("bound", |b| b.iter(|| count_lines(&mut buf, black_box(&octets), step)));
        let mut decoder = Decoder::new();
        group.bench_function("smtp-pool", |b| b.iter(|| decode(&mut decoder, black_box(&octets), step)));
        let mut decoder = Decoder::new();
        group.bench_function("smtp-pool, kept", |b| {
            b.iter(|| decode_to_keep(&mut decoder, black_box(&octets), step));
        });
    }
    let commands = commands();
    let mut out = BytesMut::with_capacity(8 * 1024);
    encode(&commands, &mut out);
    let encoded = out.clone().freeze();
    let lines = lines(&encoded);
    let mut group = group(criterion, "commands_100", FLIGHT);
    group.bench_function("bound", |b| b.iter(|| copy(black_box(&lines), &mut out)));
    group.bench_function("one memcpy", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&encoded));
            black_box(&out);
        });
    });
    group.bench_function("smtp-pool", |b| b.iter(|| encode(black_box(&commands), &mut out)));
}

/// Returns the groups: name, octets, number of replies, and how many octets arrive at once.
pub(crate) fn reply_groups() -> [(&'static str, Vec<u8>, usize, usize); 5] {
    [
        ("replies_one", REPLY.to_vec(), 1, usize::MAX),
        ("replies_100", REPLY.repeat(FLIGHT), FLIGHT, usize::MAX),
        ("replies_dripped", REPLY.to_vec(), 1, 1),
        ("ehlo_200", ehlo(LINES), 1, usize::MAX),
        ("ehlo_200_dripped", ehlo(LINES), 1, 1),
    ]
}

pub(crate) fn group<'a>(
    criterion: &'a mut Criterion<CpuTime>,
    name: &str,
    elements: usize,
) -> BenchmarkGroup<'a, CpuTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64));
    group
}

/// Returns a reply to EHLO with this many lines.
pub(crate) fn ehlo(lines: usize) -> Vec<u8> {
    let mut text = String::from("250-mx.example.com at your service\r\n");
    for n in 2..lines {
        write!(text, "250-XEXTENSION{n} with some parameters\r\n").unwrap();
    }
    text.push_str("250 SIZE 52428800\r\n");
    text.into_bytes()
}

/// Finds every line end, and nothing else.
pub(crate) fn count_lines(buf: &mut BytesMut, octets: &[u8], step: usize) {
    let (mut lines, mut scanned) = (0, 0);
    for chunk in octets.chunks(step.min(octets.len())) {
        buf.extend_from_slice(chunk);
        while let Some(found) = memchr(b'\n', &buf[scanned..]) {
            scanned += found + 1;
            lines += 1;
        }
        scanned = buf.len();
    }
    buf.clear();
    black_box(lines);
}

pub(crate) fn decode(decoder: &mut Decoder, octets: &[u8], step: usize) {
    for chunk in octets.chunks(step.min(octets.len())) {
        decoder.buffer().extend_from_slice(chunk);
        while let Some(reply) = decoder.decode_ref().unwrap() {
            look_at(&reply);
        }
    }
}

fn decode_to_keep(decoder: &mut Decoder, octets: &[u8], step: usize) {
    for chunk in octets.chunks(step.min(octets.len())) {
        decoder.buffer().extend_from_slice(chunk);
        while let Some(reply) = decoder.decode().unwrap() {
            look_at(&reply);
        }
    }
}

/// Reads everything in a reply: code, enhanced code, and the text of every line. EHLO has no enhanced codes.
fn look_at<B: AsRef<[u8]>>(reply: &Reply<B>) {
    let enhanced = if reply.as_bytes().len() <= REPLY.len() { reply.enhanced() } else { None };
    black_box((reply.code(), enhanced));
    for line in reply.lines() {
        black_box(line);
    }
}

/// Returns MAIL, RCPT for each recipient of a flight, and RSET.
pub(crate) fn commands() -> Vec<Command> {
    let mail = Command::Mail { from: ReversePath::Null, params: MailParams::default() };
    let rcpt = |n| {
        let to = Mailbox::parse(&format!("user.number{n}@example.com")).unwrap();
        Command::Rcpt { to, params: RcptParams::default() }
    };
    std::iter::once(mail).chain((0..FLIGHT).map(rcpt)).chain([Command::Rset]).collect()
}

pub(crate) fn encode(commands: &[Command], out: &mut BytesMut) {
    out.clear();
    commands.iter().for_each(|command| command.encode(out));
    black_box(out);
}

pub(crate) fn lines(octets: &[u8]) -> Vec<Box<[u8]>> {
    octets.split_inclusive(|&b| b == b'\n').map(Box::from).collect()
}

pub(crate) fn copy(lines: &[Box<[u8]>], out: &mut BytesMut) {
    out.clear();
    lines.iter().for_each(|line| out.extend_from_slice(line));
    black_box(out);
}
