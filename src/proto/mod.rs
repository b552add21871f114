//! The protocol without I/O: bytes in, values out.

mod dot;
mod reply;

pub use dot::{DotStuffer, DotUnstuffer};
pub use reply::EnhancedCode;
