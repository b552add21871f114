//! Measures the cost of an address for the client, and the throughput. It uses real sockets, beside a bare loop that
//! writes the same octets.
//!
//! | benchmark | work |
//! |---|---|
//! | `bound` | the bare loop: MAIL, 100 RCPT and RSET at once, four such windows in flight; memchr counts reply lines |
//! | `session` | the same through [`Session`]: encoded, decoded, every reply matched with its command |
//! | `verifier` | all of it: parsing, routing, lanes, windows, classification, records. One run keeps its connections, as the loop does. |
//! | `verifier, distinct` | the same, but each reply names its recipient, so that each is classified by itself |
//! | `verify_all` | the same from the start, with a new connection after 90 transactions, as users run it |
//!
//! `verify_cpu` measures CPU time over one connection to a server that answers at once. `verify_{n}x{ms}` measures wall
//! time over `n` connections to servers that answer after `ms` milliseconds. Its CPU time is in the table at the end,
//! and in `target/verify-cpu.md`.
//!
//! The server is a process of its own, so that its CPU time does not count. Run `cargo bench --all-features --bench
//! verify`. The last lines show the ratios, and the benchmark fails if a goal is missed.
//!
//! The ratios come from rounds of their own, in which all run by turns. A shared machine changes its speed within
//! seconds. Except in `distinct`, each RCPT gets the same reply, as from servers that accept every address.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{
    env,
    fmt::Write,
    fs, mem,
    net::{SocketAddr, TcpStream},
    process::exit,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use criterion::{Criterion, SamplingMode, Throughput};
use smtp_pool::{
    client::{Endpoint, Session},
    metrics::Metrics,
    proto::{ClientName, Mailbox},
    verify::{Event, Events, Providers, Routes, Task, Tasks, Verifier, VerifierConfig},
};
use tokio::runtime::Builder;

use self::wire::{FLIGHT, Server, WINDOW};

#[path = "wire/mod.rs"]
mod wire;

/// Addresses of an iteration. `verify_all` needs several connections for them, because its lane quits after 90
/// transactions.
const ADDRESSES: usize = 40_000;
/// The number of rounds in which the ways are compared.
const ROUNDS: usize = 40;
/// The maximum CPU time of the client per address over one connection, as a multiple of the bare loop.
const GOALS: [(&str, f64); 2] = [("session", 2.0), ("verifier", 6.0)];

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let rounds = on_own_core(|| cpu_of_one_connection(&mut criterion));
    let mut table = String::from(
        "| connections | latency | client | addresses/s | CPU per 100,000 addresses |\n|---|---|---|---|---|\n",
    );
    for latency in [0, 5, 20].map(Duration::from_millis) {
        let server = Server::start(latency);
        for connections in [1, 10, 100] {
            throughput(&mut criterion, &server, latency, connections, &mut table);
        }
    }
    criterion.final_summary();
    if !is_trial() {
        print!("{table}");
        fs::create_dir_all("target").unwrap();
        fs::write("target/verify-cpu.md", table).unwrap();
        report(&rounds);
    }
}

/// Runs on a core of its own, and the server on the other. Otherwise both may share a core by chance, which changes the
/// reads of the client.
#[cfg_attr(not(target_os = "linux"), expect(unused, reason = "there is no way to ask for it"))]
fn on_own_core<T>(run: impl FnOnce() -> T) -> T {
    let before = wire::stay_on(0);
    let done = run();
    #[cfg(target_os = "linux")]
    if let Some(before) = before {
        rustix::thread::sched_setaffinity(None, &before).unwrap();
    }
    done
}

/// Returns whether this is a trial run that only checks that everything works.
fn is_trial() -> bool {
    env::args().any(|arg| arg == "--test" || arg == "--list")
}

/// The time and the addresses so far.
#[derive(Clone, Copy, Default)]
struct Total {
    wall: Duration,
    cpu: Duration,
    addresses: u64,
}

impl Total {
    /// Measures `n` runs.
    fn measure(&mut self, n: u64, addresses: usize, mut run: impl FnMut()) -> Self {
        self.measure_with(n, addresses, || (), |()| run())
    }

    /// Measures `n` runs on the result of `prepare`, which is not measured.
    fn measure_with<I>(
        &mut self,
        n: u64,
        addresses: usize,
        mut prepare: impl FnMut() -> I,
        mut run: impl FnMut(I),
    ) -> Self {
        let mut spent = Self::default();
        for _ in 0..n {
            let input = prepare();
            let (wall, cpu) = (Instant::now(), ProcessTime::now());
            run(input);
            spent.wall += wall.elapsed();
            spent.cpu += cpu.elapsed();
            spent.addresses += addresses as u64;
        }
        self.wall += spent.wall;
        self.cpu += spent.cpu;
        self.addresses += spent.addresses;
        spent
    }

    fn cpu_per_address(&self) -> f64 {
        self.cpu.as_secs_f64() / self.addresses.max(1) as f64
    }
}

