//! Measures how the peers decode replies, beside our results of `benches/codec.rs`.
//!
//! Each peer gets the same octets by a copy into its own buffer, and yields its own form of a reply. smtp-proto yields
//! the code, the enhanced code and the text as one `String`. lettre and async-smtp yield the code and a `String` for
//! each line. mail-send reads with smtp-proto. For EHLO, smtp-proto runs its own parser of capabilities.
//!
//! For replies that arrive octet by octet, lettre and async-smtp parse as their read loops do. After each line they
//! parse the whole reply again. smtp-proto keeps its state.
//!
//! Criterion measures one after the other, but a shared machine changes its speed within seconds. So at the end all of
//! a group run by turns. Those ratios are the reliable ones.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{env, fmt::Write, fs, hint::black_box};

use bytes::{Buf, BytesMut};
use cpu_time::ThreadTime;
use smtp_pool::proto::Decoder;
use smtp_proto::{EhloResponse, response::parser::ResponseReceiver};

#[expect(dead_code, reason = "its main is unused here")]
#[path = "../../codec.rs"]
mod ours;

fn main() {
    let mut criterion = ours::cpu::criterion();
    ours::ours(&mut criterion);
    for (name, octets, replies, step) in ours::reply_groups() {
        let mut group = ours::group(&mut criterion, name, replies);
        let mut buf = BytesMut::with_capacity(octets.len());
        let ehlo = name.starts_with("ehlo");
        // Its receiver takes 4096 octets of text, and cannot resume EHLO.
        if !ehlo {
            group.bench_function("smtp-proto", |b| b.iter(|| smtp_proto(&mut buf, black_box(&octets), step)));
        } else if step > 1 {
            group.bench_function("smtp-proto", |b| b.iter(|| smtp_proto_ehlo(&mut buf, black_box(&octets))));
        }
        group.bench_function("lettre", |b| {
            b.iter(|| {
                by_line(&mut buf, black_box(&octets), step, |text| text.parse::<LettreResponse>().ok())
            });
        });
        group.bench_function("async-smtp", |b| {
            b.iter(|| {
                by_line(&mut buf, black_box(&octets), step, |text| text.parse::<AsyncSmtpResponse>().ok())
            });
        });
    }
    criterion.final_summary();
    if !env::args().any(|arg| arg == "--test" || arg == "--list") {
        by_turns();
    }
}

/// Runs ours, the bound and the peers of each group by turns. The last lines and `target/codec-by-turns.md` have the
/// result.
fn by_turns() {
    let mut table =
        String::from("| group | smtp-pool, a reply | of the bound | best peer's |\n|---|---|---|---|\n");
    for (name, octets, replies, step) in ours::reply_groups() {
        let times = u32::try_from(100_000 / octets.len() / step.min(octets.len()).min(2)).unwrap().max(4);
        let octets = black_box(&octets);
        let [mut first, mut second, mut third, mut fourth] =
            [(); 4].map(|()| BytesMut::with_capacity(octets.len()));
        let mut decoder = Decoder::new();
        let ehlo = name.starts_with("ehlo");
        let mut bound = || ours::count_lines(&mut first, octets, step);
        let mut pool = || ours::decode(&mut decoder, octets, step);
        let mut smtp_proto = || match (ehlo, step > 1) {
            (false, _) => smtp_proto(&mut second, octets, step),
            (true, true) => smtp_proto_ehlo(&mut second, octets),
            // Its parser cannot resume.
            (true, false) => by_line(&mut second, octets, step, |text| text.parse::<LettreResponse>().ok()),
        };
        let mut lettre = || by_line(&mut third, octets, step, |text| text.parse::<LettreResponse>().ok());
        let mut async_smtp =
            || by_line(&mut fourth, octets, step, |text| text.parse::<AsyncSmtpResponse>().ok());
        let ways: &mut [&mut dyn FnMut()] =
            &mut [&mut pool, &mut bound, &mut smtp_proto, &mut lettre, &mut async_smtp];
        let taken = turns(times, ways);
        let peer = taken[2..].iter().map(|(_, ratio)| *ratio).fold(f64::INFINITY, f64::min);
        let each = taken[0].0 / replies as f64;
        writeln!(table, "| {name} | {each:.1} ns | {:.2} | {peer:.2} |", 1.0 / taken[1].1).unwrap();
    }
    let (commands, mut out, mut copied) = (ours::commands(), BytesMut::new(), BytesMut::new());
    ours::encode(&commands, &mut out);
    let lines = ours::lines(&out);
    let mut pool = || ours::encode(black_box(&commands), &mut out);
    let mut bound = || ours::copy(black_box(&lines), &mut copied);
    let taken = turns(100, &mut [&mut pool, &mut bound]);
    let each = taken[0].0 / commands.len() as f64;
    writeln!(table, "| commands_100, a command | {each:.1} ns | {:.2} | |", 1.0 / taken[1].1).unwrap();
    print!("{table}");
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/codec-by-turns.md"), table).unwrap();
}

/// Returns the time of each function in ns, and its ratio to the first. They are medians of rounds in which all run by
/// turns. So a slow period of the machine slows all of them.
fn turns(times: u32, ways: &mut [&mut dyn FnMut()]) -> Vec<(f64, f64)> {
    const ROUNDS: usize = 201;
    let turn = |way: &mut dyn FnMut()| {
        let start = ThreadTime::now();
        (0..times).for_each(|_| way());
        black_box(start.elapsed()).as_secs_f64() * 1e9 / f64::from(times)
    };
    let rounds: Vec<Vec<f64>> =
        (0..ROUNDS).map(|_| ways.iter_mut().map(|way| turn(&mut **way)).collect()).collect();
    let median = |of: &dyn Fn(&[f64]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    (0..ways.len()).map(|n| (median(&|round| round[n]), median(&|round| round[n] / round[0]))).collect()
}

type LettreResponse = lettre::transport::smtp::response::Response;
type AsyncSmtpResponse = async_smtp::response::Response;

fn smtp_proto(buf: &mut BytesMut, octets: &[u8], step: usize) {
    let mut receiver = ResponseReceiver::default();
    for chunk in octets.chunks(step.min(octets.len())) {
        buf.extend_from_slice(chunk);
        let mut rest = buf.iter();
        while rest.len() > 0
            && let Ok(reply) = receiver.parse(&mut rest)
        {
            black_box(reply);
            receiver.reset();
        }
        buf.clear();
    }
}

fn smtp_proto_ehlo(buf: &mut BytesMut, octets: &[u8]) {
    buf.extend_from_slice(octets);
    black_box(EhloResponse::parse(&mut buf.iter()).unwrap());
    buf.clear();
}

/// Parses like the read loops of lettre and async-smtp: after each complete line it parses the whole reply so far.
fn by_line<R>(buf: &mut BytesMut, octets: &[u8], step: usize, parse: impl Fn(&str) -> Option<R>) {
    let mut scanned = 0;
    for chunk in octets.chunks(step.min(octets.len())) {
        buf.extend_from_slice(chunk);
        while let Some(found) = memchr::memchr(b'\n', &buf[scanned..]) {
            scanned += found + 1;
            if let Some(reply) = parse(std::str::from_utf8(&buf[..scanned]).unwrap()) {
                black_box(reply);
                buf.advance(scanned);
                scanned = 0;
            }
        }
        scanned = buf.len();
    }
    assert!(buf.is_empty(), "every reply was understood");
}
