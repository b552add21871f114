//! Errors of a pool.

use std::{fmt, io, panic::Location, sync::Arc, time::Duration};

use thiserror::Error;

use super::{ConfigError, HookError, InvalidServer};
use crate::{
    client::{ConnectError, SessionError},
    net::{ErrorKind, TlsConfigError, TlsError},
    proto::AddressError,
};

/// A pool cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

const NO_BANNER: &str =
    ": no banner came; the server may expect TLS at once, as at port 465: try `tls = \"implicit\"`";

/// A connection cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name of the server has no address, as far as the system's resolver knows. If the name does not exist, the kind
    /// of the source is [`NotFound`](io::ErrorKind::NotFound).
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// The attempt took longer than `connection_timeout`.
    #[error("not connected within {after:?}{}", if *.is_silent { NO_BANNER } else { "" })]
    Timeout {
        /// The limit.
        after: Duration,
        /// The server was connected to, and sent no banner in the clear. A server that waits for implicit TLS does so.
        is_silent: bool,
    },
    /// A step of the attempt failed or was refused.
    #[error("no session with the server")]
    Connect(#[from] ConnectError),
    /// The hook [`after_connect`](super::Hooks::after_connect) refused the connection.
    #[error("the hook refused the connection")]
    Hook(#[source] HookError),
    /// The tokio runtime that opened the connection ended.
    #[error("the runtime ended while connecting")]
    Abandoned,
}

impl OpenError {
    /// Returns the kind of the error, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Timeout { .. } => "timed_out",
            Self::Connect(error) => error.kind(),
            Self::Hook(_) => "hook",
            Self::Abandoned => "abandoned",
        }
    }

    /// Returns whether there was a TCP connection to the server, and a later step failed.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(error, ConnectError::Dial(_) | ConnectError::Transport(_)),
            Self::Hook(_) => true,
            _ => false,
        }
    }

    /// Returns whether another attempt may end differently. The following errors repeat without end, and the pool does not
    /// retry them:
    ///
    /// - a refusal for good (5yz)
    /// - a host that does not exist, or has no address of the family of the local one
    /// - an unacceptable certificate, or a name that no certificate can have
    /// - no TLS where it is required
    /// - no way to authenticate
    /// - a refusal by a hook
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Abandoned => true,
            Self::Hook(_) => false,
            Self::Resolve(error) => error.kind() != io::ErrorKind::NotFound,
            Self::Connect(error) => match error {
                ConnectError::Refused { reply, .. } => !reply.is_permanent(),
                ConnectError::NoStartTls | ConnectError::Sasl(_) => false,
                ConnectError::Dial(error) => error.kind() != ErrorKind::NoAddress,
                ConnectError::Tls(error) => !matches!(
                    error,
                    TlsError::Certificate(_) | TlsError::ServerName { .. } | TlsError::NotTls(_)
                ),
                ConnectError::Transport(_)
                | ConnectError::Silent
                | ConnectError::StartTls(_)
                | ConnectError::Session(_) => true,
            },
        }
    }
}

