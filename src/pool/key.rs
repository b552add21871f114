//! The key of a server: connections with equal keys are interchangeable.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;

use crate::{
    client::Endpoint,
    net::TlsPolicy,
    proto::{ClientName, Credentials, Domain},
};

/// The port of SMTP, which names leave out.
const SMTP_PORT: u16 = 25;

/// A server, and the policy of connections to it. Connections are shared only within one key. So no caller gets a session
/// of another user, or from another local address.
///
/// Settings that are not set are those of the pool's configuration.
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
    pub(super) host: Arc<str>,
    pub(super) port: Option<u16>,
    addrs: Option<Addresses>,
    pub(super) tls: Option<TlsPolicy>,
    pub(super) server_name: Option<Arc<str>>,
    pub(super) bind: Option<IpAddr>,
    pub(super) helo: Option<ClientName>,
    pub(super) credentials: Option<Account>,
    /// Another secret for the user of the configuration.
    renewed: RenewedSecret,
    label: Option<Arc<str>>,
}

/// The addresses of a server. They are data: a nameserver changes their order with each answer. Only their family is a
/// policy, so two sets differ if one of them alone avoids IPv6.
#[derive(Clone, Debug)]
struct Addresses(Arc<[SocketAddr]>);

impl Addresses {
    /// Returns whether none is an address of IPv6; an IPv4-mapped one (RFC 4291 2.5.5.2) is not.
    fn avoid_ipv6(&self) -> bool {
        self.0.iter().all(|addr| addr.ip().to_canonical().is_ipv4())
    }
}

impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        self.avoid_ipv6() == other.avoid_ipv6()
    }
}

impl Eq for Addresses {}

impl Hash for Addresses {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.avoid_ipv6().hash(state);
    }
}

/// Credentials, compared by the user that they are for. A secret is data: a token is renewed every hour.
#[derive(Clone, Debug)]
pub(super) struct Account(pub(super) Arc<Credentials>);

impl Account {
    fn identity(&self) -> (bool, &str) {
        identity(&self.0)
    }
}

