//! One connection, blocking: opened by a connector, or lent by a pool.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{Error, Private};
use crate::{
    client::{self, ClientConfig, ConnectError, Endpoint, EnvelopeReplies, SessionError, Verification},
    metrics::Metrics,
    net::{TlsConfigError, TlsConnector},
    proto::{Command, MailParams, Mailbox, RcptParams, Reply, ReversePath, SaslResponse, Verb},
};

/// [`client::Connector`], blocking.
///
/// ```no_run
/// use smtp_pool::{blocking::Connector, client::{ClientConfig, Endpoint}, metrics::Metrics, proto::{ClientName, Command}};
/// let config = ClientConfig::new(ClientName::parse("verifier.example.org")?);
/// let connector = Connector::new(config, Metrics::new().into())?;
/// let endpoint = Endpoint::new("mx.example.com", vec!["192.0.2.25:25".parse()?]);
/// let mut connection = connector.connect(&endpoint)?;
/// println!("{}", connection.command(&Command::Noop)?);
/// connection.quit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Connector {
    inner: client::Connector,
    runtime: Private,
}

impl Connector {
    /// [`client::Connector::new`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn new(config: ClientConfig, metrics: Arc<Metrics>) -> Result<Self, Error<TlsConfigError>> {
        let inner = client::Connector::new(config, metrics).map_err(Error::Inner)?;
        Ok(Self { inner, runtime: Private::start()? })
    }

    /// [`client::Connector::with_tls`].
    ///
    /// # Errors
    /// The private runtime cannot be started.
    pub fn with_tls(
        config: ClientConfig,
        tls: TlsConnector,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error<TlsConfigError>> {
        let inner = client::Connector::with_tls(config, tls, metrics);
        Ok(Self { inner, runtime: Private::start()? })
    }

    /// [`client::Connector::config`].
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        self.inner.config()
    }

    /// [`client::Connector::connect`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Error<ConnectError>> {
        let inner = self.runtime.block_on(self.inner.connect(endpoint))?.map_err(Error::Inner)?;
        Ok(Connection::new(inner.into(), &self.runtime))
    }
}

/// [`client::Connection`], blocking. It has each method that changes the session, and derefs give the rest, such as
/// [`extensions`](client::Session::extensions) and [`tls_info`](client::Connection::tls_info).
///
/// Lent by a pool it is a [`PooledConnection`](super::PooledConnection), which returns to its pool when it is dropped.
#[derive(Debug)]
#[must_use = "a connection that is dropped is closed, or returns to its pool"]
pub struct Connection<C: DerefMut<Target = client::Connection> = Box<client::Connection>> {
    pub(super) inner: C,
    /// Behind the connection, which it outlives.
    runtime: Private,
}

impl<C: DerefMut<Target = client::Connection>> Connection<C> {
    pub(super) fn new(inner: C, runtime: &Private) -> Self {
        Self { inner, runtime: runtime.clone() }
    }

