//! What a verifier may be told, and the defaults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Classifier, Lists, Providers, Routes, policy::deadlines::Deadlines};
use crate::{
    client::{ClientConfig, Timeouts},
    proto::{ClientName, ReversePath},
};

/// How to verify.
///
/// The defaults are what a postmaster accepts; there is none for our own name, which must be true.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifierConfig {
    /// Name, TLS, local address and deadlines. [`VerifierConfig::new`] sets deadlines of 30 s: a server slower than that is
    /// as useless for a list as one that is down. How long a host is waited for in all follows from them
    /// ([`longest`](Self::longest)).
    pub client: ClientConfig,
    /// The sender that MAIL names: empty by default, `MAIL FROM:<>`, which promises that nothing is to be sent back
    /// to. Some servers refuse it for other mail than bounces; a mailbox of your own domain works there.
    pub from: ReversePath,
    /// The pauses after which an address whose answer was a temporary one is asked again, as often as there are pauses:
    /// 5, 15, 30 and 60 min, since greylisting mostly lasts 5 to 15 min and now and then an hour (RFC 6647 5). Empty to
    /// ask once.
    pub schedule: Vec<Duration>,
    /// Whether to find out which domains accept any address: yes. Without it, acceptance may tell nothing.
    pub catch_all: bool,
    /// Which facts make an accepted address risky.
    pub risky: RiskPolicy,
    /// Roles, disposable and free domains beside the built-in ones.
    pub lists: Arc<Lists>,
    /// Whether to ask servers at all: yes. Otherwise only the syntax is checked, without any network.
    pub probe: bool,
    /// The port of mail exchangers: 25.
    pub port: u16,
    /// Whether MX records may point to private, loopback and link-local addresses: no, since a hostile domain could
    /// have us connect into our own network. Routes are not concerned.
    pub allow_private: bool,
    /// Ways that are given instead of looked up.
    pub routes: Routes,
    /// DNS servers; those of the system by default.
    pub nameservers: Vec<SocketAddr>,
    /// Connections that may be open at once, to all servers together: 256, a quarter of the usual limit of open files.
    /// Hosts that are slow, to connect, to greet or to answer, get a sixteenth of them while others wait, and at least one.
    pub max_connections: usize,
    /// Providers and what they are asked at the most; without, those that are compiled in.
    pub providers: Option<Arc<Providers>>,
    /// What replies mean; without one, the built-in table of rules tells.
    pub classifier: Option<Arc<Classifier>>,
}

impl VerifierConfig {
    /// The defaults, under our own name.
    #[must_use]
    pub fn new(name: ClientName) -> Self {
        let mut client = ClientConfig::new(name);
        client.timeouts = Timeouts::all(Duration::from_secs(30));
        Self {
            client,
            from: ReversePath::Null,
            schedule: [5, 15, 30, 60].map(|minutes| Duration::from_secs(60 * minutes)).to_vec(),
            catch_all: true,
            risky: RiskPolicy::default(),
            lists: Arc::default(),
            probe: true,
            port: 25,
            allow_private: false,
            routes: Routes::new(),
            nameservers: Vec::new(),
            max_connections: 256,
            providers: None,
            classifier: None,
        }
    }
}

impl VerifierConfig {
    /// The longest that one host, or one set of exchangers, may be waited for with so many addresses, all attempts and the
    /// pauses between them included. A host that is silent, or that answers too slowly, is given up by then, and what is
    /// left is [`TimeoutExceeded`](super::SubStatus::TimeoutExceeded).
    ///
    /// It follows from the [time-outs](Timeouts): with 30 s for everything, a host has two minutes to open a connection, and
    /// two minutes beyond the six seconds that an answer may take on average. The limits of rate of the provider are left
    /// out, and so is the wait for connections while others use them all.
    ///
    /// ```
    /// use smtp_pool::{proto::ClientName, verify::VerifierConfig};
    /// let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org")?);
    /// config.schedule = Vec::new();
    /// assert_eq!(config.longest(1_000).as_secs(), 6_000 + 246);
    /// # Ok::<(), smtp_pool::proto::AddressError>(())
    /// ```
    #[must_use]
    pub fn longest(&self, addresses: u64) -> Duration {
        let attempts = u32::try_from(self.schedule.len()).unwrap_or(u32::MAX).saturating_add(1);
        let waited = Deadlines::new(&self.client.timeouts).longest(addresses, attempts);
        self.schedule.iter().fold(waited, |sum, pause| sum.saturating_add(*pause))
    }

    pub(super) fn classifier(&self) -> &Classifier {
        self.classifier.as_deref().unwrap_or_else(|| Classifier::builtin())
    }

    pub(super) fn providers(&self) -> &Providers {
        self.providers.as_deref().unwrap_or_else(|| Providers::builtin())
    }

    /// The pause before the next attempt, after so many; none after the last.
    pub(super) fn pause(&self, attempts: u32) -> Option<Duration> {
        self.schedule.get(attempts.checked_sub(1)? as usize).copied()
    }
}

/// Which facts turn an accepted address from deliverable into risky.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiskPolicy {
    /// Role addresses: no by default, since they are mailboxes as good as others; senders of newsletters may mind.
    pub role: bool,
    /// Disposable addresses: yes by default, since nobody reads them tomorrow.
    pub disposable: bool,
}

impl Default for RiskPolicy {
    fn default() -> Self {
        Self { role: false, disposable: true }
    }
}
