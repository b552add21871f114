//! The protocol without I/O: bytes in, values out.

mod reply;

pub use reply::EnhancedCode;
