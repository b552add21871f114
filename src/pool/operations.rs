//! The two commonest uses of a pool: is there such a mailbox, and send this.

use std::{io, sync::Arc};

use super::{CheckoutError, Delivery, Envelope, Key, OperationError, Pool, SendError};
use crate::{
    client::{Connection, SessionError, Verification},
    proto::{Body, Command, MailParams, Mailbox, Reply, ReversePath, State, Verb},
};

/// Recipients in one transaction: what RFC 5321 4.5.3.1.8 has every server take.
const MAX_RECIPIENTS: usize = 100;

impl Pool {
    /// Asks whether a mailbox exists: MAIL, RCPT and RSET, and no message. The server is
    /// [`Config::server`](super::Config::server), or else the one that takes mail for the domain.
    ///
    /// A connection that turns out to be stale at its first use is replaced by another one.
    ///
    /// ```
    /// # #[cfg(feature = "sandbox")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_pool::pool::{Key, Pool};
    /// # use smtp_pool::sandbox::{Sandbox, World};
    /// # let sandbox = Sandbox::start(World::demo()).await?;
    /// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
    /// let pool = Pool::builder().server(Key::parse(&server)?).build()?;
    /// assert!(pool.verify_email("ann@good.test").await?.is_accepted());
    /// assert!(!pool.verify_email("nobody@good.test").await?.is_accepted());
    /// # Ok(()) }
    /// # #[cfg(not(feature = "sandbox"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// The question could not be asked, or the mailbox needs SMTPUTF8 and the server does not offer it
    /// ([`SessionError::NotOffered`]). A refusal is an answer, not an error.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection in use.
    pub async fn verify_email(&self, address: &str) -> Result<Verification, OperationError> {
        let mailbox = Mailbox::parse(address)?;
        let servers = self.servers(&mailbox).await?;
        let (server, answer) = self.on_any(&servers, Ask { mailbox }).await?;
        Ok(Verification { server, ..answer })
    }

    /// Sends a message to each recipient's server, or to [`Config::server`](super::Config::server) if that is set: one
    /// transaction for all who share it, of at most 100 recipients.
    ///
    /// `message` is complete, header and body; lines that begin with a dot are escaped here. What has to be repeated
    /// since the connection was stale is repeated only as long as no message has been sent, so none is sent twice.
    ///
    /// ```
    /// # #[cfg(feature = "sandbox")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_pool::{pool::{Envelope, Key, Pool}, proto::{Mailbox, ReversePath}};
    /// # use smtp_pool::sandbox::{Sandbox, World};
    /// # let sandbox = Sandbox::start(World::demo()).await?;
    /// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
    /// let pool = Pool::builder().server(Key::parse(&server)?).build()?;
    /// let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test")?);
    /// let delivery = pool.send(&envelope, b"Subject: Hello\r\n\r\nHello, Ann.\r\n").await?;
    /// assert!(delivery.is_complete());
    /// # Ok(()) }
    /// # #[cfg(not(feature = "sandbox"))]
    /// # fn main() {}
    /// ```
    ///
    /// What needs SMTPUTF8 or 8BITMIME is not sent to a server that does not offer it: its recipients have
    /// [`SessionError::NotOffered`] in place of a reply. A sender, a recipient or a header that is not ASCII needs
    /// SMTPUTF8; a message that is not ASCII needs 8BITMIME.
    ///
    /// # Errors
    /// No server has answered for any recipient. A refusal is an answer, not an error: see [`Delivery::is_complete`].
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection in use; whether the server has taken the message by then is not known.
    pub async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<Delivery, SendError> {
        let mut outcomes: Vec<Option<Result<Reply, Arc<OperationError>>>> =
            vec![None; envelope.recipients().len()];
        // A recipient that needs SMTPUTF8 does not keep the message from those that do not.
        let utf8 = needs_smtputf8(envelope.sender(), message);
        let mut groups: Vec<Group> = Vec::new();
        for (at, mailbox) in envelope.recipients().iter().enumerate() {
            match self.servers(mailbox).await {
                Err(error) => outcomes[at] = Some(Err(error.into())),
                Ok(servers) => {
                    let utf8 = utf8 || mailbox.needs_smtputf8();
                    match groups.iter_mut().find(|group| group.utf8 == utf8 && group.servers == servers) {
                        Some(group) => group.recipients.push(at),
                        None => groups.push(Group { servers, utf8, recipients: vec![at] }),
                    }
                }
            }
        }
        for Group { servers, recipients, .. } in &groups {
            for recipients in recipients.chunks(MAX_RECIPIENTS) {
                let to: Vec<_> = recipients.iter().map(|at| envelope.recipients()[*at].clone()).collect();
                let deliver = Deliver { from: envelope.sender(), to: &to, message };
                let sent = match self.on_any(servers, deliver).await {
                    Ok((server, Ok(replies))) => Ok((server, replies)),
                    Ok((server, Err(source))) => Err(OperationError::Session { server, source }),
                    Err(error) => Err(error),
                };
                match sent {
                    Ok((server, replies)) => {
                        for (at, (verb, reply)) in recipients.iter().zip(replies) {
                            outcomes[*at] = Some(decided(&server, verb, reply));
                        }
                    }
                    Err(error) => {
                        let error = Arc::new(error);
                        for at in recipients {
                            outcomes[*at] = Some(Err(Arc::clone(&error)));
                        }
                    }
                }
            }
        }
        let recipients = envelope.recipients().iter().cloned().zip(outcomes);
        Delivery { recipients: recipients.filter_map(|(to, outcome)| Some((to, outcome?))).collect() }
            .answered()
    }

