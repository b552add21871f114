//! What tells one set of interchangeable connections from another.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use thiserror::Error;

use crate::{
    client::Endpoint,
    net::TlsPolicy,
    proto::{ClientName, Credentials, Domain},
};

/// A server, and everything that makes a connection to it different from another one: connections are interchangeable
/// only within one key, so that nobody gets a session that somebody else authenticated, or that left from another
/// address.
///
/// What is not said is as the configuration of the pool says.
///
/// ```
/// use smtp_pool::{net::TlsPolicy, pool::Key};
/// let submission = Key::parse("smtp.example.com:465")?.tls(TlsPolicy::Implicit);
/// assert_eq!(submission.to_string(), "smtp.example.com:465");
/// assert_ne!(submission, Key::parse("smtp.example.com:465")?);
/// assert_eq!(Key::parse("[2001:db8::25]:2525")?.host(), "2001:db8::25");
/// # Ok::<(), smtp_pool::pool::InvalidServer>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    host: Arc<str>,
    port: Option<u16>,
    addrs: Option<Arc<[SocketAddr]>>,
    pub(super) tls: Option<TlsPolicy>,
    pub(super) server_name: Option<Arc<str>>,
    pub(super) bind: Option<IpAddr>,
    pub(super) helo: Option<ClientName>,
    pub(super) credentials: Option<Arc<Credentials>>,
}

/// The text does not name a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a server: expected HOST, HOST:PORT, an IP address or [IPV6]:PORT")]
pub struct InvalidServer {
    text: String,
}

impl Key {
    /// A server as people write it: `smtp.example.com`, `smtp.example.com:587`, `192.0.2.25`, `[2001:db8::25]:2525`.
    ///
    /// # Errors
    /// The text is none of these; international names are taken in their A-label form.
    pub fn parse(text: &str) -> Result<Self, InvalidServer> {
        let invalid = || InvalidServer { text: text.chars().take(300).collect() };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::new(ip.to_string().into(), None));
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self::new(addr.ip().to_string().into(), Some(addr.port())));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some(_) if text.ends_with(']') => (text, None),
            Some((host, port)) => {
                (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?))
            }
            None => (text, None),
        };
        if let Some(ip) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let ip = ip.parse::<IpAddr>().map_err(|_| invalid())?;
            return Ok(Self::new(ip.to_string().into(), port));
        }
        let host = Domain::parse(host.strip_suffix('.').unwrap_or(host)).map_err(|_| invalid())?;
        Ok(Self::new(host.as_str().into(), port))
    }

    /// A server whose addresses are known, which are connected to without asking DNS.
    #[must_use]
    pub fn at(endpoint: &Endpoint) -> Self {
        let port = endpoint.addrs.first().map(SocketAddr::port);
        Self { addrs: Some(endpoint.addrs.clone().into()), ..Self::new(Arc::clone(&endpoint.host), port) }
    }

    fn new(host: Arc<str>, port: Option<u16>) -> Self {
        Self {
            host,
            port,
            addrs: None,
            tls: None,
            server_name: None,
            bind: None,
            helo: None,
            credentials: None,
        }
    }

    /// When to use TLS.
    #[must_use]
    pub fn tls(self, policy: TlsPolicy) -> Self {
        Self { tls: Some(policy), ..self }
    }

    /// The name that the certificate must be for, if it is not the host's.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// The local address to connect from.
    #[must_use]
    pub fn bind(self, address: IpAddr) -> Self {
        Self { bind: Some(address), ..self }
    }

    /// Our own name for EHLO.
    #[must_use]
    pub fn helo(self, name: ClientName) -> Self {
        Self { helo: Some(name), ..self }
    }

    /// Who to authenticate as.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials.into()), ..self }
    }

    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn host_arc(&self) -> &Arc<str> {
        &self.host
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn addrs(&self) -> Option<&[SocketAddr]> {
        self.addrs.as_deref()
    }
}

/// `HOST:PORT`, or `HOST` where the port is the pool's: what logs and errors say.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.port, self.host.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (None, _) => f.write_str(&self.host),
        }
    }
}

/// What names a server: a text such as `smtp.example.com:587`, or a [`Key`].
pub trait ToKey: sealed::Sealed {
    /// The text, if it is one: what the pool remembers the key by.
    #[doc(hidden)]
    fn text(&self) -> Option<&str> {
        None
    }

    /// The key.
    ///
    /// # Errors
    /// The text does not name a server.
    fn to_key(&self) -> Result<Key, InvalidServer>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Key {}
    impl Sealed for str {}
    impl Sealed for String {}
    impl<T: Sealed + ?Sized> Sealed for &T {}
}

impl ToKey for Key {
    fn to_key(&self) -> Result<Key, InvalidServer> {
        Ok(self.clone())
    }
}

impl ToKey for str {
    fn text(&self) -> Option<&str> {
        Some(self)
    }

    fn to_key(&self) -> Result<Key, InvalidServer> {
        Key::parse(self)
    }
}

impl ToKey for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }

    fn to_key(&self) -> Result<Key, InvalidServer> {
        Key::parse(self)
    }
}

impl<T: ToKey + ?Sized> ToKey for &T {
    fn text(&self) -> Option<&str> {
        (**self).text()
    }

    fn to_key(&self) -> Result<Key, InvalidServer> {
        (**self).to_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("smtp.example.com", "smtp.example.com", None),
            ("SMTP.Example.com.:587", "smtp.example.com", Some(587)),
            ("bücher.example", "xn--bcher-kva.example", None),
            ("192.0.2.25", "192.0.2.25", None),
            ("192.0.2.25:2525", "192.0.2.25", Some(2525)),
            ("2001:db8::25", "2001:db8::25", None),
            ("[2001:DB8::25]", "2001:db8::25", None),
            ("[2001:db8::25]:25", "2001:db8::25", Some(25)),
        ] {
            let key = Key::parse(text).unwrap();
            assert_eq!((key.host(), key.port()), (host, port), "{text}");
            assert_eq!(Key::parse(&key.to_string()).unwrap(), key, "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_an_error_that_shows_it() {
        for text in ["", ":25", "a b", "host:0", "host:65536", "host:smtp", "[::1", "user@host", "host\r\n"] {
            let error = Key::parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
