//! Servers that begin to refuse the client. No address becomes undeliverable by that, with any wording, and the other
//! lanes continue.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    metrics::Metrics,
    sandbox::Sandbox,
    verify::{
        BlockCause, Event, LaneState, LaneStatus, Providers, Record, Status, SubStatus, Task, Verifier,
        VerifierConfig,
    },
};
use tokio::time::timeout_at;

use crate::support::{config, sandbox};

/// The number of addresses of each domain. All of them exist.
const EACH: usize = 600;

/// Hosts with the names of providers. Each begins to refuse the client after a while with its own wording, except one.
const HOSTS: [(&str, &str); 8] = [
    ("aspmx.l.google.com", "at = \"rcpt\", after = 150"),
    ("mx.tenant-one.mail.protection.outlook.com", "at = \"rcpt\", after = 150, vague = 60"),
    ("mx.tenant-two.mail.protection.outlook.com", "at = \"mail\", after = 150"),
    ("mta7.am0.yahoodns.net", "at = \"connect\", after = 150"),
    ("mx00.gmx.net", "at = \"rcpt\", after = 0"),
    ("mxs.mail.ru", "at = \"rcpt\", after = 300, vague = 120"),
    ("mx.nobody-in-particular.example", "at = \"ehlo\", after = 150"),
    ("mx.good.example", ""),
];

/// Two hosts belong to one provider, and one refuses nobody.
const BLOCKED_LANES: usize = HOSTS.len() - 2;

async fn world() -> Sandbox {
    let mut world = String::new();
    for (n, (host, blocked)) in HOSTS.iter().enumerate() {
        // Connections end now and then, so that banners and EHLO matter.
        let blocked = match *blocked {
            "" => String::new(),
            blocked => format!("mails_per_connection = 3\nblocked = {{ {blocked} }}\n"),
        };
        world += &format!(
            "[[host]]\nname = \"{host}\"\nwithout = [\"STARTTLS\"]\n{blocked}\
             [[domain]]\nname = \"d{n}.test\"\nhosts = [\"{host}\"]\nknown_share = 1.0\n"
        );
    }
    sandbox(&world).await
}

fn verifier(sandbox: &Sandbox) -> Verifier {
    let mut config: VerifierConfig = config(sandbox);
    config.catch_all = false;
    // The built-in providers, without rates, which would make the test take hours.
    let providers: String =
        Providers::BUILTIN.lines().filter(|line| !line.starts_with("per_")).collect::<Vec<_>>().join("\n");
    config.providers = Some(Arc::new(Providers::from_toml(&providers).unwrap()));
    Verifier::new(config, Arc::new(Metrics::new())).unwrap()
}

fn addresses() -> Vec<String> {
    (0..EACH).flat_map(|n| (0..HOSTS.len()).map(move |d| format!("user{n}@d{d}.test"))).collect()
}

fn assert_nobody_is_invalid<'a>(records: impl Iterator<Item = &'a Record> + Clone) {
    let wrong = records.clone().find(|record| record.status == Status::Undeliverable);
    assert!(wrong.is_none(), "{wrong:#?}");
    let good =
        |record: &&Record| record.address.ends_with("@d7.test") && record.status == Status::Deliverable;
    assert_eq!(records.clone().filter(good).count(), EACH, "the rest goes on");
    let blocked = records.filter(|record| record.sub_status == SubStatus::Blocked).count();
    assert!(blocked > 5 * EACH / 2, "{blocked} blocked");
}

fn assert_lanes_tell(lanes: &[LaneStatus]) {
    for lane in lanes {
        match &lane.state {
            LaneState::Open => assert_eq!(&*lane.name, "mx.good.example"),
            // A control may show the block before a reply says it: two of the hosts begin with "User unknown".
            LaneState::Blocked(block) if block.cause == BlockCause::Harvest => {
                assert!(["Mail.ru", "Microsoft 365"].contains(&&*lane.name), "{lane:?}");
            }
            LaneState::Blocked(block) => {
                assert_eq!(block.cause, BlockCause::Blocklist("zen.sandbox.test".into()), "{lane:?}");
            }
            other => panic!("{} is {other:?}", lane.name),
        }
    }
    // Both tenants belong to one provider.
    assert_eq!(lanes.len(), HOSTS.len() - 1);
}

#[tokio::test]
async fn a_list_goes_through_a_blocklisting_without_a_false_verdict() {
    let sandbox = world().await;
    let mut run = verifier(&sandbox).verify_all(addresses());
    let mut records = Vec::new();
    while let Some(record) = run.next().await {
        records.push(record);
    }
    assert_eq!(records.len(), EACH * HOSTS.len());
    assert_nobody_is_invalid(records.iter());
    assert_lanes_tell(&run.lanes().snapshot());
}

#[tokio::test]
async fn a_caller_that_keeps_books_is_told_to_revoke_verdicts() {
    let sandbox = world().await;
    let (tasks, mut events) = verifier(&sandbox).start([]);
    let lanes = events.lanes();
    let all: Vec<_> =
        addresses().into_iter().enumerate().map(|(id, address)| Task::new(id as u64, address)).collect();
    tasks.send(all.clone()).await.unwrap();
    let (mut records, mut reopened, mut blocked) = (HashMap::new(), 0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The event of a lane may come behind its last record.
    while records.len() < all.len() || blocked < BLOCKED_LANES {
        let event = timeout_at(deadline.into(), events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{} records, {blocked} blocked lanes", records.len()));
        match event.unwrap() {
            Event::Done { id, record } => assert!(records.insert(id, record).is_none(), "{id} twice"),
            Event::Reopened { ids } => {
                reopened += ids.len();
                let again = ids.iter().map(|id| {
                    assert!(records.remove(id).is_some(), "{id} was not done");
                    all[*id as usize].clone()
                });
                tasks.send(again.collect()).await.unwrap();
            }
            Event::Lane(status) => blocked += usize::from(matches!(status.state, LaneState::Blocked(_))),
            event => panic!("{event:?}"),
        }
    }
    assert!(reopened > 0, "some were refused in vague words");
    assert_eq!(blocked, BLOCKED_LANES, "each lane says so once");
    assert_nobody_is_invalid(records.values());
    assert_lanes_tell(&lanes.snapshot());
}
