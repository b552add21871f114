//! Hosts, domains and addresses, and the time that the limits imply.

use std::time::Duration;

use smtp_pool::{
    proto::Mailbox,
    sandbox::{
        Blocked, Delay, DomainConfig, ErrorLimits, Extension, FaultStage, HostConfig, Sandbox, Tarpit, Truth,
        World,
    },
};

/// The maximum time for a reply.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// The pauses between attempts at a greylist, shorter than real ones.
pub(crate) const SCHEDULE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];
/// The delay of a greylist.
const GREYLIST: Duration = Duration::from_millis(1_500);
/// The pause before the second attempt at a host that refuses the connection.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// The maximum number of connections of a host, and the number that the verifier begins with.
const CONNECTIONS: u64 = 2;
/// The rejections of a connection. Postfix delays replies from the tenth on.
const REJECTIONS: u64 = 9;
/// The round trips of a connection without a question: banner and EHLO. QUIT is pipelined behind the last window.
const SETUP: u64 = 2;
/// The round trips in which a connection uses up its rejections. No more recipients are in flight than may be refused.
/// So each round trip uses at most half of what is left: 9, 4.5, 2.3, 1.1.
///
/// A verifier that ends a connection earlier leaves rejections unused, but needs fewer such round trips. After two
/// windows, the best case, that saves a ninth of the time. If every recipient is refused, there is one round trip.
const WINDOWS: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ordinary,
    Greylist,
    Blocker,
    Limits,
    Tarpit,
}

pub(crate) struct Plan {
    pub(crate) hosts: Vec<Host>,
    pub(crate) domains: usize,
    pub(crate) addresses: usize,
}

pub(crate) struct Host {
    pub(crate) name: String,
    kind: Kind,
    latency: Duration,
}

pub(crate) struct Bound {
    pub(crate) time: Duration,
    pub(crate) host: String,
}

impl Plan {
    pub(crate) fn new(hosts: usize, domains: usize, addresses: usize) -> Self {
        let host = |n: usize| {
            let kind = match n % 100 {
                3 | 23 | 43 | 63 | 83 => Kind::Greylist,
                11 | 61 => Kind::Blocker,
                17 | 67 => Kind::Limits,
                29 => Kind::Tarpit,
                _ => Kind::Ordinary,
            };
            // A greylist refuses each recipient once. Its pauses and its latency are scaled down.
            let farthest = if kind == Kind::Greylist { 40 } else { 200 };
            let latency = Duration::from_millis(5 + mix(n as u64) % (farthest - 4));
            Host { name: format!("mx{n}.world.test"), kind, latency }
        };
        Self { hosts: (0..hosts).map(host).collect(), domains, addresses }
    }

    pub(crate) fn world(&self) -> World {
        let mut blocked = Blocked::new(FaultStage::Rcpt, 100);
        blocked.vague = 15;
        let hosts = self.hosts.iter().map(|host| {
            let mut config = HostConfig::new(&host.name);
            config.without = vec![Extension::StartTls];
            config.latency = Delay::from(host.latency);
            config.max_connections = Some(CONNECTIONS);
            config.errors = Some(ErrorLimits::default());
            config.greylist = (host.kind == Kind::Greylist).then(|| Delay::from(GREYLIST));
            config.blocked = (host.kind == Kind::Blocker).then_some(blocked);
            config.rcpts_per_transaction = (host.kind == Kind::Limits).then_some(5);
            config.announce_limits = host.kind == Kind::Limits;
            config.tarpit =
                (host.kind == Kind::Tarpit).then(|| Tarpit::new(Duration::from_secs(1), FaultStage::Connect));
            config
        });
        let mut users = vec![Vec::new(); self.domains];
        for n in (0..self.addresses).filter(|&n| mix(n as u64 ^ 0x700) % 10 < 7) {
            let domain = self.domain_of(n);
            if !accepts_anything(domain) {
                users[domain].push(user(n));
            }
        }
        let domains = users.into_iter().enumerate().map(|(n, users)| {
            let mut config = DomainConfig::new(&domain(n), users);
            config.hosts = vec![self.hosts[self.host_of(n)].name.clone()];
            config.catch_all = accepts_anything(n);
            config
        });
        let mut world = World::new(hosts.collect(), domains.collect());
        world.seed = 7;
        world
    }

