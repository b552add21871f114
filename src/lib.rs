//! SMTP client stack.

pub mod proto;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "verify")]
pub mod verify;
