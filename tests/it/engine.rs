//! The engine that all calls of a verifier share: its limits, blocks and connections.

use std::{sync::Arc, time::Duration};

use smtp_pool::{
    metrics::Metrics,
    sandbox::Sandbox,
    verify::{
        CatchAll, Event, Providers, Record, Status, SubStatus, Task, Verifier, VerifierConfig, VerifyOptions,
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{config, sandbox};

/// One host with the mailboxes `user0` to `user99`.
const PLAIN: &str = "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n";
/// Longer than any step takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn world(host: &str) -> Sandbox {
    let users: Vec<_> = (0..100).map(|n| format!("\"user{n}\"")).collect();
    sandbox(&format!("{host}[[domain]]\nname = \"a.test\"\nusers = [{}]\n", users.join(", "))).await
}

fn verifier_with(sandbox: &Sandbox, limits: &str, change: impl FnOnce(&mut VerifierConfig)) -> Verifier {
    let mut config = config(sandbox);
    config.catch_all = false;
    config.providers = Some(Providers::from_toml(&format!("[default]\n{limits}")).unwrap().into());
    change(&mut config);
    Verifier::new(config, Arc::new(Metrics::new())).unwrap()
}

fn verifier(sandbox: &Sandbox, limits: &str) -> Verifier {
    verifier_with(sandbox, limits, |_| {})
}

fn user(n: usize) -> String {
    format!("user{n}@a.test")
}

/// Starts `count` calls at once, each with a clone of its own.
fn calls(verifier: &Verifier, count: usize, options: VerifyOptions) -> JoinSet<Record> {
    (0..count)
        .map(|n| {
            let verifier = verifier.clone();
            async move { verifier.verify_with(&user(n), options).await.unwrap() }
        })
        .collect()
}

#[tokio::test]
async fn concurrent_calls_keep_the_limits_of_the_provider() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 1\nper_minute = 5\n");
    let start = Instant::now();
    let options = VerifyOptions::new().deadline(Duration::from_secs(3));
    let records = calls(&verifier, 20, options).join_all().await;
    let answered = records.iter().filter(|record| record.status == Status::Deliverable).count() as u64;
    let late = records.iter().filter(|record| record.sub_status == SubStatus::TimeoutExceeded).count();
    assert_eq!((answered as usize + late, records.len()), (20, 20));
    let stats = sandbox.stats("mx").unwrap();
    // A token every 15 s, after the first.
    let allowed = 1 + start.elapsed().as_secs() / 15;
    assert!(
        stats.rcpts >= 1 && stats.rcpts <= allowed.min(5),
        "{} questions, {allowed} allowed",
        stats.rcpts
    );
    assert!(stats.connections <= allowed && stats.max_open == 1, "{} connections", stats.connections);
    assert!(answered <= stats.rcpts);
}

#[tokio::test]
async fn concurrent_calls_share_one_connection() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 1\n");
    let records = calls(&verifier, 60, VerifyOptions::new()).join_all().await;
    assert!(records.iter().all(|record| record.status == Status::Deliverable));
    let stats = sandbox.stats("mx").unwrap();
    assert_eq!((stats.rcpts, stats.max_open), (60, 1));
    assert!(stats.connections <= 3, "{} connections", stats.connections);
}

#[tokio::test]
async fn a_call_uses_the_connection_of_the_call_before() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 1\n");
    for n in 0..5 {
        assert_eq!(verifier.verify(&user(n)).await.unwrap().status, Status::Deliverable);
    }
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 5);
    // On a slow machine the connection may have been idle for two seconds.
    assert!(sandbox.stats("mx").unwrap().connections < 5);
    // It does not stay open.
    timeout(LONG, async {
        while sandbox.stats("mx").unwrap().open > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn calls_to_a_server_that_blocks_us_are_as_few_as_those_of_a_list() {
    const BLOCKING: &str = "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"rcpt\", does = { reply = \"550 5.7.1 Client host blocked using zen.spamhaus.org\" } }]\n";
    let sandbox = world(BLOCKING).await;
    let verifier = verifier(&sandbox, "connections = 1\n");
    let records = calls(&verifier, 60, VerifyOptions::new()).join_all().await;
    assert!(records.iter().all(|record| record.sub_status == SubStatus::Blocked), "{records:#?}");
    for n in 60..80 {
        let record = verifier.verify(&user(n)).await.unwrap();
        assert_eq!(record.sub_status, SubStatus::Blocked);
    }
    let stats = sandbox.stats("mx").unwrap();
    assert!(stats.connections <= 3 && stats.rcpts <= 60, "{stats:?}");
    let before = stats.rcpts;
    // A list and a job get the answer without a question as well.
    let mut records = verifier.verify_all((80..90).map(user));
    while let Some(record) = records.next().await {
        assert_eq!(record.sub_status, SubStatus::Blocked);
    }
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, before);
}

#[tokio::test]
async fn a_list_a_job_and_calls_share_the_connections() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 2\n");
    let (tasks, mut events) = verifier.start([]);
    let mut list = verifier.verify_all((0..30).map(user));
    tasks.send((30..60).map(|n| Task::new(n, user(n as usize))).collect()).await.unwrap();
    drop(tasks);
    let calls = calls(&verifier, 30, VerifyOptions::new());
    let of_list = async {
        let mut count = 0;
        while let Some(record) = list.next().await {
            assert_eq!(record.status, Status::Deliverable);
            count += 1;
        }
        count
    };
    let of_job = async {
        let mut ids = Vec::new();
        while let Some(event) = events.next().await {
            if let Event::Done { id, record } = event {
                assert_eq!(record.address, user(id as usize), "each run gets its own");
                ids.push(id);
            }
        }
        ids.sort_unstable();
        ids
    };
    let (count, ids, records) = tokio::join!(of_list, of_job, calls.join_all());
    assert_eq!((count, records.len()), (30, 30));
    assert!(ids.into_iter().eq(30..60));
    let stats = sandbox.stats("mx").unwrap();
    assert_eq!(stats.rcpts, 90);
    assert!(stats.max_open <= 2, "{} at once", stats.max_open);
}