    fn host_of(&self, domain: usize) -> usize {
        domain % self.hosts.len()
    }

    fn domain_of(&self, address: usize) -> usize {
        mix(address as u64) as usize % self.domains
    }

    fn address(&self, n: usize) -> String {
        format!("{}@{}", user(n), domain(self.domain_of(n)))
    }

    pub(crate) fn kind(&self, mailbox: &Mailbox) -> Kind {
        let number = mailbox.domain().trim_start_matches('d').trim_end_matches(".world.test");
        self.hosts[self.host_of(number.parse().unwrap())].kind
    }

    /// Returns the addresses in an order without a pattern.
    pub(crate) fn list(&self) -> impl Iterator<Item = String> + Send + use<> {
        let plan = Self { hosts: Vec::new(), domains: self.domains, addresses: self.addresses };
        (0..self.addresses).map(move |n| plan.address(n))
    }

    /// Returns some addresses that need only one question.
    pub(crate) fn sample(&self) -> Vec<String> {
        let ordinary = (0..self.addresses)
            .filter(|&n| self.hosts[self.host_of(self.domain_of(n))].kind == Kind::Ordinary);
        ordinary.take(20_000.min(self.addresses / 4)).map(|n| self.address(n)).collect()
    }

    /// Returns the time that the slowest host needs for its questions, without a pause.
    pub(crate) fn bound(&self, sandbox: &Sandbox) -> Bound {
        let mut refused = vec![0u64; self.hosts.len()];
        let mut asked = vec![0u64; self.hosts.len()];
        for n in 0..self.addresses {
            let host = self.host_of(self.domain_of(n));
            let mailbox = Mailbox::parse(&self.address(n)).unwrap();
            asked[host] += 1;
            refused[host] += u64::from(sandbox.expected(&mailbox) == Truth::Unknown);
        }
        // There is a question about each domain that is no catch-all.
        for n in 0..self.domains {
            let mailbox = Mailbox::parse(&format!("postmaster@{}", domain(n))).unwrap();
            refused[self.host_of(n)] += u64::from(sandbox.expected(&mailbox) == Truth::Known);
        }
        let times = self.hosts.iter().enumerate().map(|(n, host)| {
            let busy = |refusals: u64, windows: u64| {
                let connections = refusals.div_ceil(REJECTIONS).div_ceil(CONNECTIONS);
                host.latency * u32::try_from(connections * (SETUP + windows)).unwrap()
            };
            let time = match host.kind {
                Kind::Tarpit => DEADLINE * 4 + RECONNECT_DELAY + SCHEDULE.iter().sum::<Duration>(),
                Kind::Blocker => Duration::ZERO,
                Kind::Greylist => busy(asked[n], 1) + SCHEDULE[0] + busy(refused[n], WINDOWS),
                Kind::Ordinary | Kind::Limits => busy(refused[n], WINDOWS),
            };
            (time, host)
        });
        let (time, host) = times.max_by_key(|(time, _)| *time).unwrap();
        Bound { time, host: format!("{} ({:?}, {:?})", host.name, host.kind, host.latency) }
    }
}

fn accepts_anything(domain: usize) -> bool {
    mix(domain as u64 ^ 0xca7c).is_multiple_of(10)
}

fn user(n: usize) -> String {
    format!("user{n}")
}

fn domain(n: usize) -> String {
    format!("d{n}.world.test")
}

/// Returns a number without a pattern (the finaliser of SplitMix64).
pub(crate) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
