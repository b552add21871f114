//! Transports: how a connection reaches its server, if not by TCP.

use std::{fmt, io, net::SocketAddr, pin::Pin};

use super::Stream;

/// What [`Connect::connect`] returns.
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Reaches servers in another way than TCP: over a Unix socket, a proxy, or a pipe in memory. Anything that reads and
/// writes octets is a [`Stream`] ([`Stream::new`]). TLS is put on it as on TCP.
///
/// It replaces the lookup of addresses and the [`Dialer`](super::Dialer), and with them the local address.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{net::{Connect, ConnectFuture, ConnectTarget, Stream}, pool::Pool};
/// use tokio::net::UnixStream;
///
/// /// The relay of this machine.
/// #[derive(Debug)]
/// struct LocalRelay;
///
/// impl Connect for LocalRelay {
///     fn connect<'a>(&'a self, _: ConnectTarget<'a>) -> ConnectFuture<'a> {
///         Box::pin(async { Ok(Stream::new(UnixStream::connect("/run/smtp.sock").await?)) })
///     }
/// }
///
/// let pool = Pool::builder().connect(LocalRelay).build()?;
/// # Ok(()) }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
pub trait Connect: fmt::Debug + Send + Sync {
    /// Connects to a server. The caller limits the time.
    ///
    /// # Errors
    /// The server cannot be reached.
    fn connect<'a>(&'a self, target: ConnectTarget<'a>) -> ConnectFuture<'a>;
}

/// The server that a [`Connect`] is to reach.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectTarget<'a> {
    /// The name, or an IP address without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The addresses, if the caller knows them. They are not looked up.
    pub addrs: &'a [SocketAddr],
}

impl<'a> ConnectTarget<'a> {
    pub(crate) fn new(host: &'a str, port: u16, addrs: &'a [SocketAddr]) -> Self {
        Self { host, port, addrs }
    }
}
