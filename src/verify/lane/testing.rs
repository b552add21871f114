//! Builds lanes, addresses and outcomes for the tests of this folder.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::{peer::AnswerSource, state::Lane};
use crate::{
    metrics::Metrics,
    proto::{ClientName, Decoder, Reply, Verb},
    verify::{
        Classifier, Event, ProviderLimits, Verifier, VerifierConfig,
        item::Item,
        outcome::Outcome,
        policy::harvest_defence::RefusalOrigin,
        run_state::{EventBatch, RetryOwner},
    },
};

/// Returns a lane without MX sets, and its events. `change` changes the usual configuration.
pub(super) fn lane_with(
    retry_owner: RetryOwner,
    change: impl FnOnce(&mut VerifierConfig),
) -> (Arc<Lane>, UnboundedReceiver<EventBatch>) {
    let mut config = VerifierConfig::new(ClientName::parse("client.example.org").unwrap());
    change(&mut config);
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let (context, event_batches) = verifier.context_of_run(retry_owner);
    (Arc::new(Lane::new(context.into(), "lane".into(), ProviderLimits::default())), event_batches)
}

/// Returns a lane without MX sets, and its events. The caller asks again.
pub(super) fn lane() -> (Arc<Lane>, UnboundedReceiver<EventBatch>) {
    lane_with(RetryOwner::Caller, |_| {})
}

/// Returns an address that was not asked yet, of run 0 and domain 0.
pub(super) fn item(address: &str) -> Item {
    Item { holds_permit: false, ..Item::for_test(address) }
}

/// Returns the reply of these lines.
pub(super) fn reply(lines: &str) -> Reply {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(lines.as_bytes());
    decoder.buffer().extend_from_slice(b"\r\n");
    decoder.decode().unwrap().unwrap()
}

/// Returns the outcome of a reply to RCPT.
pub(super) fn outcome(lines: &str) -> Outcome {
    Outcome::of_reply(Classifier::builtin(), Verb::Rcpt, &reply(lines))
}

/// Returns an exchanger as the source of answers.
pub(super) fn source(mx_set: usize, host: &str) -> AnswerSource {
    AnswerSource { mx_set, origin: RefusalOrigin::default(), host: Some(host.into()), tls: None }
}

/// Returns the events that were delivered since the last call.
pub(super) fn events(event_batches: &mut UnboundedReceiver<EventBatch>) -> Vec<Event> {
    std::iter::from_fn(|| event_batches.try_recv().ok()).flat_map(|batch| batch.events).collect()
}
