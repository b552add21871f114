//! Verifies a million addresses in a world of a thousand mail servers, each with its own limits.
//!
//! ```text
//! 1,000 MX hosts, 5 to 200 ms away, two connections at once, error counters of Postfix   20,000 domains
//!   of them  5 %  greylist, with shorter pauses               30 % of the addresses are unknown
//!            2 %  block us after a while                      10 % of the domains accept anything
//!            2 %  announce five recipients a transaction
//!            1 %  are tarpits
//! ```
//!
//! `just world` runs it, and `cargo bench --bench world -- --test` runs a small one. It fails in these cases:
//!
//! - a wrong verdict, or a limit exceeded by the count of a server;
//! - at full size, more than 1.3 times the time that the limits imply;
//! - servers that delay us for our errors, as Postfix does after the tenth, more than once in 100 connections.
//!
//! The argument `silent` runs a second part instead. It compares a world with silent or slow hosts with the same world
//! without them. It fails if the other hosts take more than 1.1 times as long, or if the run exceeds its limit.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | hosts, domains and addresses, and the time that the limits imply |
//! | `naive` | one connection for each address, as a comparison |
//! | `silent` | silent or slow hosts, and the others beside them |

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

mod naive;
mod plan;
mod silent;

use std::{
    env,
    process::exit,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    proto::{ClientName, Mailbox},
    sandbox::{HostRoute, HostStats, Sandbox, Truth},
    verify::{Record, Routes, Status, SubStatus, Unreachable, Verifier, VerifierConfig},
};

use self::plan::{Kind, Plan};

/// The maximum ratio of the time to the time that the limits imply.
const GOAL: f64 = 1.3;
/// The number of addresses from which on the goal counts. Below, learning the limits of the servers takes most of the
/// time.
const FULL: usize = 500_000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = env::args().collect();
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    let small = args.iter().any(|arg| arg == "--test");
    let silent = match small {
        true => {
            silent::Size { hosts: 40, domains: 160, addresses: 800, slack: Duration::from_secs(3), rounds: 1 }
        }
        false => silent::Size {
            hosts: 1_000,
            domains: 4_000,
            addresses: 100_000,
            slack: Duration::ZERO,
            rounds: 2,
        },
    };
    if args.iter().any(|arg| arg == "silent") {
        exit(i32::from(!silent::compare(silent).await));
    }
    let size = |name: &str, full: usize, small_size: usize| {
        let given = env::var(name).ok().map(|value| value.parse().unwrap());
        given.unwrap_or(if small { small_size } else { full })
    };
    let plan = Plan::new(
        size("WORLD_HOSTS", 1_000, 60),
        size("WORLD_DOMAINS", 20_000, 1_200),
        size("WORLD_ADDRESSES", 1_000_000, 12_000),
    );
    let sandbox = Sandbox::start(plan.world()).await.unwrap();
    let verifier = Verifier::new(config(&sandbox), Arc::new(Metrics::new())).unwrap();

    let bound = plan.bound(&sandbox);
    println!("{} addresses, {} hosts, {} domains", plan.addresses, plan.hosts.len(), plan.domains);
    println!("the limits imply {:.1} s, because of {}", bound.time.as_secs_f64(), bound.host);
    let started = Instant::now();
    let mut records = verifier.verify_all(plan.list());
    // Records are checked later, because the check takes longer than the question. A task collects them, because waking
    // the main thread for each of some 250,000 windows would take a share of two cores.
    let mut all = Vec::with_capacity(plan.addresses);
    let taken = tokio::spawn(async move {
        while let Some(record) = records.next().await {
            all.push(record);
        }
        all
    });
    let all = taken.await.unwrap();
    let last = started.elapsed();
    let count = all.len();
    let wrong: Vec<_> = all.into_iter().filter(|record| !is_right(&plan, &sandbox, record)).collect();
    let ratio = last.as_secs_f64() / bound.time.as_secs_f64();
    println!(
        "{count} records in {:.1} s, {:.0} a second: {ratio:.2} times what the limits imply, goal {GOAL}",
        last.as_secs_f64(),
        count as f64 / last.as_secs_f64(),
    );
    let stats: Vec<_> = plan.hosts.iter().map(|host| sandbox.stats(&host.name).unwrap()).collect();
    let connections: u64 = stats.iter().map(|stats| stats.connections).sum();
    let pauses: u64 = stats.iter().map(|stats| stats.soft_limit_hits).sum();
    println!(
        "{connections} connections, slowed down {pauses} times for their errors, at most one in 100 may be"
    );
    let broken = broken(&plan, &sandbox);
    println!("{} verdicts wrong, {} limits broken", wrong.len(), broken.len());
    for record in wrong.iter().take(5) {
        println!("wrong: {record:?}");
    }
    for (host, stats) in broken.iter().take(5) {
        println!("broken: {host} {stats:?}");
    }
    compare(&plan).await;
    let late = plan.addresses >= FULL && (ratio > GOAL || pauses * 100 > connections);
    let met = silent::compare(silent).await;
    exit(i32::from(!wrong.is_empty() || !broken.is_empty() || count != plan.addresses || late || !met));
}

