//! STARTTLS and implicit TLS with OpenSSL at the other end.

use std::sync::Arc;

use smtp_pool::{
    client::{ConnectError, Connection, Connector, Endpoint},
    metrics::Metrics,
    net::{Roots, TlsConfig, TlsPolicy, TlsVersion},
    verify::{Status, SubStatus},
};
use smtp_pool_interop::{Authority, Kind, Postfix, Service, World};

use crate::support::{client, config, verify};

const KINDS: [Kind; 4] = [Kind::Known, Kind::Unknown, Kind::CatchAll, Kind::Full];

/// Returns a configuration that trusts one root only.
fn trusting(policy: TlsPolicy, authority: &Authority) -> TlsConfig {
    let config = TlsConfig::for_policy(policy).roots(Roots::None);
    config.add_roots_pem(authority.pem().as_bytes()).expect("a root")
}

fn connector(policy: TlsPolicy, tls: TlsConfig) -> Connector {
    let mut client = client();
    (client.tls, client.tls_config) = (policy, Some(tls));
    Connector::new(client, Arc::new(Metrics::new())).expect("a connector")
}

async fn open(connector: &Connector, endpoint: &Endpoint) -> Connection {
    connector.connect(endpoint).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn required_and_verified_in_both_versions() {
    let world = World::of(80, KINDS);
    let postfix = Postfix::start(&world);
    for (policy, service) in [(TlsPolicy::Required, Service::Mx), (TlsPolicy::Implicit, Service::Implicit)] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let tls = trusting(policy, postfix.authority()).min_version(version).max_version(version);
            let mut config = config(postfix.routes(service));
            (config.client.tls, config.client.tls_config) = (policy, Some(tls));
            let run = verify(config, &world).await;
            run.assert_right();
            run.assert_all(|_, record| record.tls == Some(version));
        }
    }
    assert_eq!(postfix.log_at_rest().complaints(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_root_is_a_failure_of_tls_and_no_verdict() {
    let world = World::of(80, KINDS);
    let postfix = Postfix::start(&world);
    let strangers = Authority::new();
    for (policy, service) in [(TlsPolicy::Required, Service::Mx), (TlsPolicy::Implicit, Service::Implicit)] {
        let mut config = config(postfix.routes(service));
        (config.client.tls, config.client.tls_config) = (policy, Some(trusting(policy, &strangers)));
        let run = verify(config, &world).await;
        run.assert_all(|_, record| {
            (record.status, record.sub_status) == (Status::Unknown, SubStatus::TlsFailed)
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn required_without_starttls_is_a_failure_of_tls() {
    let world = World::of(80, KINDS);
    let postfix = Postfix::start(&world);
    let mut config = config(postfix.routes(Service::Plain));
    config.client.tls = TlsPolicy::Required;
    verify(config, &world).await.assert_all(|_, record| record.sub_status == SubStatus::TlsFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn opportunistic_accepts_any_tls_or_none() {
    let world = World::of(80, KINDS);
    let postfix = Postfix::start(&world);
    for (service, tls) in [
        (Service::Mx, Some(TlsVersion::Tls13)),
        (Service::Tls12, Some(TlsVersion::Tls12)),
        (Service::Plain, None),
    ] {
        let run = verify(config(postfix.routes(service)), &world).await;
        run.assert_right();
        run.assert_all(|_, record| record.tls == tls);
    }
    // STARTTLS is offered, but the handshake cannot succeed.
    let mut config = config(postfix.routes(Service::Tls12));
    let tls = TlsConfig::for_policy(TlsPolicy::Opportunistic).min_version(TlsVersion::Tls13);
    config.client.tls_config = Some(tls);
    let run = verify(config, &world).await;
    run.assert_right();
    run.assert_all(|_, record| record.tls.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_know_their_tls_and_resume_it() {
    let postfix = Postfix::start(&World::of(1, KINDS));
    for (policy, service) in [(TlsPolicy::Required, Service::Mx), (TlsPolicy::Implicit, Service::Implicit)] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let tls = trusting(policy, postfix.authority()).min_version(version).max_version(version);
            let connector = connector(policy, tls);
            for resumed in [false, true] {
                let mut connection = open(&connector, &postfix.endpoint(service)).await;
                let tls = connection.tls_info().expect("TLS");
                assert_eq!((tls.version, tls.resumed), (version, resumed), "{policy} {version:?}");
                assert_eq!(tls.peer_certificates.len(), 1);
                assert!(!connection.extensions().starttls, "STARTTLS inside of TLS");
                assert!(connection.extensions().pipelining);
                assert_eq!(connection.quit().await.expect("an answer to QUIT").code(), 221);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_in_the_certificate_is_refused() {
    let postfix = Postfix::start(&World::of(1, KINDS));
    let connector = connector(TlsPolicy::Required, trusting(TlsPolicy::Required, postfix.authority()));
    let endpoint = Endpoint::new("mx.elsewhere.test", postfix.endpoint(Service::Mx).addrs);
    let refused = connector.connect(&endpoint).await.expect_err("the certificate is for *.interop.test");
    assert!(matches!(refused, ConnectError::Tls(_)), "{refused:?}");
}
