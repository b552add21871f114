//! Measures the cost of each column of a list. The whole command runs: it reads lists, checks the syntax, and writes
//! the columns.
//!
//! | group | work |
//! |---|---|
//! | `columns_jsonl` | one list to JSONL, each cell under its name |
//! | `columns_csv` | two lists to CSV, whose columns all have different names |
//!
//! Each list has 20 rows, and ten times as many columns as the previous one. The cost of a cell should be constant. The
//! benchmark fails if ten times the columns take more than 15 times the time.
//!
//! The bound reads the lists, finds the cells with memchr, and writes each behind a name.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{
    fs,
    hint::black_box,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use memchr::memchr_iter;
use tempfile::TempDir;

const ROWS: usize = 20;
const COLUMNS: [usize; 3] = [1_400, 14_000, 140_000];
/// The maximum ratio of the times, for ten times the columns.
const MOST: f64 = 15.0;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let dir = TempDir::new().unwrap();
    let mut lists = Vec::new();
    for columns in COLUMNS {
        lists.push((columns, ["a", "b"].map(|prefix| list(&dir, prefix, columns))));
    }
    for (name, count) in [("columns_jsonl", 1), ("columns_csv", 2)] {
        let mut group = criterion.benchmark_group(name);
        for (columns, lists) in &lists {
            let lists = &lists[..count];
            group.throughput(Throughput::Elements((count * columns * ROWS) as u64));
            group.bench_function(BenchmarkId::new("bound", columns), |b| b.iter(|| bound(black_box(lists))));
            group.bench_function(BenchmarkId::new("smtp-pool", columns), |b| {
                b.iter(|| run(black_box(lists), &dir));
            });
        }
        group.finish();
        let times: Vec<Duration> = lists.iter().map(|(_, lists)| fastest(&lists[..count], &dir)).collect();
        // With few columns the start of the process matters.
        let ratio = times[2].as_secs_f64() / times[1].as_secs_f64();
        assert!(ratio < MOST, "{name}: ten times the columns take {ratio:.1} times as long: {times:?}");
    }
    criterion.final_summary();
}

fn list(dir: &TempDir, prefix: &str, columns: usize) -> PathBuf {
    let path = dir.path().join(format!("{prefix}{columns}.csv"));
    let mut text = String::from("email");
    (1..columns).for_each(|n| text.push_str(&format!(",{prefix}_column_{n}")));
    for row in 0..ROWS {
        text.push_str(&format!("\n{prefix}{row}@example.com"));
        (1..columns).for_each(|n| text.push_str(&format!(",{row}.{n}")));
    }
    fs::write(&path, text).unwrap();
    path
}

/// Runs the command for one list to standard output, or for several to a file, which makes a job.
fn run(lists: &[PathBuf], dir: &TempDir) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(["verify", "--syntax-only", "-q"]).args(lists).stdin(Stdio::null()).stdout(Stdio::null());
    if lists.len() > 1 {
        command.arg("--restart").arg("-o").arg(dir.path().join("out.csv"));
    }
    assert!(command.status().unwrap().success());
}

fn fastest(lists: &[PathBuf], dir: &TempDir) -> Duration {
    let times = (0..3).map(|_| {
        let started = Instant::now();
        run(lists, dir);
        started.elapsed()
    });
    times.min().unwrap()
}

/// Finds cells and their names with memchr.
fn bound(lists: &[PathBuf]) {
    let mut out = Vec::new();
    for list in lists {
        let text = fs::read(list).unwrap();
        let mut lines = text.split(|octet| *octet == b'\n');
        let header = lines.next().unwrap();
        let names: Vec<&[u8]> = cells(header).collect();
        for line in lines {
            out.clear();
            for (name, cell) in names.iter().zip(cells(line)) {
                out.extend_from_slice(name);
                out.extend_from_slice(cell);
            }
            std::io::sink().write_all(black_box(&out)).unwrap();
        }
    }
}

fn cells(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b',', line).chain([line.len()]).map(move |end| {
        let cell = &line[start..end];
        start = end + 1;
        cell
    })
}
