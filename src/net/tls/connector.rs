use std::{fmt, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    client::TlsStream,
    rustls::{
        ClientConfig, HandshakeKind, ProtocolVersion,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::{TlsConfig, TlsVersion};
use crate::net::error::{TlsConfigError, TlsError};

/// Performs TLS handshakes on streams.
///
/// It is cheap to clone, and clones share the stored sessions. A second handshake with a server resumes the first
/// session. It omits the certificate and saves the client more than half of the CPU time. In TLS 1.3 a session can be
/// resumed once the client has read something after the handshake. The server sends its tickets then (RFC 8446
/// 4.6.1).
#[derive(Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl TlsConnector {
    /// Creates a connector without stored sessions.
    ///
    /// With [`Roots::Platform`](super::Roots::Platform) it reads files, so call it at start and not in a task.
    ///
    /// # Errors
    ///
    /// Fails if the configuration contradicts itself or has no usable roots.
    pub fn new(config: &TlsConfig) -> Result<Self, TlsConfigError> {
        Ok(Self { config: config.build()? })
    }

    /// Performs the handshake on `stream`.
    ///
    /// `server_name` is a DNS name, with or without a final dot, or an IP address. The certificate is verified for
    /// this name. A DNS name is also sent to the server (SNI, RFC 6066 3).
    ///
    /// # Errors
    ///
    /// [`TlsError`] shows which side is at fault, and the stream is closed in each case. [`TlsError::TimedOut`] means
    /// that the handshake was not complete at `deadline`.
    ///
    /// # Cancellation safety
    ///
    /// Dropping the future closes the stream.
    pub async fn connect<S>(
        &self,
        stream: S,
        server_name: &str,
        deadline: Instant,
    ) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(server_name)
            .map_err(|_| TlsError::ServerName { name: server_name.to_owned() })?
            .to_owned();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        match timeout_at(deadline, connector.connect(name, stream)).await {
            Ok(done) => done.map_err(TlsError::from_io),
            Err(_) => Err(TlsError::TimedOut),
        }
    }
}

/// The parameters of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version of TLS.
    pub version: TlsVersion,
    /// The IANA name of the cipher suite, except that those of TLS 1.3 begin with `TLS13_`.
    pub cipher: &'static str,
    /// The server's certificates, its own first, DER-encoded. Those of a resumed session come from its first
    /// handshake.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// True if an earlier session was resumed (RFC 8446 2.2, RFC 5077).
    pub resumed: bool,
}

impl TlsInfo {
    pub(in crate::net) fn of<S>(stream: &TlsStream<S>) -> Self {
        let (_, connection) = stream.get_ref();
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            peer_certificates: connection.peer_certificates().unwrap_or_default().to_vec(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
