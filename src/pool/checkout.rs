//! Lends connections, and takes them back.

use std::{
    panic::Location,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    CheckoutError, CheckoutStage, ConnectionLimit, Exhausted, PooledConnection,
    breaker::backoff,
    checkout_rate::CheckoutRate,
    server::{CloseReason, Lease, Server, WaitFailure},
};
use crate::{client::Connection, metrics::Gauges, proto::Command};

/// Whether a connection can be lent.
enum LendCheck {
    Lent(PooledConnection),
    /// It was idle for so long that it gets a NOOP first.
    AskFirst(Box<Lease>),
    Unusable,
}

impl Server {
    /// Takes an idle connection, if there is one and no caller waits. It takes one that was idle for long only if
    /// `unasked`.
    pub(super) fn take(
        &self,
        unasked: bool,
        taken_at: &'static Location<'static>,
    ) -> Option<PooledConnection> {
        if let Some(rate) = self.rate()
            && rate.reserve(Instant::now()).is_err()
        {
            return None;
        }
        let lent = self.take_idle(unasked, taken_at);
        if lent.is_none()
            && let Some(rate) = self.rate()
        {
            rate.give_back();
        }
        lent
    }

    /// Returns the limit on checkouts, if there is one.
    fn rate(&self) -> Option<&CheckoutRate> {
        if self.shared.is_plain { None } else { self.rate.as_ref() }
    }

    fn take_idle(&self, unasked: bool, taken_at: &'static Location<'static>) -> Option<PooledConnection> {
        loop {
            let lease = if self.shared.config.fair { self.slots.take() } else { self.slots.take_first() }?;
            match self.lend(lease, unasked, taken_at) {
                LendCheck::Lent(connection) => {
                    self.metrics.checkout(Duration::ZERO);
                    return Some(connection);
                }
                LendCheck::AskFirst(lease) => {
                    // It stays for a caller that can wait for the answer.
                    drop(self.slots.put(lease));
                    return None;
                }
                LendCheck::Unusable => {}
            }
        }
    }

    /// Returns a connection: idle, given back, or new, whichever comes first.
    pub(super) async fn get(
        self: Arc<Self>,
        wait: Duration,
        taken_at: &'static Location<'static>,
    ) -> Result<PooledConnection, CheckoutError> {
        let began = Instant::now();
        let until = began + wait;
        self.used.store(self.shared.clock.now(), Ordering::Relaxed);
        self.maintenance.ensure_running();
        if let Some(rate) = self.rate() {
            self.wait_for_rate(rate, until).await?;
        }
        let mut closed_at_once = 0;
        loop {
            // A connection that a waiter gets was just used, or opened. It needs no NOOP.
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
            let is_fresh = lease.slot.uses == 0;
            match self.lend(lease, unasked, taken_at) {
                LendCheck::Lent(connection) => {
                    self.metrics.checkout(began.elapsed());
                    return Ok(connection);
                }
                // The server closes new connections: pause before the next one.
                LendCheck::Unusable if is_fresh => {
                    closed_at_once += 1;
                    let pause = backoff(self.shared.config.backoff, closed_at_once, fastrand::f64());
                    sleep_until(until.min(Instant::now() + pause)).await;
                }
                LendCheck::AskFirst(mut lease) => {
                    let limit = until.min(Instant::now() + self.shared.config.connection_timeout);
                    if self.answers_noop(&mut lease, limit).await
                        && let LendCheck::Lent(connection) = self.lend(lease, true, taken_at)
                    {
                        self.metrics.checkout(began.elapsed());
                        return Ok(connection);
                    }
                    if Instant::now() >= until {
                        let error = self.timeout_error(CheckoutStage::Ask, began.elapsed());
                        self.metrics.checkout_failed(error.kind());
                        return Err(error);
                    }
                }
                LendCheck::Unusable => {}
            }
        }
    }

    /// Waits until the rate allows a checkout.
    async fn wait_for_rate(&self, rate: &CheckoutRate, until: Instant) -> Result<(), CheckoutError> {
        match rate.reserve(until) {
            Ok(due) => {
                sleep_until(due).await;
                Ok(())
            }
            Err(due) => {
                let retry_after = due.saturating_duration_since(Instant::now());
                let error = CheckoutError::RateLimited { server: Arc::clone(&self.name), retry_after };
                self.metrics.checkout_failed(error.kind());
                Err(error)
            }
        }
    }

