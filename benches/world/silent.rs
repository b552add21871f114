//! Compares the world with silent or slow hosts with the same world without them.
//!
//! ```text
//! 5 % of the hosts drop SYN            all hosts are found by the DNS, over 256 connections;
//! 5 % have silent name servers         the fast hosts could use more
//! 5 % are tarpits within the deadline
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode},
    rr::{
        RData, Record as DnsRecord, RecordType,
        rdata::{A, MX},
    },
};
use smtp_pool::{
    client::Timeouts,
    metrics::Metrics,
    proto::{ClientName, Mailbox},
    sandbox::{DomainConfig, ErrorLimits, Extension, FaultStage, HostConfig, Sandbox, Tarpit, Truth, World},
    verify::{Record, Status, SubStatus, Verifier, VerifierConfig},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

use crate::plan::mix;

/// The maximum time of the fast hosts with the others beside them, as a multiple of their time alone.
const GOAL: f64 = 1.1;
/// The maximum time for a reply.
const DEADLINE: Duration = Duration::from_secs(2);
/// The number of connections to all hosts together. The fast hosts could use more.
const CONNECTIONS: usize = 256;
/// The delay of each octet. The reply of a tarpit to RCPT has 14 octets, and takes less than the deadline.
const OCTET: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quick,
    Dead,
    /// Its name servers do not answer.
    Dark,
    Tarpit,
}

/// The numbers of hosts, domains and addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) hosts: usize,
    pub(crate) domains: usize,
    pub(crate) addresses: usize,
    /// The time added to the goal, because in a small world or a debug build short delays matter.
    pub(crate) slack: Duration,
    /// How often both are measured by turns. The shortest time counts.
    pub(crate) rounds: usize,
}

impl Size {
    fn kind(host: usize) -> Kind {
        match host % 20 {
            3 => Kind::Dead,
            9 => Kind::Dark,
            15 => Kind::Tarpit,
            _ => Kind::Quick,
        }
    }

    fn host_of(&self, domain: usize) -> usize {
        domain % self.hosts
    }

    fn domain_of(&self, address: usize) -> usize {
        mix(address as u64) as usize % self.domains
    }

    fn address(&self, n: usize) -> String {
        format!("user{n}@d{}.world.test", self.domain_of(n))
    }

    fn kind_of(&self, address: &str) -> Kind {
        let (_, domain) = address.split_once("@d").unwrap();
        let domain = domain.trim_end_matches(".world.test").parse().unwrap();
        Self::kind(self.host_of(domain))
    }

    fn list(&self, wanted: impl Fn(Kind) -> bool) -> Vec<String> {
        let addresses = (0..self.addresses).map(|n| self.address(n));
        addresses.filter(|address| wanted(self.kind_of(address))).collect()
    }

    /// Returns the hosts that answer. Each has an address of its own, and all have one port, as on the Internet.
    fn world(&self, port: u16) -> World {
        let answers = |n: &usize| !matches!(Self::kind(*n), Kind::Dead | Kind::Dark);
        let hosts = (0..self.hosts).filter(answers).map(|n| {
            let mut host = HostConfig::new(&format!("mx{n}.world.test"));
            host.listen = SocketAddr::new(ip(n), port);
            host.without = vec![Extension::StartTls];
            host.latency = Duration::from_millis(5 + mix(n as u64) % 196).into();
            host.max_connections = Some(2);
            host.errors = Some(ErrorLimits::default());
            host.tarpit = (Self::kind(n) == Kind::Tarpit).then(|| Tarpit::new(OCTET, FaultStage::Rcpt));
            host
        });
        let mut users = vec![Vec::new(); self.domains];
        for n in (0..self.addresses).filter(|&n| mix(n as u64 ^ 0x700) % 10 < 7) {
            users[self.domain_of(n)].push(format!("user{n}"));
        }
        let domains = users.into_iter().enumerate().filter(|(domain, _)| answers(&self.host_of(*domain)));
        let domains = domains.map(|(domain, users)| {
            let mut config = DomainConfig::new(&format!("d{domain}.world.test"), users);
            config.hosts = vec![format!("mx{}.world.test", self.host_of(domain))];
            // The refusals of a tarpit would take longer than the deadline.
            config.catch_all = Self::kind(self.host_of(domain)) == Kind::Tarpit;
            config
        });
        let mut world = World::new(hosts.collect(), domains.collect());
        world.seed = 7;
        world
    }
}

fn ip(host: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(host).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1, high, low).into()
}

/// The measurements of a run.
struct Run {
    /// The time when the last address of a fast host had its record.
    quick: Duration,
    all: Duration,
    wrong: usize,
    unanswered: usize,
}

