//! A connection that belongs to a pool, and the guard by which it is lent.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{server::Server, slots::Occupant};
use crate::client::Connection;

/// A connection and its slot: where this is dropped, the slot is free.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) home: Arc<Home>,
    /// When it is too old to be lent, by the clock of the pool.
    pub(super) expires: u64,
    /// When it was last given back.
    pub(super) returned: u64,
    pub(super) uses: u64,
    /// Commands that servers count against us.
    pub(super) noops: u32,
    /// Under which number the lending is on record, if it is.
    pub(super) loan: Option<u64>,
    /// Its slot is another's already.
    pub(super) evicted: bool,
    /// It is being said goodbye to, and so is its place under the limit over all servers.
    pub(super) leaving: bool,
    /// Why it ends, if that is known before it does.
    pub(super) end: End,
}

/// The way from a connection to its server.
///
/// One for each connection: whoever gives it back holds on to the server meanwhile, and the count of those who do is
/// then the connection's own, not one that all threads count by.
pub(super) struct Home(pub(super) Arc<Server>);

impl Occupant for Box<Lease> {
    fn evict(&mut self) {
        self.evicted = true;
    }
}

/// Why a connection ended, as the metrics say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Not in step when it was given back: in a transaction, with replies owed, or broken.
    Unusable,
    /// Closed by the server, or broken, while idle.
    Lost,
    Expired,
    /// More than were needed, or than there may be.
    Surplus,
    PoolClosed,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Surplus => "surplus",
            Self::PoolClosed => "pool_closed",
        }
    }
}

/// NOOPs on one connection: Sendmail slows down after 20, Postfix takes 100 of such commands, RSETs included.
const MAX_NOOPS: u32 = 15;

impl Lease {
    /// Whether another NOOP might be held against us.
    pub(super) fn was_asked_enough(&self) -> bool {
        self.noops >= MAX_NOOPS
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.home.0.ended(self);
    }
}

/// A connection lent by a [`Pool`](super::Pool), to which it returns when this is dropped.
///
/// It returns at once and without a word to the server, if it stands between transactions with nothing owed, unread or
/// unsent ([`Session::is_idle`](crate::client::Session::is_idle)); whatever else became of it, it is closed, so that
/// nobody gets another's replies. After [`envelope`](crate::client::Session::envelope) that means: send the message, or
/// RSET.
///
/// ```no_run
/// # async fn example(pool: smtp_pool::pool::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::proto::Command;
/// let mut connection = pool.get("smtp.example.com").await?;
/// println!("{}", connection.command(&Command::Noop).await?);
/// drop(connection); // back in the pool
/// # Ok(()) }
/// ```
pub struct PooledConnection {
    lease: Option<Box<Lease>>,
}

/// Why the lease is there whenever anybody looks.
const LENT: &str = "the lease is taken by drop alone";

impl PooledConnection {
    pub(super) fn new(lease: Box<Lease>) -> Self {
        Self { lease: Some(lease) }
    }

    /// Whether others have used this connection before. What the server closed meanwhile is found out at checkout as
    /// far as it has arrived by then; so with a reused connection, and only there, the first command may fail though
    /// another connection would do.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.uses > 1)
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.lease.as_ref().expect(LENT).connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.lease.as_mut().expect(LENT).connection
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            Server::put_back(lease);
        }
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledConnection").field(&**self).finish()
    }
}
