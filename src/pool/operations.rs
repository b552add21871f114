//! The two commonest uses of a pool: is there such a mailbox, and send this.

use std::{future::poll_fn, io, pin::Pin, sync::Arc, task::Poll};

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

    /// Sends a message to each recipient's server, or to [`Config::server`](super::Config::server) if that is set.
    ///
    /// Recipients of one server share a transaction of at most 100 recipients, or of the server's RCPTMAX (RFC 9422).
    /// A connection takes no more transactions and domains of recipients than MAILMAX and RCPTDOMAINMAX allow.
    /// Recipients that the server refuses as too many (452) go into another transaction. The pool sends to up to 16
    /// servers at the same time.
    ///
    /// `message` is complete, header and body; lines that begin with a dot are escaped here. If a connection
    /// is lost before the message is sent, another connection or the next exchanger is tried. Nothing is tried again once
    /// the message is on its way, so none is sent twice.
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
        let mut outcomes: Vec<Option<Outcome>> = vec![None; envelope.recipients().len()];
        // A recipient that needs SMTPUTF8 does not keep the message from those that do not.
        let utf8 = needs_smtputf8(envelope.sender(), message);
        let mut groups: Vec<RecipientGroup> = Vec::new();
        for (at, mailbox) in envelope.recipients().iter().enumerate() {
            match self.servers(mailbox).await {
                Err(error) => outcomes[at] = Some(Err(error.into())),
                Ok(servers) => {
                    let utf8 = utf8 || mailbox.needs_smtputf8();
                    match groups.iter_mut().find(|group| group.utf8 == utf8 && group.servers == servers) {
                        Some(group) => group.recipients.push(at),
                        None => groups.push(RecipientGroup { servers, utf8, recipients: vec![at] }),
                    }
                }
            }
        }
        let mut sending: Vec<Boxed<'_, Vec<(usize, Outcome)>>> = Vec::with_capacity(groups.len());
        for group in &groups {
            sending.push(Box::pin(self.send_to_group(group, envelope, message)));
        }
        for (at, outcome) in side_by_side(sending).await.into_iter().flatten() {
            outcomes[at] = Some(outcome);
        }
        let recipients = envelope.recipients().iter().cloned().zip(outcomes);
        Delivery { recipients: recipients.filter_map(|(to, outcome)| Some((to, outcome?))).collect() }
            .answered()
    }

    /// Sends a message to the recipients of a group, in as many transactions as their server needs.
    async fn send_to_group(
        &self,
        group: &RecipientGroup,
        envelope: &Envelope,
        message: &[u8],
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(group.recipients.len());
        let mut left = group.recipients.clone();
        while !left.is_empty() {
            let to: Vec<_> = left.iter().map(|at| envelope.recipients()[*at].clone()).collect();
            match self.on_any(&group.servers, Deliver { from: envelope.sender(), to: &to, message }).await {
                Ok((_, sent)) => {
                    let mut sent = sent.into_iter();
                    // Each transaction decides for one recipient at least.
                    left.retain(|at| match sent.next().flatten() {
                        Some(outcome) => {
                            outcomes.push((*at, outcome));
                            false
                        }
                        None => true,
                    });
                }
                Err(error) => {
                    let error = Arc::new(error);
                    outcomes.extend(left.drain(..).map(|at| (at, Err(Arc::clone(&error)))));
                }
            }
        }
        outcomes
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

    /// Does something on a connection to the first of `servers` that serves it.
    ///
    /// A reused connection that turns out to be lost is replaced by another one to the same server. This happens at most
    /// `max_connections` times. A server that cannot be connected to, whose new connection breaks, or that closes it with
    /// 421 is passed over for the next one.
    async fn on_any<A: Act>(
        &self,
        servers: &[Key],
        act: A,
    ) -> Result<(Box<str>, A::Outcome), OperationError> {
        let mut failed = None;
        let mut closing = None;
        for key in servers {
            let mut retries = self.shared().max_connections();
            loop {
                let mut connection = match self.get(key).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        failed.get_or_insert(error.into());
                        break;
                    }
                };
                if connection.is_reused() && !act.fits(&connection) {
                    connection.retire();
                    continue;
                }
                let stale = connection.is_reused() && retries > 0;
                let (is_lost, kind) = match act.on(key, &mut connection).await {
                    Ok(done) if !A::is_closing(&done) => return Ok((key.to_string().into(), done)),
                    Ok(done) => {
                        // The server said why, which tells more than a failure to connect to the others.
                        if !stale {
                            closing.get_or_insert((key.to_string().into(), done));
                        }
                        (true, "closing")
                    }
                    Err(source) => {
                        let (is_lost, kind, goes_on) = (source.is_lost(), source.kind(), goes_on(&source));
                        let error = OperationError::Session { server: key.to_string().into(), source };
                        if !goes_on {
                            return Err(error);
                        }
                        if !(stale && is_lost) {
                            failed.get_or_insert(error);
                        }
                        (is_lost, kind)
                    }
                };
                if !(stale && is_lost) {
                    tracing::debug!(server = %key, kind, "passed over for the next exchanger");
                    break;
                }
                retries -= 1;
                tracing::debug!(server = %key, kind, "stale connection, once more");
                self.metrics().server(&key.clone().normal(self.config()).name()).retry();
            }
        }
        match closing {
            Some(closing) => Ok(closing),
            None => Err(failed.unwrap_or_else(|| CheckoutError::Closed.into())),
        }
    }
}

