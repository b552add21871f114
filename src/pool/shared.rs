//! What all servers of a pool share, and the list of what is to be done when there is a task to do it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crossbeam_queue::SegQueue;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::{
    CheckoutError, Config, Key, OpenError, Route, ToKey,
    clock::{Clock, millis},
    lease::{End, Lease},
    maintain::drive,
    server::{Failure, Server},
    slots::Total,
};
use crate::{
    client::{ClientConfig, Connector},
    metrics::{Gauges, Metrics},
    net::TlsConnector,
};

/// What a `Drop` cannot do itself, since it must neither wait nor spawn.
pub(super) enum Todo {
    /// Say goodbye to a server, with the slot still taken.
    Retire(Box<Lease>),
    /// See whether somebody waits for a slot that has become free.
    Demand(Arc<Server>),
}

/// One pool.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) noop_after: u64,
    max_connections: AtomicUsize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) route: Option<Arc<dyn Route>>,
    pub(super) tls: Tls,
    pub(super) clock: Clock,
    pub(super) total: Arc<Total>,
    pub(super) servers: papaya::HashMap<Key, Arc<Server>, RandomState>,
    /// Servers by how they were named, so that a name need not be parsed again.
    names: papaya::HashMap<Box<str>, Arc<Server>, RandomState>,
    /// Taken to add or remove a server, and to close: not to find one.
    changing: Mutex<()>,
    todo: SegQueue<Todo>,
    pub(super) notify: Arc<Notify>,
    driven: AtomicBool,
    starving: Mutex<VecDeque<Weak<Server>>>,
    /// Connections that are being said goodbye to.
    leaving: AtomicUsize,
    closed: AtomicBool,
    closing: Notify,
    ended: Notify,
}

