//! The servers whose callers wait because the limit of connections over all servers is reached.
//!
//! A caller waits for a server that may open no connection. The server is added here, and an idle connection of another
//! server is closed. Once its QUIT has ended, the maintenance task takes all servers out and lets them connect in this
//! order. A server that still finds no room is added again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::slots::TotalLimit;

/// Servers `S` in the order in which they reached the limit.
pub(super) struct CapacityWaiters<S> {
    /// Each server at most once. A server whose last owner drops it needs no connection any more.
    servers: Mutex<VecDeque<Weak<S>>>,
    /// Connections with QUIT under way, for any reason. Each makes room for a connection of one waiting server.
    quitting: AtomicUsize,
    /// The limit over all servers. It is told how many servers wait for which no QUIT is under way.
    total: Arc<TotalLimit>,
    /// Wakes the maintenance task, which calls [`take`](Self::take).
    notify: Arc<Notify>,
}

impl<S> CapacityWaiters<S> {
    pub(super) fn new(total: Arc<TotalLimit>, notify: Arc<Notify>) -> Self {
        Self { servers: Mutex::default(), quitting: AtomicUsize::new(0), total, notify }
    }

    /// Adds a server. Returns whether a connection of another server has to be closed for it: false if enough are being closed
    /// already.
    pub(super) fn add(&self, server: &Arc<S>) -> bool {
        let mut servers = self.lock();
        if !servers.iter().any(|known| known.as_ptr() == Arc::as_ptr(server)) {
            servers.push_back(Arc::downgrade(server));
        }
        self.update_total(&servers);
        self.total.has_waiters()
    }

    /// Takes all servers out, in the order of arrival. The caller adds again those that still find no room.
    pub(super) fn take(&self) -> VecDeque<Weak<S>> {
        let mut servers = self.lock();
        if !servers.is_empty() {
            self.total.set_waiters(0);
        }
        std::mem::take(&mut servers)
    }

    /// Records that QUIT begins on a connection.
    pub(super) fn record_quitting(&self) {
        self.quitting.fetch_add(1, Ordering::AcqRel);
        self.update_total(&self.lock());
    }

    /// Records that a connection with QUIT under way is closed, and wakes the maintenance task if servers wait.
    pub(super) fn record_quit_ended(&self) {
        self.quitting.fetch_sub(1, Ordering::AcqRel);
        let servers = self.lock();
        self.update_total(&servers);
        if !servers.is_empty() {
            self.notify.notify_one();
        }
    }

    fn update_total(&self, servers: &VecDeque<Weak<S>>) {
        self.total.set_waiters(servers.len().saturating_sub(self.quitting.load(Ordering::Acquire)));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<S>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_make_room_than_servers_wait() {
        let total = Arc::new(TotalLimit::new(1));
        let waiters = CapacityWaiters::new(Arc::clone(&total), Arc::default());
        let [first, second] = [Arc::new(1), Arc::new(2)];
        assert!(waiters.add(&first));
        waiters.record_quitting();
        // One is on its way out already, which is enough for one server, however often it asks.
        assert!(!waiters.add(&first) && !total.has_waiters());
        assert!(waiters.add(&second));
        waiters.record_quit_ended();
        assert!(total.has_waiters());
        let order: Vec<_> = waiters.take().iter().filter_map(Weak::upgrade).collect();
        assert_eq!(order, [first, second]);
        assert!(!total.has_waiters() && waiters.take().is_empty());
    }
}
