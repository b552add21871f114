//! The client: one connection to one server.
//!
//! [`Connector`] dials and greets, [`Session`] speaks, [`Connection`] is a session that knows its server. A refusal
//! by the server is a [`Reply`](crate::proto::Reply); an error means that the session cannot go on.

mod config;
mod connect;
mod connection;
mod envelope;
mod error;
mod latencies;
mod log;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod session;
mod verification;

pub use self::{
    config::Timeouts,
    connect::{ClientConfig, Connector, Endpoint},
    connection::Connection,
    envelope::EnvelopeReplies,
    error::{ConnectError, SessionError},
    session::{MAX_IN_FLIGHT, Session},
    verification::Verification,
};