    /// Waits in the queue.
    async fn wait(self: &Arc<Self>, began: Instant, until: Instant) -> Result<Box<Lease>, CheckoutError> {
        let Some(turn) = self.slots.join() else { return Err(CheckoutError::Closed) };
        self.open_for_waiters();
        match timeout_at(until, turn).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(failure)) => Err(self.checkout_error(failure)),
            Err(_) => Err(self.wait_error(began.elapsed())),
        }
    }

    /// Decides, without a round trip, whether a connection can be lent.
    fn lend(&self, mut lease: Box<Lease>, unasked: bool, taken_at: &'static Location<'static>) -> LendCheck {
        let now = self.shared.clock.now();
        if lease.expires <= now {
            lease.slot.end = CloseReason::Expired;
            self.retire(lease);
            return LendCheck::Unusable;
        }
        if !lease.connection.is_quiet() {
            lease.slot.end = CloseReason::Lost;
            return LendCheck::Unusable;
        }
        if !unasked && now.saturating_sub(lease.returned) >= self.shared.noop_after {
            return LendCheck::AskFirst(lease);
        }
        if !self.shared.is_plain
            && let Some(hooks) = &self.shared.hooks
            && !hooks.before_checkout(&self.name, &lease.connection)
        {
            lease.slot.end = CloseReason::Unusable;
            self.retire(lease);
            return LendCheck::Unusable;
        }
        lease.slot.uses += 1;
        // The reason of its end, unless it is given back in order.
        lease.slot.end = CloseReason::Unusable;
        if !self.shared.is_plain && self.shared.config.leak_after.is_some() {
            lease.checkout = Some(self.checkouts.record(taken_at));
        }
        LendCheck::Lent(PooledConnection::new(lease))
    }

    /// Sends NOOP on a connection that was idle for long. Returns whether it is still usable.
    pub(super) async fn answers_noop(&self, lease: &mut Lease, limit: Instant) -> bool {
        lease.slot.end = CloseReason::Lost;
        if lease.has_used_its_noops() {
            return false;
        }
        lease.noops += 1;
        match timeout_at(limit, lease.connection.command(&Command::Noop)).await {
            // A refusal is an answer. A reply with lines of different codes is none.
            Ok(Ok(reply)) if lease.connection.is_idle() && !reply.has_mixed_codes() => {
                lease.returned = self.shared.clock.tick();
                lease.connection.release_buffers();
                true
            }
            _ => false,
        }
    }

    /// Takes a connection back, without I/O and without waiting.
    pub(super) fn put_back(mut lease: Box<Lease>) {
        let home = Arc::clone(&lease.slot.home);
        let server = &home.0;
        if let Some(number) = lease.checkout.take() {
            server.checkouts.settle(number);
        }
        if !lease.connection.is_idle() {
            return;
        }
        // The checkout read the clock, so the last tick is at most as old as that.
        let now = server.shared.clock.ticked();
        lease.connection.release_buffers();
        lease.returned = now;
        lease.slot.end = CloseReason::Lost;
        if lease.expires <= now || !lease.connection.accepts_transaction() {
            lease.slot.end = CloseReason::Expired;
            server.retire(lease);
        } else if let Err(lease) = server.slots.put(lease) {
            server.close_surplus(lease);
        }
    }

    /// Takes back a connection that nothing more can be done on.
    pub(super) fn close_returned(mut lease: Box<Lease>) {
        let home = Arc::clone(&lease.slot.home);
        if let Some(number) = lease.checkout.take() {
            home.0.checkouts.settle(number);
        }
        lease.slot.end = CloseReason::Expired;
        home.0.retire(lease);
    }

    /// Takes a connection out of the pool, and frees its slot.
    pub(super) fn detach(mut lease: Box<Lease>) -> Connection {
        if let Some(number) = lease.checkout.take() {
            lease.slot.home.0.checkouts.settle(number);
        }
        lease.slot.end = CloseReason::Detached;
        let Lease { connection, .. } = *lease;
        connection
    }

    pub(super) fn checkout_error(&self, failure: WaitFailure) -> CheckoutError {
        let server = Arc::clone(&self.name);
        match failure {
            WaitFailure::Open(source) => CheckoutError::Connect { server, source },
            WaitFailure::Circuit(until, source) => {
                let retry_after = until.saturating_duration_since(Instant::now());
                CheckoutError::CircuitOpen { server, retry_after, source }
            }
            WaitFailure::Closed => CheckoutError::Closed,
        }
    }

    fn wait_error(&self, waited: Duration) -> CheckoutError {
        let sizes = self.sizes();
        let total = &self.shared.total;
        let (limit, max) = if sizes.active > 0 && sizes.active + sizes.idle + sizes.connecting >= sizes.max {
            (ConnectionLimit::Server, sizes.max)
        } else if sizes.connecting > 0 {
            return self.timeout_error(CheckoutStage::Connect, waited);
        } else if total.used() >= total.max() {
            (ConnectionLimit::Total, total.max())
        } else {
            return self.timeout_error(CheckoutStage::Wait, waited);
        };
        CheckoutError::Exhausted(Box::new(Exhausted {
            limit,
            server: Arc::clone(&self.name),
            waited,
            max,
            active: sizes.active,
            connecting: sizes.connecting,
            waiting: sizes.waiting,
            held: self.checkouts.holders(),
        }))
    }

    fn timeout_error(&self, stage: CheckoutStage, waited: Duration) -> CheckoutError {
        let server = Arc::clone(&self.name);
        CheckoutError::Timeout { server, stage, waited, source: self.breaker().last() }
    }
}
