//! One server, as the pool knows it: its slots, how to connect to it, and whether that is any use now; and what
//! connections, servers and their maintenance know of each other.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::{
    HealthReport, Key, OpenError,
    breaker::Breaker,
    capacity::CapacityWaiters,
    clock::millis,
    leaks::LeakTracker,
    server_map::ServerMap,
    shared::Shared,
    slots::{Occupant, Slots},
    todos::Todos,
};
use crate::{
    client::{Connection, Connector},
    metrics::{Gauges, ServerMetrics, Sizes},
};

/// What those in line get instead of a connection.
#[derive(Clone, Debug)]
pub(super) enum WaitFailure {
    Open(Arc<OpenError>),
    Circuit(Instant, Arc<OpenError>),
    Closed,
}

/// A server; lives as long as the pool knows it, or a connection to it does.
pub(super) struct Server {
    /// As it was given last: equal keys may carry other addresses, and another secret.
    key: Mutex<Key>,
    /// For logs, errors and labels.
    pub(super) name: Arc<str>,
    pub(super) slots: Slots<Box<Lease>, WaitFailure>,
    pub(super) connector: Connector,
    pub(super) metrics: Arc<ServerMetrics>,
    pub(super) shared: Arc<Shared>,
    pub(super) breaker: Mutex<Breaker>,
    /// When it was last asked for, by the clock of the pool.
    pub(super) used: AtomicU64,
    /// Since when the low-water mark of idle connections has been watched.
    pub(super) watched_since: AtomicU64,
    pub(super) maintenance: Arc<Maintenance>,
    pub(super) checkouts: LeakTracker,
    checked: Mutex<Option<HealthReport>>,
}

impl Server {
    pub(super) fn new(
        key: Key,
        connector: Connector,
        metrics: Arc<ServerMetrics>,
        maintenance: Arc<Maintenance>,
    ) -> Self {
        let shared = Arc::clone(&maintenance.shared);
        let config = &shared.config;
        let now = shared.clock.now();
        Self {
            name: key.name(),
            slots: Slots::new(shared.max_connections(), Arc::clone(&shared.total)),
            connector,
            metrics,
            breaker: Mutex::new(Breaker::new(config.breaker_failures, config.breaker_pause)),
            used: AtomicU64::new(now),
            watched_since: AtomicU64::new(now),
            maintenance,
            checkouts: LeakTracker::default(),
            checked: Mutex::default(),
            key: Mutex::new(key),
            shared,
        }
    }

