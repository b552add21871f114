//! The behaviour of an MX host: one field for each.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;

use super::{Delay, Fault, FaultStage};

/// An MX host: one listening socket and its server. The default is a fast server without limits that offers every
/// extension.
///
/// ```
/// use smtp_pool::sandbox::{ErrorLimits, HostConfig};
/// let mut host = HostConfig::new("mx.good.test");
/// host.errors = Some(ErrorLimits::default()); // Postfix's
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// The name, in the banner and in the certificate. With `count`, it contains `{}`.
    pub name: String,
    /// The number of hosts of this kind, numbered from 0 at the `{}` of the name.
    pub count: Option<u32>,
    /// The address to listen on: a loopback address. Port 0, the default, is any free one.
    pub listen: SocketAddr,
    /// True if the host does not listen, so that the system refuses connections. For failover to the next MX.
    pub down: bool,
    /// TLS from the first octet (RFC 8314 3.3), as on port 465.
    pub implicit_tls: bool,
    /// LMTP (RFC 2033): LHLO in place of EHLO, and a reply per recipient after the message.
    pub lmtp: bool,

    /// Extensions that the host does not offer or accept.
    pub without: Vec<Extension>,
    /// EHLO is refused with `502`, so that only HELO without extensions is left. Old servers do this, and firewalls
    /// that rewrite the dialogue (Cisco PIX).
    pub helo_only: bool,
    /// The longest message in octets, announced by SIZE (RFC 1870).
    pub size_limit: u64,
    /// MAIL is refused with `530 5.7.0` before STARTTLS.
    pub require_tls: bool,
    /// Users and passwords. If there are any, AUTH PLAIN and LOGIN are offered.
    pub accounts: BTreeMap<String, String>,

    /// The distance of the host: the replies to a group of commands arrive this much later. Several groups may be
    /// under way at the same time.
    pub latency: Delay,
    /// `220-` is sent at once, and `220 ` after this delay. A client that sends before it is refused with `521`, as
    /// by Postfix's postscreen.
    pub banner_delay: Delay,
    /// Sends replies octet by octet.
    pub tarpit: Option<Tarpit>,
    /// The limit of the client's silence, after which the connection ends with `421 4.4.2`.
    pub idle_timeout: Delay,

    /// The most open connections. Further ones get `421 4.7.0` as a banner, as by Postfix's anvil.
    pub max_connections: Option<u64>,
    /// Postfix's error counters.
    pub errors: Option<ErrorLimits>,
    /// The most recipients of a transaction. Further RCPT get `452 4.5.3`. Outlook.com has 1.
    pub rcpts_per_transaction: Option<u32>,
    /// With the null sender, a RCPT after an accepted one gets `550 5.7.1 Legitimate bounces are never sent to more
    /// than one recipient`. SpamExperts and a widely copied Exim ACL do this.
    pub one_bounce_recipient: bool,
    /// The most MAIL commands of a connection. Further ones get `421`, as by Exim's `smtp_accept_max_per_connection`.
    pub mails_per_connection: Option<u32>,
    /// LIMITS (RFC 9422) announces the two limits above. Exim does this.
    pub announce_limits: bool,
    /// The most RSET, NOOP, VRFY, EHLO, HELO and AUTH commands. A further one gets `554 Too many nonmail commands`,
    /// and the connection closes. One RSET and one greeting for each message, a greeting after STARTTLS, and the
    /// first AUTH are not counted. It is Exim's `smtp_accept_max_nonmail`, with 10 as its default there.
    pub max_nonmail: Option<u32>,
    /// The n-th command of a connection gets `421 4.3.2`, and the connection closes, as when a server shuts down.
    pub shutdown_at: Option<u32>,
    /// Replies do not show which command they answer: `250 Ok` to every command except EHLO, no enhanced codes, and
    /// no recipient in refusals.
    pub terse: bool,
    /// The connection closes right after a `5yz` to RCPT. gmx and ukr.net do this.
    pub close_after_refusal: bool,

    /// RCPT gets `450 4.2.0` until the triplet of client, sender and recipient is this old.
    pub greylist: Option<Delay>,
    /// The client's address is on a blocklist.
    pub blocked: Option<Blocked>,
    /// After too many unknown recipients, all recipients are refused as unknown.
    pub harvest_defence: Option<HarvestDefence>,

    /// The faults of the host.
    pub faults: Vec<Fault>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            count: None,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            down: false,
            implicit_tls: false,
            lmtp: false,
            without: Vec::new(),
            helo_only: false,
            size_limit: 10_240_000,
            require_tls: false,
            accounts: BTreeMap::new(),
            latency: Delay::ZERO,
            banner_delay: Delay::ZERO,
            tarpit: None,
            idle_timeout: Delay::from(Duration::from_secs(300)),
            max_connections: None,
            errors: None,
            rcpts_per_transaction: None,
            one_bounce_recipient: false,
            mails_per_connection: None,
            announce_limits: false,
            max_nonmail: None,
            shutdown_at: None,
            terse: false,
            close_after_refusal: false,
            greylist: None,
            blocked: None,
            harvest_defence: None,
            faults: Vec::new(),
        }
    }
}

