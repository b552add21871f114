//! Hooks, detached connections, and the limit on checkouts a minute.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use smtp_pool::{
    client::Connection,
    pool::{CheckoutError, ClosedConnection, HookFuture, Hooks, OpenError},
    proto::Command,
};
use tokio::time::Instant;

use super::{Site, builder, until};

/// Records what it sees, and refuses as told.
#[derive(Clone, Default)]
struct Recorded {
    seen: Arc<Mutex<Vec<String>>>,
    refuses_new: Arc<AtomicBool>,
    refuses_idle: Arc<AtomicBool>,
}

impl Recorded {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn record(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl Hooks for Recorded {
    fn after_connect<'a>(&'a self, _: &'a str, connection: &'a mut Connection) -> HookFuture<'a> {
        Box::pin(async move {
            let reply = connection.command(&Command::Noop).await?;
            self.record(format!("opened {}", reply.code()));
            if self.refuses_new.load(Ordering::Relaxed) { Err("not this one".into()) } else { Ok(()) }
        })
    }

    fn before_checkout(&self, _: &str, _: &Connection) -> bool {
        self.record("lent".to_owned());
        !self.refuses_idle.swap(false, Ordering::Relaxed)
    }

    fn on_close(&self, closed: &ClosedConnection<'_>) {
        self.record(format!("closed {} {}", closed.reason, closed.uses));
    }
}

#[tokio::test]
async fn hooks_see_the_life_of_a_connection() {
    let site = Site::start("").await;
    let hooks = Recorded::default();
    let pool = builder().hooks(hooks.clone()).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    assert_eq!(hooks.take(), ["opened 250", "lent"]);
    // A connection that may not be lent gets QUIT, and another one is opened.
    hooks.refuses_idle.store(true, Ordering::Relaxed);
    drop(pool.get(&site.server).await.unwrap());
    until("closed", || hooks.seen.lock().unwrap().len() == 4).await;
    let mut seen = hooks.take();
    seen.sort();
    assert_eq!(seen, ["closed unusable 1", "lent", "lent", "opened 250"]);
    assert_eq!(site.stats().connections, 2);
    assert!(pool.close(Duration::from_secs(5)).await);
    assert_eq!(hooks.take(), ["closed pool_closed 1"]);
}

#[tokio::test]
async fn a_hook_that_refuses_new_connections_fails_the_checkout_at_once() {
    let site = Site::start("").await;
    let hooks = Recorded::default();
    hooks.refuses_new.store(true, Ordering::Relaxed);
    let pool = builder().hooks(hooks.clone()).build().unwrap();
    let error = pool.get(&site.server).await.unwrap_err();
    assert_eq!(error.kind(), "hook");
    let CheckoutError::Connect { source, .. } = error else { panic!("{error}") };
    assert!(matches!(&*source, OpenError::Hook(why) if why.to_string() == "not this one"), "{source}");
    assert_eq!(site.stats().connections, 1, "not repeated");
}

#[tokio::test]
async fn a_detached_connection_leaves_its_place_to_another() {
    let site = Site::start("").await;
    let hooks = Recorded::default();
    let pool = builder().max_connections(1).hooks(hooks.clone()).build().unwrap();
    let mut own = pool.get(&site.server).await.unwrap().detach();
    assert_eq!(hooks.take(), ["opened 250", "lent", "closed detached 1"]);
    let lent = pool.get(&site.server).await.unwrap();
    assert_eq!((pool.status().active, site.stats().connections), (1, 2));
    assert!(own.command(&Command::Noop).await.unwrap().is_positive());
    assert!(own.quit().await.is_ok());
    drop(lent);
    let snapshot = pool.metrics().snapshot();
    assert_eq!(snapshot.server(&site.server).unwrap().connections_closed["detached"], 1);
}

#[tokio::test]
async fn checkouts_keep_to_the_rate() {
    let site = Site::start("").await;
    let wait = Duration::from_secs(3_600);
    let pool = builder().per_minute(6).acquire_timeout(wait).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    // Nothing is read from a socket, so the paused time is the only one.
    assert!(pool.try_get(&site.server).is_none());
    let error = pool.get_timeout(&site.server, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), "rate_limited");
    let CheckoutError::RateLimited { retry_after, .. } = error else { panic!("{error}") };
    assert!(retry_after > Duration::from_secs(8), "{retry_after:?}");
    tokio::time::pause();
    let began = Instant::now();
    for _ in 0..5 {
        drop(pool.get(&site.server).await.unwrap());
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(48) && took < Duration::from_secs(52), "{took:?}");
    assert_eq!(site.stats().connections, 1);
}
