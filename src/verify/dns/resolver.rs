//! Finds the mail exchangers of a domain: MX records in order of preference, and the special cases.
//!
//! | DNS says | result | from |
//! |---|---|---|
//! | MX records | their hosts, by preference | RFC 5321 5.1 |
//! | one MX of `.` | [`Unreachable::NullMx`] | RFC 7505 3 |
//! | no MX, but an address | the domain itself (implicit MX) | RFC 5321 5.1 |
//! | NXDOMAIN, or neither MX nor address | [`Unreachable::NoDnsEntries`] | RFC 5321 5.1 |
//! | MX records whose hosts have no address | [`Unreachable::NoDnsEntries`] | |
//! | SERVFAIL, time-out | [`Unreachable::Dns`], a temporary failure | |
//!
//! All queries of a look-up share one deadline. The addresses of several exchangers are queried at once.
//!
//! [`Resolved`] also tells which answers were authenticated by DNSSEC.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use super::{
    dnssec::{DnsResolver, NameserverConnections, is_authenticated},
    queries::{DomainLookup, QueryLimiter},
};
use crate::{
    client::Endpoint,
    metrics::{Metrics, Operation},
    net::is_public,
    proto::{Host, Mailbox},
};
use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::NetError,
    proto::rr::RData,
};

/// The most MX hosts that are tried, and the most addresses of each. A hostile zone can list any number.
const MAX_HOSTS: usize = 8;
const MAX_ADDRS: usize = 8;
/// The longest time for one attempt at a query.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often a query is repeated. More repetitions would exceed the deadline of a look-up.
const REPETITIONS: usize = 2;

/// The mail exchangers of a domain, the most preferred first. Never empty.
pub type Exchangers = Vec<Endpoint>;

/// Why a domain has no server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// The domain has a null MX: it accepts no mail (RFC 7505).
    NullMx,
    /// The domain does not exist, or has neither MX nor address records.
    NoDnsEntries,
    /// Every address is private, loopback or link-local. A hostile MX record may point to such an address.
    Unroutable,
    /// The DNS did not answer. The failure is temporary.
    Dns {
        /// Whether the query timed out.
        timeout: bool,
        /// The error message of the resolver.
        reason: Arc<str>,
    },
}

/// The exchangers of a domain, and which DNS answers were authenticated by DNSSEC. DANE (RFC 7672) needs this before it
/// queries TLSA records.
///
/// The nameserver authenticates the answers and sets the AD bit (RFC 4035 3.2.3). **The bit is only as safe as the path
/// to the nameserver.** Rely on it only with a nameserver that you trust. Reach it on loopback, or over a channel that
/// no one else can write to (RFC 4035 4.9.3, RFC 7672 2.1.3). Static routes and address literals are never secure,
/// because they do not come from the DNS.
///
/// MX records belong to the domain, and addresses to the exchanger, which several domains may share. Each therefore has
/// its own state. [`Exchangers`] has none, so signed and unsigned domains with the same servers have equal exchangers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{client::Endpoint, metrics::Metrics, proto::Mailbox, verify::{Resolver, Routes}};
///
/// let mut routes = Routes::new();
/// let mx = Endpoint::new("mx.example.com", vec!["192.0.2.25:25".parse()?]);
/// routes.insert("example.com", Ok(vec![mx]));
/// let resolver = Resolver::new(&[], routes, 25, false, Metrics::new().into())?;
///
/// let found = resolver.resolve(&Mailbox::parse("ann@example.com")?).await.map_err(std::io::Error::from)?;
/// for (n, exchanger) in found.exchangers.iter().enumerate() {
///     assert!(!found.is_secure(n), "{exchanger} was given, and no DNS asked");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The exchangers, the most preferred first.
    pub exchangers: Exchangers,
    /// Whether the MX records, or their absence, were authenticated.
    pub mx_secure: bool,
    /// Whether all addresses of each exchanger were authenticated, in the order of `exchangers`.
    pub addrs_secure: Vec<bool>,
}

