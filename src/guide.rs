//! Six short pages for those who write a program with this crate. Every example runs against the sandbox.
//!
//! | page | for |
//! |---|---|
//! | [`verify_a_signup`] | one address at a time, with a deadline |
//! | [`verify_a_list`] | many addresses, as a stream |
//! | [`send`] | messages over a pool |
//! | [`pool_sizing`] | how many connections |
//! | [`testing`] | tests of your own, without a network |
//! | [`errors_and_retries`] | what to repeat, and what to tell the user |

pub mod verify_a_signup {
    //! Verify an address while its owner waits at a form.
    //!
    //! - Make one [`Verifier`](crate::verify::Verifier) when the program starts, and share it.
    //! - Set a deadline. A server may greylist a new client, or take a minute.
    //! - Fail open: refuse only what is [`Undeliverable`](crate::verify::Status::Undeliverable). Every other status says
    //!   that the mailbox may exist.
    //!
    //! ```
    //! use std::time::Duration;
    //! use smtp_pool::{metrics::Metrics, proto::ClientName, verify::{Status, Verifier, VerifierConfig}};
    //! # use smtp_pool::{sandbox::{Sandbox, World}, verify::Routes};
    //!
    //! /// Returns whether the form accepts the address.
    //! async fn accepts(verifier: &Verifier, address: &str) -> bool {
    //!     let mut records = verifier.verify_all([address.to_owned()]);
    //!     match tokio::time::timeout(Duration::from_secs(3), records.next()).await {
    //!         Ok(Some(record)) => record.status != Status::Undeliverable,
    //!         _ => true,
    //!     }
    //! }
    //!
    //! # #[tokio::main(flavor = "current_thread")]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! let mut config = VerifierConfig::new(ClientName::parse("app.example.org")?);
    //! config.schedule = Vec::new(); // one attempt
    //! # let sandbox = Sandbox::start(World::demo()).await?;
    //! # config.routes = Routes::only(sandbox.mx_records());
    //! let verifier = Verifier::new(config, Metrics::new().into())?;
    //! assert!(accepts(&verifier, "ann@good.test").await);
    //! assert!(!accepts(&verifier, "nobody@good.test").await);
    //! # Ok(()) }
    //! ```
    //!
    //! The name of the client must resolve to the address that you connect from. Port 25 must be open outwards; many
    //! clouds block it. `smtp-pool doctor` checks both.
}

pub mod verify_a_list {
    //! Verify many addresses.
    //!
    //! [`Verifier::verify_all`](crate::verify::Verifier::verify_all) takes any iterator, and asks as fast as the servers
    //! allow. Records come in the order of the answers. Memory does not grow with the list.
    //!
    //! ```
    //! use smtp_pool::{metrics::Metrics, proto::ClientName, verify::{Status, Verifier, VerifierConfig}};
    //! # use smtp_pool::{sandbox::{Sandbox, World}, verify::Routes};
    //! # #[tokio::main(flavor = "current_thread")]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! # let sandbox = Sandbox::start(World::demo()).await?;
    //!
    //! let mut config = VerifierConfig::new(ClientName::parse("app.example.org")?);
    //! # config.routes = Routes::only(sandbox.mx_records());
    //! let verifier = Verifier::new(config, Metrics::new().into())?;
    //! let list = ["ann@good.test", "nobody@good.test", "no address"].map(str::to_owned);
    //! let mut undeliverable = Vec::new();
    //! let mut records = verifier.verify_all(list);
    //! while let Some(record) = records.next().await {
    //!     if record.status == Status::Undeliverable {
    //!         undeliverable.push((record.address, record.sub_status.as_str()));
    //!     }
    //! }
    //! undeliverable.sort();
    //! assert_eq!(undeliverable, [
    //!     ("no address".to_owned(), "failed_syntax_check"),
    //!     ("nobody@good.test".to_owned(), "mailbox_not_found"),
    //! ]);
    //! # Ok(()) }
    //! ```
    //!
    //! A temporary answer is asked again after 5, 15, 30 and 60 minutes
    //! ([`VerifierConfig::schedule`](crate::verify::VerifierConfig::schedule)). So a list may take hours, because some
    //! servers greylist. For lists that must survive a restart, use `job` or the command `smtp-pool verify`.
}

pub mod send {
    //! Send a message to several recipients.
    //!
    //! A [`Pool`](crate::pool::Pool) with a [`server`](crate::pool::Config::server) sends all mail there, as to a relay.
    //! With a [`Route`](crate::pool::Route), such as [`Resolver`](crate::verify::Resolver), each domain has its own.
    //!
    //! ```
    //! use smtp_pool::{pool::{Envelope, Key, Pool}, proto::{Mailbox, ReversePath}};
    //! # use smtp_pool::sandbox::{Sandbox, World};
    //! # #[tokio::main(flavor = "current_thread")]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! # let sandbox = Sandbox::start(World::demo()).await?;
    //! # let relay = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
    //!
    //! let pool = Pool::builder().server(relay.parse::<Key>()?).build()?; // "smtp.example.com:587"
    //! let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test")?)
    //!     .with(Mailbox::parse("nobody@good.test")?);
    //! let delivery = pool.send(&envelope, b"Subject: Hello\r\n\r\nHello.\r\n").await?;
    //! for (recipient, outcome) in &delivery.recipients {
    //!     match outcome {
    //!         Ok(reply) if reply.is_positive() => println!("{recipient}: taken"),
    //!         Ok(reply) => println!("{recipient}: refused with {reply}"),
    //!         Err(error) => println!("{recipient}: not known: {error}"),
    //!     }
    //! }
    //! assert!(!delivery.is_complete());
    //! # Ok(()) }
    //! ```
    //!
    //! Another crate makes the message: `send` takes its octets as they are. A message is never sent twice. If a connection
    //! breaks after the message was sent, the outcome is an error, because the server may have it.
}

