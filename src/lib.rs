//! SMTP client stack.

pub mod metrics;
pub mod proto;
#[cfg(feature = "verify")]
pub mod verify;