    /// Which servers to ask, the most preferred first.
    async fn servers(&self, mailbox: &Mailbox) -> Result<Vec<Key>, OperationError> {
        if let Some(server) = &self.config().server {
            return Ok(vec![server.clone()]);
        }
        let domain = || mailbox.domain().into();
        let Some(route) = &self.shared().route else {
            return Err(OperationError::NoRoute { domain: domain() });
        };
        let servers = route.route(mailbox).await;
        let servers = servers.map_err(|source| OperationError::Route { domain: domain(), source })?;
        if servers.is_empty() {
            let source = io::ErrorKind::NotFound.into();
            return Err(OperationError::Route { domain: domain(), source });
        }
        Ok(servers)
    }

    /// Does something on a connection to the first of `servers` that can be connected to; again on another connection if
    /// that was a stale one. Where a server went away there may be as many of them as there may be connections.
    async fn on_any<T>(
        &self,
        servers: &[Key],
        act: impl Act<Outcome = T>,
    ) -> Result<(Box<str>, T), OperationError> {
        let mut failed = None;
        for key in servers {
            let mut retries = self.shared().max_connections();
            loop {
                let mut connection = match self.get(key).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        failed.get_or_insert(error);
                        break;
                    }
                };
                let stale = connection.is_reused() && retries > 0;
                match act.on(&mut connection).await {
                    Err(error) if stale && error.is_lost() => {
                        retries -= 1;
                        tracing::debug!(server = %key, kind = error.kind(), "stale connection, once more");
                        self.metrics().server(&key.clone().normal(self.config()).name()).retry();
                    }
                    Ok(done) => return Ok((key.to_string().into(), done)),
                    Err(source) => {
                        return Err(OperationError::Session { server: key.to_string().into(), source });
                    }
                }
            }
        }
        Err(failed.unwrap_or(CheckoutError::Closed).into())
    }
}

/// Recipients that may share a transaction.
struct Group {
    servers: Vec<Key>,
    /// Whether the transaction needs SMTPUTF8.
    utf8: bool,
    /// Indices into the recipients of the envelope.
    recipients: Vec<usize>,
}

/// Returns whether a message needs SMTPUTF8 whoever its recipients are: for its sender, or since its header is not ASCII
/// (RFC 6531 3.4).
fn needs_smtputf8(sender: &ReversePath, message: &[u8]) -> bool {
    let header = message.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(message.len());
    sender.needs_smtputf8() || !message[..header].is_ascii()
}

/// A reply that decides; one whose lines carry different codes does not.
fn decided(server: &str, verb: Verb, reply: Reply) -> Result<Reply, Arc<OperationError>> {
    if !reply.has_mixed_codes() {
        return Ok(reply);
    }
    let source = SessionError::ambiguous(verb, &reply);
    Err(OperationError::Session { server: server.into(), source }.into())
}

/// Something to do on a connection, and to do again on another one if that was stale.
trait Act {
    type Outcome;

    fn on(
        &self,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Self::Outcome, SessionError>> + Send;
}

/// Asks about a mailbox.
struct Ask {
    mailbox: Mailbox,
}

impl Act for Ask {
    type Outcome = Verification;

    async fn on(&self, connection: &mut Connection) -> Result<Self::Outcome, SessionError> {
        connection.verify_email(&ReversePath::Null, &self.mailbox).await
    }
}

/// Sends a message in one transaction.
struct Deliver<'a> {
    from: &'a ReversePath,
    to: &'a [Mailbox],
    message: &'a [u8],
}

impl Act for Deliver<'_> {
    /// The reply that decides for each recipient, and what it answers; an error here is one that came when the message
    /// was under way, so that nothing may be done again.
    type Outcome = Result<Vec<(Verb, Reply)>, SessionError>;

    async fn on(&self, connection: &mut Connection) -> Result<Self::Outcome, SessionError> {
        let params = self.params(connection);
        let replies = connection.envelope(self.from, &params, self.to).await?;
        let mut decisive: Vec<_> = replies.rcpts.into_iter().map(|rcpt| (Verb::Rcpt, rcpt)).collect();
        if !replies.mail.is_positive() {
            decisive = vec![(Verb::Mail, replies.mail); self.to.len()];
        } else if connection.state() == State::Rcpt {
            let reply = match connection.data(self.message).await {
                Ok(reply) => reply,
                Err(error) => return Ok(Err(error)),
            };
            for (verb, rcpt) in decisive.iter_mut().filter(|(_, rcpt)| rcpt.is_positive()) {
                (*verb, *rcpt) = (Verb::Message, reply.clone());
            }
        }
        // Where every RCPT was refused, or DATA was, the transaction stands until it is reset.
        if matches!(connection.state(), State::Mail | State::Rcpt) {
            // If that fails, the connection is closed; the replies are there.
            let _ = connection.command(&Command::Rset).await;
        }
        Ok(Ok(decisive))
    }
}

impl Deliver<'_> {
    /// Returns what MAIL has to declare: what the message needs, and its size where the server reads that.
    fn params(&self, connection: &Connection) -> MailParams {
        MailParams {
            size: connection.extensions().size.map(|_| self.message.len() as u64),
            body: (!self.message.is_ascii()).then_some(Body::EightBitMime),
            smtputf8: needs_smtputf8(self.from, self.message),
            ..MailParams::default()
        }
    }
}
