//! The reply of a server: RFC 5321 4.2, with the enhanced status code of RFC 2034 and RFC 3463.

use std::fmt;

/// An enhanced status code: class, subject and detail (RFC 3463 2, RFC 2034 4).
///
/// Subject and detail may have up to three digits, as `5.7.606` of Exchange Online does.
///
/// ```
/// use smtp_pool::proto::EnhancedCode;
/// let code: EnhancedCode = "5.7.606".parse()?;
/// assert_eq!((code.class, code.subject, code.detail), (5, 7, 606));
/// assert_eq!(code.to_string(), "5.7.606");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedCode {
    /// 2 (success), 4 (persistent transient failure) or 5 (permanent failure).
    pub class: u8,
    /// What the code is about: 1 addressing, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// The condition itself, read together with the subject.
    pub detail: u16,
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}