/// The names of the ways over one connection.
const WAYS: [&str; 5] = ["bare loop", "session", "verifier", "verifier, distinct", "verify_all"];

/// Returns the CPU time per address of each of [`WAYS`] in ns, round by round.
fn cpu_of_one_connection(criterion: &mut Criterion) -> Vec<[f64; WAYS.len()]> {
    let server = Server::start(Duration::ZERO);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let addresses = wire::addresses(ADDRESSES);
    let (windows, mailboxes) = (wire::windows(&addresses), wire::mailboxes(&addresses));
    let mut stream = wire::greeted(server.addr);
    let mut bound = || wire::bare_loop(&mut stream, &windows, FLIGHT);
    let mut connected = runtime.block_on(wire::session(server.addr));
    let mut session = || runtime.block_on(wire::pipelined(&mut connected, &mailboxes, FLIGHT));
    // The loop and the session make no new connection after 90 transactions either.
    let lasting = verifier(server.addr, 1, "transactions = 1000000\n");
    let (tasks, mut events) = runtime.block_on(async { lasting.start([]) });
    let mut verifier_on = |given| runtime.block_on(verified_meanwhile(&tasks, &mut events, given));
    verifier_on(tasks_of(&addresses));
    let distinct: Vec<String> = (0..ADDRESSES).map(|n| format!("distinct.number{n}@example.com")).collect();
    let beginner = verifier(server.addr, 1, "");
    let verify_all = |addresses| runtime.block_on(verified(&beginner, addresses));

    let cpu = |n, mut run: &mut dyn FnMut()| Total::default().measure(n, ADDRESSES, &mut run);
    let mut cpu_of_verifier = |n, addresses: &[String]| {
        Total::default().measure_with(n, ADDRESSES, || tasks_of(addresses), &mut verifier_on)
    };
    let cpu_of_all = |n| Total::default().measure_with(n, ADDRESSES, || addresses.clone(), verify_all);

    let mut group = criterion.benchmark_group("verify_cpu");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    group.bench_function("bound", |b| b.iter_custom(|n| cpu(n, &mut bound).cpu));
    group.bench_function("session", |b| b.iter_custom(|n| cpu(n, &mut session).cpu));
    group.bench_function("verifier", |b| b.iter_custom(|n| cpu_of_verifier(n, &addresses).cpu));
    group.bench_function("verifier, distinct", |b| b.iter_custom(|n| cpu_of_verifier(n, &distinct).cpu));
    group.bench_function("verify_all", |b| b.iter_custom(|n| cpu_of_all(n).cpu));
    group.finish();

    let rounds = if is_trial() { 1 } else { ROUNDS };
    let round = |_| {
        let all = [
            cpu(1, &mut bound),
            cpu(1, &mut session),
            cpu_of_verifier(1, &addresses),
            cpu_of_verifier(1, &distinct),
            cpu_of_all(1),
        ];
        all.map(|total| total.cpu_per_address() * 1e9)
    };
    (0..rounds).map(round).collect()
}

fn tasks_of(addresses: &[String]) -> Vec<Task> {
    let tasks = addresses.iter().zip(0..);
    tasks.map(|(address, id)| Task::new(id, address.clone())).collect()
}

fn throughput(
    criterion: &mut Criterion,
    server: &Server,
    latency: Duration,
    connections: usize,
    table: &mut String,
) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // There are so many windows that filling and draining the connections hardly matters.
    let each = match connections {
        _ if is_trial() => WINDOW,
        1 | 10 => ADDRESSES,
        _ => ADDRESSES / 4,
    };
    let addresses = wire::addresses(each * connections);
    let shares: Vec<Vec<Vec<u8>>> = addresses.chunks(each).map(wire::windows).collect();
    let mailboxes: Vec<Arc<[Mailbox]>> =
        addresses.chunks(each).map(|share| wire::mailboxes(share).into()).collect();
    let millis = latency.as_millis();

    let mut group = criterion.benchmark_group(format!("verify_{connections}x{millis}ms"));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(addresses.len() as u64));
    let mut row = |name: &str, total: &Total| {
        // The command line excludes this benchmark.
        if total.addresses == 0 {
            return;
        }
        let rate = total.addresses as f64 / total.wall.as_secs_f64();
        let cpu = total.cpu_per_address() * 1e8;
        writeln!(table, "| {connections} | {millis} ms | {name} | {rate:.0} | {cpu:.1} ms |").unwrap();
    };

    let mut streams: Vec<TcpStream> = (0..connections).map(|_| wire::greeted(server.addr)).collect();
    let mut total = Total::default();
    group.bench_function("bound", |b| {
        b.iter_custom(|n| total.measure(n, addresses.len(), || bare_loops(&mut streams, &shares)).wall);
    });
    row("bound", &total);
    drop(streams);

    let mut sessions: Vec<_> =
        (0..connections).map(|_| runtime.block_on(wire::session(server.addr))).collect();
    let mut total = Total::default();
    group.bench_function("session", |b| {
        b.iter_custom(|n| {
            let run = || sessions = runtime.block_on(all_pipelined(mem::take(&mut sessions), &mailboxes));
            total.measure(n, addresses.len(), run).wall
        });
    });
    row("session", &total);
    drop(sessions);

    // The bare loop makes no new connection after 90 transactions, and does not begin slowly. So the run continues from
    // one iteration to the next, and its lane is fully open before the first.
    let lasting = verifier(server.addr, connections, "transactions = 1000000\n");
    let (tasks, mut events) = runtime.block_on(async { lasting.start([]) });
    let lanes = events.lanes();
    let mut run = |given| runtime.block_on(verified_meanwhile(&tasks, &mut events, given));
    let mut total = Total::default();
    group.bench_function("verifier", |b| {
        let opened = (0..50).any(|_| {
            run(tasks_of(&addresses));
            is_trial() || (lanes.snapshot()[0].connections as usize) == connections
        });
        assert!(opened, "the lane does not open up to {connections} connections");
        b.iter_custom(|n| total.measure_with(n, addresses.len(), || tasks_of(&addresses), &mut run).wall);
    });
    row("verifier", &total);
    drop((tasks, events));

    let verifier = verifier(server.addr, connections, "");
    let mut total = Total::default();
    group.bench_function("verify_all", |b| {
        b.iter_custom(|n| {
            let run = |addresses| runtime.block_on(verified(&verifier, addresses));
            total.measure_with(n, addresses.len(), || addresses.clone(), run).wall
        });
    });
    row("verify_all", &total);
}

