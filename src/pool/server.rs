//! One server, as the pool knows it: its slots, how to connect to it, and whether that is any use now.

use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    CheckoutError, Exhausted, HealthReport, Holder, Key, OpenError, PooledConnection, Stage,
    breaker::{Breaker, backoff},
    clock::millis,
    guard::{End, Lease},
    shared::{Shared, Todo},
    slots::Slots,
};
use crate::{
    client::Connector,
    metrics::{Gauges, ServerMetrics, Sizes},
    proto::Command,
};

/// What those in line get instead of a connection.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Open(Arc<OpenError>),
    Circuit(Instant, Arc<OpenError>),
    Closed,
}

/// A server; lives as long as the pool knows it, or a connection to it does.
pub(super) struct Server {
    pub(super) key: Key,
    /// For logs, errors and labels.
    pub(super) name: Arc<str>,
    pub(super) slots: Slots<Box<Lease>, Failure>,
    pub(super) connector: Connector,
    pub(super) metrics: Arc<ServerMetrics>,
    pub(super) shared: Arc<Shared>,
    pub(super) breaker: Mutex<Breaker>,
    /// When it was last asked for, by the clock of the pool.
    pub(super) used: AtomicU64,
    /// Since when the low-water mark of idle connections has been watched.
    pub(super) watched_since: AtomicU64,
    loans: Mutex<Loans>,
    checked: Mutex<Option<HealthReport>>,
}

/// Who has what, on record only if somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Loans {
    next: u64,
    open: BTreeMap<u64, Loan>,
}

#[derive(Debug)]
struct Loan {
    since: Instant,
    taken_at: &'static Location<'static>,
    warned: bool,
}

impl Server {
    pub(super) fn new(
        key: Key,
        connector: Connector,
        metrics: Arc<ServerMetrics>,
        shared: Arc<Shared>,
    ) -> Self {
        let config = &shared.config;
        let now = shared.clock.now();
        Self {
            name: key.to_string().into(),
            slots: Slots::new(shared.max_connections(), Arc::clone(&shared.total)),
            connector,
            metrics,
            breaker: Mutex::new(Breaker::new(config.breaker_failures, config.breaker_pause)),
            used: AtomicU64::new(now),
            watched_since: AtomicU64::new(now),
            loans: Mutex::default(),
            checked: Mutex::default(),
            key,
            shared,
        }
    }

    /// An idle connection, if there is one and nobody has been waiting; one that has been idle for long only if
    /// `unasked`.
    pub(super) fn take(
        &self,
        unasked: bool,
        taken_at: &'static Location<'static>,
    ) -> Option<PooledConnection> {
        loop {
            let lease = if self.shared.config.fair { self.slots.take() } else { self.slots.take_first() }?;
            match self.lend(lease, unasked, taken_at) {
                Fit::Lent(connection) => {
                    self.metrics.checkout(Duration::ZERO);
                    return Some(connection);
                }
                Fit::Ask(lease) => {
                    // Somebody with the time to ask may come.
                    drop(self.slots.put(lease));
                    return None;
                }
                Fit::Unfit => {}
            }
        }
    }

    /// A connection: idle, given back, or new, whichever comes first.
    pub(super) async fn get(
        self: Arc<Self>,
        wait: Duration,
        taken_at: &'static Location<'static>,
    ) -> Result<PooledConnection, CheckoutError> {
        let began = Instant::now();
        let until = began + wait;
        self.used.store(self.shared.clock.tick(), Ordering::Relaxed);
        self.shared.drive();
        let mut stillborn = 0;
        loop {
            // What is handed over in line has just been used, or opened: there is nothing to ask it.
            let (lease, unasked) = match self.slots.take() {
                Some(lease) => (lease, false),
                None => {
                    let waited = self.wait(began, until).await;
                    let lease = waited.inspect_err(|error| {
                        tracing::debug!(server = %self.name, kind = error.kind(), waited = ?began.elapsed(), "no connection");
                        self.metrics.checkout_failed(error.kind());
                    })?;
                    (lease, true)
                }
            };
            let is_fresh = lease.uses == 0;
            match self.lend(lease, unasked, taken_at) {
                Fit::Lent(connection) => {
                    self.metrics.checkout(began.elapsed());
                    return Ok(connection);
                }
                // A server that closes what it has just opened is not to be besieged.
                Fit::Unfit if is_fresh => {
                    stillborn += 1;
                    let pause = backoff(self.shared.config.backoff, stillborn, fastrand::f64());
                    sleep_until(until.min(Instant::now() + pause)).await;
                }
                Fit::Ask(mut lease) => {
                    let limit = until.min(Instant::now() + self.shared.config.connection_timeout);
                    if self.answers(&mut lease, limit).await
                        && let Fit::Lent(connection) = self.lend(lease, true, taken_at)
                    {
                        self.metrics.checkout(began.elapsed());
                        return Ok(connection);
                    }
                    if Instant::now() >= until {
                        let error = self.too_late(Stage::Ask, began.elapsed());
                        self.metrics.checkout_failed(error.kind());
                        return Err(error);
                    }
                }
                Fit::Unfit => {}
            }
        }
    }

