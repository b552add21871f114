//! Health checks.

use std::time::Duration;

use smtp_pool::{
    metrics::{BreakerState, HealthResult},
    pool::{Checked, HealthError, HealthManager, Key, Pool},
};
use tokio::net::TcpListener;

use super::{Site, builder, pass, pool, until};

#[tokio::test]
async fn idle_connections_are_checked_and_missing_ones_opened() {
    let site = Site::start("").await;
    let pool = pool(1);
    let lent = pool.get(&site.server).await.unwrap();
    let [busy] = &pool.check_health().await[..] else { panic!("one server") };
    assert_eq!((busy.outcome.clone().unwrap(), site.stats().connections), (Checked::Busy, 1));
    drop(lent);
    let before = site.stats().commands;
    let [idle] = &pool.check_health().await[..] else { panic!("one server") };
    assert_eq!((idle.outcome.clone().unwrap(), site.stats().commands), (Checked::Idle, before + 1));
    assert!(idle.to_string().starts_with(&format!("{}: ok in ", site.server)), "{idle}");
    // The server does not count NOOPs as errors.
    for _ in 0..40 {
        pool.check_health().await;
    }
    assert!(site.stats().commands < before + 20);
    drop(pool.get(&site.server).await.unwrap().quit().await);
    let [fresh] = &pool.check_health().await[..] else { panic!("one server") };
    assert_eq!((fresh.outcome.clone().unwrap(), pool.status().idle), (Checked::Fresh, 1));
    let seen = pool.metrics().snapshot();
    assert_eq!(seen.server(&site.server).unwrap().health_checks(HealthResult::Healthy), 43);
}

#[tokio::test]
async fn an_answer_that_ends_the_session_is_a_failure() {
    let mixed = "{ reply = \"250-ok\\r\\n502 no\" }";
    for fault in ["{ reply = \"421 4.3.2 closing\" }", "\"extra_reply\"", "\"eof\"", mixed] {
        let site = Site::start(&format!("faults = [{{ at = \"noop\", does = {fault} }}]")).await;
        let pool = pool(1);
        drop(pool.get(&site.server).await.unwrap());
        let [fresh] = &pool.check_health().await[..] else { panic!("one server") };
        assert_eq!((fresh.outcome.clone().unwrap(), pool.status().idle), (Checked::Fresh, 1), "{fault}");
    }
}

#[tokio::test]
async fn a_check_under_way_is_abandoned_when_they_are_stopped() {
    let site = Site::start("faults = [{ at = \"noop\", does = \"silence\" }]").await;
    let pool = pool(1);
    drop(pool.get(&site.server).await.unwrap());
    let health = pool.health_manager().start();
    until("asking", || pool.status().active == 1).await;
    health.stop().await;
    assert_eq!(pool.status().active, 0);
}

#[tokio::test]
async fn a_server_that_stops_and_returns_is_detected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let pool = builder()
        .breaker_failures(1)
        .breaker_pause(Duration::from_secs(3_600))
        .max_retries(0)
        .build()
        .unwrap();
    pool.get(&address).await.unwrap_err();
    let health = HealthManager::new(&pool, Duration::from_secs(60)).start();
    until("checked", || !health.results().is_empty()).await;
    let [report] = &health.results()[..] else { panic!("one server") };
    assert!(
        matches!(&report.outcome, Err(HealthError::Open(error)) if error.kind() == "refused"),
        "{report}"
    );
    assert!(!pool.health().ready);
    assert_eq!(pool.health().servers[0].breaker, BreakerState::Open);
    let looks = |pool: &Pool, result| pool.metrics().snapshot().total().health_checks(result);
    assert_eq!((looks(&pool, HealthResult::Unreachable), looks(&pool, HealthResult::Unhealthy)), (1, 0));
    // It answers, but with an error.
    let ill = Site::start("faults = [{ at = \"connect\", does = { reply = \"554 5.7.1 no\" } }]").await;
    let other = builder().max_retries(0).build().unwrap();
    other.get(&ill.server).await.unwrap_err();
    other.check_health().await;
    assert_eq!((looks(&other, HealthResult::Unreachable), looks(&other, HealthResult::Unhealthy)), (0, 1));

    // The same address answers again: the next check closes the breaker.
    let world = format!("[[host]]\nname = \"mx\"\nlisten = \"{address}\"");
    let world = smtp_pool::sandbox::World::from_toml(&world).unwrap();
    let _sandbox = smtp_pool::sandbox::Sandbox::start(world).await.unwrap();
    pass(Duration::from_secs(61)).await;
    until("well again", || pool.health().ready).await;
    assert_eq!(pool.health().servers[0].breaker, BreakerState::Closed);
    assert!(pool.get(&address).await.is_ok());
    health.stop().await;
    let checked = pool.health().servers[0].last.as_ref().unwrap().at;
    pass(Duration::from_secs(200)).await;
    assert_eq!(pool.health().servers[0].last.as_ref().unwrap().at, checked, "stopped");
}

#[tokio::test]
async fn a_configured_server_is_checked_before_it_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = Key::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    drop(listener);
    let pool = builder().server(away.clone()).max_retries(0).server_ttl(Duration::ZERO).build().unwrap();
    assert_eq!(pool.health().servers.len(), 1);
    let [report] = &pool.check_health().await[..] else { panic!("one server") };
    assert!(report.outcome.is_err(), "{report}");
    assert!(!pool.health().ready, "one failed check is enough");
    // It is not forgotten, however long nothing asks for it.
    pass(Duration::from_secs(3_600)).await;
    assert_eq!(pool.health().servers.len(), 1);

    let site = Site::start("").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    let health = pool.health_manager().start();
    until("checked", || !health.results().is_empty()).await;
    assert!(pool.health().ready);
    assert_eq!(pool.status().idle, 1);
}

#[tokio::test]
async fn connections_to_keep_are_opened_before_the_first_use() {
    let site = Site::start("").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).min_idle(3).build().unwrap();
    until("opened", || pool.status().idle == 3).await;
    assert_eq!(site.stats().connections, 3);
    assert!(pool.try_get(&site.server).is_some());
}
