use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::UNIX_EPOCH,
};

use super::*;
use crate::metrics::{BreakerState, Gauges, HealthResult, Sizes};

const MS: Duration = Duration::from_millis(1);

#[test]
fn servers_beyond_the_bound_are_one() {
    let metrics = Metrics::with_max_servers(2);
    for name in ["a", "b", "c", "other", "d", "a"] {
        let server = metrics.server(name);
        server.record(Operation::Noop, MS);
        server.connection_failed("refused");
    }
    let snapshot = metrics.snapshot();
    let counts: Vec<_> =
        snapshot.servers().map(|(name, server)| (name, server.connection_errors["refused"])).collect();
    assert_eq!(counts, [("a", 2), ("b", 1), ("other", 3)]);
    assert_eq!(snapshot.latency(Operation::Noop).unwrap().count, 6);
    assert_eq!(snapshot.server("other").unwrap().latency(Operation::Noop).unwrap().count, 3);
    assert!(snapshot.server("c").is_none());
}

#[test]
fn each_event_is_counted_once() {
    let metrics = Metrics::new();
    let server = metrics.server("mx.example.com");
    assert_eq!(metrics.snapshot().servers().count(), 0, "nothing is known yet");
    server.connection_opened();
    server.connection_failed("refused");
    server.connection_closed(90_000 * MS, "max_lifetime");
    server.checkout(7 * MS);
    (0..3).for_each(|_| server.checkout(Duration::ZERO));
    server.checkout_failed("timed_out");
    server.operation_failed(Operation::Rcpt, "closed");
    server.retry();
    server.breaker(BreakerState::Open);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    server.health_check(HealthResult::Healthy, 2 * MS);
    metrics.record(Operation::Dns, MS);

    let snapshot = metrics.snapshot();
    let seen = snapshot.server("mx.example.com").unwrap();
    for seen in [seen, snapshot.total()] {
        assert_eq!(seen.connections_opened, 1);
        assert_eq!(seen.connection_errors["refused"], 1);
        assert_eq!(seen.connections_closed["max_lifetime"], 1);
        assert_eq!(seen.lifetime().unwrap().max.as_secs(), 90);
        let wait = seen.checkout_wait().unwrap();
        assert_eq!((wait.count, wait.p50), (4, Duration::ZERO));
        assert_eq!(wait.max.as_millis(), 7);
        assert_eq!(seen.checkout_errors["timed_out"], 1);
        assert_eq!(seen.operation_errors[&(Operation::Rcpt, "closed".into())], 1);
        assert_eq!(seen.retries, 1);
        assert_eq!(BreakerState::ALL.map(|state| seen.breaker_changes(state)), [0, 0, 1]);
        assert_eq!(HealthResult::ALL.map(|result| seen.health_checks(result)), [1, 0, 0]);
        assert_eq!(seen.health_check_duration().unwrap().count, 1);
        let last = seen.health_last.unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((before..=before + 60).contains(&last), "{last} after {before}");
    }
    assert!(seen.latency(Operation::Dns).is_none());
    assert_eq!(snapshot.latency(Operation::Dns).unwrap().count, 1);
}

#[test]
fn set_and_watched_sizes_add_up() {
    struct Pool;
    impl Gauges for Pool {
        fn sizes(&self) -> Sizes {
            Sizes { idle: 3, active: 5, max: 10, breaker: BreakerState::Open, ..Sizes::default() }
        }
    }
    let metrics = Metrics::new();
    metrics.update_pool_size("a", PoolState::Active, 2);
    metrics.update_pool_size("a", PoolState::Active, 1);
    metrics.update_pool_size("a", PoolState::Waiting, 4);
    let pool: Arc<dyn Gauges> = Arc::new(Pool);
    metrics.server("a").watch(Arc::downgrade(&pool));
    metrics.server("b").watch(Arc::downgrade(&pool));

    let snapshot = metrics.snapshot();
    let [a, b] = ["a", "b"].map(|name| snapshot.server(name).unwrap().sizes.unwrap());
    assert_eq!(PoolState::ALL.map(|state| a.of(state)), [3, 6, 0, 4]);
    assert_eq!((b.active, b.max, b.breaker), (5, 10, BreakerState::Open));
    assert_eq!(snapshot.total().sizes.unwrap().active, 11);

    drop(pool);
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.server("a").unwrap().sizes.unwrap().active, 1);
    assert!(snapshot.server("b").is_none(), "nothing was recorded for it");
}

/// A pool that does not answer delays the snapshot, but no recording.
#[test]
fn recording_goes_on_while_a_snapshot_is_taken() {
    struct Stuck {
        asked: Barrier,
        recorded: Barrier,
    }
    impl Gauges for Stuck {
        fn sizes(&self) -> Sizes {
            self.asked.wait();
            self.recorded.wait();
            Sizes::default()
        }
    }
    let metrics = Metrics::with_max_servers(2);
    let server = metrics.server("a");
    let stuck = Arc::new(Stuck { asked: Barrier::new(2), recorded: Barrier::new(2) });
    let weak: std::sync::Weak<Stuck> = Arc::downgrade(&stuck);
    server.watch(weak);
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let snapshot = scope.spawn(|| {
            let snapshot = metrics.snapshot();
            finished.store(true, Ordering::Release);
            snapshot
        });
        stuck.asked.wait();
        for name in ["a", "b", "c"] {
            let server = metrics.server(name);
            for operation in Operation::ALL {
                server.record(operation, MS);
                server.operation_failed(operation, "closed");
            }
            server.connection_opened();
            server.connection_failed("refused");
            server.connection_closed(MS, "idle_timeout");
            server.checkout(MS);
            server.checkout_failed("closed");
            server.health_check(HealthResult::Healthy, MS);
            server.retry();
            server.breaker(BreakerState::HalfOpen);
            metrics.update_pool_size(name, PoolState::Idle, 1);
            metrics.record_connection_error(name, "refused");
        }
        metrics.record(Operation::Dns, MS);
        assert!(!finished.load(Ordering::Acquire), "the snapshot is still being taken");
        stuck.recorded.wait();
        snapshot.join().unwrap();
    });
    drop(stuck);
    assert_eq!(metrics.snapshot().latency(Operation::Dns).unwrap().count, 4);
}

#[test]
fn an_unused_server_is_small() {
    assert!(size_of::<ServerMetrics>() <= 5 * 1024, "{}", size_of::<ServerMetrics>());
}
