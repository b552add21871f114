//! Measures the CPU time of an address for the whole command, beside the engine alone, in one run.
//!
//! | way | work |
//! |---|---|
//! | `engine` | [`Verifier::verify_all`] in this process, with addresses from memory; records are counted |
//! | `stream, JSONL` | the command reads CSV from standard input, and writes JSONL |
//! | `stream, CSV` | the same to CSV; the columns of the list pass through |
//! | `job, CSV` | the command makes a job of the list, works on it, and writes CSV |
//!
//! The server is a process of its own, and answers at once. Its CPU time does not count. All ways take turns, round by
//! round, and the medians count.
//!
//! `ROWS` is the number of addresses (1,000,000) and `ROUNDS` the number of rounds (3). With a million rows the benchmark
//! fails if a goal is missed. `--test` runs each way once with 2,000 rows. The table goes to `target/command-cpu.md`,
//! too.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write as _},
    path::Path,
    process::{Command, Stdio, exit},
    sync::Arc,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use smtp_pool::{
    client::Endpoint,
    metrics::Metrics,
    proto::ClientName,
    verify::{Providers, Routes, Verifier, VerifierConfig},
};
use tempfile::TempDir;

use self::wire::Server;

#[path = "wire/mod.rs"]
#[expect(dead_code, reason = "other benchmarks use the clients")]
mod wire;

const ROWS: usize = 1_000_000;
const ROUNDS: usize = 3;
const TRIAL_ROWS: usize = 2_000;
/// The limits of the one provider. A lane that quits and starts again would be measured otherwise.
const PROVIDERS: &str = "[default]\nconnections = 4\nrejections = 1000\ntransactions = 1000000\n";
/// The goals for the CPU time of an address, in µs.
const WAYS: [(&str, Option<f64>); 4] =
    [("engine", None), ("stream, JSONL", Some(2.0)), ("stream, CSV", Some(2.5)), ("job, CSV", None)];

fn main() {
    Server::serve_if_asked();
    let trial = env::args().any(|argument| argument == "--test");
    let number = |name: &str, usual| env::var(name).map_or(usual, |value| value.parse().unwrap());
    let (rows, rounds) = match trial {
        true => (TRIAL_ROWS, 1),
        false => (number("ROWS", ROWS), number("ROUNDS", ROUNDS)),
    };
    let dir = TempDir::new().unwrap();
    let addresses = write_list(dir.path(), rows);
    fs::write(dir.path().join("providers.toml"), PROVIDERS).unwrap();
    let server = Server::start(Duration::ZERO);
    let mut spent: [Vec<Spent>; WAYS.len()] = Default::default();
    for _ in 0..rounds {
        spent[0].push(engine(&server, addresses.clone()));
        spent[1].push(command(dir.path(), &server, rows, "out.jsonl", false));
        spent[2].push(command(dir.path(), &server, rows, "out.csv", false));
        spent[3].push(command(dir.path(), &server, rows, "out.csv", true));
    }
    if !trial {
        report(&mut spent, rows);
    }
}

/// The time of one way in one round.
#[derive(Clone, Copy)]
struct Spent {
    cpu: Duration,
    wall: Duration,
}

/// Writes the list, and returns its addresses. Two thirds are at large domains, the others at 20,000 small ones.
fn write_list(dir: &Path, rows: usize) -> Vec<String> {
    let mut list = BufWriter::new(File::create(dir.join("list.csv")).unwrap());
    let mut addresses = Vec::with_capacity(rows);
    list.write_all(b"id,email,name,city\n").unwrap();
    for row in 0..rows {
        let address = match row % 3 {
            0 => format!("user.number{row}@small{}.example", row.wrapping_mul(7_919) % 20_000),
            _ => format!("user.number{row}@large{}.example", row % 10),
        };
        writeln!(list, "{row},{address},\"Ann, {row}\",Berlin").unwrap();
        addresses.push(address);
    }
    list.flush().unwrap();
    addresses
}

fn engine(server: &Server, addresses: Vec<String>) -> Spent {
    let mut routes = Routes::new();
    routes.insert("*", Ok(vec![Endpoint::new("mx.example.com", vec![server.addr])]));
    let mut config = VerifierConfig::new(ClientName::parse("client.example.org").unwrap());
    config.routes = routes;
    config.providers = Some(Arc::new(Providers::from_toml(PROVIDERS).unwrap()));
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let expected = addresses.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let count = runtime.block_on(async {
        let mut records = verifier.verify_all(addresses);
        let mut count = 0;
        while let Some(record) = records.next().await {
            assert_eq!(record.smtp_code, Some(250));
            count += 1;
        }
        count
    });
    assert_eq!(count, expected);
    Spent { cpu: cpu.elapsed(), wall: wall.elapsed() }
}

/// Runs the command on the list: as a job, or with the list as standard input.
fn command(dir: &Path, server: &Server, rows: usize, output: &str, job: bool) -> Spent {
    let (list, output) = (dir.join("list.csv"), dir.join(output));
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(["verify", "-q", "--helo", "client.example.org", "--allow-private", "--route"]);
    command.arg(format!("*=127.0.0.1:{}", server.addr.port()));
    command.arg("--providers").arg(dir.join("providers.toml")).arg("-o").arg(&output);
    match job {
        true => command.arg("--restart").arg(&list).stdin(Stdio::null()),
        false => command.args(["--format", "csv", "-"]).stdin(File::open(&list).unwrap()),
    };
    let (wall, before) = (Instant::now(), cpu_of_ended_children());
    assert!(command.status().unwrap().success());
    let spent = Spent { cpu: cpu_of_ended_children() - before, wall: wall.elapsed() };
    let lines = BufReader::new(File::open(&output).unwrap()).lines();
    let header = usize::from(output.extension().unwrap() == "csv");
    let answered = lines.map(Result::unwrap).filter(|line| line.contains("2.1.5")).count();
    assert_eq!(answered, rows, "{} lacks rows; {header} line is the header", output.display());
    fs::remove_file(&output).unwrap();
    spent
}

/// Returns the CPU time of all children that this process has waited for. The kernel counts it in ticks of 10 ms.
fn cpu_of_ended_children() -> Duration {
    const TICKS_A_SECOND: u64 = 100;
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Duration::ZERO };
    // The name of the process, which is in parentheses, may hold spaces. Fields 16 and 17 are the children's.
    let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
    let ticks: u64 = fields.skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
}

fn report(spent: &mut [Vec<Spent>], rows: usize) {
    let mut table = format!(
        "| {rows} addresses | CPU µs an address | of the engine | goal | wall s |\n|---|---|---|---|---|\n"
    );
    let (mut missed, mut engine) = (false, 0.0);
    for ((name, goal), spent) in WAYS.into_iter().zip(spent) {
        spent.sort_by_key(|spent| spent.cpu);
        let Spent { cpu, wall } = spent[spent.len() / 2];
        let each = cpu.as_secs_f64() * 1e6 / rows as f64;
        if engine == 0.0 {
            engine = each;
        }
        let told = goal.map_or_else(String::new, |goal| format!("{goal:.1}"));
        let (ratio, wall) = (each / engine, wall.as_secs_f64());
        writeln!(table, "| {name} | {each:.2} | {ratio:.1} | {told} | {wall:.2} |").unwrap();
        missed |= rows >= ROWS && goal.is_some_and(|goal| each > goal);
    }
    print!("{table}");
    fs::create_dir_all("target").unwrap();
    fs::write("target/command-cpu.md", table).unwrap();
    exit(i32::from(missed));
}
