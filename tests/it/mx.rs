//! From a domain to its mail servers, with a name server on loopback.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{
        RData, RecordType,
        rdata::{A, AAAA, CNAME, MX},
    },
};
use smtp_pool::{
    metrics::{Metrics, Operation},
    proto::Mailbox,
    verify::{Resolved, Resolver, Routes, Unreachable},
};

use crate::nameserver::{Nameserver, Signed};

/// Returns the records of a domain. Another type of a known name is empty, and any other name does not exist.
fn zone(name: &str, record: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let mx = |preference, host: &str| RData::MX(MX::new(preference, host.parse().unwrap()));
    let a = |last| Ok(vec![RData::A(A(Ipv4Addr::new(192, 0, 2, last)))]);
    match (name, record) {
        ("good.test.", RecordType::MX) => Ok(vec![mx(20, "mx2.good.test."), mx(10, "MX1.good.test.")]),
        ("mx1.good.test.", RecordType::A) => a(1),
        ("mx2.good.test.", RecordType::A) => a(2),
        ("null.test.", RecordType::MX) => Ok(vec![mx(0, ".")]),
        ("mixed.test.", RecordType::MX) => Ok(vec![mx(0, "."), mx(10, "mx1.good.test.")]),
        ("implicit.test.", RecordType::A) => a(3),
        ("dangling.test.", RecordType::MX) => Ok(vec![mx(10, "gone.test."), mx(20, "empty.test.")]),
        ("half.test.", RecordType::MX) => Ok(vec![mx(10, "gone.test."), mx(20, "mx2.good.test.")]),
        ("private.test.", RecordType::MX) => Ok(vec![mx(10, "inside.test.")]),
        ("inside.test.", RecordType::A) => Ok(vec![RData::A(A(Ipv4Addr::new(10, 0, 0, 1)))]),
        ("many.test.", RecordType::MX) => Ok((0..50).map(|n| mx(n, "mx1.good.test.")).collect()),
        // Empty answers are left out: without an SOA record they are not cached.
        ("dual.test.", RecordType::MX) => Ok(vec![mx(10, "dual.test.")]),
        ("dual.test.", RecordType::A) => a(4),
        ("dual.test.", RecordType::AAAA) => Ok(vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))]),
        ("alias.test.", _) => Ok(vec![RData::CNAME(CNAME("dual.test.".parse().unwrap()))]),
        ("broken.test.", _) => Err(ResponseCode::ServFail),
        (
            "good.test." | "mx1.good.test." | "mx2.good.test." | "null.test." | "mixed.test."
            | "implicit.test." | "dangling.test." | "half.test." | "private.test." | "inside.test."
            | "many.test." | "empty.test.",
            _,
        ) => Ok(vec![]),
        _ => Err(ResponseCode::NXDomain),
    }
}

fn everything(_: &str, _: RecordType) -> bool {
    true
}

struct Dns {
    resolver: Resolver,
    metrics: Arc<Metrics>,
    server: Nameserver,
}

impl Dns {
    async fn start(allow_private: bool) -> Self {
        Self::start_with(Nameserver::start(zone).await, allow_private)
    }

    async fn start_signed(signed: Signed) -> Self {
        Self::start_with(Nameserver::start_signed(zone, signed).await, true)
    }

    fn start_with(server: Nameserver, allow_private: bool) -> Self {
        let metrics = Arc::new(Metrics::new());
        let resolver =
            Resolver::new(&[server.addr], Routes::new(), 25, allow_private, Arc::clone(&metrics)).unwrap();
        Self { resolver, metrics, server }
    }

    async fn route(&self, domain: &str) -> Result<Resolved, Unreachable> {
        self.resolver.resolve(&Mailbox::parse(&format!("ann@{domain}")).unwrap()).await
    }

    /// Returns the hosts of the route, with their first addresses.
    async fn hosts(&self, domain: &str) -> Vec<(String, String)> {
        let found = self.route(domain).await.unwrap();
        found.exchangers.iter().map(|e| (e.host.to_string(), e.addrs[0].to_string())).collect()
    }

    /// Returns whether the MX records are secure, whether the addresses of each host are, and whether both are.
    async fn secure(&self, domain: &str) -> (bool, Vec<bool>, Vec<bool>) {
        let found = self.route(domain).await.unwrap();
        let both = (0..found.exchangers.len()).map(|n| found.is_secure(n)).collect();
        (found.mx_secure, found.addrs_secure, both)
    }
}

fn host(name: &str, ip: &str) -> (String, String) {
    (name.to_owned(), format!("{ip}:25"))
}

#[tokio::test]
async fn exchangers_come_by_preference() {
    let dns = Dns::start(true).await;
    let expected = [host("mx1.good.test", "192.0.2.1"), host("mx2.good.test", "192.0.2.2")];
    assert_eq!(dns.hosts("good.test").await, expected);
    assert_eq!(dns.metrics.snapshot().latency(Operation::Dns).unwrap().count, 1);
}

#[tokio::test]
async fn a_null_mx_takes_no_mail_and_counts_only_alone() {
    let dns = Dns::start(true).await;
    assert_eq!(dns.route("null.test").await, Err(Unreachable::NullMx));
    assert_eq!(dns.hosts("mixed.test").await, [host("mx1.good.test", "192.0.2.1")]);
}

