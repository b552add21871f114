//! Drops a connect after each number of polls, against servers that fail at every stage up to TLS. No connection stays
//! open. A connect that is not dropped ends with the error of the fault.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use smtp_pool::{
    client::{ClientConfig, ConnectError, Connection, Connector, Endpoint, SessionError, Timeouts},
    metrics::Metrics,
    net::TlsPolicy,
    proto::ClientName,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// The timeout, which only the silent server reaches.
const LIMIT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Banner,
    Ehlo,
    StartTls,
    Handshake,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Garbage,
    Silence,
    End,
    Injection,
}

const STAGES: [Stage; 4] = [Stage::Banner, Stage::Ehlo, Stage::StartTls, Stage::Handshake];
const FAULTS: [Fault; 4] = [Fault::Garbage, Fault::Silence, Fault::End, Fault::Injection];

/// Serves one connection until the client has gone.
async fn serve(tcp: TcpStream, at: Stage, fault: Fault) -> std::io::Result<()> {
    let mut tcp = BufReader::new(tcp);
    for (stage, proper) in [
        (Stage::Banner, "220 mx.example.com\r\n"),
        (Stage::Ehlo, "250-mx.example.com\r\n250 STARTTLS\r\n"),
        (Stage::StartTls, "220 go ahead\r\n"),
        (Stage::Handshake, ""),
    ] {
        // The TLS handshake begins with octets of the client as well.
        if stage == Stage::Handshake {
            tcp.fill_buf().await?;
        } else if stage != Stage::Banner {
            tcp.read_line(&mut String::new()).await?;
        }
        match fault {
            _ if stage != at => tcp.write_all(proper.as_bytes()).await?,
            Fault::Garbage => tcp.write_all(b"garbage in place of an answer\r\n").await?,
            Fault::Silence => {}
            Fault::End => tcp.shutdown().await?,
            Fault::Injection => tcp.write_all(format!("{proper}250 injected\r\n").as_bytes()).await?,
        }
        if stage == at {
            break;
        }
    }
    tcp.read_to_end(&mut Vec::new()).await.map(drop)
}

/// Polls `future` when it is woken. Drops it after `polls` polls.
async fn drop_after<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Connects, and fails if a connection outlives the future.
async fn trial(
    policy: TlsPolicy,
    at: Stage,
    fault: Fault,
    polls: usize,
) -> Option<Result<Connection, ConnectError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new("localhost", vec![listener.local_addr().unwrap()]);
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let server = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let open = open.clone();
            tokio::spawn(async move {
                // A client that is dropped midway may send a reset. Only the end of the connection matters.
                let _ = serve(tcp, at, fault).await;
                drop(open);
            });
        }
    });
    let mut config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    (config.tls, config.timeouts) = (policy, Timeouts::all(LIMIT));
    let connector = Connector::new(config, Arc::new(Metrics::new())).unwrap();
    let ended = drop_after(connector.connect(&endpoint), polls).await;
    server.abort();
    if !matches!(ended, Some(Ok(_))) {
        let closed = timeout(Duration::from_secs(10), all_closed.recv()).await;
        assert_eq!(closed, Ok(None), "a connection is still open: {policy:?} {at:?} {fault:?} {polls} polls");
    }
    ended
}

#[tokio::test]
async fn connecting_may_be_dropped_anywhere_under_any_fault() {
    for policy in [TlsPolicy::Required, TlsPolicy::Opportunistic] {
        for at in STAGES {
            for fault in FAULTS {
                let mut polls = 0;
                let ended = loop {
                    match trial(policy, at, fault, polls).await {
                        Some(ended) => break ended,
                        None => polls += 1,
                    }
                };
                let case = format!("{policy:?} {at:?} {fault:?}: {ended:?}");
                assert!(polls > 1, "never pending: {case}");
                let broken_tls =
                    at == Stage::Handshake || (at == Stage::StartTls && fault != Fault::Injection);
                match ended {
                    // Octets behind the reply to STARTTLS are an attack, so the client must not continue without TLS.
                    Err(ConnectError::Session(SessionError::Injected)) => {
                        assert!(at == Stage::StartTls && fault == Fault::Injection, "{case}");
                    }
                    // If STARTTLS fails, opportunistic TLS continues without it.
                    Ok(connection) => {
                        assert!(policy == TlsPolicy::Opportunistic && broken_tls, "{case}");
                        assert!(connection.tls_info().is_none() && connection.is_idle(), "{case}");
                    }
                    // Such a server may expect TLS from the start.
                    Err(ConnectError::Silent) => {
                        assert!(at == Stage::Banner && fault == Fault::Silence, "{case}");
                    }
                    Err(ConnectError::Tls(_)) => assert!(at == Stage::Handshake, "{case}"),
                    Err(ConnectError::StartTls(_)) => {
                        assert!(at == Stage::StartTls && policy == TlsPolicy::Required, "{case}");
                    }
                    Err(ConnectError::Session(_) | ConnectError::Refused { .. }) => {
                        assert!(matches!(at, Stage::Banner | Stage::Ehlo), "{case}");
                    }
                    Err(_) => panic!("{case}"),
                }
            }
        }
    }
}
