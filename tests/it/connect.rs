//! Connects to a server up to a session, with authentication. Without verified TLS, no credentials are sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use smtp_pool::{
    client::{ClientConfig, ConnectError, Connector, Endpoint},
    metrics::Metrics,
    net::{TlsConfig, TlsPolicy},
    proto::{ClientName, Credentials, State, Verb},
    sandbox::Sandbox,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::support::sandbox;

const ACCOUNT: &str = "accounts = { tim = \"tanstaaftanstaaf\" }";

async fn world(more: &str) -> (Sandbox, Endpoint) {
    let sandbox = sandbox(&format!("[[host]]\nname = \"mx.good.test\"\n{ACCOUNT}\n{more}")).await;
    let addrs = vec![sandbox.addr("mx.good.test").unwrap()];
    (sandbox, Endpoint::new("mx.good.test", addrs))
}

fn config(password: &str) -> ClientConfig {
    let mut config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    config.credentials = Some(Credentials::Password { user: "tim".into(), password: password.into() });
    config
}

fn connector(config: ClientConfig) -> Connector {
    Connector::new(config, Arc::new(Metrics::new())).unwrap()
}

#[tokio::test]
async fn credentials_are_taken_over_verified_tls() {
    let (sandbox, endpoint) = world("").await;
    let mut config = config("tanstaaftanstaaf");
    let trusting =
        TlsConfig::for_policy(TlsPolicy::Required).add_root_der(sandbox.certificate_der().to_vec());
    config.tls_config = Some(trusting);
    let connection = connector(config.clone()).connect(&endpoint).await.unwrap();
    assert!(connection.is_idle() && connection.tls_info().is_some());

    if let Some(Credentials::Password { password, .. }) = &mut config.credentials {
        password.push('x');
    }
    match connector(config).connect(&endpoint).await.unwrap_err() {
        ConnectError::Refused { verb: Verb::Auth, reply } => assert_eq!(reply.code(), 535),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_server_without_a_trusted_certificate() {
    let (sandbox, endpoint) = world("").await;
    let error = connector(config("tanstaaftanstaaf")).connect(&endpoint).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert_eq!(sandbox.stats("mx.good.test").unwrap().handshakes, 0);
}

#[tokio::test]
async fn credentials_go_in_the_clear_only_where_tls_is_off() {
    let (_sandbox, endpoint) = world("without = [\"STARTTLS\"]").await;
    let mut config = config("tanstaaftanstaaf");
    let error = connector(config.clone()).connect(&endpoint).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoStartTls), "{error:?}");
    config.tls = TlsPolicy::Off;
    let connection = connector(config).connect(&endpoint).await.unwrap();
    assert_eq!(connection.state(), State::Ready);
}

/// A reply whose lines have different codes neither accepts nor refuses.
#[tokio::test]
async fn a_reply_of_two_codes_opens_no_connection() {
    for (at, codes, is_meant) in [
        (
            "connect",
            ("220", "554"),
            (|error| matches!(error, ConnectError::Session(_))) as fn(&ConnectError) -> bool,
        ),
        ("ehlo", ("250", "502"), |error| matches!(error, ConnectError::Session(_))),
        ("ehlo", ("502", "250"), |error| matches!(error, ConnectError::Session(_))),
        ("starttls", ("220", "454"), |error| matches!(error, ConnectError::StartTls(_))),
        ("starttls", ("454", "220"), |error| matches!(error, ConnectError::StartTls(_))),
        ("auth", ("235", "535"), |error| matches!(error, ConnectError::Session(_))),
        ("auth", ("535", "235"), |error| matches!(error, ConnectError::Session(_))),
    ] {
        let (first, second) = codes;
        let fault =
            format!("faults = [{{ at = \"{at}\", does = {{ reply = \"{first}-a\\r\\n{second} b\" }} }}]");
        let (sandbox, endpoint) = world(&fault).await;
        let mut config = config("tanstaaftanstaaf");
        if at == "starttls" {
            let trusting =
                TlsConfig::for_policy(TlsPolicy::Required).add_root_der(sandbox.certificate_der().to_vec());
            config.tls_config = Some(trusting);
        } else {
            config.tls = TlsPolicy::Off;
        }
        let error = connector(config).connect(&endpoint).await.unwrap_err();
        assert!(is_meant(&error), "{at} {codes:?}: {error:?}");
        let cause =
            std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
        assert!(cause.unwrap().to_string().contains("carry different codes"), "{at} {codes:?}: {error:?}");
    }
    // Opportunistic TLS continues without TLS, as after any failure of STARTTLS.
    let fault = "faults = [{ at = \"starttls\", does = { reply = \"220-a\\r\\n454 b\" } }]";
    let (sandbox, endpoint) = world(fault).await;
    let config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    let connection = connector(config).connect(&endpoint).await.unwrap();
    assert!(connection.is_idle() && connection.tls_info().is_none());
    assert_eq!(sandbox.stats("mx.good.test").unwrap().connections, 2);
}

/// A server that offers STARTTLS. It breaks each handshake. Returns its endpoint, and the count of STARTTLS
/// commands.
async fn with_broken_starttls() -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new("mx.broken.test", vec![listener.local_addr().unwrap()]);
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let (read, mut write) = socket.into_split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 mx\r\n").await.unwrap();
                while let Ok(Some(line)) = lines.next_line().await {
                    match line.split(' ').next().unwrap() {
                        "EHLO" => write.write_all(b"250-mx\r\n250 STARTTLS\r\n").await.unwrap(),
                        "STARTTLS" => {
                            counted.fetch_add(1, Ordering::SeqCst);
                            // It closes in place of the handshake.
                            write.write_all(b"220 go\r\n").await.unwrap();
                            return;
                        }
                        _ => write.write_all(b"250 ok\r\n").await.unwrap(),
                    }
                }
            });
        }
    });
    (endpoint, attempts)
}

#[tokio::test]
async fn broken_starttls_is_tried_again_later() {
    let (endpoint, attempts) = with_broken_starttls().await;
    let mut config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    config.broken_starttls_memory = Duration::from_millis(400);
    let connector = connector(config);
    let connect = async || connector.connect(&endpoint).await.unwrap().tls_info().is_none();
    for (tried, pause) in [(1, 0), (2, 0), (2, 0), (3, 600), (4, 0), (4, 0)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        assert!(connect().await, "in the clear");
        assert_eq!(attempts.load(Ordering::SeqCst), tried);
    }
}