    /// Waits in line.
    async fn wait(self: &Arc<Self>, began: Instant, until: Instant) -> Result<Box<Lease>, CheckoutError> {
        let Some(turn) = self.slots.join() else { return Err(CheckoutError::Closed) };
        self.see_to_demand();
        match timeout_at(until, turn).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(failure)) => Err(self.failure(failure)),
            Err(_) => Err(self.timed_out(began.elapsed())),
        }
    }

    /// Opens connections for those who wait, as far as that is allowed; who waits for nothing is told so.
    pub(super) fn see_to_demand(self: &Arc<Self>) {
        let now = Instant::now();
        let (at_once, open) = {
            let breaker = self.breaker();
            (breaker.allows(now, self.shared.config.max_connecting), breaker.open(now))
        };
        let demand = self.slots.demand(at_once);
        for _ in 0..demand.connects {
            tokio::spawn(Arc::clone(self).connect());
        }
        if demand.starved {
            self.shared.starve(self);
        }
        if let Some((until, error)) = open {
            self.slots.give_up(&Failure::Circuit(until, error));
        }
    }

    /// Finds out, without a round trip, whether a connection can be lent.
    fn lend(&self, mut lease: Box<Lease>, unasked: bool, taken_at: &'static Location<'static>) -> Fit {
        let now = self.shared.clock.now();
        if lease.expires <= now {
            lease.end = End::Expired;
            self.retire(lease);
            return Fit::Unfit;
        }
        if !lease.connection.is_quiet() {
            lease.end = End::Lost;
            return Fit::Unfit;
        }
        if !unasked && now.saturating_sub(lease.returned) >= self.shared.noop_after {
            return Fit::Ask(lease);
        }
        lease.uses += 1;
        // Whatever happens to it from here on, unless it is given back in order.
        lease.end = End::Unusable;
        if self.shared.config.leak_after.is_some() {
            self.note_loan(&mut lease, taken_at);
        }
        Fit::Lent(PooledConnection::new(lease))
    }

    /// Asks whether a connection that has been idle for long is still there.
    pub(super) async fn answers(&self, lease: &mut Lease, limit: Instant) -> bool {
        lease.end = End::Lost;
        if lease.was_asked_enough() {
            return false;
        }
        lease.noops += 1;
        match timeout_at(limit, lease.connection.command(&Command::Noop)).await {
            // Refused or not, it is an answer; not so where its lines carry different codes.
            Ok(Ok(reply)) if lease.connection.is_idle() && !reply.has_mixed_codes() => {
                lease.returned = self.shared.clock.tick();
                lease.connection.rest();
                true
            }
            _ => false,
        }
    }

    /// Takes a connection back: no I/O, no waiting.
    pub(super) fn put_back(mut lease: Box<Lease>) {
        let home = Arc::clone(&lease.home);
        let server = &home.0;
        server.settle_loan(&mut lease);
        if !lease.connection.is_idle() {
            return;
        }
        let now = server.shared.clock.now();
        lease.connection.rest();
        lease.returned = now;
        lease.end = End::Lost;
        if lease.expires <= now {
            lease.end = End::Expired;
            server.retire(lease);
        } else if let Err(lease) = server.slots.put(lease) {
            server.unwanted(lease);
        }
    }

    /// A connection for which there is no place any more.
    pub(super) fn unwanted(&self, mut lease: Box<Lease>) {
        lease.end = if self.slots.is_closed() { End::PoolClosed } else { End::Surplus };
        self.retire(lease);
    }

    /// Has goodbye said.
    pub(super) fn retire(&self, mut lease: Box<Lease>) {
        lease.leaving = true;
        self.shared.note_leaving();
        self.shared.todo(Todo::Retire(lease));
    }

    /// A connection is no more, and its slot is free.
    pub(super) fn ended(self: &Arc<Self>, lease: &Lease) {
        let (age, reason) = (lease.connection.opened().elapsed(), lease.end.as_str());
        tracing::debug!(server = %self.name, reason, ?age, uses = lease.uses, "connection closed");
        self.metrics.connection_closed(age, reason);
        let wanted = self.slots.release(lease.evicted);
        if lease.leaving {
            self.shared.note_left();
        }
        if wanted && !self.shared.is_closed() {
            self.shared.todo(Todo::Demand(Arc::clone(self)));
        }
        self.shared.note_end();
    }

    pub(super) fn failure(&self, failure: Failure) -> CheckoutError {
        let server = Arc::clone(&self.name);
        match failure {
            Failure::Open(source) => CheckoutError::Connect { server, source },
            Failure::Circuit(until, source) => {
                let retry_after = until.saturating_duration_since(Instant::now());
                CheckoutError::CircuitOpen { server, retry_after, source }
            }
            Failure::Closed => CheckoutError::Closed,
        }
    }

    fn timed_out(&self, waited: Duration) -> CheckoutError {
        let sizes = self.sizes();
        let server = Arc::clone(&self.name);
        if sizes.active > 0 && sizes.active + sizes.idle + sizes.connecting >= sizes.max {
            return CheckoutError::Exhausted(Box::new(Exhausted {
                server,
                waited,
                max: sizes.max,
                active: sizes.active,
                connecting: sizes.connecting,
                waiting: sizes.waiting,
                held: self.holders(),
            }));
        }
        self.too_late(if sizes.connecting > 0 { Stage::Connect } else { Stage::Wait }, waited)
    }

    fn too_late(&self, stage: Stage, waited: Duration) -> CheckoutError {
        let server = Arc::clone(&self.name);
        CheckoutError::Timeout { server, stage, waited, source: self.breaker().last() }
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last health check found.
    pub(super) fn checked(&self) -> MutexGuard<'_, Option<HealthReport>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loans(&self) -> MutexGuard<'_, Loans> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_loan(&self, lease: &mut Lease, taken_at: &'static Location<'static>) {
        let mut loans = self.loans();
        let number = loans.next;
        loans.next += 1;
        loans.open.insert(number, Loan { since: Instant::now(), taken_at, warned: false });
        lease.loan = Some(number);
    }

    fn settle_loan(&self, lease: &mut Lease) {
        if let Some(number) = lease.loan.take() {
            self.loans().open.remove(&number);
        }
    }

    fn holders(&self) -> Vec<Holder> {
        let loans = self.loans();
        loans
            .open
            .values()
            .map(|loan| Holder { taken_at: loan.taken_at, held: loan.since.elapsed() })
            .collect()
    }

    /// Those who have had a connection for longer than `limit`, each told once.
    pub(super) fn overdue(&self, limit: Duration) -> Vec<Holder> {
        let mut loans = self.loans();
        let overdue = loans.open.values_mut().filter(|loan| !loan.warned && loan.since.elapsed() >= limit);
        overdue
            .map(|loan| {
                loan.warned = true;
                Holder { taken_at: loan.taken_at, held: loan.since.elapsed() }
            })
            .collect()
    }

    /// When a connection opened now is too old, by the clock of the pool.
    pub(super) fn expiry(&self) -> u64 {
        let config = &self.shared.config;
        let lifetime = config.max_lifetime.mul_f64(1.0 - config.lifetime_jitter * fastrand::f64());
        self.shared.clock.tick().saturating_add(millis(lifetime).max(1))
    }
}

/// Whether a connection can be lent.
enum Fit {
    Lent(PooledConnection),
    /// It has been idle for so long that it should be asked first.
    Ask(Box<Lease>),
    Unfit,
}

impl Gauges for Server {
    /// Read one after the other while others work: a connection that is just arriving may count as idle, too.
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
