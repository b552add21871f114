//! From a domain to its mail exchangers, over a DNS server on loopback.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{
        RData, RecordType,
        rdata::{A, MX},
    },
};
use smtp_pool::{
    metrics::{Metrics, Operation},
    proto::Mailbox,
    verify::{MailRoute, Resolver, Routes, Unreachable},
};

use crate::nameserver::Nameserver;

/// What a domain's records are; anything else of the name is empty, any other name does not exist.
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

struct Dns {
    resolver: Resolver,
    metrics: Arc<Metrics>,
    _server: Nameserver,
}

impl Dns {
    async fn start(allow_private: bool) -> Self {
        let server = Nameserver::start(zone).await;
        let metrics = Arc::new(Metrics::new());
        let resolver =
            Resolver::new(&[server.addr], Routes::new(), 25, allow_private, Arc::clone(&metrics)).unwrap();
        Self { resolver, metrics, _server: server }
    }

    async fn route(&self, domain: &str) -> MailRoute {
        self.resolver.resolve(&Mailbox::parse(&format!("ann@{domain}")).unwrap()).await
    }

    /// The hosts of the way, with their first addresses.
    async fn hosts(&self, domain: &str) -> Vec<(String, String)> {
        let endpoints = self.route(domain).await.unwrap();
        endpoints.iter().map(|e| (e.host.to_string(), e.addrs[0].to_string())).collect()
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
async fn what_does_not_exist_is_final_and_what_fails_is_not() {
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