/// Returns what tells credentials apart: their kind, and the user.
fn identity(credentials: &Credentials) -> (bool, &str) {
    match credentials {
        Credentials::Password { user, .. } => (false, user),
        Credentials::Token { user, .. } => (true, user),
    }
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Account {}

impl Hash for Account {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Credentials of the user that the configuration names. They are data, so all of them are equal.
#[derive(Clone, Debug, Default)]
struct RenewedSecret(Option<Arc<Credentials>>);

impl PartialEq for RenewedSecret {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RenewedSecret {}

impl Hash for RenewedSecret {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The text does not name a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a server: expected HOST, HOST:PORT, an IP address or [IPV6]:PORT")]
pub struct InvalidServer {
    text: String,
}

impl Key {
    /// Parses a server: `smtp.example.com`, `smtp.example.com:587`, `192.0.2.25` or `[2001:db8::25]:2525`. An international
    /// name is converted to A-labels. A name may have underscores, as the services of Docker Compose do.
    ///
    /// # Errors
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidServer> {
        let invalid = || InvalidServer { text: text.chars().take(300).collect() };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::new(ip.to_string().into(), None));
        }
        // Of `[…%2]:25`, which parses too, the zone would be lost.
        if let Ok(addr) = text.parse::<SocketAddr>()
            && !text.contains('%')
        {
            let port = Some(addr.port()).filter(|port| *port > 0).ok_or_else(invalid)?;
            return Ok(Self::new(addr.ip().to_string().into(), Some(port)));
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
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_ascii() && host.contains('_') {
            // A name of the local network, not of a mail domain. Its other octets obey the rules of domains.
            Domain::parse(&host.replace('_', "a")).map_err(|_| invalid())?;
            return Ok(Self::new(host.to_ascii_lowercase().into(), port));
        }
        let host = Domain::parse(host).map_err(|_| invalid())?;
        Ok(Self::new(host.as_str().into(), port))
    }

    /// Returns a server whose addresses are known, so that the DNS is not asked.
    ///
    /// With other addresses, or in another order, it is the same server. New connections go to the addresses that were
    /// given last. Only their family makes a difference: a server with IPv4 addresses alone is another one than with both
    /// families.
    #[must_use]
    pub fn at(endpoint: &Endpoint) -> Self {
        let port = endpoint.addrs.first().map(SocketAddr::port);
        let addrs = Addresses(endpoint.addrs.clone().into());
        Self { addrs: Some(addrs), ..Self::new(Arc::clone(&endpoint.host), port) }
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
            renewed: RenewedSecret::default(),
            label: None,
        }
    }

    /// Sets when to use TLS.
    #[must_use]
    pub fn tls(self, policy: TlsPolicy) -> Self {
        Self { tls: Some(policy), ..self }
    }

    /// Sets the name that the certificate must have, if it is not the host's.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Sets the local address to connect from.
    #[must_use]
    pub fn bind(self, address: IpAddr) -> Self {
        Self { bind: Some(address), ..self }
    }

    /// Sets the client's name for EHLO.
    #[must_use]
    pub fn helo(self, name: ClientName) -> Self {
        Self { helo: Some(name), ..self }
    }

    /// Sets the credentials.
    ///
    /// The user tells servers apart, the secret does not: with a renewed token or another password it is the same server.
    /// New connections use the secret that was given last, and open ones stay in use. So do not use a checkout to check
    /// a password.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(Account(credentials.into())), ..self }
    }

    /// Sets the name of the server in metrics, logs and errors. By default it is the host, and its port unless that is
    /// 25. Keys with other labels are other servers. So a label can distinguish, for example, several accounts on one
    /// host.
    #[must_use]
    pub fn label(self, label: &str) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Returns the name for metrics, logs and errors.
    pub(super) fn name(&self) -> Arc<str> {
        match &self.label {
            Some(label) => Arc::clone(label),
            None if self.port == Some(SMTP_PORT) => Arc::clone(&self.host),
            None => self.to_string().into(),
        }
    }

    /// Returns the host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the credentials, if the key has its own.
    pub(super) fn own_credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref().map(|account| &account.0).or(self.renewed.0.as_ref()).map(|own| &**own)
    }

    /// Drops credentials of the user that the configuration names as well, and keeps their secret as data.
    pub(super) fn normalize_credentials(&mut self, configured: Option<&Credentials>) {
        let configured = configured.map(identity);
        if let Some(own) = self.credentials.take_if(|own| configured == Some(own.identity())) {
            self.renewed = RenewedSecret(Some(own.0));
        }
    }

    /// Takes over what an equal key carries: its addresses, and its secret if it has one.
    pub(super) fn renew(&mut self, newer: Self) {
        let before = std::mem::replace(self, newer);
        if self.renewed.0.is_none() {
            self.renewed = before.renewed;
        }
    }

    pub(super) fn host_arc(&self) -> &Arc<str> {
        &self.host
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn addrs(&self) -> Option<&[SocketAddr]> {
        self.addrs.as_ref().map(|addrs| &*addrs.0)
    }
}

/// Parses as [`Key::parse`] does.
impl FromStr for Key {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// `HOST:PORT`, or `HOST` if the key has no port.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.port, self.host.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (None, _) => f.write_str(&self.host),
        }
    }
}

/// A name of a server: a text such as `smtp.example.com:587`, or a [`Key`].
pub trait ToKey: sealed::Sealed {
    /// Returns the text, if it is one. The pool remembers the key by it.
    #[doc(hidden)]
    fn text(&self) -> Option<&str> {
        None
    }

