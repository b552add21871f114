//! A pool while connections and servers fail and come back.

use std::time::Duration;

use smtp_pool::{
    client::Endpoint,
    net::{TlsConfig, TlsPolicy},
    pool::{CheckoutError, Key, Pool},
    proto::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{HOST, Site, builder, until};

#[tokio::test]
async fn connections_that_the_server_closed_while_idle_are_not_lent() {
    let site = Site::start("idle_timeout = \"20ms\"").await;
    let pool = builder().build().unwrap();
    let lent = [pool.get(&site.server).await.unwrap(), pool.get(&site.server).await.unwrap()];
    drop(lent);
    until("closed by the server", || site.stats().open == 0).await;
    for _ in 0..3 {
        let mut connection = pool.get(&site.server).await.unwrap();
        connection.command(&Command::Noop).await.unwrap();
    }
    assert_eq!(pool.metrics().snapshot().server(&site.server).unwrap().connections_closed["lost"], 2);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_without_an_error() {
    // The second transaction finds that the server has closed the connection.
    let site = Site::start("faults = [{ at = \"mail\", nth = 2, does = \"eof\" }]").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    for _ in 0..3 {
        assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
    }
    assert_eq!(site.stats().connections, 3);
    assert_eq!(pool.metrics().snapshot().server(&site.server).unwrap().retries, 2);
}

/// Returns a pool that uses TLS and knows the certificate of the site.
fn trusting(site: &Site) -> Pool {
    let trusting =
        TlsConfig::for_policy(TlsPolicy::Required).add_root_der(site.sandbox.certificate_der().to_vec());
    let endpoint = Endpoint::new(HOST, vec![site.sandbox.addr(HOST).unwrap()]);
    builder().tls(TlsPolicy::Required).tls_config(trusting).server(Key::at(&endpoint)).build().unwrap()
}

#[tokio::test]
async fn a_connection_in_the_place_of_another_resumes_its_tls_session() {
    let site = Site::start("faults = [{ at = \"mail\", nth = 2, does = \"eof\" }]").await;
    let pool = trusting(&site);
    for _ in 0..3 {
        assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
    }
    assert_eq!(site.stats().handshakes, 3);
    let snapshot = pool.metrics().snapshot();
    let handshakes = &snapshot.total().tls_handshakes;
    assert_eq!((handshakes["full"], handshakes["resumed"]), (1, 2));
}

#[tokio::test]
async fn a_handshake_counts_also_if_the_connection_fails_behind_it() {
    let site = Site::start("faults = [{ at = \"ehlo\", nth = 2, does = \"eof\" }]").await;
    let pool = trusting(&site);
    pool.verify_email("ann@good.test").await.unwrap_err();
    let snapshot = pool.metrics().snapshot();
    let server = snapshot.total();
    assert_eq!(server.connections_opened, 0);
    let counted = server.tls_handshakes.values().sum::<u64>();
    assert!(counted > 0 && counted == site.stats().handshakes, "{counted}");
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_an_error() {
    let site = Site::start("faults = [{ at = \"mail\", does = \"eof\" }]").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    pool.verify_email("ann@good.test").await.unwrap_err();
    assert_eq!(site.stats().connections, 1);
}

/// A server that can be killed and started again at the same address.
struct RestartableServer {
    address: String,
    running: Option<JoinHandle<()>>,
}

impl RestartableServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { address, running: Some(tokio::spawn(serve(listener))) }
    }

    async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    async fn restart(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        self.running = Some(tokio::spawn(serve(listener)));
    }
}

/// Accepts every command until it is killed.
async fn serve(listener: TcpListener) {
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        sessions.spawn(async move {
            socket.write_all(b"220 mx\r\n").await?;
            let mut command = [0; 512];
            while socket.read(&mut command).await? > 0 {
                socket.write_all(b"250 ok\r\n").await?;
            }
            std::io::Result::Ok(())
        });
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_without_help() {
    let mut server = RestartableServer::start().await;
    let pool = builder()
        .backoff(Duration::from_millis(5))
        .breaker_failures(3)
        .breaker_pause(Duration::from_millis(50))
        .max_connections(4)
        .build()
        .unwrap();
    let use_it = async |address: &str| -> Result<bool, CheckoutError> {
        let mut connection = pool.get(address).await?;
        Ok(connection.command(&Command::Noop).await.is_ok())
    };
    assert!(use_it(&server.address).await.unwrap());
    server.kill().await;
    let mut errors = Vec::new();
    while errors.len() < 5 {
        match use_it(&server.address).await {
            // A stale connection is detected at the latest when it is used.
            Ok(answered) => assert!(!answered, "nobody is there"),
            Err(error) => errors.push(error),
        }
    }
    assert!(matches!(errors[4], CheckoutError::CircuitOpen { .. }), "{:?}", errors[4]);

    server.restart().await;
    let resumed = tokio::time::Instant::now();
    while !matches!(use_it(&server.address).await, Ok(true)) {
        tokio::task::yield_now().await;
    }
    // The pause has doubled a few times at most while the server was down.
    assert!(resumed.elapsed() < Duration::from_secs(2), "{:?}", resumed.elapsed());
    assert!(pool.health().ready);
}

#[tokio::test]
async fn connecting_is_retried_only_while_a_user_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let tried = |pool: &Pool| pool.metrics().snapshot().connections_failed()["refused"];
    let impatient = || builder().breaker_failures(0).max_retries(2);
    let pool = impatient().backoff(Duration::from_millis(1)).build().unwrap();
    pool.get(&nobody).await.unwrap_err();
    assert_eq!(tried(&pool), 3);
    // The user gives up before the second attempt.
    let pool = impatient().backoff(Duration::from_millis(600)).build().unwrap();
    pool.get_timeout(&nobody, Duration::from_millis(150)).await.unwrap_err();
    until("given up", || pool.status().connecting == 0).await;
    assert_eq!(tried(&pool), 2);
}

#[tokio::test]
async fn a_user_that_waits_while_a_server_comes_back_is_served() {
    let mut server = RestartableServer::start().await;
    let pool =
        builder().backoff(Duration::from_millis(20)).max_retries(50).breaker_failures(0).build().unwrap();
    server.kill().await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (pool, address) = (pool.clone(), server.address.clone());
            tokio::spawn(async move {
                pool.get(&address).await?.command(&Command::Noop).await.map_err(|_| CheckoutError::Closed)
            })
        })
        .collect();
    until("in line", || pool.status().waiting == 5).await;
    server.restart().await;
    for user in waiting {
        assert!(user.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn what_repeats_without_end_is_not_retried() {
    // A certificate of no known authority, and the name of no host.
    let site = Site::start("").await;
    let untrusted = Pool::builder().tls(TlsPolicy::Required).breaker_failures(0).build().unwrap();
    let error = untrusted.get(&site.server).await.unwrap_err();
    let CheckoutError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((error.kind(), source.is_transient()), ("certificate", false));
    assert_eq!(site.stats().connections, 1);
}
