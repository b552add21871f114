//! One connection, blocking: opened by a connector, or lent by a pool.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{Error, Private};
use crate::{
    client::{self, ClientConfig, ConnectError, Endpoint, EnvelopeReplies, SessionError, Verification},
    metrics::Metrics,
    net::TlsConfigError,
    proto::{Command, MailParams, Mailbox, Reply, ReversePath},
};

/// [`client::Connector`], blocking.
///
/// ```no_run
/// use smtp_pool::{blocking::Connector, client::{ClientConfig, Endpoint}, metrics::Metrics, proto::{ClientName, Command}};
/// let config = ClientConfig::new(ClientName::parse("verifier.example.org")?);
/// let connector = Connector::new(config, Metrics::new().into())?;
/// let endpoint = Endpoint { host: "mx.example.com".into(), addrs: vec!["192.0.2.25:25".parse()?] };
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

    /// [`client::Connector::connect`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Error<ConnectError>> {
        let inner = self.runtime.block_on(self.inner.connect(endpoint))?.map_err(Error::Inner)?;
        Ok(Connection::new(inner.into(), &self.runtime))
    }
}

/// [`client::Connection`], blocking: what takes time has a method here, and derefs give the rest, such as
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
}

/// Without `DerefMut`: what may change the session is async, and has its namesake here.
impl<C: DerefMut<Target = client::Connection>> Deref for Connection<C> {
    type Target = client::Connection;

    fn deref(&self) -> &client::Connection {
        &self.inner
    }
}