impl HostConfig {
    /// Creates a host with the default behaviour.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(super) fn offers(&self, extension: Extension) -> bool {
        let left_out = self.terse && extension == Extension::EnhancedStatusCodes;
        !self.helo_only && !left_out && !self.without.contains(&extension)
    }
}

/// An extension that a host can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "named after their keywords")]
#[non_exhaustive]
pub enum Extension {
    /// RFC 2920. A host without it still answers a group, and counts it as improper pipelining.
    Pipelining,
    /// RFC 1870.
    Size,
    StartTls,
    /// RFC 2034. Without it no reply has an enhanced code.
    EnhancedStatusCodes,
    #[serde(rename = "8BITMIME")]
    EightBitMime,
    Dsn,
    SmtpUtf8,
    Chunking,
}

/// Postfix's error counters (`smtpd_soft_error_limit` and similar), with its defaults. An accepted message resets
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ErrorLimits {
    /// After this many errors every reply is delayed.
    pub soft: u32,
    /// At this many errors the connection closes with `421 4.7.0 … Error: too many errors`.
    pub hard: u32,
    /// The delay of a reply.
    pub delay: Delay,
    /// RSET, NOOP, VRFY, EHLO and HELO beyond this many count as errors, though they get `250`.
    pub junk: u32,
}

impl Default for ErrorLimits {
    fn default() -> Self {
        Self { soft: 10, hard: 20, delay: Duration::from_secs(1).into(), junk: 100 }
    }
}

/// The client's address is on a blocklist: `554 5.7.1 Service unavailable; Client host […] blocked using …`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Blocked {
    /// The reply that shows the block: `connect`, which also closes, or `ehlo`, `mail`, `rcpt`, …
    pub at: FaultStage,
    /// The number of RCPT commands, over all connections, after which the block begins.
    pub after: u64,
    /// The first refusals, this many, are `550 5.1.1 … User unknown` and do not mention the block, as by some
    /// servers.
    pub vague: u64,
}

impl Blocked {
    /// Creates a block that this reply shows, after this number of RCPT commands.
    #[must_use]
    pub fn new(at: FaultStage, after: u64) -> Self {
        Self { at, after, vague: 0 }
    }
}

/// A defence against directory harvesting: every recipient, known ones included, gets the `550 5.1.1 … User unknown`
/// of an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HarvestDefence {
    /// The number of unknown recipients after which it begins. The last of them is still refused as unknown.
    pub after: u32,
    /// Each connection is counted and refused by itself. Otherwise all connections are counted together, including
    /// later ones.
    pub per_connection: bool,
    /// The duration, after which the count begins again. If absent, it does not end.
    pub lasts: Option<Delay>,
}

impl Default for HarvestDefence {
    fn default() -> Self {
        Self { after: 10, per_connection: false, lasts: None }
    }
}

/// Replies sent octet by octet, as by OpenBSD's spamd and LaBrea.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tarpit {
    /// The time before each octet.
    pub octet: Delay,
    /// The first slow reply. All later ones are slow too.
    #[serde(default)]
    pub from: FaultStage,
}

impl Tarpit {
    /// Creates a tarpit with this time before each octet, from this reply on.
    #[must_use]
    pub fn new(octet: impl Into<Delay>, from: FaultStage) -> Self {
        Self { octet: octet.into(), from }
    }
}
