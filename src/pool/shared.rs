//! The state that all servers of a pool share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::{
    Config, Hooks, Key, Route,
    clock::{Clock, millis},
    slots::TotalLimit,
};
use crate::{
    metrics::Metrics,
    net::{Connect, TlsConnector},
};

/// The state of one pool.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) noop_after: u64,
    pub(super) max_connections: AtomicUsize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) route: Option<Arc<dyn Route>>,
    pub(super) hooks: Option<Arc<dyn Hooks>>,
    pub(super) connect: Option<Arc<dyn Connect>>,
    /// There are no hooks, no rate and no record of checkouts, so that a checkout asks for this alone.
    pub(super) is_plain: bool,
    pub(super) tls: TlsConnectors,
    pub(super) clock: Clock,
    pub(super) total: Arc<TotalLimit>,
    /// Wakes the maintenance.
    pub(super) notify: Arc<Notify>,
    closed: AtomicBool,
    closing: Notify,
    ended: Notify,
}

/// What the builder was given to call.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) route: Option<Arc<dyn Route>>,
    pub(super) hooks: Option<Arc<dyn Hooks>>,
    pub(super) connect: Option<Arc<dyn Connect>>,
}

/// TLS with and without verification. Both are the same if the builder was given a TLS configuration.
pub(super) struct TlsConnectors {
    pub(super) verified: TlsConnector,
    pub(super) unverified: TlsConnector,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        metrics: Arc<Metrics>,
        callbacks: Callbacks,
        tls: TlsConnectors,
    ) -> Self {
        Self {
            noop_after: millis(config.noop_after),
            max_connections: AtomicUsize::new(config.max_connections),
            total: Arc::new(TotalLimit::new(config.max_total_connections)),
            is_plain: callbacks.hooks.is_none() && config.per_minute.is_none() && config.leak_after.is_none(),
            config,
            metrics,
            route: callbacks.route,
            hooks: callbacks.hooks,
            connect: callbacks.connect,
            tls,
            clock: Clock::new(),
            notify: Arc::new(Notify::new()),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            ended: Notify::new(),
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Acquire)
    }

    /// Returns whether the configuration names this server.
    pub(super) fn is_configured(&self, server: &Key) -> bool {
        self.config.server.clone().is_some_and(|key| key.normal(&self.config) == *server)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Records that the pool is closed.
    pub(super) fn record_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify.notify_one();
        self.closing.notify_waiters();
    }

    /// Records that a connection ended, or that an attempt failed.
    pub(super) fn record_ended(&self) {
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

    /// Waits until a closed pool has no connection left.
    pub(super) async fn until_empty(&self) {
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
