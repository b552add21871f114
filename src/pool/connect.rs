//! Opens connections in tasks of their own. A new connection goes to the caller that has waited longest. So a caller that
//! gives up wastes none.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Key, OpenError,
    breaker::backoff,
    server::{CloseReason, Lease, LeaseSlot, Server, ServerRef, Todo, WaitFailure},
};
use crate::client::{ConnectError, Connection, Endpoint};

impl Server {
    /// Opens a connection on a slot that was reserved for it, unless the pool is closed before.
    pub(super) async fn connect(self: Arc<Self>) {
        let reserved = ReservedSlot::new(&self);
        tokio::select! {
            () = Self::fill(reserved) => {}
            () = self.shared.until_closed() => {}
        }
    }

    /// Opens connections for waiting callers, as far as limits allow. With an open breaker and no connection, all of them
    /// get an error.
    pub(super) fn open_for_waiters(self: &Arc<Self>) {
        let now = Instant::now();
        let (at_once, open) = {
            let breaker = self.breaker();
            (breaker.allows(now, self.shared.config.max_connecting), breaker.open(now))
        };
        let demand = self.slots.demand(at_once);
        for _ in 0..demand.connects {
            tokio::spawn(Arc::clone(self).connect());
        }
        if demand.is_at_limit {
            self.maintenance.wait_for_capacity(self);
        }
        if let Some((until, error)) = open {
            self.slots.give_up(&WaitFailure::Circuit(until, error));
        }
    }

    /// Fills a slot. It repeats a transient failure as long as a caller waits.
    async fn fill(reserved: ReservedSlot) {
        let mut failures = 0;
        while let Some(server) = &reserved.0 {
            let error = match server.open().await {
                Ok(connection) => return reserved.fill(connection),
                Err(error) => error,
            };
            failures += 1;
            let config = &server.shared.config;
            let again = error.is_transient()
                && failures <= config.max_retries
                && server.slots.waiting() > 0
                && server.breaker().allows(Instant::now(), 1) > 0;
            if !again {
                return reserved.fail(&WaitFailure::Open(error));
            }
            sleep(backoff(config.backoff, failures, fastrand::f64())).await;
        }
    }

    /// Makes one attempt, and records it in the breaker and the metrics.
    pub(super) async fn open(&self) -> Result<Connection, Arc<OpenError>> {
        self.open_within(self.shared.config.connection_timeout).await
    }

    pub(super) async fn open_within(&self, limit: Duration) -> Result<Connection, Arc<OpenError>> {
        let is_silent = AtomicBool::new(false);
        let opened = timeout(limit, async {
            let key = self.key();
            let endpoint = self.endpoint(&key).await?;
            let credentials = key.own_credentials().or(self.shared.config.credentials.as_ref());
            let mut connection = self.connector.connect_with(&endpoint, credentials, &is_silent).await?;
            // A connection that begins out of step cannot be lent.
            connection.check_quiet().map_err(ConnectError::from)?;
            if let Some(hooks) = &self.shared.hooks {
                hooks.after_connect(&self.name, &mut connection).await.map_err(OpenError::Hook)?;
                if !connection.is_quiet() {
                    return Err(OpenError::Hook("the hook left the session within a dialogue".into()));
                }
            }
            Ok(connection)
        });
        let opened = opened.await.unwrap_or_else(|_| {
            Err(OpenError::Timeout { after: limit, is_silent: is_silent.load(Ordering::Relaxed) })
        });
        let opened = opened.map_err(Arc::new);
        let now = Instant::now();
        let mut breaker = self.breaker();
        let before = breaker.state(now);
        match &opened {
            Ok(_) => breaker.succeeded(),
            Err(error) => {
                tracing::debug!(server = %self.name, kind = error.kind(), "cannot connect");
                breaker.failed(now, Arc::clone(error), fastrand::f64());
                // The connector has recorded its own errors.
                if !matches!(**error, OpenError::Connect(_)) {
                    self.metrics.connection_failed(error.kind());
                }
            }
        }
        let after = breaker.state(now);
        if after != before {
            tracing::info!(server = %self.name, breaker = after.as_str(), "circuit breaker");
            self.metrics.breaker(after);
        }
        opened
    }