#[tokio::test]
async fn without_mx_the_domain_itself_is_asked() {
    let dns = Dns::start(true).await;
    assert_eq!(dns.hosts("implicit.test").await, [host("implicit.test", "192.0.2.3")]);
}

#[tokio::test]
async fn a_missing_domain_is_final_and_a_failed_lookup_is_not() {
    let dns = Dns::start(true).await;
    for domain in ["nowhere.test", "empty.test", "dangling.test"] {
        assert_eq!(dns.route(domain).await, Err(Unreachable::NoDnsEntries), "{domain}");
    }
    let broken = tokio::time::timeout(Duration::from_secs(30), dns.route("broken.test")).await.unwrap();
    assert!(matches!(broken, Err(Unreachable::Dns { timeout: false, .. })), "{broken:?}");
}

#[tokio::test]
async fn an_exchanger_without_address_leaves_the_others() {
    let dns = Dns::start(true).await;
    assert_eq!(dns.hosts("half.test").await, [host("mx2.good.test", "192.0.2.2")]);
}

#[tokio::test]
async fn exchangers_inside_our_own_network_are_left_out() {
    // The documentation addresses of the other tests are not public either.
    let dns = Dns::start(false).await;
    for domain in ["private.test", "good.test"] {
        assert_eq!(dns.route(domain).await, Err(Unreachable::Unroutable), "{domain}");
    }
    let dns = Dns::start(true).await;
    assert_eq!(dns.hosts("private.test").await, [host("inside.test", "10.0.0.1")]);
}

#[tokio::test]
async fn a_zone_with_fifty_exchangers_costs_no_fifty_lookups() {
    let dns = Dns::start(true).await;
    assert_eq!(dns.hosts("many.test").await.len(), 1, "one host by fifty preferences is one host");
}

#[tokio::test]
async fn address_literals_need_no_dns_and_general_ones_lead_nowhere() {
    let dns = Dns::start(true).await;
    assert_eq!(dns.hosts("[192.0.2.9]").await, [host("192.0.2.9", "192.0.2.9")]);
    assert_eq!(dns.route("[x400:abc]").await, Err(Unreachable::NoDnsEntries));
}

#[tokio::test]
async fn the_ad_flag_of_a_validating_nameserver_is_requested_and_trusted() {
    let dns = Dns::start_signed(everything).await;
    for from in ["the server", "the cache"] {
        assert_eq!(dns.secure("dual.test").await, (true, vec![true], vec![true]), "from {from}");
        dns.server.stop();
    }
}

#[tokio::test]
async fn without_the_ad_flag_nothing_is_secure() {
    let dns = Dns::start(true).await;
    for from in ["the server", "the cache"] {
        assert_eq!(dns.secure("dual.test").await, (false, vec![false], vec![false]), "from {from}");
        dns.server.stop();
    }
}

#[tokio::test]
async fn an_exchanger_is_secure_only_by_its_mx_record_and_all_of_its_addresses() {
    let mx_only = Dns::start_signed(|_, record| record == RecordType::MX).await;
    assert_eq!(mx_only.secure("good.test").await, (true, vec![false; 2], vec![false; 2]));
    let addrs_only = Dns::start_signed(|_, record| record != RecordType::MX).await;
    assert_eq!(addrs_only.secure("good.test").await, (false, vec![true; 2], vec![false; 2]));
    let one_family = Dns::start_signed(|_, record| record != RecordType::AAAA).await;
    assert_eq!(one_family.secure("dual.test").await, (true, vec![false], vec![false]));
    // Each host keeps its flag when the hosts are sorted by preference.
    let one_host = Dns::start_signed(|name, _| name != "mx1.good.test.").await;
    assert_eq!(one_host.secure("good.test").await, (true, vec![false, true], vec![false, true]));
}

#[tokio::test]
async fn without_mx_the_addresses_decide_for_the_domain() {
    let dns = Dns::start_signed(everything).await;
    assert_eq!(dns.secure("implicit.test").await, (true, vec![true], vec![true]));
    let dns = Dns::start_signed(|_, record| record == RecordType::MX).await;
    assert_eq!(dns.secure("implicit.test").await, (false, vec![false], vec![false]));
}

#[tokio::test]
async fn an_alias_that_the_nameserver_did_not_follow_is_not_secure() {
    let dns = Dns::start_signed(everything).await;
    for from in ["the server", "the cache"] {
        assert_eq!(dns.secure("alias.test").await, (false, vec![true], vec![false]), "from {from}");
        dns.server.stop();
    }
}

#[tokio::test]
async fn a_route_without_the_dns_is_never_secure() {
    let dns = Dns::start_signed(everything).await;
    assert_eq!(dns.secure("[192.0.2.9]").await, (false, vec![false], vec![false]));
    let mut routes = Routes::new();
    routes.insert("good.test", Ok(dns.route("good.test").await.unwrap().exchangers));
    let given = Resolver::new(&[], routes, 25, true, Metrics::new().into()).unwrap();
    let given = given.resolve(&Mailbox::parse("ann@good.test").unwrap()).await.unwrap();
    assert!(!given.is_secure(0) && !given.is_secure(7));
}
