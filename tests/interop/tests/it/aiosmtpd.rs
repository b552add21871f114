//! aiosmtpd without PIPELINING, so that every command waits for its reply.

use std::sync::Arc;

use smtp_pool::{client::Connector, metrics::Metrics, net::TlsPolicy};
use smtp_pool_interop::{Aiosmtpd, AiosmtpdOptions, Kind, World};

use crate::support::{client, config, verify};

const KINDS: [Kind; 12] = [
    Kind::Known,
    Kind::Unknown,
    Kind::Tagged,
    Kind::Accented,
    Kind::UnknownAccented,
    Kind::UnknownQuoted,
    Kind::Full,
    Kind::FullForGood,
    Kind::Disabled,
    Kind::CatchAll,
    Kind::NullMx,
    Kind::Malformed,
];

#[tokio::test(flavor = "multi_thread")]
async fn without_pipelining_every_verdict_is_right() {
    let world = World::of(1_200, KINDS);
    let server = Aiosmtpd::start(&world, AiosmtpdOptions::default());
    let connector = Connector::new(client(), Arc::new(Metrics::new())).expect("a connector");
    let mut connection = connector.connect(&server.endpoint()).await.expect("a connection");
    assert!(!connection.extensions().pipelining, "this test is about a server that has none");
    connection.quit().await.expect("an answer to QUIT");

    let mut config = config(server.routes());
    config.client.tls = TlsPolicy::Off;
    verify(config, &world).await.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_by_421_cost_no_verdict() {
    let world = World::of(600, KINDS);
    let server = Aiosmtpd::start(&world, AiosmtpdOptions { command_call_limit: Some(7) });
    let run = verify(config(server.routes()), &world).await;
    run.assert_right();
    assert!(run.metrics.connections_opened() > 60, "the limit was never met");
}
