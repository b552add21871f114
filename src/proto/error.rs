//! What can be wrong with octets from the other side, and with values that are to become octets.

use thiserror::Error;

/// The octets from the server are not a reply that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line that starts with no reply code; its first octets, escaped.
    #[error("a line that is not an SMTP reply: \"{0}\"")]
    NotAReply(String),
    /// A line longer than [`MAX_LINE`](super::MAX_LINE).
    #[error("a reply line of more than {} octets", super::MAX_LINE)]
    LineTooLong,
    /// A reply longer than [`MAX_REPLY`](super::MAX_REPLY).
    #[error("a reply of more than {} octets", super::MAX_REPLY)]
    ReplyTooLong,
    /// A reply of more lines than [`MAX_LINES`](super::MAX_LINES).
    #[error("a reply of more than {} lines", super::MAX_LINES)]
    TooManyLines,
    /// The reply announces a line that does not come ([`Reply::parse`](super::Reply::parse) only).
    #[error("the reply ends before its last line")]
    Incomplete,
    /// Something follows the reply ([`Reply::parse`](super::Reply::parse) only).
    #[error("octets behind the end of the reply")]
    Trailing,
}

/// The text is not an enhanced status code such as `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an enhanced status code: wanted class 2, 4 or 5, subject and detail, as in \"5.1.1\"")]
pub struct EnhancedCodeError;
