//! What the user holds.

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
/// Connections are opened when they are asked for and none is idle, up to
/// [`max_connections`](Config::max_connections) a server, and shared among all who ask: first come, first served. The
/// pool needs a tokio runtime, and the one in which it opens a connection must live as long as the connection.
///
/// When the last clone is dropped, idle connections are closed without a word, and lent ones when they are given back.
/// [`close`](Self::close) says goodbye.
#[derive(Clone)]
pub struct Pool {
    pub(super) registry: Arc<Registry>,
}

/// How many connections a pool has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Connections that nobody uses at the moment.
    pub idle: usize,
    /// Connections that are lent.
    pub active: usize,
    /// Connections being opened, or closed.
    pub connecting: usize,
    /// Callers who wait for a connection.
    pub waiting: usize,
    /// The same for each server, by its name, in no particular order.
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

    /// A connection to `server`: one that is idle, is given back or is opened, whichever comes first. Waits for
    /// [`acquire_timeout`](Config::acquire_timeout) at the most.
    ///
    /// `server` is a text (`smtp.example.com`, `smtp.example.com:587`) or a [`Key`](super::Key). An idle connection is
    /// lent after a look at whether it still is what it was, which costs no round trip; one that has been idle for
    /// longer than [`noop_after`](Config::noop_after) is asked.
    ///
    /// # Errors
    /// None was to be had, see [`CheckoutError`].
    ///
    /// # Cancellation safety
    /// Dropping the future gives up the place in line. A connection that was being opened goes to whoever comes next.
    #[track_caller]
    pub fn get<K: ToKey>(&self, server: K) -> impl Future<Output = Result<PooledConnection, CheckoutError>> {
        self.get_timeout(server, self.config().acquire_timeout)
    }

    /// As [`get`](Self::get), waiting for `timeout` at the most.
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
                // Boxed, so that whoever need not wait does not carry about what waiting takes.
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
                // The server had just been forgotten.
                Err(CheckoutError::Closed) if !self.is_closed() => {}
                outcome => return outcome,
            }
        }
    }

    /// An idle connection, if there is one and nobody has been waiting for one. It opens none, and does not ask the
    /// server whether it is still there.
    #[must_use]
    #[track_caller]
    pub fn try_get<K: ToKey>(&self, server: K) -> Option<PooledConnection> {
        let (servers, taken_at) = (&self.registry.servers, Location::caller());
        servers.with_name(&server, |server| server.take(true, taken_at)).or_else(|| {
            let key = server.to_key().ok()?.normal(self.config());
            servers.with_key(&key, |server| server.take(true, taken_at))
        })
    }

    /// How many connections there are now.
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

    /// Closes the pool: whoever waits gets [`CheckoutError::Closed`], as does whoever asks from now on; what is idle,
    /// or given back before `deadline` has passed, is told goodbye (QUIT), and what is being opened is not opened. Returns when no connection is left, or at the
    /// deadline; what is lent then is closed when it is given back. True if nothing was left.
    ///
    /// # Cancellation safety
    /// The pool is closed with the first poll; connections that have not been told goodbye by then are not.
    pub async fn close(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline.min(MAX_WAIT);
        let shared = self.shared();
        self.registry.maintenance.ensure_running();
        let mut quits = JoinSet::new();
        for lease in self.registry.close() {
            quits.spawn(retire(lease));
        }
        // What is given back from now on, the maintenance sees to.
        let emptied = async {
            while quits.join_next().await.is_some() {}
            shared.until_empty().await;
        };
        let closed = timeout_at(until, emptied).await.is_ok();
        quits.abort_all();
        closed
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().is_closed()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared().config
    }

    /// What was recorded.
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
