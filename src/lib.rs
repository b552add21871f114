//! SMTP client stack.

pub mod client;
pub mod metrics;
pub mod net;
pub mod proto;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "verify")]
pub mod verify;
