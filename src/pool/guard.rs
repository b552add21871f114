//! The guard of a lent connection.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use super::server::{Lease, Server};
use crate::client::Connection;

/// A connection lent by a [`Pool`](super::Pool), to which it returns when this is dropped.
///
/// It returns at once and without a command, if it is between transactions with nothing owed, unread or unsent
/// ([`Session::is_idle`](crate::client::Session::is_idle)). Otherwise it is closed, so that no caller gets the replies to
/// another one. After [`envelope`](crate::client::Session::envelope), send the message or RSET.
///
/// ```no_run
/// # async fn example(pool: smtp_pool::pool::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::proto::Command;
/// let mut connection = pool.get("smtp.example.com").await?;
/// println!("{}", connection.command(&Command::Noop).await?);
/// drop(connection); // back in the pool
/// # Ok(()) }
/// ```
#[must_use = "a connection that is dropped returns to its pool"]
pub struct PooledConnection {
    lease: Option<Box<Lease>>,
}

/// Why there always is a lease.
const LENT: &str = "only drop takes the lease";

impl PooledConnection {
    pub(super) fn new(lease: Box<Lease>) -> Self {
        Self { lease: Some(lease) }
    }

    /// Returns whether the connection was lent before.
    ///
    /// A checkout notices that the server has closed a connection if the news has arrived by then. So the first command
    /// on a reused connection may fail where another connection would work.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.slot.uses > 1)
    }

    /// Takes the connection out of the pool, which may open another one in its place. No limit of the pool counts it any
    /// more, and it is closed when it is dropped.
    ///
    /// ```no_run
    /// # async fn example(pool: smtp_pool::pool::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = pool.get("smtp.example.com").await?.detach();
    /// connection.quit().await?;
    /// # Ok(()) }
    /// ```
    pub fn detach(mut self) -> Connection {
        Server::detach(self.lease.take().expect(LENT))
    }

    /// Has the pool send QUIT, in place of a return.
    pub(super) fn retire(mut self) {
        if let Some(lease) = self.lease.take() {
            Server::close_returned(lease);
        }
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
