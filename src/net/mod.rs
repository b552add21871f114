//! Bytes and deadlines: how a connection comes to be, before any SMTP is spoken on it.
//!
//! ```text
//! addresses ─▶ is_public ─▶ Dialer::dial ─▶ Stream::Plain ─▶ Stream::upgrade ─▶ Stream::Tls
//!              (a filter)   (RFC 8305)                       (TlsConnector)
//! ```
//!
//! - [`Dialer`] turns a list of resolved addresses into one TCP connection, racing them (Happy Eyeballs).
//! - [`TlsConnector`] puts TLS 1.2 or 1.3 over it; a [`TlsPolicy`] says when, a [`TlsConfig`] says how.
//! - [`Stream`] is the result, plain or encrypted, readable and writable alike.
//! - [`is_public`] tells addresses on the Internet from those that a hostile MX record might point at.
//! - [`NetError`] is what can go wrong; its [`ErrorKind`] is the short name for metrics and decisions.
//!
//! Every wait here has an end: the dialer's timeout, or the deadline handed in. Names are not resolved here, and
//! no future of this layer leaves a task behind: dropping one closes what it opened.

mod dial;
mod error;
mod public;
mod stream;
mod tls;

pub use dial::Dialer;
pub use error::{AttemptError, DialError, ErrorKind, NetError, TlsConfigError, TlsError};
pub use public::is_public;
pub use stream::Stream;
pub use tls::{ParseTlsPolicyError, Roots, TlsConfig, TlsConnector, TlsInfo, TlsPolicy, TlsVersion};
