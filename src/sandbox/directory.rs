//! The domains and mailboxes, and the hosts that serve them.

use foldhash::{HashMap, HashMapExt};

use super::{DomainConfig, HostConfig, World, WorldError, chance, local_part::canonical};
use crate::proto::{Domain, Mailbox};

/// The true state of an address, independent of the replies of its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Truth {
    /// The mailbox exists.
    Known,
    /// The domain accepts mail, but the mailbox does not exist.
    Unknown,
    /// The mailbox exists and is full.
    Full,
    /// The mailbox existed and is closed.
    Disabled,
    /// The domain accepts every local part.
    CatchAll,
    /// The domain accepts no mail (RFC 7505).
    NullMx,
    /// The domain does not exist.
    NoDomain,
}

/// A valid world, indexed by name.
#[derive(Debug)]
pub(super) struct Directory {
    seed: u64,
    hosts: Vec<HostConfig>,
    domains: HashMap<String, DirectoryEntry>,
}

/// A domain with its hosts and mailboxes.
#[derive(Debug)]
struct DirectoryEntry {
    /// Indices of its hosts, the preferred first.
    hosts: Vec<usize>,
    null_mx: bool,
    catch_all: bool,
    known_share: f64,
    mailboxes: HashMap<String, Truth>,
}

impl World {
    /// Parses a world from TOML and validates it.
    ///
    /// # Errors
    /// Fails with the first fault and its key.
    pub fn from_toml(text: &str) -> Result<Self, WorldError> {
        let world: Self = toml::from_str(text).map_err(|error| WorldError::Toml(error.into()))?;
        Directory::new(&world)?;
        Ok(world)
    }

    /// Returns the world of `smtp-pool verify --sandbox`. It has at least one domain for each behaviour that a
    /// verifier meets.
    ///
    /// # Panics
    /// Never: a test parses the embedded description.
    #[must_use]
    pub fn demo() -> Self {
        Self::from_toml(Self::DEMO).expect("the embedded world is valid")
    }
}

impl Directory {
    pub(super) fn new(world: &World) -> Result<Self, WorldError> {
        let hosts = world.expanded_hosts()?;
        let mut by_name = HashMap::new();
        for (index, host) in hosts.iter().enumerate() {
            let name = parse_name("host", &host.name)?;
            if !host.listen.ip().is_loopback() {
                return Err(WorldError::Listen(name));
            }
            if let Some(fault) = host.faults.iter().find(|fault| !fault.is_possible()) {
                return Err(WorldError::Fault { host: name, fault: Box::new(fault.clone()) });
            }
            if by_name.insert(name.clone(), index).is_some() {
                return Err(WorldError::Duplicate { kind: "host", name });
            }
        }
        let mut domains = HashMap::new();
        for config in world.expanded_domains()? {
            let name = parse_name("domain", &config.name)?;
            let entry = DirectoryEntry::new(&name, &config, &by_name)?;
            if domains.insert(name.clone(), entry).is_some() {
                return Err(WorldError::Duplicate { kind: "domain", name });
            }
        }
        Ok(Self { seed: world.seed, hosts, domains })
    }

    /// Returns the hosts in the order of the description.
    pub(super) fn hosts(&self) -> &[HostConfig] {
        &self.hosts
    }

    /// Returns each domain with the indices of its hosts; a null MX has none.
    pub(super) fn domains(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.domains.iter().map(|(name, entry)| (&**name, entry.mx()))
    }

    pub(super) fn domain(&self, name: &str) -> Option<&[usize]> {
        self.domains.get(name).map(DirectoryEntry::mx)
    }

    /// Returns the state of the address.
    pub(super) fn truth(&self, mailbox: &Mailbox) -> Truth {
        match self.domains.get(mailbox.domain()) {
            Some(entry) => entry.truth(self.seed, mailbox),
            None => Truth::NoDomain,
        }
    }

    /// Returns the state of the address, if the host serves its domain.
    pub(super) fn truth_at(&self, host: usize, mailbox: &Mailbox) -> Option<Truth> {
        let entry = self.domains.get(mailbox.domain())?;
        entry.mx().contains(&host).then(|| entry.truth(self.seed, mailbox))
    }
}

impl DirectoryEntry {
    fn new(name: &str, config: &DomainConfig, by_name: &HashMap<String, usize>) -> Result<Self, WorldError> {
        if !(0.0..=1.0).contains(&config.known_share) {
            return Err(WorldError::Share(name.into()));
        }
        let index = |host: &String| {
            let index = by_name.get(host.to_ascii_lowercase().as_str()).copied();
            index.ok_or_else(|| WorldError::NoHost { domain: name.into(), host: host.clone() })
        };
        let hosts: Vec<_> = config.hosts.iter().map(index).collect::<Result<_, _>>()?;
        if hosts.is_empty() && !config.null_mx {
            return Err(WorldError::NoHost { domain: name.into(), host: String::new() });
        }
        let kinds =
            [(&config.users, Truth::Known), (&config.full, Truth::Full), (&config.disabled, Truth::Disabled)];
        let mailboxes = kinds
            .into_iter()
            .flat_map(|(names, truth)| names.iter().map(move |name| (canonical(name).into_owned(), truth)));
        Ok(Self {
            hosts,
            null_mx: config.null_mx,
            catch_all: config.catch_all,
            known_share: config.known_share,
            mailboxes: mailboxes.collect(),
        })
    }

    fn mx(&self) -> &[usize] {
        if self.null_mx { &[] } else { &self.hosts }
    }

    fn truth(&self, seed: u64, mailbox: &Mailbox) -> Truth {
        if self.null_mx {
            return Truth::NullMx;
        }
        let local_part = canonical(mailbox.local_part());
        if let Some(&truth) = self.mailboxes.get(&*local_part) {
            return truth;
        }
        let chance =
            || chance::unit(chance::hash(seed, &[local_part.as_bytes(), mailbox.domain().as_bytes()]));
        match () {
            () if self.catch_all => Truth::CatchAll,
            () if local_part == "postmaster" => Truth::Known,
            () if self.known_share > 0.0 && chance() < self.known_share => Truth::Known,
            () => Truth::Unknown,
        }
    }
}

fn parse_name(kind: &'static str, name: &str) -> Result<String, WorldError> {
    match Domain::parse(name) {
        Ok(name) => Ok(name.as_str().into()),
        Err(source) => Err(WorldError::Name { kind, name: name.into(), source }),
    }
}
