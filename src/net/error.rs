//! What can go wrong between an address and an encrypted stream.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio_rustls::rustls::{self, InvalidMessage};

/// The failure of this layer: the connection did not come about, or TLS on it did not.
#[derive(Debug, Error)]
pub enum NetError {
    /// No TCP connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A TCP connection, yet no TLS on it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl NetError {
    /// What failed, in one word.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dial(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }
}

/// What failed, in one word: enough to decide on a retry, and a bounded label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nobody listens on the port, or a firewall says so.
    Refused,
    /// No route to the host or the network; often the lack of IPv6 on our side.
    Unreachable,
    /// No connection in time.
    TimedOut,
    /// The connection was reset or aborted.
    Reset,
    /// The peer closed the connection where more was due.
    Closed,
    /// There was no address to connect to, or none of the family of the local address.
    NoAddress,
    /// The local address is not ours, or has no port left.
    LocalAddress,
    /// The server answered the handshake with a TLS alert.
    TlsAlert,
    /// The certificate of the server is not trusted, not valid now, or not for this name.
    Certificate,
    /// The TLS handshake did not end in time.
    TlsTimedOut,
    /// The server sent something other than TLS.
    NotTls,
    /// TLS failed in another way: nothing in common, or the server broke the protocol.
    Tls,
    /// Anything else of the operating system.
    Other,
}

impl ErrorKind {
    /// The name in snake case, for labels.
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

/// The kind of an error met on a [`Stream`](super::Stream), where TLS errors hide inside of [`io::Error`].
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
            // The first byte of a record is its type, 20 to 24; no byte of a line of text is among them.
            E::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            _ => Self::Tls,
        }
    }
}

/// One address that could not be connected to.
#[derive(Debug, Error)]
#[error("cannot connect to {peer}")]
pub struct AttemptError {
    /// The address.
    pub peer: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

/// No TCP connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The list of addresses was empty.
    #[error("no address to connect to")]
    NoAddress,
    /// There were addresses, none of them of the family of the local address.
    #[error("no address of the same family as the local address {bind}")]
    NoAddressOfFamily {
        /// The local address of the [`Dialer`](super::Dialer).
        bind: IpAddr,
    },
    /// The attempts that had not failed yet were given up.
    #[error("no connection within {after:?}")]
    TimedOut {
        /// The timeout of the [`Dialer`](super::Dialer).
        after: Duration,
        /// The attempts that failed before, in the order of their failing.
        failures: Vec<AttemptError>,
    },
    /// Each address failed.
    #[error("no connection to any address")]
    Failed {
        /// The failure that says most about the host: that it refused tells more than that there is no route.
        #[source]
        telling: AttemptError,
        /// The others, in the order of their failing.
        others: Vec<AttemptError>,
    },
}

impl DialError {
    /// Picks the most telling of some failures; among equals the last, which the others did not hurry.
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

    /// What failed, in one word; of several failed addresses, that of the most telling one.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAddress | Self::NoAddressOfFamily { .. } => ErrorKind::NoAddress,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Failed { telling, .. } => ErrorKind::from(&telling.source),
        }
    }
}

/// No TLS on a connection that was there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The name is neither a DNS name nor an IP address.
    #[error("not a name of a TLS server: {name:?}")]
    ServerName {
        /// What was asked for.
        name: String,
    },
    /// The stream has TLS on it already.
    #[error("the connection is encrypted already")]
    AlreadyEncrypted,
    /// The deadline passed within the handshake.
    #[error("no TLS handshake in time")]
    TimedOut,
    /// The server sent something other than TLS, plain SMTP for one.
    #[error("the server does not speak TLS")]
    NotTls(#[source] rustls::Error),
    /// The server broke the handshake off with an alert.
    #[error("the server refused the TLS handshake")]
    Alert(#[source] rustls::Error),
    /// The certificate of the server is not trusted, not valid now, or not for this name.
    #[error("the certificate of the server is not acceptable")]
    Certificate(#[source] rustls::Error),
    /// Nothing in common with the server, or it broke the protocol.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The connection broke within the handshake.
    #[error("the connection broke in the TLS handshake")]
    Io(#[source] io::Error),
}

impl TlsError {
    /// Takes the TLS error out of the [`io::Error`] that it travels in.
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

    /// What failed, in one word.
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

/// A [`TlsConfig`](super::TlsConfig) that no connector can be made of: a mistake at start, not of a connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The lowest version allowed is above the highest.
    #[error("the minimum TLS version is above the maximum")]
    Versions,
    /// Certificates are to be verified, and there is no root to verify them with.
    #[error("no root certificate to verify servers with")]
    NoRoots,
    /// The roots of the platform could not be read.
    #[error("the root certificates of the platform cannot be read")]
    Platform(#[source] rustls_native_certs::Error),
    /// The text is not PEM, or there is no certificate in it.
    #[error("no certificate in the PEM text")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A certificate that cannot be a root, or settings that rustls does not accept.
    #[error("not a usable root certificate")]
    Root(#[source] rustls::Error),
    /// The provider of the cryptography has nothing for the versions allowed.
    #[error("no cipher suite for the TLS versions allowed")]
    Provider(#[source] rustls::Error),
}
