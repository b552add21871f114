//! Latencies on their way to the metrics.

use std::sync::Arc;

use tokio::time::Instant;

use super::SessionError;
use crate::{
    metrics::{Operation, ServerMetrics},
    proto::Verb,
};

/// Replies of one kind that came with one read of one flight share a latency, and are recorded as one.
#[derive(Debug)]
pub(super) struct LatencyRecorder {
    metrics: Arc<ServerMetrics>,
    /// What was answered, when it was sent, when the answer came, and how often.
    pending: Option<(Operation, Instant, Instant, u64)>,
}

impl LatencyRecorder {
    pub(super) fn new(metrics: Arc<ServerMetrics>) -> Self {
        Self { metrics, pending: None }
    }

    /// Returns the name of the server that the latencies are of.
    pub(super) fn server(&self) -> &str {
        self.metrics.name()
    }

    pub(super) fn record(&mut self, operation: Operation, sent: Instant, came: Instant, count: u64) {
        match &mut self.pending {
            Some((of, from, to, n)) if (*of, *from, *to) == (operation, sent, came) => *n += count,
            _ => {
                self.flush();
                self.pending = Some((operation, sent, came, count));
            }
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some((operation, sent, came, n)) = self.pending.take() {
            self.metrics.record_many(operation, came.saturating_duration_since(sent), n);
        }
    }

    /// Counts what was not answered.
    pub(super) fn failed(&mut self, verb: Verb, error: &SessionError) {
        if let Some(operation) = operation(verb) {
            self.metrics.operation_failed(operation, error.kind());
        }
    }
}

impl Drop for LatencyRecorder {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Returns what the latency of a reply counts as. STARTTLS belongs to the handshake, which is timed as a whole.
pub(super) fn operation(verb: Verb) -> Option<Operation> {
    Some(match verb {
        Verb::StartTls => return None,
        Verb::Connect => Operation::Greeting,
        Verb::Ehlo | Verb::Helo | Verb::Lhlo => Operation::Ehlo,
        Verb::Auth | Verb::AuthResponse => Operation::Auth,
        Verb::Mail => Operation::Mail,
        Verb::Rcpt => Operation::Rcpt,
        Verb::Data | Verb::Message | Verb::Bdat | Verb::BdatLast => Operation::Data,
        Verb::Rset => Operation::Rset,
        Verb::Noop => Operation::Noop,
        Verb::Vrfy => Operation::Vrfy,
        Verb::Quit => Operation::Quit,
    })
}
