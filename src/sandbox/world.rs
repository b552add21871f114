//! The world: hosts and domains, from TOML or from code.

use std::{collections::HashMap, slice};

use serde::Deserialize;
use thiserror::Error;

use super::{Fault, HostConfig};
use crate::proto::AddressError;

/// MX hosts, and the domains that they serve. The [module's documentation](super) shows its form in TOML.
///
/// ```
/// use smtp_pool::sandbox::{DomainConfig, HostConfig, World};
/// let world = World::from_toml(r#"
///     [[host]]
///     name = "mx.good.test"
///     [[domain]]
///     name = "good.test"
///     users = ["ann"]
/// "#)?;
/// let domain = DomainConfig::new("good.test", ["ann"]);
/// let same = World::new(vec![HostConfig::new("mx.good.test")], vec![domain]);
/// assert_eq!(world, same);
/// # Ok::<(), smtp_pool::sandbox::WorldError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct World {
    /// The seed of all random choices.
    pub seed: u64,
    /// The hosts: `[[host]]`.
    #[serde(rename = "host")]
    pub hosts: Vec<HostConfig>,
    /// The domains: `[[domain]]`. All other domains do not exist.
    #[serde(rename = "domain")]
    pub domains: Vec<DomainConfig>,
}

/// A domain, its hosts and its mailboxes. Local parts are compared without case and quoting. `postmaster` exists in
/// every domain that accepts mail (RFC 5321 4.5.1).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DomainConfig {
    /// The name; U-labels are allowed. With `count`, it contains `{}`.
    pub name: String,
    /// The number of domains of this kind, numbered from 0 at the `{}` of the name.
    pub count: Option<u32>,
    /// Its MX hosts, the preferred first. By default it is the world's first host. The name of a host with `count`,
    /// such as `mx{}.test`, stands for the host with the domain's number, modulo the count.
    pub hosts: Vec<String>,
    /// The domain states that it accepts no mail (RFC 7505).
    pub null_mx: bool,
    /// Local parts of the mailboxes.
    pub users: Vec<String>,
    /// Mailboxes over quota: `452 4.2.2`.
    pub full: Vec<String>,
    /// Mailboxes that are closed: `550 5.2.1`.
    pub disabled: Vec<String>,
    /// Any local part is accepted.
    pub catch_all: bool,
    /// The share, 0 to 1, of all other local parts that exist. The seed selects them.
    pub known_share: f64,
}

/// The description of a world is invalid.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The text is not TOML, a key does not exist, or a value is invalid; the source names it.
    #[error("the description of the world cannot be read")]
    Toml(#[source] Box<toml::de::Error>),
    /// `host.name` or `domain.name` is not a domain name.
    #[error("{kind}.name = \"{name}\": not a domain name")]
    Name {
        /// `host` or `domain`.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// `host.name` or `domain.name` occurs twice.
    #[error("{kind}.name = \"{name}\": this name occurs twice")]
    Duplicate {
        /// `host` or `domain`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// `count` without `{}` in the name, or `{}` without `count`.
    #[error("{kind}.name = \"{name}\": `count` needs \"{{}}\" in the name, and \"{{}}\" needs `count`")]
    Count {
        /// `host` or `domain`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// `domain.hosts` names an unknown host, or the world has no host.
    #[error("domain.hosts of \"{domain}\": there is no host \"{host}\"")]
    NoHost {
        /// The domain.
        domain: String,
        /// The name of the host.
        host: String,
    },
    /// `domain.known_share` is not between 0 and 1.
    #[error("domain.known_share of \"{0}\": not between 0 and 1")]
    Share(String),
    /// `host.listen` is not a loopback address, so other machines could reach it.
    #[error("host.listen of \"{0}\": not a loopback address")]
    Listen(String),
    /// An entry of `host.faults` can never happen. It counts from 0, or names a recipient at another stage than
    /// `rcpt` or `any`.
    #[error("host.faults of \"{host}\": this fault can never happen: {fault:?}")]
    Fault {
        /// The name of the host.
        host: String,
        /// The entry.
        fault: Box<Fault>,
    },
}

impl DomainConfig {
    /// Creates a domain with these mailboxes, at the first host of the world.
    #[must_use]
    pub fn new<U: Into<String>>(name: &str, users: impl IntoIterator<Item = U>) -> Self {
        Self { name: name.into(), users: users.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl World {
    /// The description of [`World::demo`], as a starting point for others.
    pub const DEMO: &str = include_str!("demo.toml");

    /// Creates a world of hosts and domains, with the seed 0.
    #[must_use]
    pub fn new(hosts: Vec<HostConfig>, domains: Vec<DomainConfig>) -> Self {
        Self { seed: 0, hosts, domains }
    }

    /// Returns the hosts, one entry each.
    pub(super) fn expanded_hosts(&self) -> Result<Vec<HostConfig>, WorldError> {
        let mut hosts = Vec::new();
        for host in &self.hosts {
            for n in numbers("host", &host.name, host.count)? {
                hosts.push(HostConfig { name: numbered(&host.name, n), count: None, ..host.clone() });
            }
        }
        Ok(hosts)
    }

    /// Returns the domains, one entry each, with the names of their hosts filled in.
    pub(super) fn expanded_domains(&self) -> Result<Vec<DomainConfig>, WorldError> {
        let counts: HashMap<_, _> =
            self.hosts.iter().filter_map(|host| Some((&host.name, host.count?.max(1)))).collect();
        let mut domains = Vec::new();
        for domain in &self.domains {
            let hosts = match (&*domain.hosts, self.hosts.first()) {
                ([], Some(first)) => slice::from_ref(&first.name),
                (hosts, _) => hosts,
            };
            for n in numbers("domain", &domain.name, domain.count)? {
                let hosts = hosts.iter().map(|host| numbered(host, n % counts.get(host).unwrap_or(&1)));
                let (name, hosts) = (numbered(&domain.name, n), hosts.collect());
                domains.push(DomainConfig { name, hosts, count: None, ..domain.clone() });
            }
        }
        Ok(domains)
    }
}

fn numbers(kind: &'static str, name: &str, count: Option<u32>) -> Result<std::ops::Range<u32>, WorldError> {
    if count.is_some() != name.contains("{}") {
        return Err(WorldError::Count { kind, name: name.into() });
    }
    Ok(0..count.unwrap_or(1))
}

fn numbered(name: &str, n: u32) -> String {
    name.replace("{}", &n.to_string())
}
