//! The handle of a pool.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    CheckoutError, Config, PooledConnection, ToKey, clock::MAX_WAIT, config::MAX_CONNECTIONS,
    maintenance::retire, registry::Registry, shared::Shared,
};
use crate::metrics::{Gauges, Metrics, Sizes};

/// A pool of SMTP connections, to any number of servers; cheap to clone, and shared by its clones.
///
/// ```
/// # #[cfg(feature = "sandbox")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{pool::Pool, proto::{Command, Mailbox, MailParams, ReversePath}};
/// # use smtp_pool::sandbox::{Sandbox, World};
/// # let sandbox = Sandbox::start(World::demo()).await?;
/// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
///
/// let pool = Pool::builder().max_connections(4).build()?;
/// let mut connection = pool.get(&server).await?; // "smtp.example.com", "smtp.example.com:587", …
/// let rcpts = [Mailbox::parse("ann@good.test")?];
/// let envelope = connection.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).await?;
/// assert!(envelope.rcpts[0].is_positive());
/// connection.command(&Command::Rset).await?;
/// drop(connection); // back in the pool, for the next
/// assert_eq!(pool.status().idle, 1);
/// # Ok(()) }
/// # #[cfg(not(feature = "sandbox"))]
/// # fn main() {}
/// ```
///
/// A checkout opens a connection if none is idle, up to [`max_connections`](Config::max_connections) for each server.
/// Callers are served in the order of arrival. The pool needs a tokio runtime. The runtime that opens a connection must
/// live as long as the connection.
///
/// When the last clone is dropped, idle connections are closed without QUIT, and lent ones when they are given back.
/// [`close`](Self::close) sends QUIT.
#[derive(Clone)]
pub struct Pool {
    pub(super) registry: Arc<Registry>,
}

/// How many connections a pool has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Connections that no caller has.
    pub idle: usize,
    /// Connections that are lent.
    pub active: usize,
    /// Connections being opened, or closed.
    pub connecting: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// The sizes of each server by its name, in no particular order.
    pub servers: Vec<(Arc<str>, Sizes)>,
}

/// `active=5 idle=3 connecting=0 waiting=0 servers=2`
impl fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idle, active, connecting, waiting, servers } = self;
        write!(
            f,
            "active={active} idle={idle} connecting={connecting} waiting={waiting} servers={}",
            servers.len()
        )
    }
}

impl Pool {
    pub(super) fn new(shared: Shared) -> Self {
        let pool = Self { registry: Registry::new(shared) };
        // A server that is configured is checked, and connected to for `min_idle`, before anything asks for it.
        if let Some(server) = &pool.config().server
            && pool.registry.server(server).is_ok()
            && pool.config().min_idle > 0
            && Handle::try_current().is_ok()
        {
            pool.registry.maintenance.ensure_running();
        }
        pool
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.registry.shared
    }

    /// Returns a connection to `server`: one that is idle, given back or opened, whichever comes first. It waits for at
    /// most [`acquire_timeout`](Config::acquire_timeout).
    ///
    /// `server` is a text (`smtp.example.com`, `smtp.example.com:587`) or a [`Key`](super::Key). An idle connection is
    /// checked before it is lent, without a round trip. One that was idle for longer than
    /// [`noop_after`](Config::noop_after) gets a NOOP.
    ///
    /// # Errors
    /// There is no connection; see [`CheckoutError`].
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the queue. A connection that is being opened goes to the next caller.
    #[track_caller]
    pub fn get<K: ToKey>(&self, server: K) -> impl Future<Output = Result<PooledConnection, CheckoutError>> {
        self.get_timeout(server, self.config().acquire_timeout)
    }

    /// Returns a connection as [`get`](Self::get) does, and waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_timeout<K: ToKey>(
        &self,
        server: K,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledConnection, CheckoutError>> {
        let taken_at = Location::caller();
        let timeout = timeout.min(MAX_WAIT);
        async move {
            match self.registry.servers.with_name(&server, |server| server.take(false, taken_at)) {
                Some(connection) => Ok(connection),
                // Boxed, so that the future of a checkout without waiting stays small.
                None => Box::pin(self.get_in_line(server, timeout, taken_at)).await,
            }
        }
    }

    async fn get_in_line<K: ToKey>(
        &self,
        server: K,
        timeout: Duration,
        taken_at: &'static Location<'static>,
    ) -> Result<PooledConnection, CheckoutError> {
        loop {
            let found = self.registry.server(&server)?;
            match found.get(timeout, taken_at).await {
                // The server was just forgotten.
                Err(CheckoutError::Closed) if !self.is_closed() => {}
                outcome => return outcome,
            }
        }
    }

    /// Returns an idle connection, if there is one and no caller waits. It opens none, and sends no NOOP.
    #[must_use]
    #[track_caller]
    pub fn try_get<K: ToKey>(&self, server: K) -> Option<PooledConnection> {
        let (servers, taken_at) = (&self.registry.servers, Location::caller());
        servers.with_name(&server, |server| server.take(true, taken_at)).or_else(|| {
            let key = server.to_key().ok()?.normal(self.config());
            servers.with_key(&key, |server| server.take(true, taken_at))
        })
    }

    /// Returns how many connections there are now.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let mut status = PoolStatus::default();
        for server in self.registry.servers.all() {
            let sizes = server.sizes();
            status.idle += sizes.idle;
            status.active += sizes.active;
            status.connecting += sizes.connecting;
            status.waiting += sizes.waiting;
            status.servers.push((Arc::clone(&server.name), sizes));
        }
        status
    }

    /// Sets how many connections there may be to each server, from now on: at least one, and at most 65,536. Surplus
    /// connections are closed when they are idle.
    pub fn resize(&self, max_connections: usize) {
        self.registry.resize(max_connections.clamp(1, MAX_CONNECTIONS));
    }

    /// Closes the pool. Waiting callers and all later ones get [`CheckoutError::Closed`]. Attempts to connect end. QUIT is
    /// sent on idle connections, and on those that are given back before the deadline.
    ///
    /// It returns when no connection is left, or at the deadline, and says whether none was left. Connections that are
    /// lent then are closed when they are given back.
    ///
    /// # Cancellation safety
    /// The first poll closes the pool. Dropping the future ends the QUITs under way.
    pub async fn close(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline.min(MAX_WAIT);
        let shared = self.shared();
        self.registry.maintenance.ensure_running();
        let mut quits = JoinSet::new();
        for lease in self.registry.close() {
            quits.spawn(retire(lease));
        }
        // The maintenance closes what is given back from now on.
        let emptied = async {
            while quits.join_next().await.is_some() {}
            shared.until_empty().await;
        };
        let closed = timeout_at(until, emptied).await.is_ok();
        quits.abort_all();
        closed
    }

    /// Returns whether the pool is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().is_closed()
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared().config
    }

    /// Returns the metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared().metrics
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}
