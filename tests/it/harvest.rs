//! Servers that refuse every recipient as unknown after a few unknown ones. No existing address becomes undeliverable.

use std::{collections::HashMap, sync::Arc, time::Duration};

use smtp_pool::{
    metrics::Metrics,
    proto::Mailbox,
    sandbox::{Sandbox, Truth},
    verify::{
        Blame, BlockCause, Event, LaneState, LaneStatus, Record, Status, SubStatus, Task, Verifier,
        VerifierConfig,
    },
};
use tokio::time::timeout;

use crate::support::{config, sandbox};

/// Starts a host that knows a share of the first `count` addresses.
async fn world(defence: &str, share: f64, count: usize) -> Sandbox {
    let mut random = fastrand::Rng::with_seed(3);
    let users: Vec<String> =
        (0..count).filter(|_| random.f64() < share).map(|n| format!("\"user{n}\"")).collect();
    sandbox(&format!(
        "[[host]]\nname = \"mx.harvest.test\"\nwithout = [\"STARTTLS\"]\n{defence}\n\
         [[domain]]\nname = \"harvest.test\"\nusers = [{}]\n",
        users.join(", ")
    ))
    .await
}

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}@harvest.test")).collect()
}

fn exists(sandbox: &Sandbox, record: &Record) -> bool {
    sandbox.expected(&Mailbox::parse(&record.address).unwrap()) == Truth::Known
}

/// Panics if an address that exists is undeliverable, or an address that does not exist is deliverable.
fn assert_true<'a>(sandbox: &Sandbox, records: impl IntoIterator<Item = &'a Record>, world: &str) {
    for record in records {
        let lie = if exists(sandbox, record) { Status::Undeliverable } else { Status::Deliverable };
        assert_ne!(record.status, lie, "{world}: {record:#?}");
    }
}

async fn verify(config: VerifierConfig, count: usize) -> (Vec<Record>, LaneStatus) {
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let mut run = verifier.verify_all(addresses(count));
    let mut records = Vec::new();
    while let Some(record) = timeout(Duration::from_secs(60), run.next()).await.expect("records go on") {
        records.push(record);
    }
    assert_eq!(records.len(), count);
    let lane = run.lanes().snapshot().remove(0);
    (records, lane)
}