#[tokio::test]
async fn a_run_that_is_dropped_does_not_disturb_another() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 1\n");
    let mut dropped = verifier.verify_all((0..50).map(user));
    let mut other = verifier.verify_all((50..100).map(user));
    assert!(dropped.next().await.is_some());
    drop(dropped);
    let mut count = 0;
    while let Some(record) = timeout(LONG, other.next()).await.unwrap() {
        assert_eq!(record.status, Status::Deliverable);
        count += 1;
    }
    assert_eq!(count, 50);
    assert_eq!(sandbox.stats("mx").unwrap().open, 0, "its connections are closed at its end");
}

#[tokio::test]
async fn questions_of_a_dropped_run_are_not_asked() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "connections = 1\nper_minute = 30\n");
    let mut dropped = verifier.verify_all((0..100).map(user));
    assert!(dropped.next().await.is_some());
    drop(dropped);
    // The next call waits for a token, and not behind the others.
    let start = Instant::now();
    timeout(LONG, verifier.verify(&user(1))).await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    let asked = sandbox.stats("mx").unwrap().rcpts;
    assert!(asked < 40, "{asked}");
}

#[tokio::test]
async fn a_caller_that_takes_no_events_does_not_hold_up_others() {
    let reply = format!("250 2.1.5 {}", "x".repeat(1_000));
    let sandbox = sandbox(&format!(
        "{PLAIN}faults = [{{ at = \"rcpt\", does = {{ reply = \"{reply}\" }} }}]\n\
         [[domain]]\nname = \"a.test\"\ncatch_all = true\n"
    ))
    .await;
    let verifier = verifier_with(&sandbox, "", |config| config.providers = None);
    let (tasks, mut stalled) = verifier.start([]);
    const TASKS: u64 = 40_000;
    tasks.send((0..TASKS).map(|id| Task::new(id, user(id as usize))).collect()).await.unwrap();
    drop(tasks);
    // Wait until no question is asked for a while.
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        match sandbox.stats("mx").unwrap().rcpts {
            now if now == before && now > 1_000 => break,
            now => before = now,
        }
    }
    assert!(before < TASKS, "the backlog is full");
    let record = timeout(LONG, verifier.verify("ann@a.test")).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Deliverable);
    let mut done = 0;
    while let Some(events) = timeout(LONG, stalled.next_many()).await.unwrap() {
        done += events.iter().filter(|event| matches!(event, Event::Done { .. })).count() as u64;
    }
    assert_eq!(done, TASKS);
}

#[tokio::test]
async fn catch_all_results_are_shared_and_those_of_a_job_seed_them() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier_with(&sandbox, "", |config| config.catch_all = true);
    assert_eq!(verifier.verify(&user(0)).await.unwrap().catch_all, CatchAll::Refused);
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 2, "with the random mailbox");
    assert_eq!(verifier.verify(&user(1)).await.unwrap().catch_all, CatchAll::Refused);
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 3);
    // Another verifier, which learns from a job.
    let verifier = verifier_with(&sandbox, "", |config| config.catch_all = true);
    let (tasks, mut events) = verifier.start([("a.test".to_owned(), CatchAll::Accepted)]);
    tasks.send(vec![Task::new(1, user(2))]).await.unwrap();
    drop(tasks);
    while let Some(event) = events.next().await {
        if let Event::Done { record, .. } = event {
            assert_eq!(record.sub_status, SubStatus::CatchAll);
        }
    }
    assert_eq!(verifier.verify(&user(3)).await.unwrap().sub_status, SubStatus::CatchAll);
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 5);
}

