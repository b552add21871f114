//! Limits that several readers share.

/// The octets of a buffer.
pub(super) const BUFFER: usize = 64 * 1024;
/// The longest value of JSON that is parsed, 1 MiB. Parsed, it takes up to thirty times as much memory.
pub(super) const MAX_OBJECT: usize = 1 << 20;
