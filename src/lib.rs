//! SMTP client stack.

pub mod client;
pub mod metrics;
pub mod net;
pub mod proto;
#[cfg(feature = "verify")]
pub mod verify;
