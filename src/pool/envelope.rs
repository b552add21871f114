//! What a message needs to be sent, and what became of it.

use std::sync::Arc;

use thiserror::Error;

use super::OperationError;
use crate::proto::{Mailbox, Reply, ReversePath};

/// Who a message is from, and who it is for: one recipient or more.
///
/// ```
/// use smtp_pool::{pool::Envelope, proto::{Mailbox, ReversePath}};
/// let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@example.com")?)
///     .with(Mailbox::parse("bob@example.com")?);
/// assert_eq!(envelope.recipients().len(), 2);
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an envelope is sent by `Pool::send`"]
pub struct Envelope {
    sender: ReversePath,
    /// Never empty.
    recipients: Vec<Mailbox>,
}

/// An envelope without a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an envelope needs at least one recipient")]
pub struct NoRecipients;

impl Envelope {
    /// Returns an envelope for one recipient. Bounces go to `sender`.
    pub fn new(sender: ReversePath, recipient: Mailbox) -> Self {
        Self { sender, recipients: vec![recipient] }
    }

    /// Returns an envelope for several recipients.
    ///
    /// # Errors
    /// There are none.
    pub fn to_all(sender: ReversePath, recipients: Vec<Mailbox>) -> Result<Self, NoRecipients> {
        if recipients.is_empty() { Err(NoRecipients) } else { Ok(Self { sender, recipients }) }
    }

    /// Adds a recipient.
    pub fn with(mut self, recipient: Mailbox) -> Self {
        self.recipients.push(recipient);
        self
    }

    /// Returns the address that bounces go to.
    #[must_use]
    pub fn sender(&self) -> &ReversePath {
        &self.sender
    }

    /// Returns the recipients, one or more.
    #[must_use]
    pub fn recipients(&self) -> &[Mailbox] {
        &self.recipients
    }
}

/// The outcome of a message for each recipient, where at least one server replied.
#[derive(Debug)]
#[must_use = "a recipient may have been refused: see `is_complete` and `recipients`"]
#[non_exhaustive]
pub struct Delivery {
    /// The recipients in the order of the envelope. Each has the reply that decided, or the error that took its place.
    /// The reply that decided is that to the message, or a refusal of RCPT or MAIL. A reply with lines of different
    /// codes decides nothing ([`SessionError::Ambiguous`](crate::client::SessionError::Ambiguous)): the server may have
    /// taken the message for that recipient or not.
    pub recipients: Vec<(Mailbox, Result<Reply, Arc<OperationError>>)>,
}

impl Delivery {
    /// Returns whether a server has taken the message for every recipient.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.recipients.iter().all(|(_, outcome)| outcome.as_ref().is_ok_and(Reply::is_positive))
    }

    /// Returns `self`, or an error if no server has replied for any recipient.
    pub(super) fn answered(self) -> Result<Self, SendError> {
        let first = self.recipients.first().and_then(|(_, outcome)| outcome.as_ref().err()).map(Arc::clone);
        let Some(source) = first.filter(|_| self.recipients.iter().all(|(_, outcome)| outcome.is_err()))
        else {
            return Ok(self);
        };
        let failed = self.recipients.into_iter().filter_map(|(to, outcome)| Some((to, outcome.err()?)));
        Err(SendError { recipients: failed.collect(), source })
    }
}

/// No recipient has an answer from a server.
///
/// This does not prove that no server took the message. A connection that breaks after the message was sent
/// ([`SessionError::Closed`](crate::client::SessionError::Closed) with
/// [`Verb::Message`](crate::proto::Verb::Message), for one) leaves that open, so sending again may duplicate it.
#[derive(Clone, Debug, Error)]
#[error("no server has answered for any recipient of the message")]
#[non_exhaustive]
pub struct SendError {
    /// The recipients in the order of the envelope, each with its error.
    pub recipients: Vec<(Mailbox, Arc<OperationError>)>,
    /// The error of the first recipient.
    source: Arc<OperationError>,
}

/// A forgotten outcome is a warning. Each example differs from one that compiles in what it forgets.
///
/// ```
/// #![deny(unused_must_use)]
/// # use smtp_pool::{client::Session, pool::*, proto::*};
/// # use std::time::Duration;
/// async fn send(pool: &Pool, envelope: &Envelope) -> Result<(), Box<dyn std::error::Error>> {
///     assert!(pool.send(envelope, b"").await?.is_complete());
///     let _verification = pool.verify_email("ann@example.com").await?;
///     let _connection = pool.get("mx.example.com").await?;
///     let _builder = Pool::builder();
///     let _health = pool.health_manager().start();
///     Ok(())
/// }
/// async fn transact(session: &mut Session<tokio::net::TcpStream>, to: &[Mailbox]) -> Result<(), Box<dyn std::error::Error>> {
///     let _replies = session.envelope(&ReversePath::Null, &MailParams::default(), to).await?;
///     Ok(())
/// }
/// fn fill(envelope: Envelope, to: Mailbox) { let _envelope = envelope.with(to); }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// async fn send(pool: &Pool, envelope: &Envelope) { pool.send(envelope, b"").await; }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// async fn send(pool: &Pool, envelope: &Envelope) -> Result<(), Box<dyn std::error::Error>> {
///     pool.send(envelope, b"").await?;
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// async fn verify(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
///     pool.verify_email("ann@example.com").await?;
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// async fn get(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
///     pool.get("mx.example.com").await?;
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// fn watch(pool: &Pool) { pool.health_manager().start(); }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::{client::Session, proto::*};
/// async fn transact(session: &mut Session<tokio::net::TcpStream>, to: &[Mailbox]) -> Result<(), Box<dyn std::error::Error>> {
///     session.envelope(&ReversePath::Null, &MailParams::default(), to).await?;
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::{pool::*, proto::*};
/// fn fill(envelope: Envelope, to: Mailbox) { envelope.with(to); }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use smtp_pool::pool::*;
/// fn build(pool: fn() -> Builder) { pool(); }
/// ```
#[cfg(doctest)]
struct ForgottenOutcomes;
