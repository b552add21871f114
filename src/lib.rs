//! SMTP client stack.

pub mod proto;
#[cfg(feature = "verify")]
pub mod verify;