/// A checkout without a connection.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CheckoutError {
    /// The text does not name a server.
    #[error(transparent)]
    Server(#[from] InvalidServer),
    /// No connection could be opened, and none is lent that could be given back.
    #[error("cannot connect to {server}")]
    Connect {
        /// The server.
        server: Arc<str>,
        /// The last of the failures.
        source: Arc<OpenError>,
    },
    /// All connections are taken that a limit allows, and none was given back in time.
    #[error(transparent)]
    Exhausted(#[from] Box<Exhausted>),
    /// No connection was ready in time.
    #[error("no connection to {server} within {waited:?}: still {stage}")]
    Timeout {
        /// The server.
        server: Arc<str>,
        /// The stage at the end of the time.
        stage: CheckoutStage,
        /// How long the caller waited.
        waited: Duration,
        /// The last failure to connect, if there was any.
        source: Option<Arc<OpenError>>,
    },
    /// The circuit breaker is open after repeated failures to connect.
    #[error("connecting to {server} failed repeatedly, it is not tried for another {retry_after:?}")]
    CircuitOpen {
        /// The server.
        server: Arc<str>,
        /// The time until the next attempt.
        retry_after: Duration,
        /// The last of the failures.
        source: Arc<OpenError>,
    },
    /// [`per_minute`](super::Config::per_minute) allows no checkout in time.
    #[error("per_minute allows no connection to {server} for another {retry_after:?}")]
    RateLimited {
        /// The server.
        server: Arc<str>,
        /// The time until the next checkout is allowed.
        retry_after: Duration,
    },
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

impl CheckoutError {
    /// Returns the kind of the error, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Server(_) => "invalid_server",
            Self::Connect { source, .. } => source.kind(),
            Self::Exhausted(_) => "exhausted",
            Self::Timeout { .. } => "checkout_timed_out",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::RateLimited { .. } => "rate_limited",
            Self::Closed => "pool_closed",
        }
    }
}

/// The stage of a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// It is as wide as the other fields of `CheckoutError`, which stores its own tag in here. A checkout is moved through
// several futures, and a processor stalls if it reads as a word what was written as an octet.
#[repr(u64)]
#[non_exhaustive]
pub enum CheckoutStage {
    /// Waits for a connection to be given back.
    Wait,
    /// Waits for a connection to be opened.
    Connect,
    /// Waits for the reply to NOOP on a connection that was idle for long.
    Ask,
}

impl fmt::Display for CheckoutStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wait => "waiting for a free connection",
            Self::Connect => "connecting",
            Self::Ask => "waiting for the reply to NOOP on an idle connection",
        })
    }
}

/// All connections are taken that a limit allows.
#[derive(Clone, Debug, Error)]
#[error(
    "no connection to {server} within {waited:?}: {limit} allows {max}, {active} to this server are lent, {connecting} \
     connecting, {waiting} others waiting{}", holders(.held)
)]
#[non_exhaustive]
pub struct Exhausted {
    /// The limit that was reached.
    pub limit: ConnectionLimit,
    /// The server.
    pub server: Arc<str>,
    /// How long the caller waited.
    pub waited: Duration,
    /// Connections that the limit allows.
    pub max: usize,
    /// Connections to this server that are lent.
    pub active: usize,
    /// Connections to this server that are being opened.
    pub connecting: usize,
    /// Other callers that were waiting.
    pub waiting: usize,
    /// The holders of connections, the longest first; known only with `leak_after`.
    pub held: Vec<Holder>,
}

/// A limit on the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionLimit {
    /// [`max_connections`](super::Config::max_connections), for one server.
    Server,
    /// [`max_total_connections`](super::Config::max_total_connections), for all servers together.
    Total,
}

/// The key of the configuration that sets it.
impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "max_connections",
            Self::Total => "max_total_connections",
        })
    }
}

/// A holder of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Where the pool was called.
    pub taken_at: &'static Location<'static>,
    /// How long it has held the connection.
    pub held: Duration,
}

fn holders(held: &[Holder]) -> String {
    match held.first() {
        None => String::new(),
        Some(first) => format!("; the longest, for {:?}, since {}", first.held, first.taken_at),
    }
}

/// An operation of the pool has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The text is not an address.
    #[error("not an address")]
    Address(#[from] AddressError),
    /// There is neither a [`Config::server`](super::Config::server) nor a [`Route`](super::Route).
    #[error(
        "no server is set, and there is no way to find that of {domain}; set `server`, or give the builder a route"
    )]
    NoRoute {
        /// The domain.
        domain: Box<str>,
    },
    /// No server was found for a domain.
    #[error("no server was found for {domain}")]
    Route {
        /// The domain.
        domain: Box<str>,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error("no connection")]
    Checkout(#[from] CheckoutError),
    /// The session broke.
    #[error("the session with {server} broke")]
    Session {
        /// The server.
        server: Box<str>,
        /// How.
        source: SessionError,
    },
}
