//! SMTP servers on loopback, for dry runs, tests and benchmarks.
//!
//! A [`World`] describes the MX hosts, their behaviour, and the domains and mailboxes that they serve.
//! [`Sandbox::start`] starts it: one listening socket per host, with real SMTP. [`Sandbox::expected`] returns the
//! true state of an address, and [`Sandbox::stats`] counts the actions of clients. So a test can compare verdicts
//! with the truth, and prove that no limit was exceeded.
//!
//! # A test double for your own tests
//!
//! A program that uses the pool or the verifier needs no mock in its tests. Start a sandbox, and give its routes to the
//! code under test. It speaks real SMTP on a port of its own, so tests may run side by side. It ends when it is dropped.
//!
//! ```
//! # #[cfg(feature = "verify")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smtp_pool::{
//!     metrics::Metrics,
//!     proto::ClientName,
//!     sandbox::{DomainConfig, HostConfig, Sandbox, World},
//!     verify::{Routes, Status, Verifier, VerifierConfig},
//! };
//!
//! let domain = DomainConfig::new("customer.test", ["ann"]);
//! let sandbox = Sandbox::start(World::new(vec![HostConfig::new("mx.customer.test")], vec![domain])).await?;
//!
//! let mut config = VerifierConfig::new(ClientName::parse("app.example.org")?);
//! config.routes = Routes::only(sandbox.mx_records());
//! let verifier = Verifier::new(config, Metrics::new().into())?;
//!
//! let mut records = verifier.verify_all(["ann@customer.test".to_owned()]);
//! let record = records.next().await.ok_or("no record")?;
//! assert_eq!(record.status, Status::Deliverable);
//! assert!(sandbox.stats("mx.customer.test").ok_or("no such host")?.connections > 0);
//! # Ok(()) }
//! # #[cfg(not(feature = "verify"))]
//! # fn main() {}
//! ```
//!
//! # The description
//!
//! ```toml
//! seed = 1                                  # the seed of all random choices
//!
//! [[host]]                                  # see HostConfig; every behaviour is one field
//! name = "mx.good.test"
//! latency = "5ms..20ms"                     # a delay, or a range to draw from
//! errors = { soft = 10, hard = 20, delay = "1s", junk = 100 }
//! faults = [{ at = "rcpt", nth = 3, does = "eof" }]
//!
//! [[domain]]                                # see DomainConfig
//! name = "good.test"
//! hosts = ["mx.good.test"]                  # in order of preference; default: the first host
//! users = ["ann", "bob"]
//! ```
//!
//! A host or domain with `count` stands for many of them, numbered from 0 at the `{}` in the name. So a world of
//! 1,000 hosts and 20,000 domains takes ten lines.
//!
//! # Faults
//!
//! Each entry of `faults` says where it happens ([`FaultStage`]), for which recipient and how often ([`Fault`]), and its
//! effect ([`Does`]):
//!
//! | field | value | meaning |
//! |---|---|---|
//! | `at` | `"connect"` (default), `"ehlo"`, `"helo"`, `"lhlo"`, `"starttls"`, `"tls"`, `"auth"`, `"mail"`, `"rcpt"`, `"data"`, `"message"`, `"bdat"`, `"rset"`, `"noop"`, `"vrfy"`, `"quit"` | the reply to this |
//! | | `"any"` | every reply of the connection |
//! | `to` | `"ann"`, `"ann@good.test"` | only RCPT for this local part or address |
//! | `nth` | `3` | only the third time on a connection |
//! | `every` | `7` | every seventh time; with `nth`, that one is the first |
//! | `does` | `"garbage"` | a line that is not a reply |
//! | | `"silence"` | nothing more is sent |
//! | | `"skip"` | the reply is omitted |
//! | | `"eof"`, `"reset"` | the connection ends, with FIN or RST |
//! | | `"truncate"` | it ends in the middle of the reply |
//! | | `"endless_continuation"`, `"long_line"` | a reply without end, or with a line of 10 MB |
//! | | `"extra_reply"` | the reply, and `250` in the same packet |
//! | | `{ surplus = {} }` | the reply twice in the same packet |
//! | | `{ surplus = { after = "2ms" } }` | the reply twice, the second 2 ms later in a separate packet |
//! | | `{ surplus = { text = "250 Ok", after = "2ms" } }` | the reply, and this text 2 ms later |
//! | | `"swap"` | the reply and the next one are swapped |
//! | | `{ split = "2ms" }` | the reply in pieces, 2 ms apart |
//! | | `{ reply = "550-no\r\n550 such user" }` | this text in place of the reply |
//!
//! The behaviour of real servers, as examples:
//!
//! ```
//! # use smtp_pool::sandbox::World;
//! # World::from_toml(r#"
//! [[host]]
//! name = "mx.qpsmtpd.test"                  # EHLO inside a session keeps the transaction; plain connections only
//! without = ["STARTTLS"]
//! faults = [{ at = "ehlo", nth = 2, every = 1, does = { reply = "503 5.5.1 Duplicate HELO/EHLO" } }]
//!
//! [[host]]
//! name = "mx.exim.test"                     # EHLO, RSET and NOOP are counted
//! max_nonmail = 10
//!
//! [[host]]
//! name = "mx.sendmail.test"                 # no reply after the third EHLO
//! without = ["STARTTLS"]
//! faults = [{ at = "ehlo", nth = 4, every = 1, does = "silence" }]
//!
//! [[host]]
//! name = "mx.doubles.test"                  # every seventh reply is sent twice, once late
//! faults = [{ at = "any", every = 7, does = { surplus = { after = "2ms" } } }]
//!
//! [[host]]
//! name = "mx.mixed.test"                    # one reply, two codes
//! faults = [{ at = "rcpt", to = "bob", does = { reply = "250-accepted\r\n550 5.1.1 or not" } }]
//!
//! [[host]]
//! name = "mx.no-rset.test"                  # RSET is refused, and the transaction stays
//! faults = [{ at = "rset", does = { reply = "502 5.5.1 Command not implemented" } }]
//!
//! [[host]]
//! name = "mx.harvest.test"                  # ten unknown recipients, then all are refused for a minute
//! harvest_defence = { after = 10, lasts = "60s" }
//! # "#)?;
//! # Ok::<(), smtp_pool::sandbox::WorldError>(())
//! ```
//!
//! Two runs of a world with the same dialogues give the same replies. Random choices come from the seed, and the only
//! clock is tokio's, which tests may pause.
//!
//! | file | content |
//! |---|---|
//! | `world`, `host`, `fault`, `delay` | the description, as TOML or in code |
//! | `directory`, `local_part`, `greylist`, `harvest` | mailboxes and their state; comparison of local parts; greylisted triplets; count of unknown recipients |
//! | `server`, `tls`, `stats` | sockets, certificates, counters |
//! | `connection`, `transport` | one connection: octets, delays, faults |
//! | `session` | the SMTP server without I/O |

mod chance;
mod connection;
mod delay;
mod directory;
mod fault;
mod greylist;
mod harvest;
mod host;
mod local_part;
mod server;
mod session;
mod stats;
mod tls;
mod transport;
mod world;

#[cfg(test)]
mod tests;

pub use self::{
    delay::{Delay, DelayError},
    directory::Truth,
    fault::{Does, Fault, FaultStage},
    host::{Blocked, ErrorLimits, Extension, HarvestDefence, HostConfig, Tarpit},
    server::{HostRoute, Sandbox},
    stats::HostStats,
    world::{DomainConfig, World, WorldError},
};
