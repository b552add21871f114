//! Why there is no connection.

use std::{fmt, io, panic::Location, sync::Arc, time::Duration};

use thiserror::Error;

use super::{ConfigError, InvalidServer};
use crate::{
    client::ConnectError,
    net::{ErrorKind, TlsConfigError, TlsError},
};

/// A pool cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// A connection cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name of the server has no address, as far as the system's resolver knows. If the name does not exist, the kind
    /// of the source is [`NotFound`](io::ErrorKind::NotFound).
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// It was not done within `connection_timeout`.
    #[error("not connected within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// Any step on the way failed or was refused.
    #[error("no session with the server")]
    Connect(#[from] ConnectError),
    /// The runtime that the connection was to live in ended.
    #[error("the runtime ended while connecting")]
    Abandoned,
}

impl OpenError {
    /// What went wrong, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Timeout { .. } => "timed_out",
            Self::Connect(error) => error.kind(),
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether there was a connection to the server, which then did not do as it should.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        matches!(self, Self::Connect(error) if !matches!(error, ConnectError::Dial(_)))
    }

    /// Returns whether another attempt may end differently. These repeat without end, and are not retried: a refusal for
    /// good (5yz), a host that does not exist, a certificate that is not acceptable, a name that no certificate can have,
    /// TLS that is not there, no address of the family of the local one, and no way to authenticate.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Abandoned => true,
            Self::Resolve(error) => error.kind() != io::ErrorKind::NotFound,
            Self::Connect(error) => match error {
                ConnectError::Refused { reply, .. } => !reply.is_permanent(),
                ConnectError::NoStartTls | ConnectError::Sasl(_) => false,
                ConnectError::Dial(error) => error.kind() != ErrorKind::NoAddress,
                ConnectError::Tls(error) => !matches!(
                    error,
                    TlsError::Certificate(_) | TlsError::ServerName { .. } | TlsError::NotTls(_)
                ),
                ConnectError::StartTls(_) | ConnectError::Session(_) => true,
            },
        }
    }
}

/// No connection was to be had.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CheckoutError {
    /// What was asked for is not a server.
    #[error(transparent)]
    Server(#[from] InvalidServer),
    /// No connection could be opened, and there is none that somebody could give back.
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
    /// No connection came to be in time.
    #[error("no connection to {server} within {waited:?}: still {stage}")]
    Timeout {
        /// The server.
        server: Arc<str>,
        /// What was being waited for when time was up.
        stage: CheckoutStage,
        /// How long.
        waited: Duration,
        /// The last failure to connect, if there was any.
        source: Option<Arc<OpenError>>,
    },
    /// The server could not be reached so often that it is left alone for a while.
    #[error("{server} is left alone for another {retry_after:?} after repeated failures")]
    CircuitOpen {
        /// The server.
        server: Arc<str>,
        /// When it will be tried again, from now.
        retry_after: Duration,
        /// The last of the failures.
        source: Arc<OpenError>,
    },
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

impl CheckoutError {
    /// What went wrong, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Server(_) => "invalid_server",
            Self::Connect { source, .. } => source.kind(),
            Self::Exhausted(_) => "exhausted",
            Self::Timeout { .. } => "checkout_timed_out",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Closed => "pool_closed",
        }
    }
}

/// What a checkout was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
// As wide as its neighbours in `CheckoutError`, which finds a place for its own tag in here: a checkout is handed
// on through several futures, and a processor stalls where it reads as a word what was written as an octet.
#[repr(u64)]
pub enum CheckoutStage {
    /// For a connection to be given back.
    Wait,
    /// For a connection to be opened.
    Connect,
    /// For a connection that has been idle for long to answer that it is still there.
    Ask,
}

impl fmt::Display for CheckoutStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wait => "waiting for a free one",
            Self::Connect => "connecting",
            Self::Ask => "asking an idle one",
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
    /// How long a connection was waited for.
    pub waited: Duration,
    /// Connections that the limit allows.
    pub max: usize,
    /// Connections to this server that are lent.
    pub active: usize,
    /// Connections to this server that are being opened.
    pub connecting: usize,
    /// Others who were waiting.
    pub waiting: usize,
    /// Who has held a connection, the longest first; known only with `leak_after`.
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

/// Where a connection was taken that is lent, and how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The call to the pool.
    pub taken_at: &'static Location<'static>,
    /// For how long.
    pub held: Duration,
}

fn holders(held: &[Holder]) -> String {
    match held.first() {
        None => String::new(),
        Some(first) => format!("; the longest, for {:?}, since {}", first.held, first.taken_at),
    }
}
