//! SMTP for those who keep connections: a client stack, and polite verification of e-mail addresses in bulk.
//!
//! The layers, from the wire up; each imports only what stands above it here:
//!
//! | module | what it is | feature |
//! |---|---|---|
//! | [`proto`] | the protocol without I/O: commands, replies, addresses, dialogue | |
//! | [`net`] | TCP by Happy Eyeballs, TLS by policy | |
//! | [`metrics`] | latencies, connections, checkouts and health by server; HDR histograms, Prometheus text | (`hdr-log`) |
//! | [`client`] | sessions and connections | |
//! | [`pool`] | connections kept and lent, to any number of servers | |
//! | `verify` | does this mailbox exist? for millions of addresses | `verify` |
//! | `job` | lists of any size, verified and nothing lost | `job` |
//! | `sandbox` | an SMTP server and a world of mail exchangers on loopback | `sandbox` |
//! | `blocking` | the same without async | `blocking` |
//!
//! # Verify a list
//!
//! Here over the sandbox, which is why this example runs; without routes the MX records of the world are asked.
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
//! config.routes.insert("good.test", Ok(vec![Endpoint { host: "mx.good.test".into(), addrs }]));
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
