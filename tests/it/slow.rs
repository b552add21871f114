//! Hosts and name servers that are silent or slow. They end within their limits, and other hosts do not wait for them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{
        RData, RecordType,
        rdata::{A, MX},
    },
};
use smtp_pool::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    proto::Mailbox,
    sandbox::Sandbox,
    verify::{
        LaneState, LaneStatus, Record, Resolver, Routes, Status, SubStatus, Unreachable, Verifier,
        VerifierConfig,
    },
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    nameserver::Nameserver,
    support::{config, sandbox, verify},
};

/// A host that drops SYN: its backlog is full, so that the kernel ignores further ones.
struct Blackhole {
    addr: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl Blackhole {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (addr, mut backlog) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
            backlog.push(stream.unwrap());
            assert!(backlog.len() < 16, "the backlog never fills");
        }
        Self { addr, _listener: listener, _backlog: backlog }
    }
}

fn endpoint(host: &str, addr: SocketAddr) -> Endpoint {
    Endpoint::new(host, vec![addr])
}

fn seconds(seconds: u64) -> Timeouts {
    Timeouts::all(Duration::from_secs(seconds))
}

/// Starts a world with one fast server.
async fn quick() -> Sandbox {
    sandbox(
        "[[host]]\nname = \"mx.good.test\"\nwithout = [\"STARTTLS\"]\n\
         [[domain]]\nname = \"good.test\"\nknown_share = 1.0\n",
    )
    .await
}

/// Returns all records with the time of each, and the statuses of the lanes during the run.
async fn timed(config: VerifierConfig, addresses: Vec<String>) -> (Vec<(Record, Duration)>, Vec<LaneStatus>) {
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let (count, started) = (addresses.len(), Instant::now());
    let mut records = verifier.verify_all(addresses);
    let (mut found, mut lanes) = (Vec::new(), Vec::new());
    loop {
        match timeout(Duration::from_millis(100), records.next()).await {
            Ok(Some(record)) => found.push((record, started.elapsed())),
            Ok(None) => break,
            Err(_) => lanes.extend(records.lanes().snapshot()),
        }
    }
    assert_eq!(found.len(), count);
    (found, lanes)
}

#[tokio::test]
async fn a_host_that_drops_syn_costs_one_connect_timeout() {
    let (hole, good) = (Blackhole::open().await, quick().await);
    let mut config = config(&good);
    config.client.timeouts = seconds(1);
    config.routes.insert("dead.test", Ok(vec![endpoint("mx.dead.test", hole.addr)]));
    let started = Instant::now();
    let records = verify(config, &["ann@dead.test"]).await;
    // It is tried twice, with a second in between.
    assert!(started.elapsed() < Duration::from_millis(4_500), "{:?}", started.elapsed());
    assert_eq!((records[0].status, records[0].sub_status), (Status::Unknown, SubStatus::TimeoutExceeded));
}

#[tokio::test]
async fn a_set_of_exchangers_has_a_bound_within_which_each_of_them_is_tried() {
    let (hole, good) = (Blackhole::open().await, quick().await);
    let mut config = config(&good);
    config.client.timeouts = seconds(1);
    config.catch_all = false;
    let dead = |n: usize| endpoint(&format!("mx{n}.dead.test"), hole.addr);
    config.routes.insert("dead.test", Ok((0..8).map(dead).collect()));
    // The preferred servers are silent, and the last is not.
    let live = endpoint("mx.good.test", good.addr("mx.good.test").unwrap());
    config.routes.insert("good.test", Ok((10..17).map(dead).chain([live]).collect()));
    let started = Instant::now();
    let records = verify(config, &["ann@dead.test", "ann@good.test"]).await;
    // Four times the timeout, twice, and a second in between.
    assert!(started.elapsed() < Duration::from_secs(11), "{:?}", started.elapsed());
    assert_eq!(records[0].sub_status, SubStatus::TimeoutExceeded);
    assert_eq!(records[1].status, Status::Deliverable);
}

/// Checks five fast hosts and five hosts that take seconds for each step, over four connections in all.
#[tokio::test]
async fn slow_hosts_leave_connections_to_other_hosts() {
    let mut world = String::new();
    for n in 0..5 {
        world += &format!(
            "[[host]]\nname = \"mx.slow{n}\"\nwithout = [\"STARTTLS\"]\n\
             tarpit = {{ octet = \"100ms\", from = \"connect\" }}\n\
             [[host]]\nname = \"mx.good{n}\"\nwithout = [\"STARTTLS\"]\n\
             [[domain]]\nname = \"slow{n}.test\"\nhosts = [\"mx.slow{n}\"]\nknown_share = 1.0\n\
             [[domain]]\nname = \"good{n}.test\"\nhosts = [\"mx.good{n}\"]\nknown_share = 1.0\n"
        );
    }
    let sandbox = sandbox(&world).await;
    let mut config = config(&sandbox);
    config.client.timeouts = seconds(5);
    (config.max_connections, config.catch_all) = (4, false);
    // The slow hosts come first in the list.
    let slow = (0..5).map(|n| format!("ann@slow{n}.test"));
    let good = (0..5).flat_map(|n| (0..4).map(move |m| format!("user{m}@good{n}.test")));
    let (records, _) = timed(config, slow.chain(good).collect()).await;
    let mut last = Duration::ZERO;
    for (record, at) in &records {
        if record.address.contains("@good") {
            assert_eq!(record.sub_status, SubStatus::Accepted, "{record:#?}");
            last = last.max(*at);
        } else {
            assert_ne!(record.status, Status::Undeliverable, "{record:#?}");
        }
    }
    // A host counts as slow after half a second. Then the first four of them give up three connections.
    assert!(last < Duration::from_secs(3), "the last after {last:?}");
}

