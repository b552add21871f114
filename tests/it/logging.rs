//! The log of a session and of a pool: what it must show, and what it must not show.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use smtp_pool::{
    client::SessionError,
    net::TlsPolicy,
    pool::{Envelope, Key, Pool},
    proto::{ClientName, Command, Credentials, Mailbox, ReversePath},
    sandbox::{Sandbox, World},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

const WORLD: &str = r#"
[[host]]
name = "mx"
accounts = { "tim@client.test" = "hunter2" }
[[domain]]
name = "good.test"
users = ["ann"]
"#;

/// The account, its password, and both as AUTH PLAIN sends them.
const SECRETS: [&str; 4] = ["hunter2", "tim@client.test", "aHVudGVyMg", "AHRpbUBjbGllbnQudGVzdABodW50ZXIy"];
const ADDRESSES: [&str; 4] = ["ann@", "nobody", "sender", "good.test"];

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Gathers the log of this thread until the guard is dropped.
    fn gather(&self, level: LevelFilter) -> DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

/// Returns the log of a pool that authenticates, verifies, sends, checks its health, fails and closes.
async fn logged(level: LevelFilter, log_addresses: bool) -> String {
    let sink = Sink::default();
    let _here = sink.gather(level);

    let sandbox = Sandbox::start(World::from_toml(WORLD).unwrap()).await.unwrap();
    let server = Key::parse(&sandbox.addr("mx").unwrap().to_string()).unwrap();
    let account =
        |user: &str, password: &str| Credentials::Password { user: user.into(), password: password.into() };
    let pool = Pool::builder()
        .helo(ClientName::parse("client.test").unwrap())
        .tls(TlsPolicy::Off)
        .server(server.clone())
        .credentials(account("tim@client.test", "hunter2"))
        .log_addresses(log_addresses)
        .build()
        .unwrap();
    assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
    assert_eq!(pool.verify_email("nobody@good.test").await.unwrap().reply.code(), 550);
    let envelope = Envelope::new(
        ReversePath::Mailbox(Mailbox::parse("sender@good.test").unwrap()),
        Mailbox::parse("ann@good.test").unwrap(),
    );
    assert!(pool.send(&envelope, b"Subject: hi\r\n\r\nhi\r\n").await.unwrap().is_complete());
    pool.check_health().await;

    assert!(
        pool.get(server.clone().credentials(account("tom@client.test", "hunter2 in vain"))).await.is_err()
    );

    let mut held = pool.get(&server).await.unwrap();
    assert!(held.command(&Command::Noop).await.unwrap().is_positive());
    drop(sandbox);
    assert!(matches!(
        held.command(&Command::Noop).await,
        Err(SessionError::Closed { .. } | SessionError::Io { .. })
    ));
    drop(held);
    assert!(pool.close(Duration::from_secs(20)).await);
    sink.take()
}

fn has(log: &str, all: &[&str]) {
    for text in all {
        assert!(log.contains(text), "{text:?} is not in\n{log}");
    }
}

fn lacks(log: &str, all: &[&str]) {
    for text in all {
        assert!(!log.contains(text), "{text:?} is in\n{log}");
    }
}

#[tokio::test]
async fn everything_is_logged_but_secrets_and_addresses() {
    let log = logged(LevelFilter::TRACE, false).await;
    has(
        &log,
        &[
            "connection{server=127.0.0.1}",
            "connected took=",
            "verb=AUTH code=235 took=",
            "verb=MAIL code=250 took=",
            "verb=RCPT code=250 took=",
            "verb=RCPT code=550 took=",
            "healthy",
            "cannot connect kind=\"auth_refused\"",
            "no reply verb=NOOP",
            "connection closed",
        ],
    );
    lacks(&log, &SECRETS);
    lacks(&log, &ADDRESSES);
}

#[tokio::test]
async fn addresses_are_logged_on_request_and_secrets_never() {
    let log = logged(LevelFilter::TRACE, true).await;
    has(&log, &["RCPT TO:<ann@good.test>", "MAIL FROM:<sender@good.test>", "<nobody@good.test>", "text="]);
    lacks(&log, &SECRETS);
    // Addresses are logged at the level of details.
    let log = logged(LevelFilter::DEBUG, true).await;
    has(&log, &["connected took=", "connection closed"]);
    lacks(&log, &SECRETS);
    lacks(&log, &ADDRESSES);
}

#[tokio::test]
async fn a_connection_lent_for_too_long_is_logged_once() {
    let sink = Sink::default();
    let _here = sink.gather(LevelFilter::WARN);
    let sandbox = Sandbox::start(World::from_toml(WORLD).unwrap()).await.unwrap();
    let server = sandbox.addr("mx").unwrap().to_string();
    let name = ClientName::parse("client.test").unwrap();
    let pool =
        Pool::builder().helo(name).tls(TlsPolicy::Off).leak_after(Duration::from_secs(60)).build().unwrap();
    drop(pool.get(&server).await.unwrap());
    let _kept = pool.get(&server).await.unwrap();
    let line = line!() - 1;
    let pass = async |seconds: u64| {
        tokio::time::pause();
        // The maintenance has checked this many times.
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
    };
    pass(50).await;
    assert_eq!(sink.take(), "");
    pass(60).await;
    let log = sink.take();
    assert_eq!(log.matches("connection not given back").count(), 1, "{log}");
    has(&log, &[&format!("{}:{line}", file!())]);
    pass(60).await;
    assert_eq!(sink.take(), "");
}
