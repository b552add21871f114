//! The servers of a pool, each made at its first use.
//!
//! Only the pool owns them. The maintenance and the metrics have weak references, because connections hold their server,
//! and servers hold what they share. The last clone of the pool drops them, and all connections are closed.

use std::sync::{Arc, Weak, atomic::Ordering};

use super::{
    CheckoutError, Key, ToKey,
    server::{CloseReason, Lease, Maintenance, Server, Todo, WaitFailure},
    server_map::ServerMap,
    shared::Shared,
};
use crate::{
    client::{ClientConfig, Connector},
    metrics::Gauges,
};

/// The servers of one pool.
pub(super) struct Registry {
    pub(super) shared: Arc<Shared>,
    pub(super) servers: Arc<ServerMap<Server>>,
    pub(super) maintenance: Arc<Maintenance>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.close().for_each(drop);
        // Connections that were retired, and not closed yet.
        self.maintenance.drop_todos();
    }
}

impl Registry {
    pub(super) fn new(shared: Shared) -> Arc<Self> {
        let (shared, servers) = (Arc::new(shared), Arc::default());
        let maintenance = Arc::new(Maintenance::new(Arc::clone(&shared), &servers));
        Arc::new(Self { shared, servers, maintenance })
    }

    /// Returns the server, and makes it if it is not known.
    pub(super) fn server(&self, key: &impl ToKey) -> Result<Arc<Server>, CheckoutError> {
        let known = |server: &Arc<Server>| Some(Arc::clone(server));
        if let Some(server) = self.servers.with_name(key, known) {
            return Ok(server);
        }
        let name = key.text();
        let key = key.to_key()?.normal(&self.shared.config);
        let _changing = self.servers.change();
        if self.shared.is_closed() {
            return Err(CheckoutError::Closed);
        }
        let server = match self.servers.with_key(&key, known) {
            Some(server) => {
                server.renew(key);
                server
            }
            None => {
                let server = self.make(key.clone());
                self.servers.insert(key, &server);
                server
            }
        };
        if let Some(name) = name {
            self.servers.name(name, &server);
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
        client.credentials = key.own_credentials().or(config.credentials.as_ref()).cloned();
        client.log_addresses = config.log_addresses;
        client.connect = shared.connect.clone();
        let verifies = client.policy().verifies();
        let tls = if verifies { &shared.tls.verified } else { &shared.tls.unverified };
        let metrics = shared.metrics.server(&key.name());
        let target = (Arc::clone(key.host_arc()), key.port().unwrap_or(config.port));
        let connector = Connector::for_server(client, tls.clone(), target, Arc::clone(&metrics));
        let server =
            Arc::new(Server::new(key, connector, Arc::clone(&metrics), Arc::clone(&self.maintenance)));
        let gauges: Weak<Server> = Arc::downgrade(&server);
        metrics.watch(gauges as Weak<dyn Gauges>);
        server
    }

    /// Sets the most connections to each server.
    pub(super) fn resize(&self, max: usize) {
        let _changing = self.servers.change();
        self.shared.max_connections.store(max, Ordering::Release);
        for server in self.servers.all() {
            for lease in server.slots.resize(max) {
                server.close_surplus(lease);
            }
            self.maintenance.todo(Todo::Demand(server));
        }
    }

    /// Closes for good, and returns the idle connections.
    pub(super) fn close(&self) -> impl Iterator<Item = Box<Lease>> + use<> {
        let _changing = self.servers.change();
        self.shared.record_closed();
        let idle = self.servers.all().into_iter().flat_map(|server| server.slots.close(&WaitFailure::Closed));
        idle.map(|mut lease| {
            lease.slot.end = CloseReason::PoolClosed;
            lease
        })
    }
}