fn config(sandbox: &Sandbox) -> VerifierConfig {
    let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
    let mut routes = Routes::new();
    routes.insert("*", Err(Unreachable::NoDnsEntries));
    for (domain, route) in sandbox.routes() {
        let HostRoute::Hosts(hosts) = route else { continue };
        let end = |(host, addr): &(&str, _)| Endpoint::new(*host, vec![*addr]);
        routes.insert(domain, Ok(hosts.iter().map(end).collect()));
    }
    config.routes = routes;
    config.client.timeouts = Timeouts::all(plan::DEADLINE);
    config.schedule = plan::SCHEDULE.to_vec();
    config.max_connections = 4_096;
    config
}

fn is_right(plan: &Plan, sandbox: &Sandbox, record: &Record) -> bool {
    let mailbox = Mailbox::parse(&record.address).unwrap();
    let truth = match sandbox.expected(&mailbox) {
        Truth::Known => record.status == Status::Deliverable,
        Truth::Unknown => record.sub_status == SubStatus::MailboxNotFound,
        Truth::CatchAll => record.sub_status == SubStatus::CatchAll,
        _ => false,
    };
    match plan.kind(&mailbox) {
        Kind::Tarpit => record.sub_status == SubStatus::TimeoutExceeded,
        // Earlier answers are right, and other addresses have no verdict. Whether the domain accepts any address may be
        // unknown.
        Kind::Blocker => {
            truth
                || record.status == Status::Unknown
                || record.status == Status::Deliverable
                    && record.reply.is_some()
                    && sandbox.expected(&mailbox) == Truth::CatchAll
        }
        _ => truth,
    }
}

/// Returns the hosts whose limits were exceeded, by their own count.
fn broken(plan: &Plan, sandbox: &Sandbox) -> Vec<(String, HostStats)> {
    let stats = plan.hosts.iter().map(|host| (host.name.clone(), sandbox.stats(&host.name).unwrap()));
    let broken = |stats: &HostStats| {
        stats.hard_limit_hits
            + stats.junk_limit_hits
            + stats.refused_connections
            + stats.rcpt_limit_hits
            + stats.early_talkers
            + stats.improper_pipelining
    };
    stats.filter(|(_, stats)| broken(stats) > 0).collect()
}

/// Compares both ways on the same sample, each in a new world.
async fn compare(plan: &Plan) {
    let sample: Vec<String> = plan.sample();
    let sandbox = Sandbox::start(plan.world()).await.unwrap();
    let verifier = Verifier::new(config(&sandbox), Arc::new(Metrics::new())).unwrap();
    let started = Instant::now();
    let mut records = verifier.verify_all(sample.clone());
    while records.next().await.is_some() {}
    let ours = started.elapsed();
    drop(sandbox);
    let sandbox = Sandbox::start(plan.world()).await.unwrap();
    let started = Instant::now();
    naive::verify(&sandbox, &sample).await;
    let theirs: Duration = started.elapsed();
    println!(
        "{} addresses of well-behaved hosts: {:.1} s, and {:.1} s with a connection for each: {:.1} times as long",
        sample.len(),
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        theirs.as_secs_f64() / ours.as_secs_f64(),
    );
}
