//! SMTP client stack.

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod client;
pub mod metrics;
pub mod net;
pub mod proto;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "verify")]
pub mod verify;
