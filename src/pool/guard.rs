//! The guard by which a connection is lent.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use super::server::{Lease, Server};
use crate::client::Connection;

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
