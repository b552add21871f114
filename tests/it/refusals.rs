//! Refusals of the sender or of the connection, and those for no recipient. No recipient becomes undeliverable by them.

use std::{net::TcpListener, sync::Arc, time::Duration};

use smtp_pool::{
    client::Endpoint,
    metrics::Metrics,
    sandbox::Sandbox,
    verify::{
        Blame, BlockCause, Classifier, LaneState, LaneStatus, Record, Routes, Status, SubStatus, Verifier,
        VerifierConfig,
    },
};
use tokio::time::timeout;

use crate::support::{config, sandbox};

async fn verify(config: VerifierConfig, addresses: Vec<String>) -> (Vec<Record>, LaneStatus) {
    let count = addresses.len();
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let mut run = verifier.verify_all(addresses);
    let mut records = Vec::new();
    while let Some(record) = timeout(Duration::from_secs(60), run.next()).await.expect("records go on") {
        records.push(record);
    }
    assert_eq!(records.len(), count);
    let lane = run.lanes().snapshot().remove(0);
    (records, lane)
}

/// Returns addresses of `a.test`. Those with an even number exist.
fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}@a.test")).collect()
}

fn users(count: usize) -> String {
    let users: Vec<String> = (0..count).step_by(2).map(|n| format!("\"user{n}\"")).collect();
    format!("[[domain]]\nname = \"a.test\"\nusers = [{}]\n", users.join(", "))
}

fn right(record: &Record) -> Status {
    let number: usize =
        record.address.trim_start_matches("user").trim_end_matches("@a.test").parse().unwrap();
    if number.is_multiple_of(2) { Status::Deliverable } else { Status::Undeliverable }
}

#[track_caller]
fn assert_right(records: &[Record], what: &str) {
    for record in records {
        assert_eq!(record.status, right(record), "{what}: {record:#?}");
    }
}

#[tokio::test]
async fn one_recipient_a_bounce_means_one_recipient_a_transaction() {
    let host = "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\none_bounce_recipient = true\n";
    let sandbox = sandbox(&format!("{host}{}", users(120))).await;
    let (records, lane) = verify(config(&sandbox), addresses(120)).await;
    assert_right(&records, "one recipient a bounce");
    let stats = sandbox.stats("mx").unwrap();
    // Each connection may have nine refusals, and half of the addresses are refused.
    assert!(stats.connections <= 12, "{stats:?}");
    assert!(stats.rcpts <= 120 + 20, "the limit is learnt once: {stats:?}");
    assert_eq!((lane.state, lane.sender_refusals), (LaneState::Open, 0), "nobody refuses the sender");
}

#[tokio::test]
async fn a_recipient_that_takes_no_bounces_is_unknown_and_the_lane_counts_it() {
    let fault = "{ at = \"rcpt\", to = \"user2\", does = { reply = \"550 That recipient does not accept bounces\" } }";
    let host = format!("[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nfaults = [{fault}]\n");
    let sandbox = sandbox(&format!("{host}{}", users(40))).await;
    let (records, lane) = verify(config(&sandbox), addresses(40)).await;
    let (of, others): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.address == "user2@a.test");
    assert_eq!((of[0].status, of[0].blame), (Status::Unknown, Some(Blame::Us)), "{of:#?}");
    assert_right(&others, "those that take bounces");
    assert_eq!((lane.state, lane.sender_refusals), (LaneState::Open, 1));
}

/// Verifies addresses of a host that gives all of them one reply. Returns the records and the number of questions.
async fn all_refused(at: &str, reply: &str, rules: Option<&str>) -> (Vec<Record>, LaneStatus, u64) {
    let fault = format!("{{ at = \"{at}\", does = {{ reply = \"{reply}\" }} }}");
    let host = format!("[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nfaults = [{fault}]\n");
    let sandbox = sandbox(&format!("{host}{}", users(60))).await;
    let mut config = config(&sandbox);
    config.classifier = rules.map(|rules| Classifier::from_toml(rules).unwrap().into());
    let (records, lane) = verify(config, addresses(60)).await;
    (records, lane, sandbox.stats("mx").unwrap().rcpts)
}

#[tokio::test]
async fn a_lane_with_only_refusals_of_the_sender_or_by_policy_stops() {
    for (at, reply, cause) in [
        ("rcpt", "550 5.7.1 Message rejected due to content policy restrictions", BlockCause::Policy),
        ("rcpt", "550 That recipient does not accept bounces", BlockCause::Sender),
        ("mail", "550 5.7.1 Null sender not accepted", BlockCause::Sender),
    ] {
        let (records, lane, rcpts) = all_refused(at, reply, None).await;
        assert!(rcpts <= 20, "{reply}: {rcpts} of 60 were asked");
        let LaneState::Blocked(block) = &lane.state else { panic!("{reply}: {lane:#?}") };
        assert_eq!(block.cause, cause, "{reply}");
        assert!(records.iter().all(|record| record.status == Status::Unknown), "{records:#?}");
        assert_eq!(lane.sender_refusals > 0, cause == BlockCause::Sender);
    }
}