pub mod pool_sizing {
    //! How many connections a pool needs.
    //!
    //! A connection does one transaction at a time. So the number of connections is the rate of transactions, times the
    //! time of one. At 50 transactions a second of 40 ms each, two are busy. Take twice that for bursts.
    //!
    //! - [`max_connections`](crate::pool::Config::max_connections) limits one server. Few accept more than ten of a client.
    //! - [`max_total_connections`](crate::pool::Config::max_total_connections) limits all together. It must stay below the
    //!   limit of open files.
    //! - [`per_minute`](crate::pool::Config::per_minute) limits the checkouts of each server, for providers with a rate.
    //! - [`min_idle`](crate::pool::Config::min_idle) keeps connections open for the first callers.
    //!
    //! ```
    //! use std::time::Duration;
    //! use smtp_pool::pool::Pool;
    //! let pool = Pool::builder()
    //!     .max_connections(4)
    //!     .per_minute(600)
    //!     .acquire_timeout(Duration::from_secs(5)) // then the caller gets an error, in place of a longer wait
    //!     .build()?;
    //! assert_eq!(pool.status().waiting, 0);
    //! # Ok::<(), smtp_pool::pool::BuildError>(())
    //! ```
    //!
    //! Measure instead of guessing: the metric `smtp_pool_connections{state="waiting"}` shows that there are too few.
}

pub mod testing {
    //! Test a program without a network.
    //!
    //! The [sandbox](crate::sandbox) is a test double that speaks real SMTP. Describe servers, domains and mailboxes, and
    //! give its routes to the code under test. Faults show what the code does on a bad day.
    //!
    //! ```
    //! use smtp_pool::{pool::Pool, sandbox::{DomainConfig, Does, Fault, FaultStage, HostConfig, Sandbox, World}, verify::Routes};
    //! # #[tokio::main(flavor = "current_thread")]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! let mut host = HostConfig::new("mx.shop.test");
    //! // The first connection ends in place of the reply to RCPT.
    //! host.faults = vec![Fault::new(FaultStage::Rcpt, Does::Reply("451 4.3.0 try later".into())).to("bob")];
    //! let domain = DomainConfig::new("shop.test", ["ann", "bob"]);
    //! let sandbox = Sandbox::start(World::new(vec![host], vec![domain])).await?;
    //!
    //! let pool = Pool::builder().route(Routes::only(sandbox.mx_records())).build()?;
    //! assert!(pool.verify_email("ann@shop.test").await?.is_accepted());
    //! assert_eq!(pool.verify_email("bob@shop.test").await?.reply.code(), 451);
    //! assert_eq!(sandbox.stats("mx.shop.test").ok_or("no such host")?.messages, 0);
    //! # Ok(()) }
    //! ```
    //!
    //! Each sandbox has ports of its own, so tests may run side by side. It ends when it is dropped.
}

pub mod errors_and_retries {
    //! What to repeat, and what to tell the user.
    //!
    //! | what came | what it means | what to do |
    //! |---|---|---|
    //! | a reply with 2yz | done | |
    //! | a reply with 4yz | not now: greylisting, a full mailbox, a busy server | ask again after some minutes |
    //! | a reply with 5yz | refused | do not repeat; of an address, see who is blamed |
    //! | [`CheckoutError`](crate::pool::CheckoutError) | no connection | repeat after a pause |
    //! | [`SessionError`](crate::client::SessionError) | the connection broke | repeat, unless a message was on its way |
    //! | [`ConfigError`](crate::pool::ConfigError), [`BuildError`](crate::pool::BuildError) | a mistake in the program | fail at start |
    //!
    //! The pool repeats failed connects by itself, with growing pauses. After several failures, its circuit breaker answers
    //! at once. So do not add a loop around a checkout; show the error, and go on with the next work.
    //!
    //! Each error has a `kind`, a short name for metrics and logs, and a chain of sources for people:
    //!
    //! ```
    //! use std::{error::Error, time::Duration};
    //! use smtp_pool::pool::{CheckoutError, Pool};
    //! # #[tokio::main(flavor = "current_thread")]
    //! # async fn main() -> Result<(), Box<dyn Error>> {
    //! # let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    //! let pool = Pool::builder().max_retries(0).build()?;
    //! let error = pool.get(&closed).await.unwrap_err(); // a port that nothing listens on
    //! assert_eq!(error.kind(), "refused");
    //! if let CheckoutError::Connect { source, .. } = &error {
    //!     assert!(source.is_transient()); // the server may come back
    //! }
    //! let mut cause: Option<&dyn Error> = Some(&error);
    //! while let Some(error) = cause {
    //!     println!("{error}");
    //!     cause = error.source();
    //! }
    //! # Ok(()) }
    //! ```
}