#[tokio::test]
async fn a_host_that_answers_too_slowly_is_given_up_within_its_bound() {
    // 14 octets at 60 ms are 0.84 s an answer, within the timeout of 1 s. Fifty answers would take 42 s.
    let sandbox = sandbox(
        "[[host]]\nname = \"mx.slow\"\nwithout = [\"STARTTLS\"]\n\
         tarpit = { octet = \"60ms\", from = \"rcpt\" }\n\
         [[domain]]\nname = \"slow.test\"\nknown_share = 1.0\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.client.timeouts = seconds(1);
    config.catch_all = false;
    let longest = config.longest(50);
    let started = Instant::now();
    let (records, lanes) = timed(config, (0..50).map(|n| format!("user{n}@slow.test")).collect()).await;
    let took = started.elapsed();
    // It lags by 0.64 s an answer, and by at most 5 s.
    assert!(took < Duration::from_secs(20) && took < longest, "{took:?}, at most {longest:?}");
    let given_up = records.iter().filter(|(record, _)| record.sub_status == SubStatus::TimeoutExceeded);
    assert!(given_up.count() > 20);
    for (record, _) in &records {
        let fits = matches!(record.sub_status, SubStatus::TimeoutExceeded | SubStatus::Accepted);
        assert!(fits, "{record:#?}");
    }
    let told = lanes.iter().any(|lane| match lane.state {
        LaneState::Slow { given_up_in } => given_up_in.is_some_and(|left| left < longest),
        _ => false,
    });
    assert!(told, "{lanes:#?}");
}

/// Returns the records of the zone. No server answers for the mail servers of `dark0.test` and so on. The mail of
/// `good0.test` and so on goes to loopback.
fn zone(name: &str, record: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let mx = |n: u16, host: String| RData::MX(MX::new(n, host.parse().unwrap()));
    match record {
        RecordType::MX if name.starts_with("dark") => {
            Ok((0..3).map(|n| mx(n, format!("mx{n}.silent.{name}"))).collect())
        }
        RecordType::MX => Ok(vec![mx(0, format!("mx.{name}"))]),
        RecordType::A => Ok(vec![RData::A(A(Ipv4Addr::LOCALHOST))]),
        _ => Ok(vec![]),
    }
}

#[tokio::test]
async fn silent_name_servers_delay_no_other_domain() {
    let mut world = "[[host]]\nname = \"mx.good\"\nwithout = [\"STARTTLS\"]\n".to_owned();
    for n in 0..20 {
        world += &format!("[[domain]]\nname = \"good{n}.test\"\nknown_share = 1.0\n");
    }
    let (sandbox, nameserver) = (sandbox(&world).await, Nameserver::start(zone).await);
    let mut config = config(&sandbox);
    config.routes = Routes::new();
    config.nameservers = vec![nameserver.addr];
    (config.allow_private, config.catch_all) = (true, false);
    config.port = sandbox.addr("mx.good").unwrap().port();
    // These are more than the resolver looks up at once, and they come before the others.
    let silent = (0..150).map(|n| format!("ann@dark{n}.test"));
    let good = (0..20).map(|n| format!("ann@good{n}.test"));
    let (records, _) = timed(config, silent.chain(good).collect()).await;
    let of = |kind: &'static str| records.iter().filter(move |(record, _)| record.address.contains(kind));
    for (record, at) in of("@good") {
        assert_eq!(record.sub_status, SubStatus::Accepted, "{record:#?}");
        assert!(*at < Duration::from_secs(8), "after {at:?}");
    }
    for (record, at) in of("@dark") {
        assert_eq!(
            (record.status, record.sub_status),
            (Status::Unknown, SubStatus::TimeoutExceeded),
            "{record:#?}"
        );
        assert!(*at < Duration::from_secs(25), "after {at:?}");
    }
}

#[tokio::test]
async fn a_look_up_has_one_deadline_for_all_of_its_queries() {
    let nameserver = Nameserver::start(zone).await;
    let resolver = Resolver::new(&[nameserver.addr], Routes::new(), 25, true, Metrics::new().into()).unwrap();
    let started = Instant::now();
    let mailbox = Mailbox::parse("ann@dark.test").unwrap();
    let found = timeout(Duration::from_secs(20), resolver.resolve(&mailbox)).await.expect("in time");
    assert!(matches!(found, Err(Unreachable::Dns { timeout: true, .. })), "{found:?}");
    assert!(started.elapsed() > Duration::from_secs(10), "the nameserver has time to answer");
}

#[tokio::test]
async fn a_lost_datagram_makes_no_look_up_slow() {
    let nameserver = Nameserver::start(zone).await;
    let resolver = Resolver::new(&[nameserver.addr], Routes::new(), 25, true, Metrics::new().into()).unwrap();
    let mailbox = Mailbox::parse("ann@lost.good.test").unwrap();
    // The first datagram for the MX is lost, and then the first for each type of address.
    let found = timeout(Duration::from_secs(3), resolver.resolve(&mailbox)).await.expect("in time").unwrap();
    assert_eq!(&*found.exchangers[0].host, "mx.lost.good.test");
}

#[tokio::test]
async fn an_answer_that_is_late_still_arrives() {
    let nameserver = Nameserver::start_slow(zone, Duration::from_secs(3)).await;
    let resolver = Resolver::new(&[nameserver.addr], Routes::new(), 25, true, Metrics::new().into()).unwrap();
    // The MX record takes 3 s, and the addresses take 3 s.
    let found = resolver.resolve(&Mailbox::parse("ann@good.test").unwrap()).await.unwrap();
    assert_eq!(&*found.exchangers[0].host, "mx.good.test");
}
