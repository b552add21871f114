#![cfg_attr(docsrs, feature(doc_cfg))]
//! An SMTP client with a connection pool, and bulk verification of e-mail addresses.
//!
//! The layers, from the wire up. Each module imports only from those above it in this table:
//!
//! | module | content | feature |
//! |---|---|---|
//! | [`proto`] | the protocol without I/O: commands, replies, addresses, dialogue | |
//! | [`net`] | TCP with Happy Eyeballs, TLS by policy | |
//! | [`metrics`] | latencies, connections, checkouts and health by server; HDR histograms, Prometheus text | (`hdr-log`) |
//! | [`client`] | sessions and connections | |
//! | [`pool`] | a pool of connections to any number of servers | |
//! | `verify` | verification of mailboxes, for millions of addresses | `verify` |
//! | `job` | durable jobs that verify lists of any size | `job` |
//! | `sandbox` | SMTP servers on loopback, for tests and dry runs | `sandbox` |
//! | `blocking` | the pool and the verifier without async | `blocking` |
//! | `guide` | six short pages: where to begin | `sandbox`, `verify` |
//!
//! # Verify a list
//!
//! This example runs against the sandbox. Without `routes`, the verifier looks up MX records.
//!
//! ```
//! # #[cfg(all(feature = "verify", feature = "sandbox"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smtp_pool::{
//!     client::Endpoint,
//!     metrics::Metrics,
//!     proto::ClientName,
//!     sandbox::{Sandbox, World},
//!     verify::{Routes, Status, Verifier, VerifierConfig},
//! };
//!
//! let sandbox = Sandbox::start(World::demo()).await?;
//! let addrs = vec![sandbox.addr("mx.good.test").ok_or("no such host")?];
//!
//! let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org")?);
//! config.routes = Routes::new();
//! config.routes.insert("good.test", Ok(vec![Endpoint::new("mx.good.test", addrs)]));
//! let verifier = Verifier::new(config, Metrics::new().into())?;
//!
//! let mut records = verifier.verify_all(["ann@good.test", "nobody@good.test"].map(str::to_owned));
//! while let Some(record) = records.next().await {
//!     let known = record.address == "ann@good.test";
//!     assert_eq!(record.status, if known { Status::Deliverable } else { Status::Undeliverable });
//! }
//! # Ok(()) }
//! # #[cfg(not(all(feature = "verify", feature = "sandbox")))]
//! # fn main() {}
//! ```
//!
//! # Without async
//!
//! ```no_run
//! # #[cfg(all(feature = "verify", feature = "blocking"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smtp_pool::{blocking::Verifier, metrics::Metrics, proto::ClientName, verify::VerifierConfig};
//!
//! let config = VerifierConfig::new(ClientName::parse("verifier.example.org")?);
//! let verifier = Verifier::new(config, Metrics::new().into())?;
//! if let Some(record) = verifier.verify("ann@example.com")? {
//!     println!("{:?}", record.status);
//! }
//! # Ok(()) }
//! # #[cfg(not(all(feature = "verify", feature = "blocking")))]
//! # fn main() {}
//! ```

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod client;
#[cfg(all(feature = "sandbox", feature = "verify"))]
pub mod guide;
#[cfg(feature = "job")]
pub mod job;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod proto;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "verify")]
pub mod verify;

/// The snippets of the README and of `docs/pool.md` compile.
#[cfg(all(doctest, feature = "verify"))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/pool.md")]
    struct PoolPage;
}
