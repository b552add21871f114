//! Errors of opening an encrypted stream.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio_rustls::rustls::{self, InvalidMessage};

/// A failure of this layer: of the TCP connection or of TLS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetError {
    /// The TCP connection failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS failed on an open TCP connection.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl NetError {
    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dial(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }
}

/// The kind of a failure. It suffices to decide on a retry, and is a bounded label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The port has no listener, or a firewall refused the connection.
    Refused,
    /// No route to the host or the network; often the client has no IPv6.
    Unreachable,
    /// The connection was not open in time.
    TimedOut,
    /// The connection was reset or aborted.
    Reset,
    /// The peer closed the connection too early.
    Closed,
    /// There was no address, or none of the family of the local address.
    NoAddress,
    /// The local address does not belong to this host, or has no free port.
    LocalAddress,
    /// The server answered the handshake with a TLS alert.
    TlsAlert,
    /// The certificate of the server is untrusted, expired or not valid yet, or for another name.
    Certificate,
    /// The TLS handshake was not complete in time.
    TlsTimedOut,
    /// The server sent something other than TLS.
    NotTls,
    /// TLS failed in another way: the two sides share no parameters, or the server violated the protocol.
    Tls,
    /// Any other error of the operating system.
    Other,
}

impl ErrorKind {
    /// Returns the name in snake case, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::NoAddress => "no_address",
            Self::LocalAddress => "local_address",
            Self::TlsAlert => "tls_alert",
            Self::Certificate => "certificate",
            Self::TlsTimedOut => "tls_timed_out",
            Self::NotTls => "not_tls",
            Self::Tls => "tls",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Converts an error of a [`Stream`](super::Stream), where an [`io::Error`] may contain a TLS error.
impl From<&io::Error> for ErrorKind {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return tls.into();
        }
        match error.kind() {
            Io::ConnectionRefused => Self::Refused,
            Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown => Self::Unreachable,
            Io::TimedOut => Self::TimedOut,
            Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => Self::Reset,
            Io::UnexpectedEof => Self::Closed,
            Io::AddrNotAvailable | Io::AddrInUse => Self::LocalAddress,
            _ => Self::Other,
        }
    }
}

impl From<&rustls::Error> for ErrorKind {
    fn from(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::AlertReceived(_) => Self::TlsAlert,
            E::InvalidCertificate(_) | E::NoCertificatesPresented => Self::Certificate,
            // The first byte of a record is its type, 20 to 24. No byte of a text line is in this range.
            E::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            _ => Self::Tls,
        }
    }
}

/// A failed connection attempt to one address.
#[derive(Debug, Error)]
#[error("cannot connect to {peer}")]
#[non_exhaustive]
pub struct AttemptError {
    /// The address.
    pub peer: SocketAddr,
    /// The error of the operating system.
    pub source: io::Error,
}

/// No TCP connection was opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// The list of addresses was empty.
    #[error("no address to connect to")]
    NoAddress,
    /// No address has the family of the local address.
    #[error("no address of the same family as the local address {bind}")]
    NoAddressOfFamily {
        /// The local address of the [`Dialer`](super::Dialer).
        bind: IpAddr,
    },
    /// The time limit passed.
    #[error("no connection within {after:?}")]
    TimedOut {
        /// The timeout of the [`Dialer`](super::Dialer).
        after: Duration,
        /// The attempts that had failed before, in order of time.
        failures: Vec<AttemptError>,
    },
    /// All addresses failed.
    #[error("no connection to any address")]
    Failed {
        /// The failure that says most about the host. A refusal, for example, says more than a missing route.
        #[source]
        telling: AttemptError,
        /// The other failures, in order of time.
        others: Vec<AttemptError>,
    },
}

impl DialError {
    /// Selects the most informative failure. Of several equal ones it takes the last, which ran longest.
    pub(super) fn from_failures(mut failures: Vec<AttemptError>) -> Self {
        let telling =
            (0..failures.len()).max_by_key(|&index| match ErrorKind::from(&failures[index].source) {
                ErrorKind::Refused | ErrorKind::Reset => 3,
                ErrorKind::TimedOut => 2,
                ErrorKind::Unreachable => 0,
                _ => 1,
            });
        match telling {
            Some(index) => Self::Failed { telling: failures.remove(index), others: failures },
            None => Self::NoAddress,
        }
    }

    /// Returns the kind of the failure; of several addresses, that of the most informative one.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAddress | Self::NoAddressOfFamily { .. } => ErrorKind::NoAddress,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Failed { telling, .. } => ErrorKind::from(&telling.source),
        }
    }
}

/// TLS failed on an open connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The name is neither a DNS name nor an IP address.
    #[error("not a name of a TLS server: {name:?}")]
    ServerName {
        /// The name that was requested.
        name: String,
    },
    /// The stream is encrypted already.
    #[error("the connection is encrypted already")]
    AlreadyEncrypted,
    /// The deadline passed during the handshake.
    #[error("no TLS handshake in time")]
    TimedOut,
    /// The server sent something other than TLS, such as plain SMTP.
    #[error("the server does not speak TLS")]
    NotTls(#[source] rustls::Error),
    /// The server ended the handshake with an alert.
    #[error("the server refused the TLS handshake")]
    Alert(#[source] rustls::Error),
    /// The certificate of the server is untrusted, expired or not valid yet, or for another name.
    #[error("the certificate of the server is not acceptable")]
    Certificate(#[source] rustls::Error),
    /// The two sides share no parameters, or the server violated the protocol.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The connection broke during the handshake.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
}

impl TlsError {
    /// Extracts the TLS error from an [`io::Error`].
    pub(super) fn from_io(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(tls) => match ErrorKind::from(&tls) {
                ErrorKind::TlsAlert => Self::Alert(tls),
                ErrorKind::Certificate => Self::Certificate(tls),
                ErrorKind::NotTls => Self::NotTls(tls),
                _ => Self::Handshake(tls),
            },
            Err(io) => Self::Io(io),
        }
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ServerName { .. } | Self::AlreadyEncrypted | Self::Handshake(_) => ErrorKind::Tls,
            Self::TimedOut => ErrorKind::TlsTimedOut,
            Self::NotTls(_) => ErrorKind::NotTls,
            Self::Alert(_) => ErrorKind::TlsAlert,
            Self::Certificate(_) => ErrorKind::Certificate,
            Self::Io(error) => error.into(),
        }
    }
}

/// An invalid [`TlsConfig`](super::TlsConfig). It shows at start, not with a connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The lowest version allowed is above the highest.
    #[error("the minimum TLS version is above the maximum")]
    Versions,
    /// Certificates are to be verified, but there is no root certificate.
    #[error("no root certificate to verify servers with")]
    NoRoots,
    /// The roots of the platform could not be read.
    #[error("the root certificates of the platform cannot be read")]
    Platform(#[source] rustls_native_certs::Error),
    /// The text is not PEM, or contains no certificate.
    #[error("no certificate or key in the PEM text")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A certificate cannot be a root, or rustls rejects the settings.
    #[error("not a usable root certificate")]
    Root(#[source] rustls::Error),
    /// The certificate of the client and its key do not fit, or rustls cannot use them.
    #[error("not a usable client certificate")]
    ClientCertificate(#[source] rustls::Error),
    /// The cryptography provider has no cipher suite for the allowed versions.
    #[error("no cipher suite for the TLS versions allowed")]
    Provider(#[source] rustls::Error),
}
