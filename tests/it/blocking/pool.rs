//! The blocking pool: shared by many threads, refused in async code, and dropped in any order.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use smtp_pool::{
    blocking::{Error, HealthManager, InAsync, Pool},
    net::TlsPolicy,
    pool::{Builder, CheckoutError, Envelope, Key, OperationError},
    proto::{ClientName, Command, Mailbox, ReversePath},
    sandbox::{HostStats, Sandbox},
};

use super::WORLD;
use crate::support;

/// A server with a runtime of its own, beside threads without one.
struct Site {
    sandbox: Sandbox,
    server: String,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let sandbox = runtime.block_on(support::sandbox(WORLD));
        let server = sandbox.addr("mx").unwrap().to_string();
        Self { sandbox, server, runtime }
    }

    fn builder(&self) -> Builder<Pool> {
        Pool::builder()
            .helo(ClientName::parse("client.example.org").unwrap())
            .tls(TlsPolicy::Off)
            .server(Key::parse(&self.server).unwrap())
            .acquire_timeout(Duration::from_secs(20))
    }

    fn stats(&self) -> HostStats {
        self.sandbox.stats("mx").unwrap()
    }

    /// Waits until the server has seen every connection end.
    fn until_alone(&self) {
        until("the server is alone", || self.stats().open == 0);
    }
}

/// Waits until another thread has done something. A deadline keeps a failure from hanging.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn sixteen_threads_share_four_connections() {
    let site = Site::start();
    let pool = site.builder().max_connections(4).build().unwrap();
    let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let together = Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..50 {
                    let mut connection = pool.get(&site.server).unwrap();
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    assert_eq!(connection.command(&Command::Noop).unwrap().code(), 250);
                    held.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.into_inner() <= 4);
    let status = pool.status();
    assert_eq!((status.active, status.connecting, status.waiting), (0, 0, 0));
    let stats = site.stats();
    assert!(stats.max_open <= 4 && stats.connections <= 4, "{stats:?}");
    assert!(pool.close(Duration::from_secs(20)).unwrap());
    site.until_alone();
    let snapshot = pool.metrics().snapshot();
    assert_eq!(snapshot.total().connections_closed["pool_closed"], stats.connections);
}

#[test]
fn it_verifies_and_sends_like_the_async_pool() {
    let site = Site::start();
    let pool = site.builder().build().unwrap();
    assert!(pool.verify_email("ann@good.test").unwrap().is_accepted());
    assert_eq!(pool.verify_email("eve@good.test").unwrap().reply.code(), 550);
    let error = pool.verify_email("ann").unwrap_err();
    assert!(matches!(error, Error::Inner(OperationError::Address(_))), "{error:?}");

    let ann = Mailbox::parse("ann@good.test").unwrap();
    let envelope = Envelope::new(ReversePath::Null, ann.clone());
    assert!(pool.send(&envelope, b"Subject: hi\r\n\r\nhi\r\n").unwrap().is_complete());

    let mut connection = pool.get(&site.server).unwrap();
    assert!(connection.is_reused() && connection.extensions().pipelining);
    assert!(connection.verify_email(&ReversePath::Null, &ann).unwrap().is_accepted());
    let eve = Mailbox::parse("eve@good.test").unwrap();
    let answer = connection.verify_email(&ReversePath::Null, &eve).unwrap();
    assert_eq!((answer.is_accepted(), &*answer.server, answer.reply.code()), (false, &*site.server, 550));
    assert!(pool.try_get(&site.server).is_none());
    drop(connection);
    assert!(pool.try_get(&site.server).is_some());
    assert_eq!((site.stats().connections, site.stats().messages), (1, 1));
}

#[test]
fn exhaustion_names_the_holders() {
    let site = Site::start();
    let builder = site.builder().max_connections(1).leak_after(Duration::from_secs(600));
    let pool = builder.build().unwrap();
    let held = pool.get(&site.server).unwrap();
    let error = pool.get_timeout(&site.server, Duration::from_millis(10)).unwrap_err();
    let Error::Inner(CheckoutError::Exhausted(exhausted)) = error else { panic!("{error:?}") };
    assert_eq!((exhausted.active, exhausted.max), (1, 1));
    // The caller is named, and not a line of the runtime.
    assert_eq!(exhausted.held[0].taken_at.file(), file!());
    pool.resize(2);
    drop(pool.get(&site.server).unwrap());
    drop(held);
}

#[test]
fn maintenance_runs_while_no_thread_calls() {
    let site = Site::start();
    let pool = site.builder().min_idle(2).cleanup_interval(Duration::from_millis(50)).build().unwrap();
    drop(pool.get(&site.server).unwrap());
    until("two are idle", || pool.status().idle == 2);
    let metrics = pool.metrics().clone();
    assert_eq!(metrics.snapshot().connections_opened(), 2);
}

#[test]
fn health_checks_run_in_the_background() {
    let site = Site::start();
    let pool = site.builder().build().unwrap();
    drop(pool.get(&site.server).unwrap());
    let handle = HealthManager::new(&pool, Duration::from_millis(10)).start().unwrap();
    until("there is a result", || !handle.results().is_empty());
    assert!(handle.results()[0].outcome.is_ok() && pool.health().ready);
    handle.stop().unwrap();
    assert_eq!(pool.check_health().unwrap().len(), 1);
    drop(pool.health_manager().start().unwrap());
}

#[test]
fn from_async_code_each_call_is_an_error_that_says_so() {
    let site = Site::start();
    let pool = site.builder().build().unwrap();
    let mut connection = pool.get(&site.server).unwrap();
    let health = pool.health_manager().start().unwrap();
    let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test").unwrap());
    let spare = pool.clone();
    let noop = Command::Noop;
    site.runtime.block_on(async {
        let error = pool.get(&site.server).unwrap_err();
        assert!(matches!(error, Error::InAsync(_)) && error.to_string().contains("use the async API"));
        let error = pool.get_timeout(&site.server, Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::InAsync(_)), "{error:?}");
        assert!(matches!(pool.verify_email("ann@good.test"), Err(Error::InAsync(_))));
        assert!(matches!(pool.send(&envelope, b""), Err(Error::InAsync(_))));
        assert_eq!(pool.check_health().unwrap_err(), InAsync);
        assert_eq!(pool.close(Duration::ZERO).unwrap_err(), InAsync);
        assert_eq!(pool.health_manager().start().unwrap_err(), InAsync);
        assert_eq!(health.stop().unwrap_err(), InAsync);
        assert!(matches!(connection.command(&noop), Err(Error::InAsync(_))));
        assert!(matches!(connection.data(b""), Err(Error::InAsync(_))));
        assert!(matches!(connection.quit(), Err(Error::InAsync(_))));
        // Calls that do not wait are allowed.
        assert_eq!((pool.status().active, pool.is_closed(), pool.health().ready), (1, false, true));
        drop(connection);
        drop(pool.try_get(&site.server).unwrap());
        // The last reference to the pool and its runtime is dropped here, which must not panic.
        drop((pool, spare));
    });
    site.until_alone();
}

#[test]
fn a_connection_may_outlive_the_pool() {
    let site = Site::start();
    let pool = site.builder().build().unwrap();
    let mut connection = pool.get(&site.server).unwrap();
    let idle = pool.get(&site.server).unwrap();
    drop(idle);
    drop(pool);
    assert_eq!(connection.command(&Command::Noop).unwrap().code(), 250);
    until("the idle one is closed", || site.stats().open == 1);
    drop(connection);
    site.until_alone();
}