/// Runs one thread for each connection, because blocking costs the least.
fn bare_loops(streams: &mut [TcpStream], shares: &[Vec<Vec<u8>>]) {
    if let ([stream], [windows]) = (&mut *streams, shares) {
        return wire::bare_loop(stream, windows, FLIGHT);
    }
    thread::scope(|scope| {
        for (stream, windows) in streams.iter_mut().zip(shares) {
            scope.spawn(|| wire::bare_loop(stream, windows, FLIGHT));
        }
    });
}

async fn all_pipelined(
    sessions: Vec<Session<tokio::net::TcpStream>>,
    shares: &[Arc<[Mailbox]>],
) -> Vec<Session<tokio::net::TcpStream>> {
    let run = |(mut session, share): (_, &Arc<[Mailbox]>)| {
        let share = Arc::clone(share);
        tokio::spawn(async move {
            wire::pipelined(&mut session, &share, FLIGHT).await;
            session
        })
    };
    let tasks: Vec<_> = sessions.into_iter().zip(shares).map(run).collect();
    let mut sessions = Vec::with_capacity(tasks.len());
    for task in tasks {
        sessions.push(task.await.unwrap());
    }
    sessions
}

fn report(rounds: &[[f64; WAYS.len()]]) {
    let of = |which: &dyn Fn(&[f64; WAYS.len()]) -> f64| median(rounds.iter().map(which).collect());
    let mut table = String::from("| | CPU time per address | of the loop | goal |\n|---|---|---|---|\n");
    let mut missed = false;
    for (n, way) in WAYS.into_iter().enumerate() {
        let (time, ratio) = (of(&|round| round[n]), of(&|round| round[n] / round[0]));
        let goal = GOALS.into_iter().find_map(|(name, goal)| (name == way).then_some(goal));
        let told = goal.map_or_else(String::new, |goal| goal.to_string());
        writeln!(table, "| {way} | {time:.0} ns | {ratio:.2} | {told} |").unwrap();
        missed |= goal.is_some_and(|goal| ratio > goal);
    }
    print!("{table}");
    fs::write("target/verify-by-turns.md", table).unwrap();
    exit(i32::from(missed));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn verifier(addr: SocketAddr, connections: usize, limits: &str) -> Verifier {
    let mut routes = Routes::new();
    routes.insert("*", Ok(vec![Endpoint::new("mx.example.com", vec![addr])]));
    let mut config = VerifierConfig::new(ClientName::parse("client.example.org").unwrap());
    config.routes = routes;
    let limits = format!("[default]\nconnections = {connections}\n{limits}");
    config.providers = Some(Arc::new(Providers::from_toml(&limits).unwrap()));
    Verifier::new(config, Arc::new(Metrics::new())).unwrap()
}

async fn verified(verifier: &Verifier, addresses: Vec<String>) {
    let expected = addresses.len();
    let mut records = verifier.verify_all(addresses);
    let mut count = 0;
    while let Some(record) = records.next().await {
        assert_eq!(record.smtp_code, Some(250));
        count += 1;
    }
    assert_eq!(count, expected);
}

/// Verifies all tasks of one part of a run.
async fn verified_meanwhile(tasks: &Tasks, events: &mut Events, given: Vec<Task>) {
    let expected = given.len();
    let take = async {
        let mut count = 0;
        while count < expected {
            for event in events.next_many().await.unwrap() {
                if let Event::Done { record, .. } = event {
                    assert_eq!(record.smtp_code, Some(250));
                    count += 1;
                }
            }
        }
    };
    tokio::join!(async { tasks.send(given).await.unwrap() }, take);
}