    /// [`Session::command`](client::Session::command).
    ///
    /// # Errors
    /// As its namesake.
    pub fn command(&mut self, command: &Command) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.command(command))?.map_err(Error::Inner)
    }

    /// [`Session::envelope`](client::Session::envelope).
    ///
    /// # Errors
    /// As its namesake.
    pub fn envelope(
        &mut self,
        from: &ReversePath,
        params: &MailParams,
        rcpts: &[Mailbox],
    ) -> Result<EnvelopeReplies, Error<SessionError>> {
        self.runtime.block_on(self.inner.envelope(from, params, rcpts))?.map_err(Error::Inner)
    }

    /// [`Session::data`](client::Session::data).
    ///
    /// # Errors
    /// As its namesake.
    pub fn data(&mut self, message: &[u8]) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.data(message))?.map_err(Error::Inner)
    }

    /// [`Session::verify_email`](client::Session::verify_email).
    ///
    /// # Errors
    /// As its namesake.
    pub fn verify_email(
        &mut self,
        from: &ReversePath,
        to: &Mailbox,
    ) -> Result<Verification, Error<SessionError>> {
        self.runtime.block_on(self.inner.verify_email(from, to))?.map_err(Error::Inner)
    }

    /// [`Session::quit`](client::Session::quit).
    ///
    /// # Errors
    /// As its namesake.
    pub fn quit(&mut self) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.quit())?.map_err(Error::Inner)
    }

    /// [`Session::auth_response`](client::Session::auth_response).
    ///
    /// # Errors
    /// As its namesake.
    pub fn auth_response(&mut self, response: &SaslResponse) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.auth_response(response))?.map_err(Error::Inner)
    }

    /// [`Session::greet`](client::Session::greet).
    ///
    /// # Errors
    /// As its namesake.
    pub fn greet(&mut self, greeting: &Command) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.greet(greeting))?.map_err(Error::Inner)
    }

    /// [`Session::message`](client::Session::message).
    ///
    /// # Errors
    /// As its namesake.
    pub fn message(&mut self, message: &[u8]) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.message(message))?.map_err(Error::Inner)
    }

    /// [`Session::flush`](client::Session::flush).
    ///
    /// # Errors
    /// As its namesake.
    pub fn flush(&mut self) -> Result<(), Error<SessionError>> {
        self.runtime.block_on(self.inner.flush())?.map_err(Error::Inner)
    }

    /// [`Session::reply`](client::Session::reply).
    ///
    /// # Errors
    /// As its namesake.
    pub fn reply(&mut self) -> Result<(Verb, Reply), Error<SessionError>> {
        self.runtime.block_on(self.inner.reply())?.map_err(Error::Inner)
    }

    /// [`Session::reply_ref`](client::Session::reply_ref).
    ///
    /// # Errors
    /// As its namesake.
    pub fn reply_ref(&mut self) -> Result<(Verb, Reply<&[u8]>), Error<SessionError>> {
        self.runtime.block_on(self.inner.reply_ref())?.map_err(Error::Inner)
    }

    /// [`Session::replies_alike`](client::Session::replies_alike).
    ///
    /// # Errors
    /// As its namesake.
    #[expect(clippy::type_complexity, reason = "the type of its namesake, and of its error")]
    pub fn replies_alike(&mut self, most: usize) -> Result<(Verb, Reply<&[u8]>, usize), Error<SessionError>> {
        self.runtime.block_on(self.inner.replies_alike(most))?.map_err(Error::Inner)
    }

    /// [`Session::queue`](client::Session::queue). It does not wait, so it may be called anywhere.
    ///
    /// # Errors
    /// As its namesake.
    pub fn queue(&mut self, command: &Command) -> Result<(), SessionError> {
        self.inner.queue(command)
    }

    /// [`Session::queue_mail`](client::Session::queue_mail). It does not wait, so it may be called anywhere.
    ///
    /// # Errors
    /// As its namesake.
    pub fn queue_mail(&mut self, from: &ReversePath, params: &MailParams) -> Result<(), SessionError> {
        self.inner.queue_mail(from, params)
    }

    /// [`Session::queue_rcpt`](client::Session::queue_rcpt). It does not wait, so it may be called anywhere.
    ///
    /// # Errors
    /// As its namesake.
    pub fn queue_rcpt<T: AsRef<str>>(
        &mut self,
        to: &Mailbox<T>,
        params: &RcptParams,
    ) -> Result<(), SessionError> {
        self.inner.queue_rcpt(to, params)
    }

    /// [`Session::queue_chunk`](client::Session::queue_chunk). It does not wait, so it may be called anywhere.
    ///
    /// # Errors
    /// As its namesake.
    pub fn queue_chunk(&mut self, chunk: &[u8], last: bool) -> Result<(), SessionError> {
        self.inner.queue_chunk(chunk, last)
    }

    /// [`Session::check_quiet`](client::Session::check_quiet). It does not wait, so it may be called anywhere.
    ///
    /// # Errors
    /// As its namesake.
    pub fn check_quiet(&mut self) -> Result<(), SessionError> {
        self.inner.check_quiet()
    }

    /// [`Connection::is_quiet`](client::Connection::is_quiet). It does not wait, so it may be called anywhere.
    pub fn is_quiet(&mut self) -> bool {
        self.inner.is_quiet()
    }

    /// [`Session::release_buffers`](client::Session::release_buffers).
    pub fn release_buffers(&mut self) {
        self.inner.release_buffers();
    }
}

/// There is no `DerefMut`. Methods that change the session are async, and have their namesakes here.
impl<C: DerefMut<Target = client::Connection>> Deref for Connection<C> {
    type Target = client::Connection;

    fn deref(&self) -> &client::Connection {
        &self.inner
    }
}
