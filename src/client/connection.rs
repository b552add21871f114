//! A session over a socket, and the name and address of its server.

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
#[must_use = "a connection that is dropped is closed"]
pub struct Connection {
    session: Session<Stream>,
    host: Arc<str>,
    banner: Reply,
    opened: Instant,
}

impl Connection {
    pub(super) fn new(session: Session<Stream>, host: Arc<str>, banner: Reply, opened: Instant) -> Self {
        // A copy, so that the read buffer does not live on for it.
        Self { session, host, banner: banner.excerpt(), opened }
    }

    /// Returns the name of the server, as the endpoint gave it.
    #[must_use]
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// Returns the banner of the server, at most its first 4 KiB.
    #[must_use]
    pub fn banner(&self) -> &Reply {
        &self.banner
    }

    /// Returns when connecting began.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns whether the connection may be used for something else: it is between transactions, and its server has
    /// neither closed it nor sent anything unasked.
    ///
    /// It costs no round trip, and no system call unless something has arrived. So it knows what the operating system
    /// has reported to the runtime, and not what is still on its way.
    pub fn is_quiet(&mut self) -> bool {
        self.session.is_idle() && (!self.session.stream().is_readable() || self.session.check_quiet().is_ok())
    }

    /// Returns what the TLS handshake agreed on, if there was one.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.session.stream().tls_info()
    }

    /// Returns the address of the server.
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