impl Resolved {
    /// Returns whether both the MX records and the addresses of the exchanger at `index` were authenticated. If only
    /// the addresses were, DANE can prove the identity of the host, but not that the host serves the domain (RFC 7672
    /// 2.2.1).
    #[must_use]
    pub fn is_secure(&self, index: usize) -> bool {
        self.mx_secure && self.addrs_secure.get(index) == Some(&true)
    }
}

impl From<Exchangers> for Resolved {
    /// Converts a static route, which is never authenticated.
    fn from(exchangers: Exchangers) -> Self {
        Self { mx_secure: false, addrs_secure: vec![false; exchangers.len()], exchangers }
    }
}

/// The exchangers of a domain, or why there are none.
pub type MailRoute = Result<Exchangers, Unreachable>;

/// Static routes, which replace DNS look-ups. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    domains: HashMap<Box<str>, MailRoute>,
    any: Option<MailRoute>,
}

impl Routes {
    /// Returns an empty table, so that all domains are looked up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a table of all domains that exist, each with its hosts and their addresses, the preferred first. A domain
    /// without a list of hosts accepts no mail (RFC 7505). No domain is looked up.
    ///
    /// It takes what [`Sandbox::mx_records`](../sandbox/struct.Sandbox.html#method.mx_records) returns:
    ///
    /// ```
    /// # #[cfg(feature = "sandbox")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_pool::{pool::Pool, sandbox::{Sandbox, World}, verify::Routes};
    /// let sandbox = Sandbox::start(World::demo()).await?;
    /// let pool = Pool::builder().route(Routes::only(sandbox.mx_records())).build()?;
    /// assert!(pool.verify_email("ann@good.test").await?.is_accepted());
    /// # Ok(()) }
    /// # #[cfg(not(feature = "sandbox"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn only<D, H>(domains: impl IntoIterator<Item = (D, Option<Vec<(H, SocketAddr)>>)>) -> Self
    where
        D: AsRef<str>,
        H: Into<Arc<str>>,
    {
        let mut routes = Self::new();
        routes.insert("*", Err(Unreachable::NoDnsEntries));
        for (domain, hosts) in domains {
            let endpoint = |(host, addr)| Endpoint::new(host, vec![addr]);
            let endpoints = hosts.map(|hosts: Vec<(H, _)>| hosts.into_iter().map(endpoint).collect());
            routes.insert(domain.as_ref(), endpoints.ok_or(Unreachable::NullMx));
        }
        routes
    }

    /// Sets the route of `domain`, in lower-case A-labels. `*` stands for all domains without a route of their own.
    ///
    /// These addresses are trusted, so they may be private.
    pub fn insert(&mut self, domain: &str, route: MailRoute) {
        if domain == "*" {
            self.any = Some(route);
        } else {
            self.domains.insert(domain.into(), route);
        }
    }

    /// Returns the route of `domain`, or that of `*`, if one is set.
    #[must_use]
    pub fn get(&self, domain: &str) -> Option<&MailRoute> {
        self.domains.get(domain).or(self.any.as_ref())
    }
}

/// Finds the mail exchangers of domains, from static routes first and then from the DNS. Its cache holds 16,384
/// answers.
#[derive(Debug)]
pub struct Resolver {
    routes: Routes,
    dns: DnsResolver,
    port: u16,
    allow_private: bool,
    queries: QueryLimiter,
    metrics: Arc<Metrics>,
}