    /// Returns the key as it was given last.
    pub(super) fn key(&self) -> Key {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what an equal key carries.
    pub(super) fn renew(&self, key: Key) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// A connection for which there is no place any more.
    pub(super) fn close_surplus(&self, mut lease: Box<Lease>) {
        lease.end = if self.slots.is_closed() { CloseReason::PoolClosed } else { CloseReason::Surplus };
        self.retire(lease);
    }

    /// Has goodbye said.
    pub(super) fn retire(&self, mut lease: Box<Lease>) {
        lease.quitting = true;
        self.maintenance.capacity.record_quitting();
        self.maintenance.todo(Todo::Retire(lease));
    }

    /// A connection is no more, and its slot is free.
    pub(super) fn ended(self: &Arc<Self>, lease: &Lease) {
        let (age, reason) = (lease.connection.opened().elapsed(), lease.end.as_str());
        tracing::debug!(server = %self.name, reason, ?age, uses = lease.uses, "connection closed");
        self.metrics.connection_closed(age, reason);
        let wanted = self.slots.release(lease.evicted);
        if lease.quitting {
            self.maintenance.capacity.record_quit_ended();
        }
        if wanted && !self.shared.is_closed() {
            self.maintenance.todo(Todo::Demand(Arc::clone(self)));
        }
        self.shared.record_ended();
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last health check found.
    pub(super) fn checked(&self) -> MutexGuard<'_, Option<HealthReport>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a connection opened now is too old, by the clock of the pool.
    pub(super) fn expiry(&self) -> u64 {
        let config = &self.shared.config;
        let lifetime = config.max_lifetime.mul_f64(1.0 - config.lifetime_jitter * fastrand::f64());
        self.shared.clock.tick().saturating_add(millis(lifetime).max(1))
    }
}

impl Gauges for Server {
    /// Read one after the other while others work: a connection that is just arriving may count as idle, too.
    fn sizes(&self) -> Sizes {
        let (idle, connecting) = (self.slots.idle(), self.slots.connecting());
        Sizes {
            idle,
            connecting,
            active: self.slots.live().saturating_sub(idle + connecting),
            waiting: self.slots.waiting(),
            max: self.slots.max(),
            breaker: self.breaker().state(Instant::now()),
        }
    }
}

/// A connection and its slot: where this is dropped, the slot is free.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) home: Arc<ServerRef>,
    /// When it is too old to be lent, by the clock of the pool.
    pub(super) expires: u64,
    /// When it was last given back.
    pub(super) returned: u64,
    pub(super) uses: u64,
    /// Commands that servers count against us.
    pub(super) noops: u32,
    /// Under which number the lending is on record, if it is.
    pub(super) checkout: Option<u64>,
    /// Its slot is another's already.
    pub(super) evicted: bool,
    /// It is being said goodbye to, and so is its place under the limit over all servers.
    pub(super) quitting: bool,
    /// Why it ends, if that is known before it does.
    pub(super) end: CloseReason,
}

/// The way from a connection to its server.
///
/// One for each connection: whoever gives it back holds on to the server meanwhile, and the count of those who do is
/// then the connection's own, not one that all threads count by.
pub(super) struct ServerRef(pub(super) Arc<Server>);

impl Occupant for Box<Lease> {
    fn evict(&mut self) {
        self.evicted = true;
    }
}

/// Why a connection ended, as the metrics say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// Not in step when it was given back: in a transaction, with replies owed, or broken.
    Unusable,
    /// Closed by the server, or broken, while idle.
    Lost,
    Expired,
    /// More than were needed, or than there may be.
    Surplus,
    PoolClosed,
}

impl CloseReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Surplus => "surplus",
            Self::PoolClosed => "pool_closed",
        }
    }
}

/// NOOPs on one connection: Sendmail slows down after 20, Postfix takes 100 of such commands, RSETs included.
const MAX_NOOPS: u32 = 15;

impl Lease {
    /// Whether another NOOP might be held against us.
    pub(super) fn has_used_its_noops(&self) -> bool {
        self.noops >= MAX_NOOPS
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.home.0.ended(self);
    }
}

/// What a `Drop` cannot do itself, since it must neither wait nor spawn.
pub(super) enum Todo {
    /// Say goodbye to a server, with the slot still taken.
    Retire(Box<Lease>),
    /// See whether somebody waits for a slot that has become free.
    Demand(Arc<Server>),
}

/// What the servers of a pool leave to the one task that looks after them all.
pub(super) struct Maintenance {
    pub(super) shared: Arc<Shared>,
    pub(super) todos: Todos<Todo>,
    pub(super) capacity: CapacityWaiters<Server>,
    /// Servers hold on to this, so this must not hold on to servers.
    servers: Weak<ServerMap<Server>>,
    pub(super) running: AtomicBool,
}

impl Maintenance {
    pub(super) fn new(shared: Arc<Shared>, servers: &Arc<ServerMap<Server>>) -> Self {
        Self {
            todos: Todos::new(Arc::clone(&shared.notify)),
            capacity: CapacityWaiters::new(Arc::clone(&shared.total), Arc::clone(&shared.notify)),
            servers: Arc::downgrade(servers),
            running: AtomicBool::new(false),
            shared,
        }
    }

    /// Where the servers are kept, as long as there is a pool.
    pub(super) fn servers(&self) -> Option<Arc<ServerMap<Server>>> {
        self.servers.upgrade()
    }

    /// The servers that the pool knows; none once it is dropped.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        self.servers().map(|servers| servers.all()).unwrap_or_default()
    }

    /// Has something done by the maintenance.
    pub(super) fn todo(&self, todo: Todo) {
        self.todos.push(todo);
        if self.shared.is_closed() && !self.is_running() {
            self.drop_todos();
        }
    }

    /// Drops what nobody will see to any more, and which holds on to this.
    pub(super) fn drop_todos(&self) {
        while let Some(todo) = self.todos.pop() {
            drop(todo);
        }
    }

    /// Whether the maintenance runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }
}
