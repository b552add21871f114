//! Errors of decoding replies.

use thiserror::Error;

use super::{MAX_LINE, MAX_LINES, MAX_REPLY};

/// The octets from the server are not a readable reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line without a reply code at its start. The text is its first octets, escaped.
    #[error("a line that is not an SMTP reply: \"{0}\"")]
    NotAReply(String),
    /// A line longer than [`MAX_LINE`].
    #[error("a reply line of more than {} octets", MAX_LINE)]
    LineTooLong,
    /// A reply longer than [`MAX_REPLY`].
    #[error("a reply of more than {} octets", MAX_REPLY)]
    ReplyTooLong,
    /// A reply of more lines than [`MAX_LINES`].
    #[error("a reply of more than {} lines", MAX_LINES)]
    TooManyLines,
    /// The reply announces another line, which is missing ([`Reply::parse`](super::Reply::parse) only).
    #[error("the reply ends before its last line")]
    Incomplete,
    /// Octets follow the reply ([`Reply::parse`](super::Reply::parse) only).
    #[error("octets after the end of the reply")]
    Trailing,
}
