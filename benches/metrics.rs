//! Measures the cost of recording a latency: by one thread, and by two at once.
//!
//! One thread is measured by its CPU time. Its bound is a bare hdrhistogram. For two threads the bound is one
//! hdrhistogram behind a mutex. Two threads are measured per value, so that half the time of one thread means twice the
//! throughput.

use std::{
    hint::black_box,
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use criterion::Throughput;
use hdrhistogram::Histogram;
use smtp_pool::metrics::{Metrics, Operation};

#[path = "cpu/mod.rs"]
mod cpu;

fn main() {
    let mut criterion = cpu::criterion();
    let mut group = criterion.benchmark_group("metrics_record");
    group.throughput(Throughput::Elements(1));
    let mut histogram = histogram();
    group.bench_function("bound", |b| b.iter(|| histogram.saturating_record(black_box(1_234))));
    let metrics = Metrics::new();
    let server = metrics.server("mx.example.com");
    let latency = Duration::from_micros(1_234);
    let record = || server.record(Operation::Rcpt, black_box(latency));
    group.bench_function("smtp-pool", |b| b.iter(record));
    group.bench_function("smtp-pool, 2 threads", |b| b.iter_custom(|n| together(2, n, record)));
    let locked = Mutex::new(self::histogram());
    let record = || locked.lock().map(|mut locked| locked.saturating_record(black_box(1_234))).is_ok();
    group.bench_function("Mutex<Histogram>, 2 threads", |b| b.iter_custom(|n| together(2, n, record)));
    group.finish();

    let mut group = criterion.benchmark_group("metrics_snapshot");
    group.bench_function("smtp-pool", |b| b.iter(|| black_box(metrics.snapshot())));
    group.finish();
    criterion.final_summary();
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that are valid")
}

/// Returns the time that `threads` take for `n` values in all.
fn together<T>(threads: u32, n: u64, record: impl Fn() -> T + Sync) -> Duration {
    let start = Barrier::new(threads as usize + 1);
    let each = n.div_ceil(threads.into());
    let run = || {
        start.wait();
        (0..each).for_each(|_| drop(black_box(record())));
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        start.wait();
        let began = Instant::now();
        for thread in running {
            thread.join().expect("recording does not panic");
        }
        began.elapsed()
    })
}
