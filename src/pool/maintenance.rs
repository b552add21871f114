//! What goes on without being asked for: one task a pool, which lives as long as the pool does.
//!
//! It says goodbye to connections that are not wanted any more, sees to slots that have become free where no task could,
//! sets the clock, and looks at what is idle.

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

/// Says goodbye; the slot is free when the server has answered, or has had its time.
pub(super) async fn retire(mut lease: Box<Lease>) {
    // Whether it answers is all the same.
    let _ = lease.connection.quit().await;
}

impl Maintenance {
    /// Makes sure that the maintenance runs; within a runtime only.
    pub(super) fn ensure_running(self: &Arc<Self>) {
        if !self.running.load(Ordering::Relaxed) && !self.running.swap(true, Ordering::SeqCst) {
            let guard = RunningGuard(Arc::downgrade(self));
            tokio::spawn(run(Arc::downgrade(self), Arc::clone(&self.shared.notify), guard));
        }
    }

    /// Records that somebody waits for a connection to `server` and only the limit over all servers stands in the
    /// way; takes an idle connection from another one, if there is any and none is on its way out already.
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

    /// Sees to those who wait for a slot under the limit over all servers, first come, first served.
    fn serve_capacity_waiters(&self) {
        for server in self.capacity.take().iter().filter_map(Weak::upgrade) {
            // Where there is still no slot, it gets in line again.
            server.open_for_waiters();
        }
    }

    /// Every second.
    fn tick(&self) {
        self.shared.clock.tick();
        for server in self.all() {
            if server.slots.waiting() > 0 {
                // A breaker that has half-opened, a slot that nobody told of.
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

/// Says that the maintenance has ended, whatever ended it.
struct RunningGuard(Weak<Maintenance>);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if let Some(maintenance) = self.0.upgrade() {
            maintenance.running.store(false, Ordering::SeqCst);
            if maintenance.shared.is_closed() {
                maintenance.drop_todos();
            }
            // The runtime ended; who waits in another one should know that nothing comes.
            for server in maintenance.all() {
                server.slots.give_up(&WaitFailure::Open(OpenError::Abandoned.into()));
            }
        }
    }
}

impl Server {
    /// Retires what is too old, drops what its server has closed, and retires what has been more than was needed.
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

    /// Forgets a server that nobody asks for and that there is no connection to.
    pub(super) fn forget(self: &Arc<Self>, servers: &ServerMap<Self>) {
        let _changing = servers.change();
        if self.slots.live() > 0 || self.slots.waiting() > 0 {
            return;
        }
        // Whoever has found it but not asked it yet makes connections that nobody else will find: closed, it sends
        // them back for another.
        drop(self.slots.close(&WaitFailure::Closed));
        servers.remove(&self.key(), self);
    }

    /// Retires idle connections that are too old, and drops those that the server has closed, as can be seen without
    /// asking.
    pub(super) fn drop_closed(&self) {
        let now = self.shared.clock.now();
        let unwanted = self.slots.reap(|lease| {
            lease.end = if lease.expires <= now { CloseReason::Expired } else { CloseReason::Lost };
            lease.end == CloseReason::Expired || !lease.connection.is_quiet()
        });
        for lease in unwanted {
            match lease.end {
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
