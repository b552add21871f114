//! Health checks: whether each server can still be used, found out before somebody needs it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Checked, Health, HealthError, HealthReport, Pool, ServerHealth,
    connect::ReservedSlot,
    server::{CloseReason, Server, WaitFailure},
    shared::Shared,
};
use crate::metrics::{BreakerState, HealthResult};

/// Servers that are checked at once.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// Checks the servers of a pool now and then.
///
/// A server with idle connections is asked over the one that has been idle longest (NOOP, but no more often on one
/// connection than servers put up with), after all of them were looked at without a round trip; one without any is
/// connected to, and the connection stays in the pool. So a server that comes back is found out and used again, and one
/// that is away is known before a user waits for it.
///
/// ```no_run
/// # async fn example(pool: smtp_pool::pool::Pool) {
/// use std::time::Duration;
/// use smtp_pool::pool::HealthManager;
/// let health = HealthManager::new(&pool, Duration::from_secs(60)).start();
/// for report in health.results() {
///     println!("{report}");
/// }
/// health.stop().await;
/// # }
/// ```
#[derive(Debug)]
pub struct HealthManager {
    pool: Pool,
    check_interval: Duration,
}

impl HealthManager {
    /// Will check the servers of `pool` every `check_interval`.
    #[must_use]
    pub fn new(pool: &Pool, check_interval: Duration) -> Self {
        Self { pool: pool.clone(), check_interval: check_interval.max(Duration::from_millis(1)) }
    }

    /// Begins, with a first check at once, and goes on until it is stopped, the handle dropped, or the pool closed.
    /// Within a tokio runtime only.
    #[must_use = "dropping the handle stops the checks"]
    pub fn start(self) -> HealthHandle {
        let (stop, mut stopped) = watch::channel(());
        let pool = self.pool.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(self.check_interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !self.pool.is_closed() {
                tokio::select! {
                    _ = stopped.changed() => return,
                    _ = ticks.tick() => {}
                }
                tokio::select! {
                    _ = stopped.changed() => return,
                    _ = self.pool.check_health() => {}
                }
            }
        });
        HealthHandle { pool, stop, task }
    }
}

/// Health checks that go on; dropping it stops them.
#[derive(Debug)]
pub struct HealthHandle {
    pool: Pool,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl HealthHandle {
    /// The latest result for each server that was checked.
    #[must_use]
    pub fn results(&self) -> Vec<HealthReport> {
        self.pool.health().servers.into_iter().filter_map(|server| server.last).collect()
    }

    /// Stops, and waits until the check under way, if any, is abandoned.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

impl Pool {
    /// Checks by [`health_check_interval`](super::Config::health_check_interval).
    #[must_use]
    pub fn health_manager(&self) -> HealthManager {
        HealthManager::new(self, self.config().health_check_interval)
    }

    /// Checks each server that the pool knows, now.
    ///
    /// # Cancellation safety
    /// Connections being asked are closed.
    pub async fn check_health(&self) -> Vec<HealthReport> {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_CHECKS));
        let mut checks = JoinSet::new();
        self.registry.maintenance.ensure_running();
        for server in self.registry.servers.all() {
            let permits = Arc::clone(&permits);
            checks.spawn(async move {
                let _permit = permits.acquire().await;
                server.check().await
            });
        }
        checks.join_all().await
    }

    /// What is known of the health of each server, without asking any.
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = self.shared();
        let servers: Vec<_> = self.registry.servers.all().iter().map(|server| server.health()).collect();
        let well = |server: &ServerHealth| {
            server.breaker != BreakerState::Open
                && server.last.as_ref().is_none_or(|last| last.outcome.is_ok())
        };
        Health { ready: !Shared::is_closed(shared) && servers.iter().all(well), servers }
    }
}

impl Server {
    async fn check(self: Arc<Self>) -> HealthReport {
        let began = Instant::now();
        self.drop_closed();
        let outcome = match self.ask_idle().await {
            Some(checked) => Ok(checked),
            None => self.probe().await,
        };
        let report = HealthReport {
            server: Arc::clone(&self.name),
            took: began.elapsed(),
            at: SystemTime::now(),
            outcome,
        };
        let result = match &report.outcome {
            Ok(_) => HealthResult::Healthy,
            Err(HealthError::Open(error)) if error.was_reached() => HealthResult::Unhealthy,
            Err(HealthError::Open(_)) => HealthResult::Unreachable,
        };
        self.metrics.health_check(result, report.took);
        match &report.outcome {
            Ok(how) => tracing::debug!(server = %self.name, ?how, took = ?report.took, "healthy"),
            Err(error) => tracing::warn!(server = %self.name, %error, "health check failed"),
        }
        *self.checked() = Some(report.clone());
        report
    }

    /// Asks the connection that has been idle longest; one that does not answer is closed, and the next is asked.
    async fn ask_idle(self: &Arc<Self>) -> Option<Checked> {
        while let Some(mut lease) = self.slots.take() {
            let limit = Instant::now() + self.shared.config.connection_timeout;
            if lease.has_used_its_noops() || self.answers_noop(&mut lease, limit).await {
                lease.end = CloseReason::Lost;
                if let Err(lease) = self.slots.put(lease) {
                    self.close_surplus(lease);
                }
                return Some(Checked::Idle);
            }
        }
        None
    }

    /// Connects, breaker or not: whether it should be closed again is the question.
    async fn probe(self: &Arc<Self>) -> Result<Checked, HealthError> {
        if !self.slots.reserve_spare() {
            return Ok(Checked::Busy);
        }
        let reserved = ReservedSlot::new(self);
        match self.open().await {
            Ok(connection) => {
                reserved.fill(connection);
                Ok(Checked::Fresh)
            }
            Err(error) => {
                reserved.fail(&WaitFailure::Open(Arc::clone(&error)));
                Err(HealthError::Open(error))
            }
        }
    }

    fn health(&self) -> ServerHealth {
        ServerHealth {
            server: Arc::clone(&self.name),
            breaker: self.breaker().state(Instant::now()),
            last: self.checked().clone(),
        }
    }
}
