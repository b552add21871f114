//! How long connections live, and how many stay open.

use std::time::Duration;

use smtp_pool::proto::Command;

use super::{Site, builder, pass, until};

const MINUTE: Duration = Duration::from_secs(60);
/// The limit of the server is so long that it does not matter.
const LONG_SERVER_LIMIT: &str = "idle_timeout = \"100h\"";

#[tokio::test]
async fn a_connection_past_its_lifetime_is_not_lent_and_gets_quit() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let pool = builder().max_lifetime(10 * MINUTE).noop_after(100 * MINUTE).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    pass(8 * MINUTE).await;
    assert!(pool.get(&site.server).await.unwrap().is_reused());
    pass(3 * MINUTE).await;
    assert!(!pool.get(&site.server).await.unwrap().is_reused());
    until("closed", || site.stats().open == 1).await;
    assert_eq!(site.stats().commands, 3, "EHLO, EHLO, and QUIT");
    let seen = pool.metrics().snapshot();
    assert_eq!(seen.server(&site.server).unwrap().connections_closed["expired"], 1);
}

#[tokio::test]
async fn lifetimes_differ() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    // There are so many that hardly ever all or none expire.
    let pool = builder()
        .max_connections(30)
        .max_lifetime(100 * MINUTE)
        .lifetime_jitter(0.5)
        .idle_timeout(1_000 * MINUTE)
        .build()
        .unwrap();
    let mut lent = Vec::new();
    for _ in 0..30 {
        lent.push(pool.get(&site.server).await.unwrap());
    }
    drop(lent);
    pass(75 * MINUTE).await;
    let old = pool.status().idle;
    assert!((1..30).contains(&old), "{old} of 30 left");
    pass(30 * MINUTE).await;
    assert_eq!(pool.status().idle, 0);
    until("closed", || site.stats().open == 0).await;
    assert_eq!(site.stats().commands, 60, "EHLO and QUIT on each");
    let seen = pool.metrics().snapshot();
    assert_eq!(seen.server(&site.server).unwrap().connections_closed["expired"], 30);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_checked_first() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let pool = builder().noop_after(MINUTE).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    let before = site.stats().commands;
    drop(pool.get(&site.server).await.unwrap());
    assert_eq!(site.stats().commands, before);
    pass(2 * MINUTE).await;
    assert!(pool.get(&site.server).await.unwrap().is_reused());
    assert_eq!(site.stats().commands, before + 1);
}

#[tokio::test]
async fn a_connection_without_an_answer_is_replaced() {
    let site =
        Site::start(&format!("{LONG_SERVER_LIMIT}\nfaults = [{{ at = \"noop\", does = \"eof\" }}]")).await;
    let pool = builder().noop_after(MINUTE).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    pass(2 * MINUTE).await;
    assert!(!pool.get(&site.server).await.unwrap().is_reused());
    assert_eq!(site.stats().connections, 2);
}

#[tokio::test]
async fn unneeded_connections_close_even_if_all_are_used_by_turns() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let pool = builder().idle_timeout(4 * MINUTE).cleanup_interval(MINUTE).build().unwrap();
    let burst = [pool.get(&site.server).await.unwrap(), pool.get(&site.server).await.unwrap()];
    let third = pool.get(&site.server).await.unwrap();
    drop((burst, third));
    // One is needed now and then, and all three are used by turns.
    for _ in 0..10 {
        drop(pool.get(&site.server).await.unwrap());
        pass(MINUTE).await;
    }
    assert_eq!(pool.status().idle, 1);
}

#[tokio::test]
async fn min_idle_is_kept_open() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let pool = builder().min_idle(2).cleanup_interval(MINUTE).idle_timeout(MINUTE).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    until("filled up", || pool.status().idle == 2).await;
    pass(5 * MINUTE).await;
    assert_eq!((pool.status().idle, site.stats().connections), (2, 2));
}

#[tokio::test]
async fn no_idle_connections_are_opened_while_the_breaker_is_open() {
    let site = Site::start("faults = [{ at = \"connect\", does = { reply = \"421 4.3.2 not now\" } }]").await;
    let pool =
        builder().min_idle(2).max_retries(0).breaker_failures(1).breaker_pause(10 * MINUTE).build().unwrap();
    pool.get(&site.server).await.unwrap_err();
    for _ in 0..5 {
        pass(MINUTE).await;
    }
    assert_eq!(site.stats().connections, 1);
}

#[tokio::test]
async fn connections_closed_by_the_server_are_removed_by_the_maintenance() {
    let site = Site::start("idle_timeout = \"20ms\"").await;
    let pool = builder().cleanup_interval(10 * MINUTE).build().unwrap();
    for round in 1..=2 {
        let lent = [pool.get(&site.server).await.unwrap(), pool.get(&site.server).await.unwrap()];
        drop(lent);
        until("closed by the server", || site.stats().open == 0).await;
        for _ in 0..8 {
            pass(MINUTE).await;
            assert_eq!(pool.status().idle, 2);
        }
        pass(2 * MINUTE + MINUTE / 2).await;
        assert_eq!(pool.status().idle, 0);
        let seen = pool.metrics().snapshot();
        assert_eq!(seen.server(&site.server).unwrap().connections_closed["lost"], 2 * round);
    }
}

#[tokio::test]
async fn an_unused_server_is_forgotten() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let pool =
        builder().idle_timeout(MINUTE).cleanup_interval(MINUTE).server_ttl(10 * MINUTE).build().unwrap();
    drop(pool.get(&site.server).await.unwrap());
    for _ in 0..5 {
        pass(MINUTE).await;
    }
    assert_eq!((pool.status().idle, pool.status().servers.len()), (0, 1));
    for _ in 0..10 {
        pass(MINUTE).await;
    }
    assert_eq!(pool.status().servers.len(), 0);
    // The server is known again.
    assert!(pool.get(&site.server).await.unwrap().command(&Command::Noop).await.is_ok());
}

#[test]
fn a_connection_outlives_its_pool_and_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (site, pool, lent) = runtime.block_on(async {
        let site = Site::start("").await;
        let pool = builder().build().unwrap();
        let lent = pool.get(&site.server).await.unwrap();
        (site, pool, lent)
    });
    let metrics = std::sync::Arc::clone(pool.metrics());
    drop(pool);
    drop(runtime);
    drop(lent);
    // The metrics hold no reference to the pool any more.
    let seen = metrics.snapshot();
    let seen = seen.server(&site.server).unwrap();
    assert_eq!((seen.sizes, seen.connections_closed["pool_closed"]), (None, 1));
}

#[tokio::test]
async fn time_passes_while_no_task_of_the_runtime_runs() {
    let site = Site::start(LONG_SERVER_LIMIT).await;
    let second = Duration::from_secs(1);
    let asked = builder().noop_after(second).build().unwrap();
    let retired = builder().max_lifetime(second).lifetime_jitter(0.0).build().unwrap();
    for pool in [&asked, &retired] {
        drop(pool.get(&site.server).await.unwrap());
    }
    let before = site.stats();
    // This is the only thread, so the maintenance cannot set the clock of the pool.
    std::thread::sleep(3 * second);
    assert!(asked.get(&site.server).await.unwrap().is_reused());
    assert_eq!(site.stats().commands, before.commands + 1, "NOOP");
    assert!(retired.try_get(&site.server).is_none());
    assert!(!retired.get(&site.server).await.unwrap().is_reused());
    assert_eq!(site.stats().connections, before.connections + 1);
}
