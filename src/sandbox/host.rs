//! How an MX host behaves: each behaviour is one field.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;

use super::{Delay, Fault, FaultStage};

/// An MX host: one listening socket, and a server behind it. The default is a quick, patient server that offers
/// every extension.
///
/// ```
/// use smtp_pool::sandbox::{ErrorLimits, HostConfig};
/// let host = HostConfig {
///     name: "mx.good.test".into(),
///     errors: Some(ErrorLimits::default()), // Postfix's
///     ..HostConfig::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// The name, in the banner and in the certificate. With `count`, it holds `{}`.
    pub name: String,
    /// This many hosts of the same kind, numbered from 0 at the `{}` of the name.
    pub count: Option<u32>,
    /// Where to listen: a loopback address; port 0, the default, is any free one.
    pub listen: SocketAddr,
    /// Connections are refused by the system: nobody listens. For failover to the next MX.
    pub down: bool,
    /// TLS from the first octet (RFC 8314 3.3), as on port 465.
    pub implicit_tls: bool,
    /// LMTP (RFC 2033): LHLO in place of EHLO, and a reply per recipient after the message.
    pub lmtp: bool,

    /// Extensions *not* offered, nor understood.
    pub without: Vec<Extension>,
    /// EHLO is refused with `502`, so that only HELO is left and no extension: old servers, and firewalls that
    /// rewrite the dialogue (Cisco PIX).
    pub helo_only: bool,
    /// The longest message, announced by SIZE (RFC 1870).
    pub size_limit: u64,
    /// MAIL is refused with `530 5.7.0` before STARTTLS.
    pub require_tls: bool,
    /// Users and passwords; with any, AUTH PLAIN and LOGIN are offered.
    pub accounts: BTreeMap<String, String>,

    /// How far away the host is: each flight of replies arrives that much after its commands. Flights overlap, as
    /// on a long line.
    pub latency: Delay,
    /// `220-` comes at once and `220 ` that much later; whoever speaks in between is refused with `521`. Postfix's
    /// postscreen.
    pub banner_delay: Delay,
    /// Replies come octet by octet.
    pub tarpit: Option<Tarpit>,
    /// Silence for that long ends the connection with `421 4.4.2`.
    pub idle_timeout: Delay,

    /// More connections than this at once get `421 4.7.0` for a banner. Postfix's anvil.
    pub max_connections: Option<u64>,
    /// Postfix's error counters.
    pub errors: Option<ErrorLimits>,
    /// RCPT after so many accepted ones gets `452 4.5.3`; 1 is what Outlook.com does.
    pub rcpts_per_transaction: Option<u32>,
    /// With the null sender, RCPT after an accepted one gets `550 5.7.1 Legitimate bounces are never sent to more than one
    /// recipient`. SpamExperts, and a widely copied Exim ACL.
    pub one_bounce_recipient: bool,
    /// MAIL after so many gets `421`. Exim's `smtp_accept_max_per_connection`.
    pub mails_per_connection: Option<u32>,
    /// The two limits above are announced by LIMITS (RFC 9422). Exim does.
    pub announce_limits: bool,
    /// RSET, NOOP, VRFY, EHLO, HELO and AUTH beyond so many get `554 Too many nonmail commands`, and the connection
    /// closes. One RSET and one greeting a message, a greeting after STARTTLS and the first AUTH are not counted.
    /// Exim's `smtp_accept_max_nonmail`, 10 there.
    pub max_nonmail: Option<u32>,
    /// The n-th command of a connection gets `421 4.3.2`, and the connection closes: a server that shuts down.
    pub shutdown_at: Option<u32>,
    /// Replies do not tell what they answer: `250 Ok` to every command but EHLO, no enhanced codes, and refusals do
    /// not name the recipient.
    pub terse: bool,
    /// The connection closes right after a `5yz` to RCPT. gmx and ukr.net do.
    pub close_after_refusal: bool,

    /// RCPT gets `450 4.2.0` until client, sender and recipient have been known together for that long.
    pub greylist: Option<Delay>,
    /// The client's address is on a blocklist.
    pub blocked: Option<Blocked>,
    /// After too many recipients that do not exist, all recipients are refused as if they did not exist.
    pub harvest_defence: Option<HarvestDefence>,

    /// What goes wrong.
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
    /// A host with the default behaviour.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(super) fn offers(&self, extension: Extension) -> bool {
        let left_out = self.terse && extension == Extension::EnhancedStatusCodes;
        !self.helo_only && !left_out && !self.without.contains(&extension)
    }
}

/// An extension that a host may go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "named after their keywords")]
pub enum Extension {
    /// RFC 2920. A host without it still answers a group, and counts the client's fault.
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

/// Postfix's error counters (`smtpd_soft_error_limit` and its kin), with its defaults. A message that was accepted
/// sets them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorLimits {
    /// After so many errors every reply is delayed.
    pub soft: u32,
    /// At so many errors the connection closes with `421 4.7.0 … Error: too many errors`.
    pub hard: u32,
    /// How long a reply is delayed.
    pub delay: Delay,
    /// RSET, NOOP, VRFY, EHLO and HELO beyond so many count as errors, though they are answered with `250`.
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
pub struct Blocked {
    /// Which reply says so: `connect`, which closes too, or `ehlo`, `mail`, `rcpt`, …
    pub at: FaultStage,
    /// Only after the host has been asked for so many recipients, over all connections.
    pub after: u64,
    /// The first so many refusals of recipients do not say what is meant, but `550 5.1.1 … User unknown`, as some servers
    /// treat clients that they have come to dislike.
    pub vague: u64,
}

/// A defence against directory harvesting: every recipient, known mailboxes included, gets the `550 5.1.1 … User
/// unknown` of an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HarvestDefence {
    /// So many recipients that do not exist begin it; the last of them is still refused for its own sake.
    pub after: u32,
    /// Each connection is counted and refused by itself; otherwise all connections together, and also those that
    /// come later.
    pub per_connection: bool,
    /// How long it lasts, then the count begins anew; left out: for ever.
    pub lasts: Option<Delay>,
}

impl Default for HarvestDefence {
    fn default() -> Self {
        Self { after: 10, per_connection: false, lasts: None }
    }
}

/// Replies come octet by octet (OpenBSD's spamd, and LaBrea's idea).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tarpit {
    /// The time before each octet.
    pub octet: Delay,
    /// The first reply that is slow; all that follow are.
    #[serde(default)]
    pub from: FaultStage,
}
