//! Decides what becomes of an address that has no server to ask: a record, or another look-up after a pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::verify::{
    context::Context, item::Item, outcome::Outcome, run_batches::RunBatches, run_state::RetryOwner,
};

/// Settles an address that has no server to ask. Returns it with the pause before its look-up is repeated, if it is.
pub(super) fn settle_unroutable(
    context: &Context,
    event_batch: &mut RunBatches,
    mut item: Item,
    outcome: &Outcome,
) -> Option<(Duration, Item)> {
    let run = event_batch.run(item.run)?;
    let again = |attempts| outcome.verdict.retry.and_then(|_| run.pause(attempts));
    let later = match run.options.retry_owner {
        RetryOwner::Engine => {
            item.losses = item.losses.saturating_add(1);
            if let Some(pause) = again(item.losses.into()) {
                run.release_permit(&mut item);
                return Some((pause, item));
            }
            None
        }
        // A failed look-up counts as an attempt for the schedule only.
        RetryOwner::Caller => again(item.attempts.saturating_add(1)),
    };
    let mut record = context.record(&mut item, outcome, context.timestamp(Instant::now()));
    match later {
        Some(after) => {
            record.attempts += 1;
            context.later(&item, record, after, event_batch);
        }
        None => context.done(&item, record, event_batch),
    }
    None
}
