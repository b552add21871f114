//! Hooks: what a program adds to the life of each connection.

use std::{error::Error, fmt, pin::Pin, time::Duration};

use crate::client::Connection;

/// Why a hook refuses a connection.
pub type HookError = Box<dyn Error + Send + Sync>;

/// What [`Hooks::after_connect`] returns.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'a>>;

/// What a program adds to the life of each connection of a pool ([`Builder::hooks`](super::Builder::hooks)). Each hook
/// does nothing by default.
///
/// ```
/// # #[cfg(feature = "sandbox")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{client::Connection, pool::{ClosedConnection, HookFuture, Hooks, Pool}};
/// # use smtp_pool::sandbox::{Sandbox, World};
/// # let sandbox = Sandbox::start(World::demo()).await?;
/// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
///
/// /// Uses only servers that offer PIPELINING.
/// struct OnlyPipelining;
///
/// impl Hooks for OnlyPipelining {
///     fn after_connect<'a>(&'a self, server: &'a str, connection: &'a mut Connection) -> HookFuture<'a> {
///         Box::pin(async move {
///             let offered = connection.extensions().pipelining;
///             if offered { Ok(()) } else { Err(format!("{server} offers no PIPELINING").into()) }
///         })
///     }
///
///     fn on_close(&self, closed: &ClosedConnection<'_>) {
///         println!("{} closed after {} uses: {}", closed.server, closed.uses, closed.reason);
///     }
/// }
///
/// let pool = Pool::builder().hooks(OnlyPipelining).build()?;
/// let connection = pool.get(&server).await?;
/// # Ok(()) }
/// # #[cfg(not(feature = "sandbox"))]
/// # fn main() {}
/// ```
#[expect(unused_variables, reason = "the names document the parameters")]
pub trait Hooks: Send + Sync {
    /// Prepares a new connection, after EHLO and AUTH and before its first use. It counts as a part of the attempt to
    /// connect, within [`connection_timeout`](super::Config::connection_timeout). It must leave the session
    /// [idle](crate::client::Session::is_idle).
    ///
    /// # Errors
    /// An error closes the connection. The caller gets it as the source of
    /// [`OpenError::Hook`](super::OpenError::Hook), and the attempt is not repeated.
    fn after_connect<'a>(&'a self, server: &'a str, connection: &'a mut Connection) -> HookFuture<'a> {
        Box::pin(async { Ok(()) })
    }

    /// Returns whether a connection may be lent. It is asked at each checkout, and must not block. A connection that may
    /// not be lent gets QUIT, and another one is taken or opened.
    fn before_checkout(&self, server: &str, connection: &Connection) -> bool {
        true
    }

    /// Records that a connection was closed, or taken out of the pool. It is called where the connection is dropped, so
    /// it must not block, panic or use the pool.
    fn on_close(&self, closed: &ClosedConnection<'_>) {}
}

/// A connection that a pool has no more.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ClosedConnection<'a> {
    /// The name of the server, as in metrics.
    pub server: &'a str,
    /// The reason, as in the metric `smtp_connections_closed_total`: `detached`, `expired`, `lost`, `pool_closed`,
    /// `surplus` or `unusable`.
    pub reason: &'static str,
    /// The time since connecting began.
    pub age: Duration,
    /// How often it was lent.
    pub uses: u64,
}

impl fmt::Debug for dyn Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