/// The hosts that do not answer, and the name server of all.
struct Silence {
    nameserver: SocketAddr,
    task: JoinHandle<()>,
    _dead: Vec<(TcpListener, Vec<TcpStream>)>,
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Silence {
    async fn start(size: Size, port: u16) -> Self {
        let mut dead = Vec::new();
        for n in (0..size.hosts).filter(|n| Size::kind(*n) == Kind::Dead) {
            dead.push(blackhole(SocketAddr::new(ip(n), port)).await);
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nameserver = socket.local_addr().unwrap();
        Self { nameserver, task: tokio::spawn(serve(socket, size)), _dead: dead }
    }
}

/// Fills the backlog of a listener, so that the kernel drops SYN.
async fn blackhole(addr: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(addr).unwrap();
    let (listener, mut backlog) = (socket.listen(1).unwrap(), Vec::new());
    while let Ok(stream) = timeout(Duration::from_millis(50), TcpStream::connect(addr)).await {
        backlog.push(stream.unwrap());
        assert!(backlog.len() < 16, "the backlog never fills");
    }
    (listener, backlog)
}

/// Answers MX records of domains and addresses of hosts. Domains with silent name servers get no answer.
async fn serve(socket: UdpSocket, size: Size) {
    let mut buf = [0; 1500];
    loop {
        let (n, peer) = socket.recv_from(&mut buf).await.unwrap();
        let query = Message::from_vec(&buf[..n]).unwrap();
        let question = query.queries[0].clone();
        let name = question.name().to_ascii();
        let label = name.split('.').next().unwrap();
        let number = |prefix: &str| label.strip_prefix(prefix)?.parse::<usize>().ok();
        let host = number("mx").or_else(|| Some(size.host_of(number("d")?))).unwrap();
        if Size::kind(host) == Kind::Dark {
            continue;
        }
        let data = match (question.query_type(), ip(host)) {
            (RecordType::MX, _) => {
                Some(RData::MX(MX::new(10, format!("mx{host}.world.test.").parse().unwrap())))
            }
            (RecordType::A, IpAddr::V4(ip)) => Some(RData::A(A(ip))),
            _ => None,
        };
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_available = true;
        answer.add_answers(data.map(|data| DnsRecord::from_rdata(question.name().clone(), 300, data)));
        answer.add_query(question);
        socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
    }
}

fn config(nameserver: SocketAddr, port: u16) -> VerifierConfig {
    let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
    config.client.timeouts = Timeouts::all(DEADLINE);
    (config.schedule, config.max_connections) = (Vec::new(), CONNECTIONS);
    (config.nameservers, config.port, config.allow_private) = (vec![nameserver], port, true);
    config
}

async fn run(size: Size, list: Vec<String>) -> Run {
    // A port that is free on one address is most likely free on all.
    let port = std::net::TcpListener::bind("127.1.255.255:0").unwrap().local_addr().unwrap().port();
    let sandbox = Sandbox::start(size.world(port)).await.unwrap();
    let silence = Silence::start(size, port).await;
    let verifier = Verifier::new(config(silence.nameserver, port), Arc::new(Metrics::new())).unwrap();
    let (count, started) = (list.len(), Instant::now());
    let mut records = verifier.verify_all(list);
    let taken = tokio::spawn(async move {
        let mut all = Vec::with_capacity(count);
        while let Some(record) = records.next().await {
            all.push((record, started.elapsed()));
        }
        all
    });
    let all = taken.await.unwrap();
    assert_eq!(all.len(), count);
    let mut run = Run { quick: Duration::ZERO, all: started.elapsed(), wrong: 0, unanswered: 0 };
    let mut examples = 0;
    for (record, at) in &all {
        let kind = size.kind_of(&record.address);
        if kind == Kind::Quick {
            run.quick = run.quick.max(*at);
        }
        run.unanswered += usize::from(record.sub_status == SubStatus::TimeoutExceeded);
        if !is_right(&sandbox, kind, record) {
            run.wrong += 1;
            if examples < 5 {
                examples += 1;
                println!("wrong: {kind:?} {record:?}");
            }
        }
    }
    run
}

/// Returns whether the record is right. A silent or slow host never makes an address undeliverable.
fn is_right(sandbox: &Sandbox, kind: Kind, record: &Record) -> bool {
    let silent = (record.status, record.sub_status) == (Status::Unknown, SubStatus::TimeoutExceeded);
    match kind {
        Kind::Quick => match sandbox.expected(&Mailbox::parse(&record.address).unwrap()) {
            Truth::Known => record.status == Status::Deliverable,
            Truth::Unknown => record.sub_status == SubStatus::MailboxNotFound,
            _ => false,
        },
        Kind::Dead | Kind::Dark => silent,
        // All of these exist. The catch-all answer may be known or not.
        Kind::Tarpit => silent || matches!(record.sub_status, SubStatus::Accepted | SubStatus::CatchAll),
    }
}

/// Runs both worlds, and returns whether the goals are met.
pub(crate) async fn compare(size: Size) -> bool {
    let everybody = size.list(|_| true);
    let quick = size.list(|kind| kind == Kind::Quick);
    println!(
        "{} addresses at {} hosts: 5 % of the hosts each swallow SYN, are silent in the DNS, are tarpits; {} addresses of \
         the others",
        everybody.len(),
        size.hosts,
        quick.len()
    );
    let (mut alone, mut beside) = (Duration::MAX, Duration::MAX);
    let mut met = true;
    for _ in 0..size.rounds {
        let without = run(size, quick.clone()).await;
        alone = alone.min(without.quick);
        // Slow hosts have a sixteenth of the connections until the fast ones are done, and then all: two for each host.
        let host = size.addresses.div_ceil(size.hosts) as u64 * 2;
        let rounds = (size.hosts * 3 / 20 * 2).div_ceil(CONNECTIONS);
        let longest = config(([127, 0, 0, 1], 53).into(), 25).longest(host);
        let bound = without.quick.mul_f64(GOAL) + size.slack + longest * u32::try_from(rounds).unwrap();
        println!("the run with all hosts must end within {:.1} s", bound.as_secs_f64());
        let with = run(size, everybody.clone()).await;
        beside = beside.min(with.quick);
        println!(
            "{:.1} s for the others by themselves, {:.1} s beside them, {:.1} s in all; {} addresses without an answer, \
             {} verdicts wrong",
            without.quick.as_secs_f64(),
            with.quick.as_secs_f64(),
            with.all.as_secs_f64(),
            with.unanswered,
            without.wrong + with.wrong,
        );
        met &= without.wrong + with.wrong == 0 && with.all <= bound;
    }
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("with silent and slow hosts the others take {ratio:.2} times as long, goal {GOAL}");
    met && beside <= alone.mul_f64(GOAL) + size.slack
}
