//! Measures a transaction over one connection: MAIL, 100 RCPT and RSET, to a server in a process of its own.
//!
//! The result is the CPU time of the client per recipient. The bound writes the octets at once and counts reply lines
//! with memchr. For the peers, run `cargo bench --manifest-path benches/peers/Cargo.toml --bench session`.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::time::Duration;

use cpu_time::ProcessTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use tokio::runtime::{Builder, Runtime};

use self::wire::{Server, WINDOW};

#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "wire/mod.rs"]
pub(crate) mod wire;

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let server = Server::start(Duration::ZERO);
    ours(&mut criterion, &server);
    criterion.final_summary();
}

/// Measures the bound and this crate, in a group that peers can join.
pub(crate) fn ours(criterion: &mut Criterion, server: &Server) {
    let runtime = runtime();
    let addresses = wire::addresses(WINDOW);
    let (windows, mailboxes) = (wire::windows(&addresses), wire::mailboxes(&addresses));
    let mut group = group(criterion);
    let mut stream = wire::greeted(server.addr);
    group.bench_function("bound", |b| {
        b.iter_custom(|n| cpu(n, || wire::bare_loop(&mut stream, &windows, 1)));
    });
    let mut session = runtime.block_on(wire::session(server.addr));
    group.bench_function("smtp-pool", |b| {
        b.iter_custom(|n| cpu(n, || runtime.block_on(wire::pipelined(&mut session, &mailboxes, 1))));
    });
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn group(criterion: &mut Criterion) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group("session_100");
    group.throughput(Throughput::Elements(WINDOW as u64)).sample_size(30);
    group
}

/// Returns the CPU time of the process for `n` runs.
pub(crate) fn cpu(n: u64, mut run: impl FnMut()) -> Duration {
    let start = ProcessTime::now();
    (0..n).for_each(|_| run());
    start.elapsed()
}