#[tokio::test]
async fn a_call_does_not_wait_for_a_probe_that_a_greylist_delays() {
    const PAUSE: Duration = Duration::from_secs(3);
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\ngreylist = \"300ms\"\n[[domain]]\nname = \"a.test\"\nusers = [\"user0\", \"user1\"]\n",
    )
    .await;
    let verifier = verifier_with(&sandbox, "", |config| {
        (config.catch_all, config.schedule) = (true, vec![PAUSE]);
    });
    let mut list = verifier.verify_all([user(0)]);
    let call = verifier.verify(&user(1)).await.unwrap();
    assert_eq!(call.sub_status, SubStatus::Greylisted);
    // The greylist accepts both with their second attempt. It then delays the random mailbox.
    while sandbox.stats("mx").unwrap().rcpts < 4 {
        sleep(Duration::from_millis(20)).await;
    }
    let call = timeout(LONG, verifier.verify(&user(1))).await.unwrap().unwrap();
    assert_eq!((call.sub_status, call.catch_all), (SubStatus::Accepted, CatchAll::Inconclusive));
    let record = timeout(LONG, list.next()).await.unwrap().unwrap();
    assert_eq!((record.sub_status, record.catch_all), (SubStatus::Accepted, CatchAll::Refused));
}

#[tokio::test]
async fn a_recent_verdict_answers_if_the_caller_accepts_its_age() {
    let sandbox = world(PLAIN).await;
    let verifier = verifier(&sandbox, "");
    let options = VerifyOptions::new().max_age(LONG);
    let mut first = verifier.verify_with("user1@a.test", options).await.unwrap();
    let again = verifier.clone().verify_with("user1@A.test", options).await.unwrap();
    first.address = "user1@A.test".to_owned();
    assert_eq!(again, first);
    let nobody = verifier.verify_with("nobody@a.test", options).await.unwrap();
    assert_eq!(nobody.status, Status::Undeliverable);
    assert_eq!(verifier.verify_with("nobody@a.test", options).await.unwrap(), nobody);
    let asked = sandbox.stats("mx").unwrap().rcpts;
    assert!((2..=3).contains(&asked), "with a control, if there was one: {asked}");
    // Without the option, and for another spelling of a mailbox that does not exist, the server is asked.
    verifier.verify("user1@a.test").await.unwrap();
    verifier.verify_with("Nobody@a.test", options).await.unwrap();
    assert!(sandbox.stats("mx").unwrap().rcpts >= asked + 2);
}

#[tokio::test]
async fn verdicts_of_a_server_that_blocks_us_leave_the_memory() {
    let faults = "faults = [{ at = \"rcpt\", nth = 2, every = 1, does = { reply = \"550 5.7.1 Client host blocked using zen.spamhaus.org\" } }]\n";
    let sandbox = world(&format!("{PLAIN}{faults}")).await;
    let verifier = verifier(&sandbox, "connections = 1\nrejections = 50\n");
    let options = VerifyOptions::new().max_age(LONG);
    let nobody = verifier.verify_with("nobody@a.test", options).await.unwrap();
    assert_eq!(nobody.status, Status::Undeliverable);
    assert_eq!(verifier.verify_with("nobody@a.test", options).await.unwrap().status, Status::Undeliverable);
    let records = calls(&verifier, 40, VerifyOptions::new()).join_all().await;
    assert!(records.iter().any(|record| record.sub_status == SubStatus::Blocked));
    let nobody = verifier.verify_with("nobody@a.test", options).await.unwrap();
    assert_eq!(nobody.sub_status, SubStatus::Blocked);
}

#[cfg(feature = "blocking")]
#[test]
fn blocking_calls_keep_the_limits_of_the_provider() {
    use smtp_pool::blocking;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sandbox = runtime.block_on(world(PLAIN));
    let mut config = config(&sandbox);
    config.catch_all = false;
    config.providers = Some(Providers::from_toml("[default]\nconnections = 1\n").unwrap().into());
    let verifier = blocking::Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let threads = (0..20).map(|n| {
        let verifier = verifier.clone();
        std::thread::spawn(move || verifier.verify(&user(n)).unwrap().unwrap())
    });
    let threads: Vec<_> = threads.collect();
    let list = verifier.verify_all((20..40).map(user)).unwrap();
    assert!(list.map(Result::unwrap).all(|record| record.status == Status::Deliverable));
    for thread in threads {
        assert_eq!(thread.join().unwrap().status, Status::Deliverable);
    }
    let options = VerifyOptions::new().max_age(LONG).deadline(LONG);
    verifier.verify_with(&user(1), options).unwrap().unwrap();
    let stats = sandbox.stats("mx").unwrap();
    assert_eq!((stats.rcpts, stats.max_open), (40, 1));
}

#[test]
fn limits_and_blocks_outlive_the_runtime_of_the_first_call() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let apart = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sandbox = apart.block_on(world(PLAIN));
    let verifier = verifier(&sandbox, "connections = 1\nper_hour = 10\n");
    let start = Instant::now();
    let options = VerifyOptions::new().deadline(Duration::from_secs(1));
    let records: Vec<_> =
        (0..5).map(|n| runtime().block_on(verifier.verify_with(&user(n), options)).unwrap()).collect();
    assert!(start.elapsed() < 4 * LONG, "a token comes every six minutes");
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 1);
    assert!(records[1..].iter().all(|record| record.sub_status == SubStatus::TimeoutExceeded));
}
