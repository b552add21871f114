//! The servers that a pool knows: found without a lock, by name or by key.
//!
//! The pool alone owns it, and whoever else needs it finds it by a weak reference, since servers hold on to what they
//! share, and connections to servers. With the last clone of the pool it goes, and everything is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering};

use foldhash::fast::RandomState;

use super::{
    CheckoutError, Key, ToKey,
    guard::{End, Lease},
    server::{Failure, Server},
    shared::{Shared, Todo},
};
use crate::{
    client::{ClientConfig, Connector},
    metrics::Gauges,
};

/// The servers of one pool.
pub(super) struct Registry {
    pub(super) shared: Arc<Shared>,
    servers: papaya::HashMap<Key, Arc<Server>, RandomState>,
    /// Servers by how they were named, so that a name need not be parsed again.
    names: papaya::HashMap<Box<str>, Arc<Server>, RandomState>,
    /// Taken to add or remove a server, and to close: not to find one.
    changing: Mutex<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.close().for_each(drop);
        // Retired and not yet seen to.
        self.shared.drop_todos();
    }
}

impl Registry {
    pub(super) fn new(shared: Shared) -> Arc<Self> {
        let registry = Arc::new(Self {
            shared: Arc::new(shared),
            servers: papaya::HashMap::default(),
            names: papaya::HashMap::default(),
            changing: Mutex::new(()),
        });
        registry.shared.registry.get_or_init(|| Arc::downgrade(&registry));
        registry
    }

    /// Asks `act` of the server if it is known by this key, without taking a lock.
    pub(super) fn known_key<T>(&self, key: &Key, act: impl FnOnce(&Server) -> Option<T>) -> Option<T> {
        self.servers.pin().get(key).and_then(|server| act(server))
    }

    /// Asks `act` of the server if it is known by this name, without taking a lock.
    pub(super) fn known<T>(&self, key: &impl ToKey, act: impl FnOnce(&Server) -> Option<T>) -> Option<T> {
        let name = key.text()?;
        self.names.pin().get(name).and_then(|server| act(server))
    }

    /// The server, which is made if it is not known.
    pub(super) fn server(&self, key: &impl ToKey) -> Result<Arc<Server>, CheckoutError> {
        if let Some(server) = key.text().and_then(|name| self.names.pin().get(name).cloned()) {
            return Ok(server);
        }
        let name = key.text();
        let key = key.to_key()?;
        let _changing = self.change();
        if self.shared.is_closed() {
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

    fn make(&self, key: Key) -> Arc<Server> {
        let shared = &self.shared;
        let config = &shared.config;
        let mut client = ClientConfig::new(key.helo.clone().unwrap_or_else(|| config.helo.clone()));
        client.bind = key.bind.or(config.bind);
        client.tls = key.tls.unwrap_or(config.tls);
        client.timeouts = config.timeouts;
        client.timeouts.connect = config.timeouts.connect.min(config.connection_timeout);
        client.credentials = key.credentials.as_deref().or(config.credentials.as_ref()).cloned();
        client.log_addresses = config.log_addresses;
        let verifies = client.policy().verifies();
        let tls = if verifies { &shared.tls.verified } else { &shared.tls.unverified };
        let metrics = shared.metrics.server(key.host());
        let connector = Connector::with_tls(client, tls.clone(), Arc::clone(&shared.metrics));
        let server = Arc::new(Server::new(key, connector, Arc::clone(&metrics), Arc::clone(shared)));
        let gauges: Weak<Server> = Arc::downgrade(&server);
        metrics.watch(gauges as Weak<dyn Gauges>);
        server
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each of them.
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

    /// Sets how many connections there may be to each server.
    pub(super) fn resize(&self, max: usize) {
        let _changing = self.change();
        self.shared.max_connections.store(max, Ordering::Release);
        for server in self.all() {
            for lease in server.slots.resize(max) {
                server.unwanted(lease);
            }
            self.shared.todo(Todo::Demand(server));
        }
    }

    /// Closes for good, and gives back what was idle.
    pub(super) fn close(&self) -> impl Iterator<Item = Box<Lease>> + use<> {
        let _changing = self.change();
        self.shared.note_closed();
        let idle = self.all().into_iter().flat_map(|server| server.slots.close(&Failure::Closed));
        idle.map(|mut lease| {
            lease.end = End::PoolClosed;
            lease
        })
    }
}