impl Resolver {
    /// Builds a resolver that queries `nameservers`, or those of the system if the slice is empty. The exchangers get
    /// this `port`. With `allow_private`, MX records may point to private addresses.
    ///
    /// # Errors
    /// Returns [`DnsConfigError`] if the resolver cannot be set up.
    pub fn new(
        nameservers: &[SocketAddr],
        routes: Routes,
        port: u16,
        allow_private: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DnsConfigError> {
        let connections = NameserverConnections::default();
        let mut builder = if nameservers.is_empty() {
            // A system without configured servers is no error as long as every domain has a route.
            DnsResolver::builder(connections.clone())
                .unwrap_or_else(|_| DnsResolver::builder_with_config(ResolverConfig::default(), connections))
        } else {
            let servers = nameservers.iter().map(|server| {
                let at = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                NameServerConfig::new(
                    server.ip(),
                    true,
                    vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())],
                )
            });
            let config = ResolverConfig::from_parts(None, vec![], servers.collect());
            DnsResolver::builder_with_config(config, connections)
        };
        let options = builder.options_mut();
        options.timeout = ATTEMPT;
        options.attempts = REPETITIONS;
        options.edns0 = true;
        options.try_tcp_on_error = true;
        // Counted in answers. An answer takes up to 10 KB if all its names have the maximum length.
        options.cache_size = 16_384;
        // /etc/hosts applies to this host only, not to mail delivery.
        options.use_hosts_file = ResolveHosts::Never;
        let dns = builder.build().map_err(|error| DnsConfigError(Box::new(error)))?;
        Ok(Self { routes, dns, port, allow_private, queries: QueryLimiter::new(), metrics })
    }

    /// Finds the exchangers of the domain or address literal of `mailbox`, and which answers were authenticated.
    ///
    /// A look-up ends after 15 s. At most 256 queries are in progress at once, for all look-ups together. Look-ups that
    /// take over 1 s share a quarter of them while others wait. Domains with silent name servers therefore do not delay
    /// others.
    ///
    /// # Cancellation safety
    /// Dropping the future ends the look-up. Answers that arrived stay in the cache.
    ///
    /// # Errors
    /// Returns [`Unreachable`] if the domain has no usable exchanger, or the DNS did not answer.
    pub async fn resolve(&self, mailbox: &Mailbox) -> Result<Resolved, Unreachable> {
        if let Some(route) = self.routes.get(mailbox.domain()) {
            return route.clone().map(Resolved::from);
        }
        let literal = |ip: IpAddr| {
            let exchanger = Exchanger { host: ip.to_string().into(), ips: vec![ip], secure: false };
            self.usable(vec![exchanger], false)
        };
        match mailbox.host() {
            Host::Domain(domain) => self.look_up(domain).await,
            Host::Ipv4(ip) => literal(ip.into()),
            Host::Ipv6(ip) => literal(ip.into()),
            Host::General { .. } => Err(Unreachable::NoDnsEntries),
        }
    }

    async fn look_up(&self, domain: &str) -> Result<Resolved, Unreachable> {
        let lookup = self.queries.look_up();
        let found = self.exchangers(domain, &lookup).await;
        self.metrics.record(Operation::Dns, lookup.elapsed());
        found.and_then(|(exchangers, mx_secure)| self.usable(exchangers, mx_secure))
    }

    /// Returns the exchangers of a domain, and whether its MX records were authenticated.
    async fn exchangers(
        &self,
        domain: &str,
        lookup: &DomainLookup,
    ) -> Result<(Vec<Exchanger>, bool), Unreachable> {
        // The dot makes the name absolute, so that the resolver appends no search domain.
        let absolute = format!("{domain}.");
        let found = lookup.ask(|| self.dns.mx_lookup(absolute.as_str())).await;
        let (mut names, mut mx_secure) = match found {
            Ok(found) => {
                let mx = |data: &RData| match data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii().to_ascii_lowercase())),
                    _ => None,
                };
                let names = found.answers().iter().filter_map(|record| mx(&record.data)).collect();
                (names, is_authenticated(&found, &absolute))
            }
            Err(error) if error.is_nx_domain() => return Err(Unreachable::NoDnsEntries),
            Err(error) if error.is_no_records_found() => (vec![], false),
            Err(error) => return Err(dns(&error)),
        };
        if names.iter().any(|(_, name)| name == ".") {
            // RFC 7505 3: a null MX must be the only one. With others it is a configuration error, and the others
            // count.
            names.retain(|(_, name)| name != ".");
            if names.is_empty() {
                return Err(Unreachable::NullMx);
            }
        }
        let implicit = names.is_empty();
        if implicit {
            names.push((0, absolute));
        }
        names.sort();
        names.dedup_by(|a, b| a.1 == b.1);
        let mut exchangers = Vec::new();
        // An exchanger that was not tried may have an address.
        let mut failed = (names.len() > MAX_HOSTS).then(|| Unreachable::Dns {
            timeout: false,
            reason: format!("none of the first {MAX_HOSTS} exchangers has an address").into(),
        });
        names.truncate(MAX_HOSTS);
        let addresses = names.iter().map(|(_, name)| self.addresses(name, lookup));
        for ((_, name), found) in names.iter().zip(join_all(addresses).await) {
            match found {
                Ok((ips, _)) if ips.is_empty() => {}
                Ok((ips, secure)) => {
                    exchangers.push(Exchanger { host: name.trim_end_matches('.').into(), ips, secure });
                }
                Err(error) => failed = Some(error),
            }
        }
        if implicit {
            // hickory returns no header with an empty answer. But if the addresses of a name are authenticated, the
            // absence of its MX is too. Both are in one zone, and a forged denial would result in SERVFAIL.
            mx_secure = exchangers.iter().all(|exchanger| exchanger.secure);
        }
        match failed {
            _ if !exchangers.is_empty() => Ok((exchangers, mx_secure)),
            Some(error) => Err(error),
            None => Err(Unreachable::NoDnsEntries),
        }
    }

    /// Returns the addresses of both families, and whether all were authenticated. The list is empty only if no look-up
    /// failed.
    async fn addresses(&self, name: &str, lookup: &DomainLookup) -> Result<(Vec<IpAddr>, bool), Unreachable> {
        let _turn = lookup.next_name().await;
        let (v4, v6) = tokio::join!(
            lookup.ask(|| self.dns.ipv4_lookup(name)),
            lookup.ask(|| self.dns.ipv6_lookup(name))
        );
        let (mut ips, mut secure, mut failed) = (Vec::new(), true, None);
        for found in [v4, v6] {
            match found {
                Ok(found) => {
                    let family = found.answers().iter().filter_map(|record| record.data.ip_addr());
                    ips.extend(family.take(MAX_ADDRS / 2));
                    secure &= is_authenticated(&found, name);
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => failed = Some(dns(&error)),
            }
        }
        match failed {
            Some(error) if ips.is_empty() => Err(error),
            _ => Ok((ips, secure)),
        }
    }

    /// Removes addresses that must not be connected to.
    fn usable(&self, exchangers: Vec<Exchanger>, mx_secure: bool) -> Result<Resolved, Unreachable> {
        let endpoints = exchangers.into_iter().map(|Exchanger { host, ips, secure }| {
            let ips = ips.into_iter().filter(|&ip| self.allow_private || is_public(ip));
            (Endpoint { host, addrs: ips.map(|ip| SocketAddr::new(ip, self.port)).collect() }, secure)
        });
        let (exchangers, addrs_secure): (Exchangers, Vec<bool>) =
            endpoints.filter(|(endpoint, _)| !endpoint.addrs.is_empty()).unzip();
        if exchangers.is_empty() {
            return Err(Unreachable::Unroutable);
        }
        Ok(Resolved { exchangers, mx_secure, addrs_secure })
    }
}

/// Runs all futures at once, and returns their outputs in their order.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// A mail exchanger from the DNS.
struct Exchanger {
    host: Arc<str>,
    ips: Vec<IpAddr>,
    /// Whether all of the addresses were authenticated.
    secure: bool,
}

fn dns(error: &NetError) -> Unreachable {
    Unreachable::Dns { timeout: matches!(error, NetError::Timeout), reason: error.to_string().into() }
}

/// The DNS resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS resolver cannot be set up")]
pub struct DnsConfigError(#[source] Box<NetError>);
