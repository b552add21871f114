//! The maintenance: one task for each pool, which runs as long as the pool exists.
//!
//! It sends QUIT on surplus connections, opens connections for callers that wait for a free slot, sets the clock, and
//! checks idle connections.

use std::sync::{Arc, Weak, atomic::Ordering};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    OpenError,
    clock::{TICK, millis},
    server::{CloseReason, Lease, Maintenance, Server, Todo, WaitFailure},
    server_map::ServerMap,
};
use crate::metrics::Gauges;

/// Runs until the pool is dropped.
async fn run(maintenance: Weak<Maintenance>, notify: Arc<Notify>, _guard: RunningGuard) {
    let mut next_tick = Instant::now();
    let mut next_cleanup = None;
    loop {
        {
            let Some(maintenance) = maintenance.upgrade() else { return };
            let shared = &maintenance.shared;
            while let Some(todo) = maintenance.todos.pop() {
                match todo {
                    Todo::Retire(lease) => drop(tokio::spawn(retire(lease))),
                    Todo::Demand(server) => server.open_for_waiters(),
                }
            }
            maintenance.serve_capacity_waiters();
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                maintenance.tick();
            }
            if now >= *next_cleanup.get_or_insert(now + shared.config.cleanup_interval) {
                next_cleanup = Some(now + shared.config.cleanup_interval);
                maintenance.clean_up();
            }
            if shared.is_closed() && shared.total.used() == 0 {
                return;
            }
        }
        tokio::select! {
            () = notify.notified() => {}
            () = sleep_until(next_tick) => {}
        }
    }
}

/// Sends QUIT. The slot is free when the server has answered, or after the timeout of QUIT.
pub(super) async fn retire(mut lease: Box<Lease>) {
    // The connection is closed with and without an answer.
    let _ = lease.connection.quit().await;
}

impl Maintenance {
    /// Starts the maintenance if it does not run. It panics outside of a runtime.
    pub(super) fn ensure_running(self: &Arc<Self>) {
        if !self.running.load(Ordering::Relaxed) && !self.running.swap(true, Ordering::SeqCst) {
            let guard = RunningGuard(Arc::downgrade(self));
            tokio::spawn(run(Arc::downgrade(self), Arc::clone(&self.shared.notify), guard));
        }
    }

    /// Records that a caller waits for a connection to `server`, and that the limit over all servers is reached. It closes
    /// an idle connection of another server, unless enough are being closed already.
    pub(super) fn wait_for_capacity(&self, server: &Arc<Server>) {
        if !self.capacity.add(server) {
            return;
        }
        for other in self.all() {
            if !Arc::ptr_eq(&other, server)
                && other.slots.waiting() == 0
                && let Some(lease) = other.slots.take_first()
            {
                other.close_surplus(lease);
                return;
            }
        }
    }

    /// Opens connections for the servers that wait for the limit over all servers, in the order of arrival.
    fn serve_capacity_waiters(&self) {
        for server in self.capacity.take().iter().filter_map(Weak::upgrade) {
            // If there is still no slot, it joins the queue again.
            server.open_for_waiters();
        }
    }

    /// Does the work of each second.
    fn tick(&self) {
        self.shared.clock.tick();
        for server in self.all() {
            if server.slots.waiting() > 0 {
                // The breaker may be half-open by now, or a slot may be free.
                server.open_for_waiters();
            }
            server.fill_up();
            if let Some(limit) = self.shared.config.leak_after {
                for holder in server.checkouts.overdue(limit) {
                    tracing::warn!(server = %server.name, held = ?holder.held, taken_at = %holder.taken_at, "connection not given back");
                }
            }
        }
    }

    fn clean_up(&self) {
        for server in self.all() {
            server.clean_up();
            let ttl = millis(self.shared.config.server_ttl);
            let unused = self.shared.clock.now().saturating_sub(server.used.load(Ordering::Relaxed));
            let is_needed = self.shared.config.min_idle > 0 || self.shared.is_configured(&server.key());
            if server.slots.live() == 0 && !is_needed && unused >= ttl {
                if let Some(servers) = self.servers() {
                    server.forget(&servers);
                }
            } else {
                let sizes = server.sizes();
                tracing::info!(
                    server = %server.name,
                    active = sizes.active,
                    idle = sizes.idle,
                    connecting = sizes.connecting,
                    waiting = sizes.waiting,
                    max = sizes.max,
                    "pool status"
                );
            }
        }
    }
}

/// Records that the maintenance has ended, for any reason.
struct RunningGuard(Weak<Maintenance>);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if let Some(maintenance) = self.0.upgrade() {
            maintenance.running.store(false, Ordering::SeqCst);
            if maintenance.shared.is_closed() {
                maintenance.drop_todos();
            }
            // The runtime ended. Callers in another one get an error, because no connection will come.
            for server in maintenance.all() {
                server.slots.give_up(&WaitFailure::Open(OpenError::Abandoned.into()));
            }
        }
    }
}

impl Server {
    /// Retires idle connections that are too old or were not needed, and drops those that the server has closed.
    fn clean_up(self: &Arc<Self>) {
        self.drop_closed();
        let now = self.shared.clock.now();
        let config = &self.shared.config;
        let window = now.saturating_sub(self.watched_since.load(Ordering::Relaxed));
        if window >= millis(config.idle_timeout) {
            self.watched_since.store(now, Ordering::Relaxed);
            let spare = self.slots.take_low_water().saturating_sub(config.min_idle);
            // From the head of the queue: those that have been idle longest.
            for lease in (0..spare).map_while(|_| self.slots.take()) {
                self.close_surplus(lease);
            }
        }
    }

    /// Forgets a server without connections and without waiting callers.
    pub(super) fn forget(self: &Arc<Self>, servers: &ServerMap<Self>) {
        let _changing = servers.change();
        if self.slots.live() > 0 || self.slots.waiting() > 0 {
            return;
        }
        // A caller may have found this server, but not have called it yet. Closed slots send that caller back to the
        // registry, so that it opens no connection outside of it.
        drop(self.slots.close(&WaitFailure::Closed));
        servers.remove(&self.key(), self);
    }

    /// Retires idle connections that are too old, and drops those that the server has closed. It costs no round trip.
    pub(super) fn drop_closed(&self) {
        let now = self.shared.clock.now();
        let unwanted = self.slots.reap(|lease| {
            lease.slot.end = if lease.expires <= now { CloseReason::Expired } else { CloseReason::Lost };
            lease.slot.end == CloseReason::Expired || !lease.connection.is_quiet()
        });
        for lease in unwanted {
            match lease.slot.end {
                CloseReason::Expired => self.retire(lease),
                _ if lease.connection.is_idle() => self.close_surplus(lease),
                _ => drop(lease),
            }
        }
    }

    /// Opens a connection if fewer are idle than `min_idle` asks for, and none is being opened. The next one is opened
    /// when that has arrived, or by the next tick.
    pub(super) fn fill_up(self: &Arc<Self>) {
        let min_idle = self.shared.config.min_idle;
        if self.slots.connecting() == 0
            && self.slots.idle() < min_idle
            && self.breaker().allows(Instant::now(), 1) > 0
            && self.slots.reserve_spare()
        {
            drop(tokio::spawn(Arc::clone(self).connect()));
        }
    }
}