/// What became of a message for one recipient.
type Outcome = Result<Reply, Arc<OperationError>>;

/// A future that may be sent to another thread.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Groups that are sent to at the same time.
const MAX_SIDE_BY_SIDE: usize = 16;

/// Runs futures at the same time, at most [`MAX_SIDE_BY_SIDE`] of them, and returns what they return in no order.
async fn side_by_side<T>(mut waiting: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut running = waiting.split_off(waiting.len().saturating_sub(MAX_SIDE_BY_SIDE));
    let mut done = Vec::new();
    poll_fn(|cx| {
        let mut at = 0;
        while at < running.len() {
            match running[at].as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(output) => {
                    done.push(output);
                    match waiting.pop() {
                        Some(next) => running[at] = next,
                        None => drop(running.swap_remove(at)),
                    }
                }
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

/// Returns whether another exchanger may do what failed here. A reply of different codes is an answer of this one.
fn goes_on(error: &SessionError) -> bool {
    !matches!(error, SessionError::Ambiguous { .. } | SessionError::NothingOwed)
}

/// Recipients that may share a transaction.
struct RecipientGroup {
    servers: Vec<Key>,
    /// Whether the transaction needs SMTPUTF8.
    utf8: bool,
    /// Indices into the recipients of the envelope.
    recipients: Vec<usize>,
}

/// Returns whether a message needs SMTPUTF8 for any recipient: for its sender, or for a header beyond ASCII (RFC 6531 3.4).
fn needs_smtputf8(sender: &ReversePath, message: &[u8]) -> bool {
    let header = message.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(message.len());
    sender.needs_smtputf8() || !message[..header].is_ascii()
}

/// Returns a reply that decides. A reply whose lines carry different codes does not.
fn decided(server: &Key, verb: Verb, reply: Reply) -> Outcome {
    if !reply.has_mixed_codes() {
        return Ok(reply);
    }
    let source = SessionError::ambiguous(verb, &reply);
    Err(OperationError::Session { server: server.to_string().into(), source }.into())
}

/// Something to do on a connection, and to do again on another one if that was stale.
trait Act {
    type Outcome;

    /// Returns whether the server closed the connection with 421 instead (RFC 5321 3.8).
    fn is_closing(outcome: &Self::Outcome) -> bool;

    /// Returns whether the limits of the server leave room for it on a connection that was used before.
    fn fits(&self, connection: &Connection) -> bool;

    fn on(
        &self,
        server: &Key,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Self::Outcome, SessionError>> + Send;
}

/// Asks about a mailbox.
struct Ask {
    mailbox: Mailbox,
}

impl Act for Ask {
    type Outcome = Verification;

    fn is_closing(answer: &Verification) -> bool {
        answer.reply.is_closing()
    }

    fn fits(&self, connection: &Connection) -> bool {
        fits(connection, &self.mailbox)
    }

    async fn on(&self, _: &Key, connection: &mut Connection) -> Result<Self::Outcome, SessionError> {
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
    /// What became of each recipient; none for a recipient that another transaction is for.
    type Outcome = Vec<Option<Outcome>>;

    /// A server that accepts any recipient has not closed the connection at MAIL.
    fn is_closing(sent: &Self::Outcome) -> bool {
        sent.iter().flatten().all(|outcome| outcome.as_ref().is_ok_and(Reply::is_closing))
    }

    fn fits(&self, connection: &Connection) -> bool {
        self.to.first().is_some_and(|to| fits(connection, to))
    }

    async fn on(&self, server: &Key, connection: &mut Connection) -> Result<Self::Outcome, SessionError> {
        let chosen = self.recipients(connection);
        let to: Vec<_> = chosen.iter().map(|at| self.to[*at].clone()).collect();
        let params = self.params(connection);
        let replies = connection.envelope(self.from, &params, &to).await?;
        let outcomes: Vec<Option<Outcome>>;
        if !replies.mail.is_positive() {
            outcomes = vec![Some(decided(server, Verb::Mail, replies.mail)); to.len()];
        } else if connection.state() == State::Rcpt {
            let delivered = match connection.data(self.message).await {
                Ok(reply) => Ok(reply),
                Err(source) => {
                    Err(Arc::new(OperationError::Session { server: server.to_string().into(), source }))
                }
            };
            let is_taken = delivered.as_ref().is_ok_and(Reply::is_positive);
            let outcome = |rcpt: Reply| match rcpt.is_positive() {
                true => Some(delivered.clone()),
                // Too many recipients (RFC 5321 4.5.3.1.10), of which this transaction has served some.
                false if is_taken && rcpt.code() == 452 && !rcpt.has_mixed_codes() => None,
                false => Some(decided(server, Verb::Rcpt, rcpt)),
            };
            outcomes = replies.rcpts.into_iter().map(outcome).collect();
        } else if replies.rcpts.iter().any(Reply::is_positive) {
            // The last replies closed the connection, and the message was not sent to those who were accepted.
            return Err(SessionError::Closed { verb: Verb::Data });
        } else {
            let outcome = |rcpt| Some(decided(server, Verb::Rcpt, rcpt));
            outcomes = replies.rcpts.into_iter().map(outcome).collect();
        }
        // Where every RCPT was refused, or DATA was, the transaction stands until it is reset.
        if matches!(connection.state(), State::Mail | State::Rcpt) {
            // If that fails, the connection is closed; the replies are there.
            let _ = connection.command(&Command::Rset).await;
        }
        let mut sent = vec![None; self.to.len()];
        for (at, outcome) in chosen.into_iter().zip(outcomes) {
            sent[at] = outcome;
        }
        Ok(sent)
    }
}

/// Returns whether a connection takes another transaction, with this recipient (RFC 9422 4).
fn fits(connection: &Connection, to: &Mailbox) -> bool {
    let has_domain = || connection.has_used_domain(to.domain());
    connection.accepts_transaction()
        && (connection.domains_left().is_none_or(|left| left > 0) || has_domain())
}

impl Deliver<'_> {
    /// Returns the indices of the recipients for this transaction: as many as the server takes, and of as many domains.
    fn recipients(&self, connection: &Connection) -> Vec<usize> {
        let limit = connection.extensions().limits.rcpt_max.map_or(usize::MAX, |max| max as usize);
        let left = connection.domains_left().unwrap_or(usize::MAX);
        let (mut chosen, mut domains) = (Vec::new(), Vec::new());
        for (at, to) in self.to.iter().enumerate() {
            let domain = to.domain();
            if left != usize::MAX && !connection.has_used_domain(domain) && !domains.contains(&domain) {
                if domains.len() == left {
                    continue;
                }
                domains.push(domain);
            }
            chosen.push(at);
        }
        chosen.truncate(MAX_RECIPIENTS.min(limit));
        chosen
    }

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