    /// Returns the key.
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
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("smtp.example.com", "smtp.example.com", None),
            ("SMTP.Example.com.:587", "smtp.example.com", Some(587)),
            ("bücher.example", "xn--bcher-kva.example", None),
            ("Mail_Relay:2525", "mail_relay", Some(2525)),
            ("_smtp_.my_project.internal", "_smtp_.my_project.internal", None),
            ("192.0.2.25", "192.0.2.25", None),
            ("192.0.2.25:2525", "192.0.2.25", Some(2525)),
            ("2001:db8::25", "2001:db8::25", None),
            ("[2001:DB8::25]", "2001:db8::25", None),
            ("[2001:db8::25]:25", "2001:db8::25", Some(25)),
        ] {
            let key = Key::parse(text).unwrap();
            assert_eq!((key.host(), key.port()), (host, port), "{text}");
            assert_eq!(key.to_string().parse(), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_an_error_that_shows_it() {
        for text in [
            "",
            ":25",
            "a b",
            "host:0",
            "192.0.2.25:0",
            "[::1]:0",
            "[fe80::1%2]:25",
            "host:65536",
            "host:smtp",
            "[::1",
            "user@host",
            "a_b@host",
            "a_b..c",
            "a_ b",
            "b\u{fc}_cher",
            "host\r\n",
        ] {
            let error = Key::parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn addresses_are_data_and_their_family_is_a_policy() {
        let at = |addrs: &[&str]| {
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            Key::at(&Endpoint { host: "mx.example".into(), addrs })
        };
        let [one, two, six] = ["192.0.2.1:25", "192.0.2.2:25", "[2001:db8::1]:25"];
        let hash = |key: &Key| BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        for (this, that, same) in [
            (at(&[one, two]), at(&[two, one]), true),
            (at(&[one, two]), at(&[two]), true),
            (at(&[one]), at(&["[::ffff:192.0.2.1]:25"]), true),
            (at(&[six, one]), at(&[one, six]), true),
            (at(&[six, one]), at(&[one]), false),
            (at(&[one]), at(&["192.0.2.1:26"]), false),
            (at(&[one]), Key::parse("mx.example:25").unwrap(), false),
        ] {
            assert_eq!((this == that, hash(&this) == hash(&that)), (same, same), "{this:?} {that:?}");
        }
    }

    /// Everything that tells connections apart: host, port, TLS, server name, bind address, HELO name, credentials.
    type Parts =
        (usize, Option<u16>, Option<bool>, Option<bool>, Option<bool>, Option<bool>, Option<(bool, bool)>);

    fn parts() -> impl Strategy<Value = Parts> {
        let some = || prop::option::of(any::<bool>());
        let port = prop::option::of(prop::sample::select(vec![25u16, 587]));
        (0..2usize, port, some(), some(), some(), some(), prop::option::of(any::<(bool, bool)>()))
    }

    fn key((host, port, tls, server_name, bind, helo, credentials): Parts) -> Key {
        let pick = |second: bool, of: [&'static str; 2]| of[usize::from(second)];
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut key = Key::parse(&format!("{}.example{port}", ["a", "b"][host])).unwrap();
        if let Some(second) = tls {
            key = key.tls([TlsPolicy::Required, TlsPolicy::Implicit][usize::from(second)]);
        }
        if let Some(second) = server_name {
            key = key.server_name(pick(second, ["c.example", "d.example"]));
        }
        if let Some(second) = bind {
            key = key.bind(pick(second, ["192.0.2.1", "::1"]).parse().unwrap());
        }
        if let Some(second) = helo {
            key = key.helo(ClientName::parse(pick(second, ["e.example", "f.example"])).unwrap());
        }
        if let Some((user, password)) = credentials {
            let (user, password) = (pick(user, ["ann", "bob"]).into(), pick(password, ["x", "y"]).into());
            key = key.credentials(Credentials::Password { user, password });
        }
        key
    }

    proptest! {
        #[test]
        fn keys_are_equal_if_nothing_tells_them_apart(one in parts(), other in parts()) {
            let hash = |key: &Key| BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
            // The secret is data.
            let policy = |mut parts: Parts| {
                parts.6 = parts.6.map(|(user, _)| (user, false));
                parts
            };
            prop_assert_eq!(key(one) == key(other), policy(one) == policy(other));
            prop_assert_eq!(key(one), key(one));
            prop_assert_eq!(hash(&key(one)), hash(&key(one)));
        }

        #[test]
        fn any_text_is_a_server_that_reads_back_as_itself_or_is_refused(
            text in "[a-zA-Z0-9_.:%\\[\\]-]{0,24}|[0-9.]{7,15}(:[0-9]{1,6})?|\\[?[0-9a-f:%]{2,20}\\]?(:[0-9]{1,6})?|\\PC{0,12}",
        ) {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_ne!(key.port(), Some(0));
                prop_assert_eq!(Key::parse(&key.to_string()), Ok(key));
            }
        }
    }
}
