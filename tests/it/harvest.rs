//! Servers that refuse everybody as unknown after a few unknown recipients: nobody is called undeliverable for it.

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

/// A host with the first so many addresses, of which a share exists.
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

/// Panics if an address that exists is undeliverable, or one that does not is deliverable.
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
                        // Its first answers were lies, and nothing tells them from the truth.
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
async fn a_defence_that_never_ends_leaves_addresses_unknown_and_the_lane_says_why() {
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
    // The first connection, and a control behind each pause.
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
async fn a_caller_that_keeps_books_takes_verdicts_back_and_comes_to_an_end() {
    for defence in ["harvest_defence = { after = 12 }", "harvest_defence = { after = 12, lasts = \"100ms\" }"]
    {
        let sandbox = world(defence, 0.5, 120).await;
        let mut config = config(&sandbox);
        config.catch_all = false;
        config.schedule = vec![Duration::from_millis(60); 3];
        let (tasks, mut events) = Verifier::new(config, Arc::new(Metrics::new())).unwrap().start([]);
        let all: Vec<Task> =
            (0..).zip(addresses(120)).map(|(id, address)| Task { id, address, attempts: 0 }).collect();
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
                        let task = Task { id, address, attempts: record.attempts };
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