    /// Returns where to connect to. It asks the system's resolver each time: that has a cache, and the answer may change.
    async fn endpoint(&self, key: &Key) -> Result<Endpoint, OpenError> {
        let host = key.server_name.as_ref().unwrap_or_else(|| key.host_arc());
        let addrs = match key.addrs() {
            Some(addrs) => addrs.to_vec(),
            // The transport of the user finds the server.
            None if self.shared.connect.is_some() => {
                return Ok(Endpoint::new(Arc::clone(host), Vec::new()));
            }
            None => {
                let port = key.port().unwrap_or(self.shared.config.port);
                let found = tokio::net::lookup_host((key.host(), port)).await;
                found.map_err(unresolved)?.collect()
            }
        };
        if addrs.is_empty() {
            return Err(OpenError::Resolve(io::ErrorKind::NotFound.into()));
        }
        Ok(Endpoint { host: Arc::clone(host), addrs })
    }
}

/// What resolvers say of a name that does not exist, or that has no address: glibc, musl, and the BSDs with macOS. The
/// standard library passes on their words, and not their code. It never sets a locale, so the words are English.
const NO_SUCH_NAME: [&str; 6] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided",
    "No such host is known",
];

/// Returns an error whose kind tells a name that does not exist from a resolver that fails.
fn unresolved(error: io::Error) -> OpenError {
    let text = error.to_string();
    let unknown = NO_SUCH_NAME.iter().any(|words| text.contains(words));
    OpenError::Resolve(if unknown { io::Error::new(io::ErrorKind::NotFound, error) } else { error })
}

/// The slot of a connection that is being opened. Dropping it frees the slot.
pub(super) struct ReservedSlot(Option<Arc<Server>>);

impl ReservedSlot {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        Self(Some(Arc::clone(server)))
    }

    pub(super) fn fill(mut self, mut connection: Connection) {
        let Some(server) = self.0.take() else { return };
        // Otherwise, connections that are opened together would all hold the buffers of their greetings.
        connection.release_buffers();
        let lease = Box::new(Lease {
            expires: server.expiry(),
            returned: server.shared.clock.now(),
            noops: 0,
            checkout: None,
            slot: LeaseSlot {
                home: Arc::new(ServerRef(Arc::clone(&server))),
                opened: connection.opened(),
                uses: 0,
                evicted: false,
                quitting: false,
                end: CloseReason::Lost,
            },
            connection,
        });
        if let Err(lease) = server.slots.connected(lease) {
            server.close_surplus(lease);
        }
        // `max_connecting` slots were reserved at most. More callers may be waiting.
        server.open_for_waiters();
        server.fill_up();
    }

    /// Frees the slot after a failure. Callers that still wait may get a connection that is given back. The next tick
    /// opens another one for them: to do so at once would flood a server that refuses.
    pub(super) fn fail(mut self, failure: &WaitFailure) {
        if let Some(server) = self.0.take() {
            server.slots.failed(failure);
            server.shared.record_ended();
        }
    }
}

impl Drop for ReservedSlot {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            if server.maintenance.is_running() {
                server.slots.abandoned();
                server.maintenance.todo(Todo::Demand(Arc::clone(&server)));
            } else {
                // Without the maintenance, no other connection would be opened.
                server.slots.failed(&WaitFailure::Open(OpenError::Abandoned.into()));
            }
            server.shared.record_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_not_asked_for_again() {
        let of = |words: &str| {
            unresolved(io::Error::other(format!("failed to lookup address information: {words}")))
        };
        for words in NO_SUCH_NAME {
            assert!(!of(words).is_transient(), "{words}");
        }
        for words in ["Temporary failure in name resolution", "Try again", "Non-recoverable failure"] {
            assert!(of(words).is_transient(), "{words}");
        }
        assert!(of(NO_SUCH_NAME[0]).to_string().contains("cannot be resolved"));
    }

    #[tokio::test]
    async fn the_resolver_of_this_system_says_what_is_expected() {
        // Not a name that any resolver asks the network for: a label is too long.
        let name = format!("{}.invalid", "a".repeat(64));
        let error = tokio::net::lookup_host((&*name, 25)).await.err().unwrap();
        assert!(!unresolved(error).is_transient());
    }
}
