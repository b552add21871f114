//! A session over a socket, and what is known of the server at its other end.

use std::{
    io,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::time::Instant;

use super::Session;
use crate::{
    net::{Stream, TlsInfo},
    proto::Reply,
};

/// A connection to a server, greeted and ready for transactions; derefs to its [`Session`].
#[derive(Debug)]
pub struct Connection {
    session: Session<Stream>,
    host: Arc<str>,
    banner: Reply,
    opened: Instant,
}

impl Connection {
    pub(super) fn new(session: Session<Stream>, host: Arc<str>, banner: Reply, opened: Instant) -> Self {
        Self { session, host, banner, opened }
    }

    /// The name of the server, as it was asked for.
    #[must_use]
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// What the server said first.
    #[must_use]
    pub fn banner(&self) -> &Reply {
        &self.banner
    }

    /// When connecting began.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// What was agreed upon in the TLS handshake, if there was one.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.session.stream().tls_info()
    }

    /// The address of the server.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.session.stream().peer_addr()
    }
}

impl Deref for Connection {
    type Target = Session<Stream>;

    fn deref(&self) -> &Self::Target {
        &self.session
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.session
    }
}