#[tokio::test]
async fn no_defence_makes_an_address_undeliverable_that_exists() {
    for after in [2, 5, 8, 20] {
        for per_connection in [false, true] {
            for (share, count) in [(0.3, 60), (0.6, 14), (0.6, 40), (0.6, 300), (0.9, 150)] {
                for catch_all in [false, true] {
                    let defence =
                        format!("harvest_defence = {{ after = {after}, per_connection = {per_connection} }}");
                    let sandbox = world(&defence, share, count).await;
                    let mut config = config(&sandbox);
                    config.catch_all = catch_all;
                    let (records, lane) = verify(config, count).await;
                    if !records.iter().any(|record| record.status == Status::Deliverable) {
                        // The first answers of this server were false, and no later answer shows it.
                        continue;
                    }
                    let world = format!("{defence}, {count} of which {share} exist, {catch_all}");
                    assert_true(&sandbox, &records, &world);
                    let unknown = records.iter().filter(|record| record.status == Status::Unknown);
                    for record in unknown.clone() {
                        let why = (record.sub_status, record.blame);
                        assert_eq!(why, (SubStatus::Blocked, Some(Blame::Us)), "{world}: {record:#?}");
                        assert!(record.reply.as_deref().unwrap().contains("directory harvesting"));
                    }
                    assert_eq!(unknown.count() > 0, lane.harvest_defences > 0, "{world}: {lane:#?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_defence_that_never_ends_makes_addresses_unknown_and_the_lane_says_why() {
    let sandbox = world("harvest_defence = { after = 10 }", 0.5, 200).await;
    let mut config = config(&sandbox);
    config.schedule = vec![Duration::from_millis(40); 3];
    let (records, lane) = verify(config, 200).await;
    assert_true(&sandbox, &records, "for ever");
    let unknown = records.iter().filter(|record| record.status == Status::Unknown).count();
    assert!(unknown > 150, "{unknown}");
    let LaneState::Blocked(block) = &lane.state else { panic!("{lane:#?}") };
    assert_eq!(block.cause, BlockCause::Harvest);
    assert_eq!(lane.harvest_defences, 1, "one that goes on");
    let stats = sandbox.stats("mx.harvest.test").unwrap();
    // There is the first connection, and one control after each pause.
    assert!(stats.rcpts < 100, "{stats:?}");
}

#[tokio::test]
async fn after_the_pause_the_rest_is_asked() {
    for defence in [
        "harvest_defence = { after = 10, lasts = \"150ms\" }",
        "harvest_defence = { after = 5, per_connection = true }",
    ] {
        let sandbox = world(defence, 0.6, 60).await;
        let mut config = config(&sandbox);
        config.schedule = vec![Duration::from_millis(200); 6];
        let (records, lane) = verify(config, 60).await;
        for record in &records {
            let right = if exists(&sandbox, record) { Status::Deliverable } else { Status::Undeliverable };
            assert_eq!(record.status, right, "{defence}: {record:#?}");
        }
        assert!(lane.harvest_defences > 0 && lane.state == LaneState::Open, "{defence}: {lane:#?}");
    }
}

#[tokio::test]
async fn a_caller_that_keeps_books_revokes_verdicts_and_ends() {
    for defence in ["harvest_defence = { after = 12 }", "harvest_defence = { after = 12, lasts = \"100ms\" }"]
    {
        let sandbox = world(defence, 0.5, 120).await;
        let mut config = config(&sandbox);
        config.catch_all = false;
        config.schedule = vec![Duration::from_millis(60); 3];
        let (tasks, mut events) = Verifier::new(config, Arc::new(Metrics::new())).unwrap().start([]);
        let all: Vec<Task> = (0..).zip(addresses(120)).map(|(id, address)| Task::new(id, address)).collect();
        tasks.send(all.clone()).await.unwrap();
        let (mut records, mut reopened, mut blocked) = (HashMap::new(), 0, 0);
        while records.len() < all.len() {
            let event = timeout(Duration::from_secs(20), events.next()).await.expect("events go on").unwrap();
            match event {
                Event::Done { id, record } => assert!(records.insert(id, record).is_none(), "{id} twice"),
                Event::Reopened { ids } => {
                    reopened += ids.len();
                    let again = ids.iter().map(|id| {
                        assert!(records.remove(id).is_some(), "{id} was not done");
                        all[*id as usize].clone()
                    });
                    tasks.send(again.collect()).await.unwrap();
                }
                Event::Later { id, record, after } => {
                    let (tasks, address) = (tasks.clone(), all[id as usize].address.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(after).await;
                        let task = Task::new(id, address).attempts(record.attempts);
                        tasks.send(vec![task]).await.unwrap();
                    });
                }
                Event::Lane(status) => blocked += u32::from(matches!(status.state, LaneState::Blocked(_))),
                event => panic!("{event:?}"),
            }
        }
        assert!(reopened > 0 && blocked > 0, "{defence}: {reopened}, {blocked}");
        assert!(reopened < 60, "{defence}: {reopened} were taken back");
        assert_true(&sandbox, records.values(), defence);
    }
}

#[tokio::test]
async fn an_honest_server_is_asked_few_controls() {
    for share in [0.3, 0.6, 0.95] {
        let sandbox = world("", share, 3_000).await;
        let mut config = config(&sandbox);
        config.catch_all = false;
        let (records, lane) = verify(config, 3_000).await;
        assert_eq!(lane.harvest_defences, 0);
        for record in &records {
            let right = if exists(&sandbox, record) { Status::Deliverable } else { Status::Undeliverable };
            assert_eq!(record.status, right, "{record:#?}");
        }
        let controls = sandbox.stats("mx.harvest.test").unwrap().rcpts - 3_000;
        assert!(controls <= 10, "{controls} controls where {share} exist");
    }
}

/// A random list and its world.
struct RandomList {
    world: String,
    addresses: Vec<String>,
    catch_all: bool,
}

impl RandomList {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (after, per_connection) = (random.u32(1..16), random.bool());
        let share = [0.2, 0.4, 0.6, 0.8, 0.95][random.usize(..5)];
        let (count, domains) = ([6, 12, 25, 50, 100, 300][random.usize(..6)], random.usize(1..5));
        let (sorted, catch_all) = (random.bool(), random.bool());
        let latency = [0, 1, 4][random.usize(..3)];
        let without = if random.u8(..4) > 0 { "" } else { ", \"PIPELINING\"" };
        let mut world = format!(
            "[[host]]\nname = \"mx.harvest.test\"\nlatency = \"{latency}ms\"\nwithout = [\"STARTTLS\"{without}]\n\
             harvest_defence = {{ after = {after}, per_connection = {per_connection} }}\n"
        );
        let mut addresses = Vec::new();
        for domain in 0..domains {
            let of = |n: usize| if sorted { n * domains / count } else { n % domains };
            let mine: Vec<usize> = (0..count).filter(|n| of(*n) == domain).collect();
            let known = mine.iter().filter(|_| random.f64() < share).map(|n| format!("\"user{n}\""));
            let users = known.collect::<Vec<_>>().join(", ");
            world += &format!("[[domain]]\nname = \"d{domain}.test\"\nusers = [{users}]\n");
            addresses.extend(mine.iter().map(|n| (*n, format!("user{n}@d{domain}.test"))));
        }
        addresses.sort();
        Self { world, addresses: addresses.into_iter().map(|(_, address)| address).collect(), catch_all }
    }

    async fn start(&self) -> (Sandbox, Verifier) {
        let sandbox = sandbox(&self.world).await;
        let mut config = config(&sandbox);
        config.catch_all = self.catch_all;
        let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
        (sandbox, verifier)
    }
}

/// Seeds that once gave a false verdict: the first connection accepted no recipient.
const SEEDS: [u64; 10] = [36, 63, 90, 110, 135, 147, 161, 443, 552, 571];

/// Returns whether some recipient is accepted. Otherwise nothing distinguishes false answers from true ones.
fn tells(records: &[Record]) -> bool {
    records.iter().any(|record| record.status == Status::Deliverable)
}

#[tokio::test]
async fn lists_of_any_kind_meet_no_lie() {
    for seed in SEEDS.into_iter().chain(0..50) {
        let random_list = RandomList::new(seed);
        let (sandbox, verifier) = random_list.start().await;
        let mut run = verifier.verify_all(random_list.addresses.clone());
        let mut records = Vec::new();
        while let Some(record) = timeout(Duration::from_secs(60), run.next()).await.expect("records go on") {
            records.push(record);
        }
        assert_eq!(records.len(), random_list.addresses.len());
        if tells(&records) {
            assert_true(&sandbox, &records, &format!("{seed}: {}", random_list.world));
        }
    }
}

/// Checks as a job does: no address is fed after all of them are done.
#[tokio::test]
async fn no_verdict_is_revoked_once_all_are_done() {
    for seed in SEEDS.into_iter().chain(0..50) {
        let random_list = RandomList::new(seed);
        let (sandbox, verifier) = random_list.start().await;
        let (tasks, mut events) = verifier.start([]);
        let task = |(id, address): (u64, &String)| Task::new(id, address.clone());
        let all: Vec<Task> = (0..).zip(&random_list.addresses).map(task).collect();
        tasks.send(all.clone()).await.unwrap();
        let (mut tasks, mut records) = (Some(tasks), HashMap::new());
        while let Some(event) = timeout(Duration::from_secs(60), events.next()).await.expect("events go on") {
            match event {
                Event::Done { id, record } => drop(records.insert(id, record)),
                Event::Reopened { ids } => {
                    let again = ids.iter().map(|id| {
                        assert!(records.remove(id).is_some(), "{id} was not done");
                        all[*id as usize].clone()
                    });
                    tasks.as_ref().expect("not after the end").send(again.collect()).await.unwrap();
                }
                _ => {}
            }
            if records.len() == all.len() {
                tasks = None;
            }
        }
        let records: Vec<Record> = records.into_values().collect();
        assert_eq!(records.len(), all.len());
        if tells(&records) {
            assert_true(&sandbox, &records, &format!("{seed}: {}", random_list.world));
        }
    }
}

/// Checks that recipients that break a connection are found one by one, while controls are asked.
#[tokio::test]
async fn recipients_that_break_connections_lose_no_row_beside_a_defence() {
    for seed in [1, 2, 12, 14, 23, 25, 26, 32, 34, 35, 37, 39] {
        let (mut random, mut random_list) = (fastrand::Rng::with_seed(seed), RandomList::new(seed));
        let faults: Vec<String> = (0..2)
            .map(|_| {
                let (user, does) =
                    (random.usize(..random_list.addresses.len()), ["eof", "reset"][random.usize(..2)]);
                format!("{{ at = \"rcpt\", to = \"user{user}\", does = \"{does}\" }}")
            })
            .collect();
        let more = format!(", lasts = \"60ms\" }}\nfaults = [{}]\n", faults.join(", "));
        random_list.world = random_list.world.replacen(" }\n", &more, 1);
        let sandbox = sandbox(&random_list.world).await;
        let mut config = config(&sandbox);
        config.catch_all = random_list.catch_all;
        config.schedule = vec![Duration::from_millis(50); 3];
        let mut run = Verifier::new(config, Arc::new(Metrics::new()))
            .unwrap()
            .verify_all(random_list.addresses.clone());
        let mut records = 0;
        while let Some(_record) = timeout(Duration::from_secs(60), run.next()).await.expect("records go on") {
            records += 1;
        }
        assert_eq!(records, random_list.addresses.len(), "{seed}: {}", random_list.world);
    }
}

/// Checks that a sample of refusals proves the server honest. No recipient was accepted before the last connections, so
/// the first ones had no control. Asking all of them again would nearly double the questions.
#[tokio::test]
async fn a_sample_of_refusals_proves_those_before_the_first_acceptance() {
    let known = (1_000..1_020).map(|n| format!("\"user{n}\"")).collect::<Vec<_>>().join(", ");
    let sandbox = sandbox(&format!(
        "[[host]]\nname = \"mx.harvest.test\"\nwithout = [\"STARTTLS\"]\n\
         [[domain]]\nname = \"harvest.test\"\nusers = [{known}]\n"
    ))
    .await;
    let (records, lane) = verify(config(&sandbox), 1_020).await;
    for record in &records {
        let right = if exists(&sandbox, record) { Status::Deliverable } else { Status::Undeliverable };
        assert_eq!(record.status, right, "{record:#?}");
    }
    assert_eq!(lane.harvest_defences, 0);
    let rcpts = sandbox.stats("mx.harvest.test").unwrap().rcpts;
    assert!((1_021..1_250).contains(&rcpts), "{rcpts} questions about 1,020 addresses");
}
