//! Routes from a real name server, compared with the answers of `dig`.

use std::{net::SocketAddr, process::Command, sync::Arc};

use smtp_pool::{
    client::Timeouts,
    metrics::Metrics,
    proto::Mailbox,
    verify::{MailRoute, Resolver, Routes, SubStatus, Unreachable, Verifier},
};
use smtp_pool_interop::Nsd;

use crate::support;

/// The limits of the resolver for a long answer.
const MAX_HOSTS: usize = 8;
const MAX_ADDRS: usize = 4;

fn resolver(nsd: &Nsd) -> Resolver {
    let metrics = Arc::new(Metrics::new());
    Resolver::new(&[nsd.addr()], Routes::new(), 25, true, metrics).expect("a resolver")
}

async fn route(resolver: &Resolver, domain: &str) -> MailRoute {
    let mailbox = Mailbox::parse(&format!("ann@{domain}")).expect("an address");
    resolver.resolve(&mailbox).await.map(|found| found.exchangers)
}

/// Returns the mail servers with their addresses. The addresses are sorted, because the name server chooses their
/// order.
fn hosts(route: &MailRoute) -> Vec<(String, Vec<String>)> {
    let endpoints = route.as_ref().expect("a way");
    let addrs = |addrs: &[SocketAddr]| {
        let mut ips: Vec<_> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
        ips.sort();
        ips
    };
    endpoints.iter().map(|endpoint| (endpoint.host.to_string(), addrs(&endpoint.addrs))).collect()
}

/// Returns the answer of `dig`, a line for each record, with names in lower case.
fn dig(nsd: &Nsd, name: &str, record: &str) -> Vec<String> {
    let server = format!("@{}", nsd.addr().ip());
    let port = nsd.addr().port().to_string();
    let output =
        Command::new("dig").args([&server, "-p", &port, "+short", "+norecurse", name, record]).output();
    let output = output.expect("dig is not installed: `just nsd`");
    assert!(output.status.success(), "dig {name} {record}: {output:?}");
    let said = String::from_utf8(output.stdout).expect("ASCII");
    said.lines().map(str::to_ascii_lowercase).collect()
}

/// Returns the mail servers of `domain` as `dig` and RFC 5321 5.1 find them.
fn truth(nsd: &Nsd, domain: &str) -> Vec<(String, Vec<String>)> {
    // For an alias, `dig` first prints its target.
    let mx = dig(nsd, domain, "MX");
    let mut mx: Vec<(u16, &str)> = mx
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(preference, host)| (preference.parse().expect("a preference"), host))
        .filter(|(_, host)| *host != ".")
        .collect();
    mx.sort_unstable();
    let implicit = format!("{domain}.");
    if mx.is_empty() {
        mx.push((0, &implicit));
    }
    let addrs = |host: &str| {
        let mut ips: Vec<String> = ["A", "AAAA"].iter().flat_map(|record| dig(nsd, host, record)).collect();
        ips.retain(|line| line.parse::<std::net::IpAddr>().is_ok());
        ips.sort();
        ips
    };
    let hosts = mx.iter().map(|(_, host)| (host.trim_end_matches('.').to_owned(), addrs(host)));
    hosts.filter(|(_, addrs)| !addrs.is_empty()).collect()
}

#[tokio::test]
async fn exchangers_are_those_that_dig_finds() {
    let nsd = Nsd::start();
    let resolver = resolver(&nsd);
    let domains = [
        ("good.test", 3),
        ("equal.test", 2),
        ("mixed.test", 1),
        ("implicit.test", 1),
        ("implicit6.test", 1),
        ("cnamemx.test", 1),
        ("alias.test", 3),
        ("half.test", 1),
        ("beside.test", 1),
        ("any.thing.wild.test", 1),
        ("bücher.test", 1),
    ];
    for (domain, count) in domains {
        let wire = Mailbox::parse(&format!("ann@{domain}")).expect("an address").domain().to_owned();
        let found = hosts(&route(&resolver, domain).await);
        assert_eq!((found.len(), found), (count, truth(&nsd, &wire)), "{domain}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_datagram_comes_over_tcp() {
    let nsd = Nsd::start();
    let resolver = resolver(&nsd);
    let found = hosts(&route(&resolver, "many.test").await);
    let all = truth(&nsd, "many.test");
    assert_eq!((all.len(), found), (MAX_HOSTS, all), "the most preferred of 40 exchangers");

    let found = hosts(&route(&resolver, "wide.test").await);
    let all = truth(&nsd, "wide.test");
    assert_eq!((found.len(), all.len(), all[0].1.len()), (1, 1, 60));
    assert_eq!(found[0].1.len(), MAX_ADDRS);
    assert!(found[0].1.iter().all(|ip| all[0].1.contains(ip)), "{found:?}");
}

#[tokio::test]
async fn a_missing_route_has_its_reason() {
    let nsd = Nsd::start();
    let resolver = resolver(&nsd);
    for (domain, expected) in [
        ("null.test", Unreachable::NullMx),
        ("nowhere.test", Unreachable::NoDnsEntries),
        ("text.test", Unreachable::NoDnsEntries),
        ("dangling.test", Unreachable::NoDnsEntries),
        ("stray.test", Unreachable::NoDnsEntries),
    ] {
        assert_eq!(route(&resolver, domain).await, Err(expected), "{domain}");
    }
    // SERVFAIL for the domain, and for its only mail server; REFUSED for a zone that the name server does not have.
    for domain in ["broken.test", "sub.broken.test", "onlybroken.test", "elsewhere.example"] {
        let found = route(&resolver, domain).await;
        assert!(matches!(found, Err(Unreachable::Dns { timeout: false, .. })), "{domain}: {found:?}");
    }
}

/// Checks which failures of the DNS are final, and which are asked again.
#[tokio::test]
async fn only_final_answers_of_the_dns_are_undeliverable() {
    let nsd = Nsd::start();
    let mut config = support::config(Routes::new());
    config.nameservers = vec![nsd.addr()];
    config.client.timeouts = Timeouts::all(std::time::Duration::from_secs(5));
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).expect("a verifier");
    let expected = [
        ("ann@null.test", SubStatus::DoesNotAcceptMail),
        ("ann@nowhere.test", SubStatus::NoDnsEntries),
        ("ann@dangling.test", SubStatus::NoDnsEntries),
        ("ann@broken.test", SubStatus::MailServerTemporaryError),
        ("ann@onlybroken.test", SubStatus::MailServerTemporaryError),
    ];
    let addresses: Vec<String> = expected.iter().map(|(address, _)| (*address).to_owned()).collect();
    let mut stream = verifier.verify_all(addresses);
    while let Some(record) = stream.next().await {
        let (_, sub_status) =
            expected.iter().find(|(address, _)| *address == record.address).expect("an address of the list");
        assert_eq!(record.sub_status, *sub_status, "{record:?}");
    }
}
