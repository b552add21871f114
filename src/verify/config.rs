//! The settings of a verifier, with their defaults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Classifier, Lists, Providers, Routes, policy::deadlines::Deadlines};
use crate::{
    client::{ClientConfig, Timeouts},
    proto::{ClientName, ReversePath},
};

/// The settings of a [`Verifier`](super::Verifier).
///
/// The defaults stay within what postmasters accept. The client name has no default, because it must be the true name
/// of the host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifierConfig {
    /// Client name, TLS, local address and deadlines. [`VerifierConfig::new`] sets every deadline to 30 s. A server
    /// slower than that is as useless for a list as one that is down. The longest wait for a host follows from the
    /// deadlines ([`longest`](Self::longest)).
    pub client: ClientConfig,
    /// The sender in MAIL. The default is the null sender, `MAIL FROM:<>` (RFC 5321 4.5.5), because the verifier
    /// expects no bounces. Some servers accept the null sender only for bounces. For these, use a mailbox of your own
    /// domain.
    pub from: ReversePath,
    /// The pauses between attempts. An address with a temporary answer is asked again after each pause. The default is
    /// 5, 15, 30 and 60 min: greylisting usually lasts 5 to 15 min, rarely an hour (RFC 6647 5). Empty means one
    /// attempt.
    pub schedule: Vec<Duration>,
    /// Whether to test which domains accept any local part. Default: yes, because at such a domain acceptance does not
    /// prove that the mailbox exists.
    pub catch_all: bool,
    /// Which facts make an accepted address risky.
    pub risky: RiskPolicy,
    /// Role names, disposable domains and free domains in addition to the built-in ones.
    pub lists: Arc<Lists>,
    /// Whether to ask servers. Default: yes. Without it, only the syntax is checked, and nothing uses the network.
    pub probe: bool,
    /// The port of mail exchangers. Default: 25.
    pub port: u16,
    /// Whether MX records may point to private, loopback and link-local addresses. Default: no. A hostile domain could
    /// otherwise make the verifier connect to hosts of the local network. Addresses in [`routes`](Self::routes) may
    /// always be private.
    pub allow_private: bool,
    /// Static routes. Domains with a route are not looked up in the DNS.
    pub routes: Routes,
    /// The DNS servers. Empty, the default, means those of the system.
    pub nameservers: Vec<SocketAddr>,
    /// The most connections that may be open at once, to all servers together. Default: 256, a quarter of the usual
    /// limit of open files. While others wait, slow hosts get a sixteenth of them, and at least one. A host is slow if
    /// it is slow to connect, to greet or to answer.
    pub max_connections: usize,
    /// The providers and their limits. Default: the built-in table.
    pub providers: Option<Arc<Providers>>,
    /// The classifier of replies. Default: the built-in table of rules.
    pub classifier: Option<Arc<Classifier>>,
}

impl VerifierConfig {
    /// Returns the defaults with this client name, the name that EHLO sends.
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
    /// Returns the longest wait for one host, or one set of exchangers, with this many addresses. It includes all
    /// attempts and the pauses between them. The verifier gives up a silent or too slow host after that time. The
    /// remaining addresses get [`TimeoutExceeded`](super::SubStatus::TimeoutExceeded).
    ///
    /// The wait follows from the [deadlines](Timeouts). With 30 s each, a host has 2 min to open a connection. An
    /// answer may take 6 s on average, and all answers together 2 min more. The wait excludes delays by the rate limits
    /// of the provider, and the wait for a free connection.
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

    /// Returns the pause after this number of attempts, or `None` after the last.
    pub(super) fn pause(&self, attempts: u32) -> Option<Duration> {
        self.schedule.get(attempts.checked_sub(1)? as usize).copied()
    }
}

/// Which facts turn an accepted address from deliverable to risky.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RiskPolicy {
    /// Role addresses such as `info@`. Default: no, because they are ordinary mailboxes. Set it if a newsletter must
    /// not go to roles.
    pub role: bool,
    /// Disposable addresses. Default: yes, because they are used for a short time only.
    pub disposable: bool,
}

impl Default for RiskPolicy {
    fn default() -> Self {
        Self { role: false, disposable: true }
    }
}
