//! Where the mail of a domain goes: MX records in order of preference, with the cases around them.
//!
//! | DNS says | result | from |
//! |---|---|---|
//! | MX records | their hosts, by preference | RFC 5321 5.1 |
//! | one MX of `.` | [`Unreachable::NullMx`] | RFC 7505 3 |
//! | no MX, but an address | the domain itself (implicit MX) | RFC 5321 5.1 |
//! | NXDOMAIN, or neither MX nor address | [`Unreachable::NoDnsEntries`] | RFC 5321 5.1 |
//! | MX records whose hosts have no address | [`Unreachable::NoDnsEntries`] | |
//! | SERVFAIL, time-out | [`Unreachable::Dns`], to be asked again | |
//!
//! A look-up has one deadline for all of its queries, and does not wait for the addresses of one exchanger before it asks
//! for those of the next.
//!
//! Beside the hosts stands what of the answers was authenticated: [`Resolved`].

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

/// The most MX hosts that are tried, and the most addresses of each: a hostile zone can list any number.
const MAX_HOSTS: usize = 8;
const MAX_ADDRS: usize = 8;
/// How long one attempt at a query may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often a query is repeated; more repetitions would not fit into a look-up.
const REPETITIONS: usize = 2;

/// The mail exchangers of a domain, the most preferred first; never empty.
pub type Exchangers = Vec<Endpoint>;

/// Why there is nowhere to deliver to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// The domain says that it takes no mail.
    NullMx,
    /// No such domain, or nothing in it to deliver to.
    NoDnsEntries,
    /// Every address is private, loopback or link-local, as a hostile MX record may point to.
    Unroutable,
    /// The DNS did not answer, for the reason given.
    Dns {
        /// Whether it was a time-out.
        timeout: bool,
        /// What the resolver said.
        reason: Arc<str>,
    },
}

/// A way to a domain as it was found, and what of it was authenticated by DNSSEC, which DANE (RFC 7672) has to know
/// before it asks for TLSA records.
///
/// It is the nameserver that authenticates, and says so by the AD bit (RFC 4035 3.2.3). **Its word is worth no more
/// than the way to it**: take it only from a nameserver that you trust, on loopback or behind a channel that nobody
/// else can write to (RFC 4035 4.9.3, RFC 7672 2.1.3). What is not from the DNS, a route that was given or an address
/// literal, is never secure.
///
/// The MX records are the domain's, and the addresses the exchanger's, which domains share. So each has a state of its
/// own, and [`Exchangers`] has none: signed and unsigned domains behind the same servers have the same exchangers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{client::Endpoint, metrics::Metrics, proto::Mailbox, verify::{Resolver, Routes}};
///
/// let mut routes = Routes::new();
/// let mx = Endpoint { host: "mx.example.com".into(), addrs: vec!["192.0.2.25:25".parse()?] };
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
    /// Where to deliver to.
    pub exchangers: Exchangers,
    /// Whether the MX records were authenticated, or else that there are none.
    pub mx_secure: bool,
    /// For each of the exchangers, in their order, whether all of its addresses were authenticated.
    pub addrs_secure: Vec<bool>,
}

impl Resolved {
    /// Whether both the MX records and the addresses of the exchanger at `index` were authenticated. Where only the
    /// addresses were, DANE can tell that it is that host, not that it is the domain's (RFC 7672 2.2.1).
    #[must_use]
    pub fn is_secure(&self, index: usize) -> bool {
        self.mx_secure && self.addrs_secure.get(index) == Some(&true)
    }
}

impl From<Exchangers> for Resolved {
    /// A way that was given: nothing of it is authenticated.
    fn from(exchangers: Exchangers) -> Self {
        Self { mx_secure: false, addrs_secure: vec![false; exchangers.len()], exchangers }
    }
}

/// What is known of the way to a domain.
pub type MailRoute = Result<Exchangers, Unreachable>;

/// Ways that are given instead of looked up.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    domains: HashMap<Box<str>, MailRoute>,
    any: Option<MailRoute>,
}

impl Routes {
    /// No route: everything is looked up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the way to `domain`, in lower-case A-labels, or to all domains without a route of their own with `*`.
    ///
    /// Addresses given here are trusted, so they may be private ones.
    pub fn insert(&mut self, domain: &str, route: MailRoute) {
        if domain == "*" {
            self.any = Some(route);
        } else {
            self.domains.insert(domain.into(), route);
        }
    }

    /// The way to `domain`, if one was given.
    #[must_use]
    pub fn get(&self, domain: &str) -> Option<&MailRoute> {
        self.domains.get(domain).or(self.any.as_ref())
    }
}

/// Finds the mail exchangers of domains: static routes first, then the DNS, through one cache.
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
    /// A resolver that asks `nameservers`, or those of the system where there are none.
    ///
    /// # Errors
    /// The configuration of the system cannot be read.
    pub fn new(
        nameservers: &[SocketAddr],
        routes: Routes,
        port: u16,
        allow_private: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DnsConfigError> {
        let connections = NameserverConnections::default();
        let mut builder = if nameservers.is_empty() {
            // A system without configured servers is not an error as long as every domain has a route.
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
        // Answers, each of which takes up to 10 KB where all of its names are as long as they may be.
        options.cache_size = 16_384;
        // What /etc/hosts says is for this machine, not for the mail of the world.
        options.use_hosts_file = ResolveHosts::Never;
        let dns = builder.build().map_err(|error| DnsConfigError(Box::new(error)))?;
        Ok(Self { routes, dns, port, allow_private, queries: QueryLimiter::new(), metrics })
    }

    /// The way to the mail of the domain, or the address literal, of `mailbox`, and what of it was authenticated.
    ///
    /// A look-up ends after 15 s, and at most 256 queries go on at once, of all look-ups. Of these permits, the look-ups that
    /// take longer than a second have a quarter while others wait: domains whose name servers are silent do not keep the
    /// others waiting.
    ///
    /// # Errors
    /// There is no way, or none was found.
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

    /// The exchangers of a domain, and whether its MX records were authenticated.
    async fn exchangers(
        &self,
        domain: &str,
        lookup: &DomainLookup,
    ) -> Result<(Vec<Exchanger>, bool), Unreachable> {
        // The dot makes the name absolute, so that no search domain of the system is put behind it.
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
            // RFC 7505 3: a null MX stands alone; beside others it is a mistake, and the others count.
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
        // What was not looked at may be what there is.
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
            // hickory gives no header with an answer without records; but where the addresses of a name are
            // authenticated, so is that it has no MX: both are of one zone, and a forged denial would be a SERVFAIL.
            mx_secure = exchangers.iter().all(|exchanger| exchanger.secure);
        }
        match failed {
            _ if !exchangers.is_empty() => Ok((exchangers, mx_secure)),
            Some(error) => Err(error),
            None => Err(Unreachable::NoDnsEntries),
        }
    }

    /// The addresses of both families, and whether all of them were authenticated; none only if neither family failed
    /// to be looked up.
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

    /// Leaves out what must not be connected to.
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

/// Waits for all futures, which run at once, and gives their outputs in their order.
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

/// A mail exchanger as the DNS has it.
struct Exchanger {
    host: Arc<str>,
    ips: Vec<IpAddr>,
    /// Whether all of the addresses were authenticated.
    secure: bool,
}

fn dns(error: &NetError) -> Unreachable {
    Unreachable::Dns { timeout: matches!(error, NetError::Timeout), reason: error.to_string().into() }
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS resolver cannot be set up")]
pub struct DnsConfigError(#[source] Box<NetError>);
