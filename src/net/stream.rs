//! A connection with or without TLS, over TCP or over a transport of the user, behind one interface.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::client::TlsStream;

use super::{
    error::TlsError,
    tls::{TlsConnector, TlsInfo},
};

/// A connection, with TLS or without.
///
/// With TLS, written data stays in a buffer until it is flushed. So write a group of commands, then flush. Vectored
/// writes are passed on, so that a group in pieces is still one system call, or one TLS record.
///
/// A server may close without `close_notify`. A plain connection then reads no bytes, and a TLS connection fails with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof). TLS cannot distinguish this from a truncation attack (RFC 8446
/// 6.1). After a complete reply, both mean that the connection is closed.
///
/// ```
/// use smtp_pool::net::Stream;
/// let (client, _server) = tokio::io::duplex(1_024);
/// let stream = Stream::new(client);
/// assert!(!stream.is_encrypted());
/// ```
#[derive(Debug)]
pub struct Stream(Transport);

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    /// It is boxed, since the state of TLS takes a kilobyte that a plain connection does not need.
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<dyn Octets>),
    OtherTls(Box<TlsStream<Box<dyn Octets>>>),
}

/// A transport of the user.
trait Octets: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Octets for T {}

impl fmt::Debug for dyn Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Octets")
    }
}

/// Calls a method of the transport, of any kind.
macro_rules! forward {
    ($stream:expr, $transport:ident => $call:expr) => {
        match $stream {
            Transport::Tcp($transport) => $call,
            Transport::Tls($transport) => $call,
            Transport::Other($transport) => $call,
            Transport::OtherTls($transport) => $call,
        }
    };
}

impl Stream {
    /// Returns a connection over any transport, such as a Unix socket. For TCP, [`From`] knows more about the connection.
    pub fn new(transport: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) -> Self {
        Self(Transport::Other(Box::new(transport)))
    }

    /// Returns whether the connection is encrypted by TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.0, Transport::Tls(_) | Transport::OtherTls(_))
    }

    /// Puts TLS on a plain connection, after STARTTLS or for [implicit TLS](super::TlsPolicy::Implicit).
    ///
    /// The caller must make sure that no bytes are left unread. Bytes that arrived before the handshake were not
    /// protected, and must not be read as the first ones after it.
    ///
    /// # Errors
    ///
    /// Fails as [`TlsConnector::connect`] does, or with [`TlsError::AlreadyEncrypted`]. The connection is closed in
    /// each case.
    ///
    /// # Cancellation safety
    ///
    /// Dropping the future closes the connection.
    pub async fn upgrade(
        self,
        connector: &TlsConnector,
        server_name: &str,
        deadline: Instant,
    ) -> Result<Self, TlsError> {
        Ok(Self(match self.0 {
            Transport::Tcp(tcp) => {
                Transport::Tls(Box::new(connector.connect(tcp, server_name, deadline).await?))
            }
            Transport::Other(other) => {
                Transport::OtherTls(Box::new(connector.connect(other, server_name, deadline).await?))
            }
            Transport::Tls(_) | Transport::OtherTls(_) => return Err(TlsError::AlreadyEncrypted),
        }))
    }

    /// Returns the parameters of the TLS handshake. `None` without TLS.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        match &self.0 {
            Transport::Tcp(_) | Transport::Other(_) => None,
            Transport::Tls(tls) => Some(TlsInfo::of(tls)),
            Transport::OtherTls(tls) => Some(TlsInfo::of(tls)),
        }
    }

    /// Returns the address of the server.
    ///
    /// # Errors
    ///
    /// Fails if the connection is closed, or is not TCP ([`Unsupported`](io::ErrorKind::Unsupported)).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().ok_or(io::ErrorKind::Unsupported)?.peer_addr()
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// Fails if the operating system does not report it, or the connection is not TCP
    /// ([`Unsupported`](io::ErrorKind::Unsupported)).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().ok_or(io::ErrorKind::Unsupported)?.local_addr()
    }

    /// Returns true if the runtime knows of unread octets or the end of the stream. Makes no system call. Of a transport
    /// that is not TCP it is always true, because only reading shows it.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.tcp().is_none_or(|tcp| tcp.try_io(Interest::READABLE, || Ok(())).is_ok())
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::Tls(tls) => Some(tls.get_ref().0),
            Transport::Other(_) | Transport::OtherTls(_) => None,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self(Transport::Tcp(tcp))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(&mut self.get_mut().0, transport => Pin::new(transport).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        forward!(&mut self.get_mut().0, transport => Pin::new(transport).poll_write(context, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(&mut self.get_mut().0, transport => Pin::new(transport).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        forward!(&self.0, transport => transport.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(&mut self.get_mut().0, transport => Pin::new(transport).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(&mut self.get_mut().0, transport => Pin::new(transport).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn plain_reads_and_writes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, client_addr) = listener.accept().await.unwrap();
        let mut stream = Stream::from(tcp);
        assert_eq!(stream.local_addr().unwrap(), client_addr);
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(stream.tls_info(), None);

        assert!(stream.is_write_vectored());
        let written = stream.write_vectored(&[IoSlice::new(b"RSET\r\n"), IoSlice::new(b"QUIT\r\n")]).await;
        assert_eq!(written.unwrap(), 12);
        stream.shutdown().await.unwrap();
        let mut received = String::new();
        server.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "RSET\r\nQUIT\r\n");

        server.write_all(b"221 bye\r\n").await.unwrap();
        drop(server);
        received.clear();
        stream.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "221 bye\r\n");
    }
}
