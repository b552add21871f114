//! What all servers of a pool share, and the list of what is to be done when there is a task to do it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;

use super::{
    Config, OpenError, Route,
    clock::{Clock, millis},
    guard::Lease,
    maintenance::drive,
    registry::Registry,
    server::{Failure, Server},
    slots::Total,
};
use crate::{metrics::Metrics, net::TlsConnector};

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
    pub(super) max_connections: AtomicUsize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) route: Option<Arc<dyn Route>>,
    pub(super) tls: Tls,
    pub(super) clock: Clock,
    pub(super) total: Arc<Total>,
    /// Servers hold on to this, so this must not hold on to servers.
    pub(super) registry: OnceLock<Weak<Registry>>,
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
            registry: OnceLock::new(),
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

    /// The servers that the pool knows; none once it is dropped.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        self.registry().map(|registry| registry.all()).unwrap_or_default()
    }

    /// Where the servers are kept, as long as there is a pool.
    pub(super) fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.get()?.upgrade()
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

    /// Takes note that the pool is closed.
    pub(super) fn note_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify.notify_one();
        self.closing.notify_waiters();
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