/// How to do TLS: as was said, or with and without verification as the policy wants it.
pub(super) struct Tls {
    pub(super) verified: TlsConnector,
    pub(super) unverified: TlsConnector,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        metrics: Arc<Metrics>,
        route: Option<Arc<dyn Route>>,
        tls: Tls,
    ) -> Self {
        Self {
            noop_after: millis(config.noop_after),
            max_connections: AtomicUsize::new(config.max_connections),
            total: Arc::new(Total::new(config.max_total_connections)),
            config,
            metrics,
            route,
            tls,
            clock: Clock::new(),
            servers: papaya::HashMap::default(),
            names: papaya::HashMap::default(),
            changing: Mutex::new(()),
            todo: SegQueue::new(),
            notify: Arc::new(Notify::new()),
            driven: AtomicBool::new(false),
            starving: Mutex::default(),
            leaving: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            ended: Notify::new(),
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Asks `act` of the server if it is known by this name, without taking a lock.
    pub(super) fn known<T>(&self, key: &impl ToKey, act: impl FnOnce(&Server) -> Option<T>) -> Option<T> {
        let name = key.text()?;
        self.names.pin().get(name).and_then(|server| act(server))
    }

    /// The server, which is made if it is not known.
    pub(super) fn server(self: &Arc<Self>, key: &impl ToKey) -> Result<Arc<Server>, CheckoutError> {
        if let Some(server) = key.text().and_then(|name| self.names.pin().get(name).cloned()) {
            return Ok(server);
        }
        let name = key.text();
        let key = key.to_key()?;
        let _changing = self.change();
        if self.is_closed() {
            return Err(CheckoutError::Closed);
        }
        let servers = self.servers.pin();
        let server = match servers.get(&key) {
            Some(server) => Arc::clone(server),
            None => {
                let server = self.make(key.clone());
                servers.insert(key, Arc::clone(&server));
                server
            }
        };
        if let Some(name) = name {
            self.names.pin().insert(name.into(), Arc::clone(&server));
        }
        Ok(server)
    }

    fn make(self: &Arc<Self>, key: Key) -> Arc<Server> {
        let config = &self.config;
        let mut client = ClientConfig::new(key.helo.clone().unwrap_or_else(|| config.helo.clone()));
        client.bind = key.bind.or(config.bind);
        client.tls = key.tls.unwrap_or(config.tls);
        client.timeouts = config.timeouts;
        client.timeouts.connect = config.connection_timeout;
        client.credentials = key.credentials.as_deref().or(config.credentials.as_ref()).cloned();
        client.log_addresses = config.log_addresses;
        let verifies = client.policy().verifies();
        let tls = if verifies { &self.tls.verified } else { &self.tls.unverified };
        let metrics = self.metrics.server(key.host());
        let connector = Connector::with_tls(client, tls.clone(), Arc::clone(&self.metrics));
        let server = Arc::new(Server::new(key, connector, Arc::clone(&metrics), Arc::clone(self)));
        let gauges: Weak<Server> = Arc::downgrade(&server);
        metrics.watch(gauges as Weak<dyn Gauges>);
        server
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        self.servers.pin().values().cloned().collect()
    }

    /// Forgets a server that nobody asks for and that there is no connection to.
    pub(super) fn forget(&self, server: &Arc<Server>) {
        let _changing = self.change();
        if server.slots.live() > 0 || server.slots.waiting() > 0 {
            return;
        }
        // Whoever has found it but not asked it yet makes connections that nobody else will find: closed, it sends
        // them back for another.
        drop(server.slots.close(&Failure::Closed));
        self.servers.pin().remove(&server.key);
        self.names.pin().retain(|_, known| !Arc::ptr_eq(known, server));
    }

    /// Has something done by the maintenance.
    pub(super) fn todo(&self, todo: Todo) {
        self.todo.push(todo);
        self.notify.notify_one();
        if self.is_closed() && !self.is_driven() {
            self.drop_todos();
        }
    }

    /// Drops what nobody will see to any more, and which holds on to this.
    pub(super) fn drop_todos(&self) {
        while let Some(todo) = self.next_todo() {
            drop(todo);
        }
    }

    pub(super) fn next_todo(&self) -> Option<Todo> {
        self.todo.pop()
    }

    /// Whether the maintenance runs.
    pub(super) fn is_driven(&self) -> bool {
        self.driven.load(Ordering::SeqCst)
    }

    /// Makes sure that the maintenance runs; within a runtime only.
    pub(super) fn drive(self: &Arc<Self>) {
        if !self.driven.load(Ordering::Relaxed) && !self.driven.swap(true, Ordering::SeqCst) {
            let driving = Driving(Arc::downgrade(self));
            tokio::spawn(drive(Arc::downgrade(self), Arc::clone(&self.notify), driving));
        }
    }

    /// Takes note that somebody waits for a connection to `server` and only the limit over all servers stands in the
    /// way; takes an idle connection from another one, if there is any and none is on its way out already.
    pub(super) fn starve(&self, server: &Arc<Server>) {
        {
            let mut starving = self.starving();
            if !starving.iter().any(|known| known.as_ptr() == Arc::as_ptr(server)) {
                starving.push_back(Arc::downgrade(server));
            }
            self.note_starving(&starving);
            if !self.total.is_starving() {
                return;
            }
        }
        for other in self.all() {
            if !Arc::ptr_eq(&other, server)
                && other.slots.waiting() == 0
                && let Some(lease) = other.slots.take_first()
            {
                other.unwanted(lease);
                return;
            }
        }
    }

    /// Sees to those who wait for a slot under the limit over all servers, first come, first served.
    pub(super) fn feed_starving(&self) {
        let starving: Vec<_> = {
            let mut starving = self.starving();
            if starving.is_empty() {
                return;
            }
            self.total.set_starving(0);
            starving.drain(..).collect()
        };
        for server in starving.iter().filter_map(Weak::upgrade) {
            // Where there is still no slot, it gets in line again.
            server.see_to_demand();
        }
    }

    /// One more is being said goodbye to.
    pub(super) fn note_leaving(&self) {
        self.leaving.fetch_add(1, Ordering::AcqRel);
        self.note_starving(&self.starving());
    }

    /// One that was being said goodbye to is no more.
    pub(super) fn note_left(&self) {
        self.leaving.fetch_sub(1, Ordering::AcqRel);
        let starving = self.starving();
        self.note_starving(&starving);
        if !starving.is_empty() {
            self.notify.notify_one();
        }
    }

    fn note_starving(&self, starving: &VecDeque<Weak<Server>>) {
        self.total.set_starving(starving.len().saturating_sub(self.leaving.load(Ordering::Acquire)));
    }

    fn starving(&self) -> MutexGuard<'_, VecDeque<Weak<Server>>> {
        self.starving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many connections there may be to each server.
    pub(super) fn resize(&self, max: usize) {
        let _changing = self.change();
        self.max_connections.store(max, Ordering::Release);
        for server in self.all() {
            for lease in server.slots.resize(max) {
                server.unwanted(lease);
            }
            self.todo(Todo::Demand(server));
        }
    }

    /// Closes for good, and gives back what was idle.
    pub(super) fn close(&self) -> impl Iterator<Item = Box<Lease>> + use<> {
        let _changing = self.change();
        self.closed.store(true, Ordering::SeqCst);
        self.notify.notify_one();
        self.closing.notify_waiters();
        let idle = self.all().into_iter().flat_map(|server| server.slots.close(&Failure::Closed));
        idle.map(|mut lease| {
            lease.end = End::PoolClosed;
            lease
        })
    }

    /// Forgets all servers, which hold on to this as this does to them.
    pub(super) fn forget_all(&self) {
        let _changing = self.change();
        self.servers.pin().clear();
        self.names.pin().clear();
    }

    /// A connection is no more, or will not be.
    pub(super) fn note_end(&self) {
        if self.is_closed() {
            self.ended.notify_waiters();
            self.notify.notify_one();
        }
    }

    /// Waits until the pool is closed.
    pub(super) async fn until_closed(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Waits until no connection is left of a pool that is closed.
    pub(super) async fn emptied(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.total.used() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Says that the maintenance has ended, whatever ended it.
pub(super) struct Driving(Weak<Shared>);

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.driven.store(false, Ordering::SeqCst);
            if shared.is_closed() {
                shared.drop_todos();
            }
            // The runtime ended; who waits in another one should know that nothing comes.
            for server in shared.all() {
                server.slots.give_up(&Failure::Open(OpenError::Abandoned.into()));
            }
        }
    }
}
