//! Finds the servers of a mailbox, if no server is configured.

use std::{future::Future, io, pin::Pin};

use super::Key;
use crate::proto::Mailbox;

/// The servers for a mailbox, the most preferred first.
pub type RouteFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<Key>>> + Send + 'a>>;

/// Finds the servers that take mail for a mailbox. With the feature `verify`,
/// [`Resolver`](../verify/struct.Resolver.html) is one, which asks DNS for MX records.
pub trait Route: Send + Sync {
    /// Returns the servers, the most preferred first.
    ///
    /// # Errors
    /// None was found.
    fn route<'a>(&'a self, mailbox: &'a Mailbox) -> RouteFuture<'a>;
}
