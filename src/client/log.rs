//! The events of a session by `tracing`: a span for the connection, an event for each reply.
//!
//! They contain no secret. They contain addresses only with
//! [`ClientConfig::log_addresses`](super::ClientConfig::log_addresses). Texts of servers may name mailboxes, so they count
//! as addresses.

use tokio::time::Instant;
use tracing::{Span, debug, trace};

use super::SessionError;
use crate::proto::{Reply, Verb};

/// Where the events of a session belong, and whether they may name mailboxes.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) span: Span,
    pub(super) addresses: bool,
}

impl Log {
    /// Returns the log of a session without settings: outside of any span, and without addresses.
    pub(super) fn new() -> Self {
        Self { span: Span::none(), addresses: false }
    }

    /// A command that was queued, as it will be sent.
    pub(super) fn queued(&self, verb: Verb, line: &[u8]) {
        if self.addresses && matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Vrfy) {
            let _entered = self.span.enter();
            trace!(command = ?String::from_utf8_lossy(line.trim_ascii_end()), "queued");
        }
    }

    /// A reply, and how long it took from the writing of its command.
    #[inline]
    pub(super) fn reply<B: AsRef<[u8]>>(&self, verb: Verb, reply: &Reply<B>, sent: Instant, came: Instant) {
        if !tracing::enabled!(tracing::Level::TRACE) {
            return;
        }
        let _entered = self.span.enter();
        let (code, took) = (reply.code(), came.saturating_duration_since(sent));
        // What is said about AUTH may repeat what was said there.
        if self.addresses && !matches!(verb, Verb::Auth | Verb::AuthResponse) {
            trace!(%verb, code, ?took, text = ?reply.text(), "reply");
        } else {
            trace!(%verb, code, ?took, "reply");
        }
    }

    /// The end of the session, where a reply to `verb` was expected.
    pub(super) fn failed(&self, verb: Verb, error: &SessionError) {
        let _entered = self.span.enter();
        debug!(%verb, kind = error.kind(), "no reply");
    }
}
