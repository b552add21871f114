//! One server of a pool: its slots, its connector and its breaker. The types that connections, servers and the
//! maintenance share are here too.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::{
    ClosedConnection, HealthReport, Key, OpenError,
    breaker::Breaker,
    capacity::CapacityWaiters,
    checkout_rate::CheckoutRate,
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

/// What waiting callers get instead of a connection.
#[derive(Clone, Debug)]
pub(super) enum WaitFailure {
    Open(Arc<OpenError>),
    Circuit(Instant, Arc<OpenError>),
    Closed,
}

/// A server. It exists as long as the pool knows it, or a connection to it exists.
pub(super) struct Server {
    /// As it was given last: equal keys may carry other addresses, and another secret.
    key: Mutex<Key>,
    /// The name for logs, errors and labels.
    pub(super) name: Arc<str>,
    pub(super) slots: Slots<Box<Lease>, WaitFailure>,
    pub(super) connector: Connector,
    pub(super) metrics: Arc<ServerMetrics>,
    pub(super) shared: Arc<Shared>,
    pub(super) breaker: Mutex<Breaker>,
    /// The time of the last use, by the clock of the pool.
    pub(super) used: AtomicU64,
    /// The time at which the low-water mark of idle connections was last taken.
    pub(super) watched_since: AtomicU64,
    pub(super) maintenance: Arc<Maintenance>,
    pub(super) checkouts: LeakTracker,
    /// The limit on checkouts, if there is one.
    pub(super) rate: Option<CheckoutRate>,
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
            rate: config.per_minute.map(CheckoutRate::new),
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
        self.key.lock().unwrap_or_else(PoisonError::into_inner).renew(key);
    }

    /// Closes a connection that has no place any more.
    pub(super) fn close_surplus(&self, mut lease: Box<Lease>) {
        lease.slot.end = if self.slots.is_closed() { CloseReason::PoolClosed } else { CloseReason::Surplus };
        self.retire(lease);
    }

    /// Has the maintenance send QUIT.
    pub(super) fn retire(&self, mut lease: Box<Lease>) {
        lease.slot.quitting = true;
        self.maintenance.capacity.record_quitting();
        self.maintenance.todo(Todo::Retire(lease));
    }

    /// Records that a connection ended, and frees its slot.
    pub(super) fn ended(self: &Arc<Self>, slot: &LeaseSlot) {
        let (age, reason) = (slot.opened.elapsed(), slot.end.as_str());
        tracing::debug!(server = %self.name, reason, ?age, uses = slot.uses, "connection closed");
        self.metrics.connection_closed(age, reason);
        let wanted = self.slots.release(slot.evicted);
        if slot.quitting {
            self.maintenance.capacity.record_quit_ended();
        }
        if let Some(hooks) = &self.shared.hooks {
            hooks.on_close(&ClosedConnection { server: &self.name, reason, age, uses: slot.uses });
        }
        if wanted && !self.shared.is_closed() {
            self.maintenance.todo(Todo::Demand(Arc::clone(self)));
        }
        self.shared.record_ended();
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the result of the last health check.
    pub(super) fn checked(&self) -> MutexGuard<'_, Option<HealthReport>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a connection that is opened now will be too old, by the clock of the pool.
    pub(super) fn expiry(&self) -> u64 {
        let config = &self.shared.config;
        let lifetime = config.max_lifetime.mul_f64(1.0 - config.lifetime_jitter * fastrand::f64());
        self.shared.clock.tick().saturating_add(millis(lifetime).max(1))
    }
}

impl Gauges for Server {
    /// The numbers are read one after the other. So a connection that has just been opened may count twice.
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

/// A connection and its slot.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) slot: LeaseSlot,
    /// The time from which it is too old to be lent, by the clock of the pool.
    pub(super) expires: u64,
    /// The time of the last return.
    pub(super) returned: u64,
    /// The number of NOOPs. Servers limit them.
    pub(super) noops: u32,
    /// The number of the checkout in the leak tracker, if it is recorded.
    pub(super) checkout: Option<u64>,
}

/// The slot of a connection. Dropping it frees the slot.
pub(super) struct LeaseSlot {
    pub(super) home: Arc<ServerRef>,
    /// When connecting began.
    pub(super) opened: Instant,
    /// How often the connection was lent.
    pub(super) uses: u64,
    /// Another connection has the slot already.
    pub(super) evicted: bool,
    /// QUIT is under way. Its place under the limit over all servers is free soon.
    pub(super) quitting: bool,
    /// The reason of the end, as far as it is known before.
    pub(super) end: CloseReason,
}

/// The reference from a connection to its server.
///
/// Each connection has an `Arc` of its own, so that returns do not contend on the reference count of the server.
pub(super) struct ServerRef(pub(super) Arc<Server>);

impl Occupant for Box<Lease> {
    fn evict(&mut self) {
        self.slot.evicted = true;
    }
}

/// Why a connection ended: a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// It was given back within a transaction, with replies owed, or broken.
    Unusable,
    /// The server closed it, or it broke, while it was idle.
    Lost,
    Expired,
    /// There were more than needed or allowed.
    Surplus,
    PoolClosed,
    /// The caller took it out of the pool.
    Detached,
}

impl CloseReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Surplus => "surplus",
            Self::PoolClosed => "pool_closed",
            Self::Detached => "detached",
        }
    }
}

/// The most NOOPs on one connection. Sendmail slows down after 20. Postfix accepts 100 such commands, RSETs included.
const MAX_NOOPS: u32 = 15;

impl Lease {
    /// Returns whether another NOOP could exceed a limit of the server.
    pub(super) fn has_used_its_noops(&self) -> bool {
        self.noops >= MAX_NOOPS
    }
}

impl Drop for LeaseSlot {
    fn drop(&mut self) {
        self.home.0.ended(self);
    }
}

/// Work for the maintenance. A `Drop` cannot do it, because it can neither wait nor spawn.
pub(super) enum Todo {
    /// Sends QUIT. The slot stays taken.
    Retire(Box<Lease>),
    /// Opens connections for callers that wait, now that a slot is free.
    Demand(Arc<Server>),
}

/// The state that servers share with the maintenance task.
pub(super) struct Maintenance {
    pub(super) shared: Arc<Shared>,
    pub(super) todos: Todos<Todo>,
    pub(super) capacity: CapacityWaiters<Server>,
    /// Weak, because servers hold this.
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

    /// Returns the map of servers, as long as there is a pool.
    pub(super) fn servers(&self) -> Option<Arc<ServerMap<Server>>> {
        self.servers.upgrade()
    }

    /// Returns the servers that the pool knows; none after it was dropped.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        self.servers().map(|servers| servers.all()).unwrap_or_default()
    }

    /// Adds work for the maintenance.
    pub(super) fn todo(&self, todo: Todo) {
        self.todos.push(todo);
        if self.shared.is_closed() && !self.is_running() {
            self.drop_todos();
        }
    }

    /// Drops work that no task will do. It holds references to this.
    pub(super) fn drop_todos(&self) {
        while let Some(todo) = self.todos.pop() {
            drop(todo);
        }
    }

    /// Returns whether the maintenance runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }
}
