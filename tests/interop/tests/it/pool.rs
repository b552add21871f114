//! A pool under steady load, while Postfix is killed and later started again. No answer is wrong, every error has a
//! known cause, and traffic resumes when the server is back.
//!
//! Idle connections, which Postfix closes after a while, are not lent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use smtp_pool::{
    pool::{CheckoutError, Envelope, Key, OpenError, OperationError, Pool},
    proto::{Command, Mailbox, Reply, ReversePath},
};
use smtp_pool_interop::{Kind, Postfix, Service, World};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::support::name;

/// The pause after a failed attempt to connect, in which no other attempt is made.
const STEP: Duration = Duration::from_millis(500);
const USERS: usize = 12;
const WAITING: Duration = Duration::from_millis(5);
/// The maximum time for each step of a test.
const DEADLINE: Duration = Duration::from_secs(60);
/// The time that a busy machine may need to connect and to answer.
const SLACK: Duration = Duration::from_secs(3);

fn pool(postfix: &Postfix, service: Service) -> Pool {
    let server = Key::parse(&postfix.addr(service).to_string()).expect("an address");
    let builder = Pool::builder().server(server).helo(name()).tls(smtp_pool::net::TlsPolicy::Off);
    let builder = builder.max_connections(6).max_retries(1).backoff(STEP).breaker_pause(STEP);
    builder.acquire_timeout(Duration::from_secs(20)).build().expect("a pool")
}

/// The results that the users have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    sent: AtomicUsize,
    errors: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
    over: AtomicBool,
    /// Notified of each answer and each error.
    changed: Notify,
}

impl Seen {
    /// Records an error, which must be one that a stopped server can cause.
    fn failed(&self, error: &OperationError) {
        let named = match error {
            OperationError::Checkout(CheckoutError::Connect { source, .. }) => match &**source {
                OpenError::Connect(_) | OpenError::Timeout { .. } => source.kind() != "other",
                _ => false,
            },
            OperationError::Checkout(error) => {
                matches!(error, CheckoutError::CircuitOpen { .. } | CheckoutError::Timeout { .. })
            }
            OperationError::Session { source, .. } => source.is_lost(),
            _ => false,
        };
        self.errors.lock().expect("a lock").push(format!("{error:?}"));
        if !named {
            self.wrong.lock().expect("a lock").push(format!("{error:?}"));
        }
        self.changed.notify_waiters();
    }

    /// Waits until the users have seen a result.
    async fn until(&self, what: &str, is_seen: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + DEADLINE;
        loop {
            let changed = self.changed.notified();
            if is_seen(self) {
                return;
            }
            assert!(timeout_at(limit, changed).await.is_ok(), "{what} within {DEADLINE:?}");
        }
    }

    /// Records an answer. It is right if it fits the mailbox, or says that the server stops.
    fn answered(&self, known: bool, reply: &Reply, accepted: bool) {
        if !reply.is_closing() && accepted != known {
            self.wrong.lock().expect("a lock").push(format!("known: {known}, {reply}"));
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// Verifies and sends by turns until the test ends.
async fn user(pool: Pool, seen: Arc<Seen>, mailboxes: Vec<(Mailbox, bool)>, turn: usize) {
    for (n, (mailbox, known)) in mailboxes.iter().cycle().skip(turn * 7).enumerate() {
        if seen.over.load(Ordering::Relaxed) {
            return;
        }
        if n % 8 == 7 {
            let envelope = Envelope::new(ReversePath::Null, mailbox.clone());
            let delivery = pool.send(&envelope, b"Subject: steady\r\n\r\nload\r\n").await;
            match &delivery {
                Ok(delivery) => {
                    let reply = delivery.recipients[0].1.as_ref().expect("a reply");
                    seen.answered(*known, reply, reply.is_positive());
                    seen.sent.fetch_add(usize::from(reply.is_positive()), Ordering::Relaxed);
                }
                Err(error) => seen.failed(&error.recipients[0].1),
            }
        } else {
            match pool.verify_email(mailbox.as_ref()).await {
                Ok(answer) => seen.answered(*known, &answer.reply, answer.is_accepted()),
                Err(error) => seen.failed(&error),
            }
        }
        // The load is steady, and below the maximum.
        sleep(WAITING).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again_under_load() {
    let world = World::of(200, [Kind::Known, Kind::Unknown]);
    let postfix = Postfix::start(&world);
    let server = postfix.addr(Service::Plain).to_string();
    let pool = pool(&postfix, Service::Plain);
    let mailbox = |text: &str| Mailbox::parse(text).expect("an address");
    let mailboxes: Vec<_> =
        world.addresses.iter().map(|a| (mailbox(&a.text), a.kind == Kind::Known)).collect();
    let seen = Arc::new(Seen::default());
    let mut users = JoinSet::new();
    for turn in 0..USERS {
        users.spawn(user(pool.clone(), Arc::clone(&seen), mailboxes.clone(), turn));
    }
    let answers = |seen: &Seen| seen.answers.load(Ordering::Relaxed);
    let errors = |seen: &Seen| seen.errors.lock().expect("a lock").len();
    seen.until("traffic", |seen| answers(seen) > 300).await;
    for _ in 0..2 {
        tokio::task::block_in_place(|| postfix.kill());
        let before = errors(&seen);
        seen.until("everybody notices", |seen| errors(seen) >= before + USERS).await;
        assert!(!pool.health().ready || pool.status().idle == 0, "{pool:?}");
        let listening = tokio::task::block_in_place(|| {
            postfix.run();
            Instant::now()
        });
        // The time until the next attempt to connect.
        let step = match pool.get_timeout(&server, Duration::ZERO).await {
            Err(CheckoutError::CircuitOpen { retry_after, .. }) => retry_after,
            _ => STEP,
        };
        let before = answers(&seen);
        seen.until("traffic", |seen| answers(seen) > before).await;
        let resumed = listening.elapsed();
        assert!(resumed < step + SLACK, "{resumed:?} after Postfix was up, and the step was {step:?}");
        seen.until("more traffic", |seen| answers(seen) > before + 300).await;
    }
    seen.over.store(true, Ordering::Relaxed);
    while let Some(user) = users.join_next().await {
        user.expect("a user");
    }
    assert!(pool.close(Duration::from_secs(30)).await, "{pool:?}");
    assert_eq!((pool.status().idle, pool.status().active, pool.status().connecting), (0, 0, 0));
    let wrong = seen.wrong.lock().expect("a lock");
    assert!(wrong.is_empty(), "{} are wrong, as\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    assert!(seen.sent.load(Ordering::Relaxed) > 0, "no message was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_postfix_closes_are_not_lent() {
    let world = World::of(20, [Kind::Known]);
    let postfix = Postfix::start(&world);
    let server = postfix.addr(Service::Brief).to_string();
    let pool = pool(&postfix, Service::Brief);
    let mut lent = Vec::new();
    for _ in 0..6 {
        lent.push(pool.get(&server).await.expect("a connection"));
    }
    drop(lent);
    // Postfix closes the connection after 1 s, by a clock that the test cannot change.
    for _ in 0..4 {
        sleep(Duration::from_millis(1_500)).await;
        for _ in 0..6 {
            let mut connection = pool.get(&server).await.expect("a connection");
            let reply = connection.command(&Command::Noop).await;
            assert!(reply.as_ref().is_ok_and(Reply::is_positive), "{reply:?}");
        }
    }
    let seen = pool.metrics().snapshot();
    let lost = seen.total().connections_closed["lost"];
    assert!(lost >= 6, "{lost} were closed by the server");
}