#[tokio::test]
async fn policies_for_some_recipients_do_not_stop_a_lane() {
    let faults: Vec<String> = (0..60)
        .filter(|n| n % 3 > 0)
        .map(|n| {
            format!(
                "{{ at = \"rcpt\", to = \"user{n}\", does = {{ reply = \"550 5.7.1 Content policy\" }} }}"
            )
        })
        .collect();
    let host =
        format!("[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nfaults = [{}]\n", faults.join(", "));
    let sandbox = sandbox(&format!("{host}{}", users(60))).await;
    let (records, lane) = verify(config(&sandbox), addresses(60)).await;
    assert_eq!(lane.state, LaneState::Open);
    let asked = records.iter().filter(|record| record.smtp_code.is_some() && record.attempts == 1).count();
    assert_eq!(asked, 60);
}

/// A demand on the connection, which applies to every client.
const TLS_OR_AUTH_FIRST: &str =
    "[[rule]]\nid = \"first\"\nverdict = \"policy_rejected\"\nsubject = \"connection\"\ncodes = [\"530\"]\n";

#[tokio::test]
async fn a_demand_for_tls_or_auth_says_nothing_of_recipient_or_client() {
    for at in ["mail", "rcpt"] {
        for reply in ["530 5.7.0 Must issue a STARTTLS command first", "530 5.7.1 Authentication required"] {
            let (records, lane, rcpts) = all_refused(at, reply, Some(TLS_OR_AUTH_FIRST)).await;
            for record in &records {
                assert_eq!((record.status, record.attempts), (Status::Unknown, 1), "{at}: {record:#?}");
                assert!(!matches!(record.blame, Some(Blame::Us | Blame::Recipient)), "{at}: {record:#?}");
            }
            assert_eq!(lane.state, LaneState::Open, "{at}: {reply}");
            assert!(rcpts <= 60, "{at}: {rcpts} questions about 60 addresses");
        }
    }
}

/// Starts a host that refuses IPv6 clients, with the same host over IPv4. Returns `None` if there is no IPv6.
async fn dual_stack(at: &str, reply: &str) -> Option<Sandbox> {
    TcpListener::bind("[::1]:0").ok()?;
    let fault = format!("{{ at = \"{at}\", does = {{ reply = \"{reply}\" }} }}");
    let world = format!(
        "[[host]]\nname = \"mx6\"\nlisten = \"[::1]:0\"\nwithout = [\"STARTTLS\"]\nfaults = [{fault}]\n\
         [[host]]\nname = \"mx4\"\nwithout = [\"STARTTLS\"]\n\
         {}hosts = [\"mx6\", \"mx4\"]\n",
        users(40)
    );
    Some(sandbox(&world).await)
}

fn routed(sandbox: &Sandbox, hosts: &[&str]) -> VerifierConfig {
    let mut config = config(sandbox);
    let addrs = hosts.iter().map(|host| sandbox.addr(host).unwrap()).collect();
    config.routes = Routes::new();
    config.routes.insert("a.test", Ok(vec![Endpoint::new("mx", addrs)]));
    config
}

const OVER_IPV6: [(&str, &str); 4] = [
    ("connect", "554 5.7.1 We do not accept connections over IPv6"),
    ("ehlo", "550 5.7.1 We do not accept connections over IPv6"),
    ("mail", "550 5.2.1 Service unavailable, [a.test] does not accept email over IPv6"),
    ("rcpt", "550 5.2.1 Service unavailable, [a.test] does not accept email over IPv6"),
];

#[tokio::test]
async fn a_refusal_over_ipv6_is_retried_over_ipv4() {
    for (at, reply) in OVER_IPV6 {
        let Some(sandbox) = dual_stack(at, reply).await else { return };
        let (records, lane) = verify(routed(&sandbox, &["mx6", "mx4"]), addresses(40)).await;
        assert_right(&records, at);
        assert_eq!(lane.state, LaneState::Open, "{at}");
        let over_ipv6 = sandbox.stats("mx6").unwrap().connections;
        assert_eq!(over_ipv6, 1, "{at}: learnt at the first");
    }
}

#[tokio::test]
async fn refused_over_ipv6_without_an_ipv4_address_is_unknown_with_the_reason() {
    for (at, reply) in OVER_IPV6 {
        let Some(sandbox) = dual_stack(at, reply).await else { return };
        let (records, _) = verify(routed(&sandbox, &["mx6"]), addresses(40)).await;
        for record in &records {
            assert_eq!(
                (record.status, record.sub_status),
                (Status::Unknown, SubStatus::Blocked),
                "{at}: {record:#?}"
            );
            let why = record.reply.as_deref().unwrap();
            assert!(why.contains("over IPv6") && why.contains("no IPv4 address"), "{at}: {why}");
        }
        let stats = sandbox.stats("mx6").unwrap();
        assert!(stats.rcpts <= 20 && stats.connections <= 4, "{at}: {stats:?}");
    }
}
