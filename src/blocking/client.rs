//! One connection, blocking.

use std::sync::Arc;

use super::{Error, Private};
use crate::{
    client::{self, ClientConfig, ConnectError, Endpoint, EnvelopeReplies, SessionError},
    metrics::Metrics,
    net::{TlsConfigError, TlsInfo},
    proto::{Command, Extensions, MailParams, Mailbox, Reply, ReversePath},
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
        Ok(Connection { inner, runtime: self.runtime.clone() })
    }
}

/// [`client::Connection`], blocking.
#[derive(Debug)]
pub struct Connection {
    inner: client::Connection,
    runtime: Private,
}

impl Connection {
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

    /// [`Session::quit`](client::Session::quit).
    ///
    /// # Errors
    /// As its namesake.
    pub fn quit(&mut self) -> Result<Reply, Error<SessionError>> {
        self.runtime.block_on(self.inner.quit())?.map_err(Error::Inner)
    }

    /// [`Session::extensions`](client::Session::extensions).
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.inner.extensions()
    }

    /// [`client::Connection::tls_info`].
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.inner.tls_info()
    }
}
