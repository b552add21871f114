//! What a server says about a mailbox.

use crate::proto::{Reply, Verb};

/// What a server says about a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a refusal is an answer: see `is_accepted`"]
#[non_exhaustive]
pub struct Verification {
    /// The name of the server. A pool adds the port if its key has one.
    pub server: Box<str>,
    /// The command that the reply answers: RCPT, or MAIL if the server refused that.
    pub verb: Verb,
    /// The reply.
    pub reply: Reply,
}

impl Verification {
    /// Returns whether the server takes mail for the mailbox. A refusal may have other causes than the mailbox.
    /// [`Verifier`](../verify/struct.Verifier.html) tells them apart (feature `verify`).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.verb == Verb::Rcpt && self.reply.is_positive()
    }
}
