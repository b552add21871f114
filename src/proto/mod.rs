//! The protocol without I/O: bytes in, values out.

mod address;
mod dot;
mod reply;

pub use address::{AddressError, AddressErrorKind, ClientName, Domain, Host, Mailbox, ReversePath};
pub use dot::{DotStuffer, DotUnstuffer};
pub use reply::EnhancedCode;
