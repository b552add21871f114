//! The pool, blocking. A thread of its own opens and maintains the connections, also between calls.

use std::{sync::Arc, time::Duration};

use super::{Connection, Error, InAsync, Private};
use crate::{
    metrics::Metrics,
    pool::{
        self, BuildError, Builder, CheckoutError, Config, Delivery, Envelope, Health, HealthReport,
        OperationError, PoolStatus, SendError, ToKey, Verification,
    },
};

/// [`pool::Pool`], blocking. Any number of threads may share it or its clones.
///
/// ```
/// # #[cfg(feature = "sandbox")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{blocking::Pool, proto::Command};
/// # use smtp_pool::sandbox::{Sandbox, World};
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let sandbox = runtime.block_on(Sandbox::start(World::demo()))?;
/// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
///
/// let pool = Pool::builder().max_connections(4).build()?;
/// let mut connection = pool.get(&server)?; // "smtp.example.com", "smtp.example.com:587", …
/// assert_eq!(connection.command(&Command::Noop)?.code(), 250);
/// drop(connection); // back in the pool, for the next
/// assert_eq!(pool.status().idle, 1);
/// # Ok(()) }
/// # #[cfg(not(feature = "sandbox"))]
/// # fn main() {}
/// ```
///
/// In async code, a call that would wait fails with [`InAsync`]. A call that does not wait works anywhere, as does every
/// drop.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: pool::Pool,
    /// Behind the pool, which it outlives.
    runtime: Private,
}

/// [`pool::PooledConnection`], blocking: it goes back when it is dropped, and may outlive the pool.
pub type PooledConnection = Connection<pool::PooledConnection>;

impl PooledConnection {
    /// [`pool::PooledConnection::is_reused`].
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.inner.is_reused()
    }
}

impl Builder<Pool> {
    /// Makes the pool and starts its thread. It opens no connection before one is asked for.
    ///
    /// # Errors
    /// A setting makes no sense, the TLS configuration cannot be used, or the thread cannot be started.
    pub fn build(self) -> Result<Pool, Error<BuildError>> {
        let inner = self.make().map_err(Error::Inner)?;
        Ok(Pool { inner, runtime: Private::start_apart()? })
    }
}

impl Pool {
    /// Begins to make a pool.
    pub fn builder() -> Builder<Self> {
        Builder::default()
    }

    /// [`pool::Pool::get`].
    ///
    /// # Errors
    /// As its namesake.
    #[track_caller]
    pub fn get<K: ToKey>(&self, server: K) -> Result<PooledConnection, Error<CheckoutError>> {
        self.get_timeout(server, self.config().acquire_timeout)
    }

    /// [`pool::Pool::get_timeout`].
    ///
    /// # Errors
    /// As its namesake.
    #[track_caller]
    pub fn get_timeout<K: ToKey>(
        &self,
        server: K,
        timeout: Duration,
    ) -> Result<PooledConnection, Error<CheckoutError>> {
        let getting = self.inner.get_timeout(server, timeout);
        let inner = self.runtime.block_on(getting)?.map_err(Error::Inner)?;
        Ok(Connection::new(inner, &self.runtime))
    }

    /// [`pool::Pool::try_get`]. It does not wait, so it may be called anywhere.
    #[must_use]
    #[track_caller]
    pub fn try_get<K: ToKey>(&self, server: K) -> Option<PooledConnection> {
        let inner = self.inner.try_get(server)?;
        Some(Connection::new(inner, &self.runtime))
    }

    /// [`pool::Pool::verify_email`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn verify_email(&self, address: &str) -> Result<Verification, Error<OperationError>> {
        self.runtime.block_on(self.inner.verify_email(address))?.map_err(Error::Inner)
    }

    /// [`pool::Pool::send`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<Delivery, Error<SendError>> {
        self.runtime.block_on(self.inner.send(envelope, message))?.map_err(Error::Inner)
    }

    /// [`pool::Pool::check_health`].
    ///
    /// # Errors
    /// Called from async code.
    pub fn check_health(&self) -> Result<Vec<HealthReport>, InAsync> {
        self.runtime.block_on(self.inner.check_health())
    }

    /// [`pool::Pool::close`].
    ///
    /// # Errors
    /// Called from async code; the pool is not closed then.
    pub fn close(&self, deadline: Duration) -> Result<bool, InAsync> {
        self.runtime.block_on(self.inner.close(deadline))
    }

    /// [`pool::Pool::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// [`pool::Pool::status`].
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.inner.status()
    }

    /// [`pool::Pool::resize`].
    pub fn resize(&self, max_connections: usize) {
        self.inner.resize(max_connections);
    }

    /// [`pool::Pool::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health()
    }

    /// [`pool::Pool::health_manager`].
    pub fn health_manager(&self) -> HealthManager {
        HealthManager::new(self, self.config().health_check_interval)
    }

    /// [`pool::Pool::config`].
    #[must_use]
    pub fn config(&self) -> &Config {
        self.inner.config()
    }

    /// [`pool::Pool::metrics`].
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.inner.metrics()
    }
}

/// [`pool::HealthManager`], blocking: the checks are made by the thread of the pool.
///
/// ```no_run
/// # fn example(pool: smtp_pool::blocking::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use smtp_pool::blocking::HealthManager;
/// let health = HealthManager::new(&pool, Duration::from_secs(60)).start()?;
/// for report in health.results() {
///     println!("{report}");
/// }
/// health.stop()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a manager checks nothing until it is started"]
pub struct HealthManager {
    inner: pool::HealthManager,
    runtime: Private,
}

impl HealthManager {
    /// [`pool::HealthManager::new`].
    pub fn new(pool: &Pool, check_interval: Duration) -> Self {
        let inner = pool::HealthManager::new(&pool.inner, check_interval);
        Self { inner, runtime: pool.runtime.clone() }
    }

    /// [`pool::HealthManager::start`].
    ///
    /// # Errors
    /// Called from async code.
    pub fn start(self) -> Result<HealthHandle, InAsync> {
        let inner = self.runtime.block_on(async { self.inner.start() })?;
        Ok(HealthHandle { inner, runtime: self.runtime })
    }
}

/// [`pool::HealthHandle`], blocking; dropping it stops the checks.
#[derive(Debug)]
#[must_use = "dropping the handle stops the checks"]
pub struct HealthHandle {
    inner: pool::HealthHandle,
    runtime: Private,
}

impl HealthHandle {
    /// [`pool::HealthHandle::results`].
    #[must_use]
    pub fn results(&self) -> Vec<HealthReport> {
        self.inner.results()
    }

    /// [`pool::HealthHandle::stop`].
    ///
    /// # Errors
    /// Called from async code; the checks are stopped then, and not waited for.
    pub fn stop(self) -> Result<(), InAsync> {
        self.runtime.block_on(self.inner.stop())
    }
}
