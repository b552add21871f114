//! TLS 1.2 and 1.3 for the client: when ([`TlsPolicy`]), how ([`TlsConfig`]), done ([`TlsConnector`]).

mod config;
mod connector;
mod policy;
// Two attributes, for clippy takes `all(test, ..)` for code that is not a test.
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;

pub use config::{Roots, TlsConfig, TlsVersion};
pub use connector::{TlsConnector, TlsInfo};
pub use policy::{ParseTlsPolicyError, TlsPolicy};
