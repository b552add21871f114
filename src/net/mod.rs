//! The network: opens connections and encrypts them, before any SMTP.
//!
//! ```text
//! addresses ─▶ is_public ─▶ Dialer::dial ─▶ Stream ─▶ Stream::upgrade ─▶ Stream, encrypted
//!              (a filter)   (RFC 8305)                (TlsConnector)
//! ```
//!
//! - [`Dialer`] opens one TCP connection to a list of resolved addresses, in parallel attempts (Happy Eyeballs).
//! - [`TlsConnector`] puts TLS 1.2 or 1.3 on it. [`TlsPolicy`] says when, and [`TlsConfig`] says how.
//! - [`Connect`] takes the place of the dialer for transports that are not TCP.
//! - [`Stream`] is the result, plain or encrypted, with the same interface.
//! - [`is_public`] returns true for addresses on the public Internet. A hostile MX record may point to others.
//! - [`NetError`] is the error; its [`ErrorKind`] is a short name for metrics and decisions.
//!
//! Every wait has a limit: the dialer's timeout, or the caller's deadline. Names are not resolved here. No future of
//! this layer leaves a task behind: dropping one closes its connections.
//!
//! Files: `dial`, `connect`, `public`, `stream`, `error`, and `tls/` with `policy`, `config` and `connector`.

mod connect;
mod dial;
mod error;
mod public;
mod stream;
mod tls;

pub use connect::{Connect, ConnectFuture, ConnectTarget};
pub use dial::Dialer;
pub use error::{AttemptError, DialError, ErrorKind, NetError, TlsConfigError, TlsError};
pub use public::is_public;
pub use stream::Stream;
/// The library of TLS, for [`TlsConfig::rustls`] and for the certificates in [`TlsInfo`].
pub use tokio_rustls::rustls;

pub use tls::{ParseTlsPolicyError, Roots, TlsConfig, TlsConnector, TlsInfo, TlsPolicy, TlsVersion};
