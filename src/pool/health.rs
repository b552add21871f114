//! Health checks: find out whether each server can be used before a caller needs it.

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

/// The most servers that are checked at once.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// Checks the servers of a pool at intervals.
///
/// First, idle connections that the server has closed are dropped, without a round trip. Then the one that was idle
/// longest gets a NOOP, at most 15 times in its life, because servers count them. Where none is idle, a new connection
/// is opened, and stays in the pool. So the pool uses a server again when it is back, and a failure is known before a
/// caller waits.
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
#[must_use = "a manager checks nothing until it is started"]
pub struct HealthManager {
    pool: Pool,
    check_interval: Duration,
}

impl HealthManager {
    /// Returns a manager that checks the servers of `pool` every `check_interval`.
    pub fn new(pool: &Pool, check_interval: Duration) -> Self {
        Self { pool: pool.clone(), check_interval: check_interval.max(Duration::from_millis(1)) }
    }

    /// Starts with a first check at once. It ends when it is stopped, the handle is dropped, or the pool is closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
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

/// Running health checks; dropping it stops them.
#[derive(Debug)]
#[must_use = "dropping the handle stops the checks"]
pub struct HealthHandle {
    pool: Pool,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl HealthHandle {
    /// Returns the latest result for each server that was checked.
    #[must_use]
    pub fn results(&self) -> Vec<HealthReport> {
        self.pool.health().servers.into_iter().filter_map(|server| server.last).collect()
    }

    /// Stops the checks, and waits until one under way is abandoned.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

impl Pool {
    /// Returns a manager with the interval of
    /// [`health_check_interval`](super::Config::health_check_interval).
    pub fn health_manager(&self) -> HealthManager {
        HealthManager::new(self, self.config().health_check_interval)
    }

    /// Checks each server that the pool knows, now.
    ///
    /// # Cancellation safety
    /// Connections with a NOOP under way are closed.
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

    /// Returns the known health of each server, without asking any.
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

    /// Sends NOOP on the connection that was idle longest. One that does not answer is closed, and the next one is asked.
    async fn ask_idle(self: &Arc<Self>) -> Option<Checked> {
        while let Some(mut lease) = self.slots.take() {
            let limit = Instant::now() + self.shared.config.connection_timeout;
            if lease.has_used_its_noops() || self.answers_noop(&mut lease, limit).await {
                lease.slot.end = CloseReason::Lost;
                if let Err(lease) = self.slots.put(lease) {
                    self.close_surplus(lease);
                }
                return Some(Checked::Idle);
            }
        }
        None
    }

    /// Connects, also with an open breaker: the result decides whether it closes again.
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
