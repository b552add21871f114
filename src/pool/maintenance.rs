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
    clock::{TICK, millis},
    guard::{End, Lease},
    server::Server,
    shared::{Driving, Shared, Todo},
};
use crate::metrics::Gauges;

/// Runs until the pool is dropped.
pub(super) async fn drive(shared: Weak<Shared>, notify: Arc<Notify>, _driving: Driving) {
    let mut next_tick = Instant::now();
    let mut next_cleanup = None;
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            while let Some(todo) = shared.next_todo() {
                match todo {
                    Todo::Retire(lease) => drop(tokio::spawn(retire(lease))),
                    Todo::Demand(server) => server.see_to_demand(),
                }
            }
            shared.feed_starving();
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                shared.tick();
            }
            if now >= *next_cleanup.get_or_insert(now + shared.config.cleanup_interval) {
                next_cleanup = Some(now + shared.config.cleanup_interval);
                shared.clean_up();
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

impl Shared {
    /// Every second.
    fn tick(&self) {
        self.clock.tick();
        for server in self.all() {
            if server.slots.waiting() > 0 {
                // A breaker that has half-opened, a slot that nobody told of.
                server.see_to_demand();
            }
            server.fill_up();
            if let Some(limit) = self.config.leak_after {
                for holder in server.overdue(limit) {
                    tracing::warn!(server = %server.name, held = ?holder.held, taken_at = %holder.taken_at, "connection not given back");
                }
            }
        }
    }

    fn clean_up(&self) {
        for server in self.all() {
            server.clean_up();
            let ttl = millis(self.config.server_ttl);
            let unused = self.clock.now().saturating_sub(server.used.load(Ordering::Relaxed));
            if server.slots.live() == 0 && self.config.min_idle == 0 && unused >= ttl {
                if let Some(registry) = self.registry() {
                    registry.forget(&server);
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

impl Server {
    /// Retires what is too old, drops what its server has closed, and retires what has been more than was needed.
    fn clean_up(self: &Arc<Self>) {
        self.drop_dead();
        let now = self.shared.clock.now();
        let config = &self.shared.config;
        let window = now.saturating_sub(self.watched_since.load(Ordering::Relaxed));
        if window >= millis(config.idle_timeout) {
            self.watched_since.store(now, Ordering::Relaxed);
            let spare = self.slots.take_low_water().saturating_sub(config.min_idle);
            // From the head of the queue: those that have been idle longest.
            for lease in (0..spare).map_while(|_| self.slots.take()) {
                self.unwanted(lease);
            }
        }
    }

    /// Retires idle connections that are too old, and drops those that the server has closed, as can be seen without
    /// asking.
    pub(super) fn drop_dead(&self) {
        let now = self.shared.clock.now();
        let unwanted = self.slots.reap(|lease| {
            lease.end = if lease.expires <= now { End::Expired } else { End::Lost };
            lease.end == End::Expired || !lease.connection.is_quiet()
        });
        for lease in unwanted {
            match lease.end {
                End::Expired => self.retire(lease),
                _ if lease.connection.is_idle() => self.unwanted(lease),
                _ => drop(lease),
            }
        }
    }

    /// Opens what `min_idle` asks for, one at a time.
    fn fill_up(self: &Arc<Self>) {
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
