//! Measures the cost of checking out an idle connection and returning it: by one task, and by 16 tasks on two threads
//! over 8 connections.
//!
//! It also measures a queue: 1,000 tasks share 50 connections, and hold each for 1 ms. The result is the longest wait
//! of a thousand. Its bound is the wait if all are served strictly in order.
//!
//! The connections are real, to a server in a process of its own. The pool checks each at checkout. The bound is an
//! `ArrayQueue` of the same connections, without a check or a queue of tasks.
//!
//! One task is measured by CPU time. The 16 tasks are measured by wall time, which needs an idle machine. For the
//! peers, run `cargo bench --manifest-path benches/peers/Cargo.toml --bench pool`.

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

#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "wire/mod.rs"]
pub(crate) mod wire;

/// The pooled type. It is boxed, so that every pool moves the same few octets.
pub(crate) type Connection = Box<Session<TcpStream>>;

/// The number of connections in each pool.
pub(crate) const CONNECTIONS: usize = 8;
/// The number of tasks in the benchmark with many tasks.
const TASKS: u64 = 16;
/// The numbers of tasks and connections in the queue benchmark, and how often each task joins the queue.
const QUEUE: usize = 1_000;
pub(crate) const QUEUE_CONNECTIONS: usize = 50;
const ROUNDS: usize = 20;
const HOLD: Duration = Duration::from_millis(1);

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let server = Server::start(Duration::ZERO);
    ours(&mut criterion, &server);
    our_queue(&mut criterion, &server);
    criterion.final_summary();
}

/// Measures the bound and this crate, in groups that peers can join.
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

/// Measures the bound and this crate for the queue.
pub(crate) fn our_queue(criterion: &mut Criterion, server: &Server) {
    let runtime = runtime();
    queue(criterion).bench_function("bound", |b| {
        b.iter_custom(|n| {
            // The real time of a hold, with as many timers as connections.
            let holds = runtime.block_on(holds());
            let mean = holds.iter().sum::<Duration>() / u32::try_from(holds.len()).unwrap();
            let ideal = mean * u32::try_from((QUEUE - QUEUE_CONNECTIONS) / QUEUE_CONNECTIONS).unwrap();
            ideal * u32::try_from(n).unwrap()
        });
    });
    let pool = Pool::builder().max_connections(QUEUE_CONNECTIONS).build().unwrap();
    let name = name(server);
    waits(criterion, "smtp-pool", &runtime, move || {
        let pool = pool.clone();
        async move { pool.get(name).await.unwrap() }
    });
}

async fn holds() -> Vec<Duration> {
    let tasks: Vec<_> = (0..QUEUE_CONNECTIONS)
        .map(|_| {
            tokio::spawn(async {
                let start = Instant::now();
                for _ in 0..100 {
                    tokio::time::sleep(HOLD).await;
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

/// Measures the wait that one in a thousand exceeds, in a queue of [`QUEUE`].
pub(crate) fn waits<C, F, G>(criterion: &mut Criterion, name: &str, runtime: &Runtime, get: C)
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = G> + Send + 'static,
    G: Send + 'static,
{
    runtime.block_on(async {
        let mut lent = Vec::new();
        for _ in 0..QUEUE_CONNECTIONS {
            lent.push(get().await);
        }
    });
    queue(criterion).bench_function(name, |b| {
        b.iter_custom(|n| {
            let mut all = Duration::ZERO;
            for _ in 0..n {
                let mut waits = runtime.block_on(wait_in_queue(get.clone()));
                waits.sort_unstable();
                all += waits[waits.len() * 999 / 1_000];
            }
            all
        });
    });
}

async fn wait_in_queue<C, F, G>(get: C) -> Vec<Duration>
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = G> + Send + 'static,
    G: Send + 'static,
{
    let tasks: Vec<_> = (0..QUEUE)
        .map(|_| {
            let get = get.clone();
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(ROUNDS);
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    let lent = get().await;
                    waits.push(start.elapsed());
                    tokio::time::sleep(HOLD).await;
                    drop(lent);
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::with_capacity(QUEUE * ROUNDS);
    for task in tasks {
        waits.append(&mut task.await.unwrap());
    }
    waits
}

fn queue(criterion: &mut Criterion) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group("pool_wait_p999");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group
}

/// Returns the name of the server, as a program would have it.
fn name(server: &Server) -> &'static str {
    server.addr.to_string().leak()
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Returns as many sessions as a pool has connections, after EHLO.
pub(crate) fn sessions(runtime: &Runtime, server: &Server) -> Vec<Connection> {
    (0..CONNECTIONS).map(|_| Box::new(runtime.block_on(wire::session(server.addr)))).collect()
}

/// Measures one task, and many tasks, each of which repeats `cycle`.
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

/// Returns the CPU time of the process, which does nothing else.
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
