//! TLS 1.2 and 1.3 for the client: [`TlsPolicy`] says when, [`TlsConfig`] says how, and [`TlsConnector`] does the
//! handshake.

mod config;
mod connector;
mod policy;
// Two attributes, because clippy does not recognize `all(test, ..)` as test code.
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;

pub use config::{Roots, TlsConfig, TlsVersion};
pub use connector::{TlsConnector, TlsInfo};
pub use policy::{ParseTlsPolicyError, TlsPolicy};
