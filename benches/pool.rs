//! What it costs to get an idle connection out of the pool and to give it back: by one task, and by 16 tasks on two
//! threads over 8 connections. And how long the unluckiest of a thousand waits where 1,000 tasks share 50 connections,
//! each held for a millisecond: the bound is what all would wait if they were served strictly in the order of coming.
//!
//! The connections are real ones, to a server in a process of its own, and are looked at when they are lent, to see that
//! they still are what they were. The bound is an `ArrayQueue` of the same connections, neither looked at nor waited for.
//! One task is measured by CPU time, the crowd by the time that passes, which wants an idle machine. The same with peers
//! beside it: `cargo bench --manifest-path benches/peers/Cargo.toml --bench pool`.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{
    future::Future,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use crossbeam_queue::ArrayQueue;
use smtp_pool::{client::Session, pool::Pool};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
};

use self::wire::Server;

#[expect(dead_code, reason = "it has what the other benchmarks need, too")]
#[path = "wire/mod.rs"]
pub(crate) mod wire;

/// What is pooled: boxed, so that all move the same few octets.
pub(crate) type Connection = Box<Session<TcpStream>>;

/// Connections in each pool.
pub(crate) const CONNECTIONS: usize = 8;
/// Tasks that want one, where there is a crowd.
const TASKS: u64 = 16;
/// Tasks and connections where there is a long line, and how often each task stands in it.
const LINE: usize = 1_000;
pub(crate) const FEW: usize = 50;
const TURNS: usize = 20;
const HELD: Duration = Duration::from_millis(1);

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let server = Server::start(Duration::ZERO);
    ours(&mut criterion, &server);
    our_line(&mut criterion, &server);
    criterion.final_summary();
}

/// The bound and this crate, in groups that peers can join.
pub(crate) fn ours(criterion: &mut Criterion, server: &Server) {
    let runtime = runtime();
    let queue = Arc::new(ArrayQueue::new(CONNECTIONS));
    for session in sessions(&runtime, server) {
        queue.push(session).unwrap();
    }
    bench(criterion, "bound", &runtime, move || {
        let queue = Arc::clone(&queue);
        async move {
            let session = loop {
                match queue.pop() {
                    Some(session) => break session,
                    None => tokio::task::yield_now().await,
                }
            };
            let returned = queue.push(black_box(session));
            assert!(returned.is_ok());
        }
    });

    let pool = Pool::builder().max_connections(CONNECTIONS).build().unwrap();
    let name = name(server);
    runtime.block_on(async {
        let mut lent = Vec::new();
        for _ in 0..CONNECTIONS {
            lent.push(pool.get(name).await.unwrap());
        }
    });
    assert_eq!(pool.status().idle, CONNECTIONS);
    bench(criterion, "smtp-pool", &runtime, move || {
        let pool = pool.clone();
        async move { drop(black_box(pool.get(name).await.unwrap())) }
    });
}

/// The bound and this crate, for the line.
pub(crate) fn our_line(criterion: &mut Criterion, server: &Server) {
    let runtime = runtime();
    line(criterion).bench_function("bound", |b| {
        b.iter_custom(|n| {
            // What a hold really takes, with as many timers as connections.
            let holds = runtime.block_on(holds());
            let mean = holds.iter().sum::<Duration>() / u32::try_from(holds.len()).unwrap();
            let ideal = mean * u32::try_from((LINE - FEW) / FEW).unwrap();
            ideal * u32::try_from(n).unwrap()
        });
    });
    let pool = Pool::builder().max_connections(FEW).build().unwrap();
    let name = name(server);
    waits(criterion, "smtp-pool", &runtime, move || {
        let pool = pool.clone();
        async move { pool.get(name).await.unwrap() }
    });
}

async fn holds() -> Vec<Duration> {
    let tasks: Vec<_> = (0..FEW)
        .map(|_| {
            tokio::spawn(async {
                let start = Instant::now();
                for _ in 0..100 {
                    tokio::time::sleep(HELD).await;
                }
                start.elapsed() / 100
            })
        })
        .collect();
    let mut holds = Vec::new();
    for task in tasks {
        holds.push(task.await.unwrap());
    }
    holds
}

/// The wait that one in a thousand exceeds, in a line of [`LINE`].
pub(crate) fn waits<C, F, G>(criterion: &mut Criterion, name: &str, runtime: &Runtime, get: C)
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = G> + Send + 'static,
    G: Send + 'static,
{
    runtime.block_on(async {
        let mut lent = Vec::new();
        for _ in 0..FEW {
            lent.push(get().await);
        }
    });
    line(criterion).bench_function(name, |b| {
        b.iter_custom(|n| {
            let mut all = Duration::ZERO;
            for _ in 0..n {
                let mut waits = runtime.block_on(stand_in_line(get.clone()));
                waits.sort_unstable();
                all += waits[waits.len() * 999 / 1_000];
            }
            all
        });
    });
}

async fn stand_in_line<C, F, G>(get: C) -> Vec<Duration>
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = G> + Send + 'static,
    G: Send + 'static,
{
    let tasks: Vec<_> = (0..LINE)
        .map(|_| {
            let get = get.clone();
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(TURNS);
                for _ in 0..TURNS {
                    let start = Instant::now();
                    let lent = get().await;
                    waits.push(start.elapsed());
                    tokio::time::sleep(HELD).await;
                    drop(lent);
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::with_capacity(LINE * TURNS);
    for task in tasks {
        waits.append(&mut task.await.unwrap());
    }
    waits
}

fn line(criterion: &mut Criterion) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group("pool_wait_p999");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group
}

/// The name of the server, as a program has it.
fn name(server: &Server) -> &'static str {
    server.addr.to_string().leak()
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// As many connections as a pool has, greeted.
pub(crate) fn sessions(runtime: &Runtime, server: &Server) -> Vec<Connection> {
    (0..CONNECTIONS).map(|_| Box::new(runtime.block_on(wire::session(server.addr)))).collect()
}

/// One task, and a crowd, each doing `cycle` over and over.
pub(crate) fn bench<C, F>(criterion: &mut Criterion, name: &str, runtime: &Runtime, cycle: C)
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    group(criterion, "pool_checkout").bench_function(name, |b| {
        b.iter_custom(|n| runtime.block_on(runtime.spawn(repeat(n, cycle.clone()))).unwrap());
    });
    group(criterion, "pool_16_tasks").bench_function(name, |b| {
        b.iter_custom(|n| {
            let start = Instant::now();
            let each = n.div_ceil(TASKS);
            let tasks: Vec<_> = (0..TASKS).map(|_| runtime.spawn(repeat(each, cycle.clone()))).collect();
            runtime.block_on(async {
                for task in tasks {
                    task.await.unwrap();
                }
            });
            start.elapsed()
        });
    });
}

/// CPU time of the process, which does nothing else.
async fn repeat<F: Future<Output = ()>>(n: u64, cycle: impl Fn() -> F) -> Duration {
    let start = ProcessTime::now();
    for _ in 0..n {
        cycle().await;
    }
    start.elapsed()
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group
}
