//! Counts the addresses in flight: sent to the verifier, and without a stored answer.
//!
//! ```text
//! feeder ── has_room, lease ──▶ verifier ── events ──▶ writer ── record_answers, record_stored, store, release
//! ```
//!
//! The feeder sends a chunk of addresses when its domain has room. The writer counts each answer when it arrives and when
//! it goes into the store, and removes the chunk after the transaction.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::HashMap;

/// The most addresses of one large domain in flight. A large domain has chunks of its own. The limit leaves room for other domains, so that a slow
/// provider does not delay the whole run.
const MAX_PER_DOMAIN: u32 = 16_384;
/// The most addresses in flight of all small domains together, which share chunks.
const MAX_SMALL_DOMAINS: u32 = 40_960;

/// The chunk number of a task that was postponed. The store keeps postponed tasks by row, since their chunk is finished.
const NO_CHUNK: u32 = u32::MAX;

/// Returns the task ID for the verifier. `chunk` is None for a postponed task.
pub(super) fn task_id(chunk: Option<u32>, row: u32) -> u64 {
    u64::from(chunk.unwrap_or(NO_CHUNK)) << 32 | u64::from(row)
}

/// Returns the chunk and the row of a task ID. The chunk is None for a postponed task.
pub(super) fn task(id: u64) -> (Option<u32>, u32) {
    let chunk = (id >> 32) as u32;
    ((chunk != NO_CHUNK).then_some(chunk), id as u32)
}

/// The shared state, and the signal of its changes.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    state: Mutex<InFlightState>,
    changed: Condvar,
}

/// The addresses sent to the verifier whose answers are not stored yet.
#[derive(Debug, Default)]
pub(super) struct InFlightState {
    /// True once no more tasks may be sent.
    pub(super) stopped: bool,
    /// The chunks in flight, by number.
    chunks: HashMap<u32, ChunkInFlight>,
    /// The unanswered addresses of each large domain.
    domains: HashMap<Box<str>, u32>,
    /// The unanswered addresses of all small domains.
    small_domains: u32,
    /// Postponed tasks that were sent again and have no stored answer yet.
    postponed: u32,
}

/// A chunk in flight.
#[derive(Debug)]
struct ChunkInFlight {
    /// The large domain of all its addresses. None for a chunk of small domains.
    domain: Option<Box<str>>,
    /// Addresses without an answer.
    unanswered: u32,
    /// Addresses without a stored answer.
    unstored: u32,
    /// True if the store has some of its answers, from this run or an earlier one.
    touched: bool,
}

/// The progress of a chunk after some of its answers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkProgress {
    /// These are its first stored answers.
    Touched,
    /// Some of its answers were stored before, or the chunk is not in flight.
    Further,
    /// All its addresses have stored answers.
    Finished,
}

impl InFlight {
    pub(super) fn lock(&self) -> MutexGuard<'_, InFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the feeder.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.notify_changed();
    }

    /// Wakes the feeder and the writer, since the state has changed.
    pub(super) fn notify_changed(&self) {
        self.changed.notify_all();
    }

    /// Waits until the state changes, at most for `time`.
    pub(super) fn wait(&self, state: MutexGuard<'_, InFlightState>, time: Duration) {
        drop(self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner));
    }
}

impl InFlightState {
    /// Returns true if a chunk of this large domain, or of small domains, may be sent now.
    pub(super) fn has_room(&self, domain: Option<&str>) -> bool {
        match domain {
            Some(domain) => self.domains.get(domain).is_none_or(|unanswered| *unanswered < MAX_PER_DOMAIN),
            None => self.small_domains < MAX_SMALL_DOMAINS,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.postponed == 0
    }

    /// Records that `count` addresses of a chunk are in flight. `touched` tells that an earlier run stored some answers.
    pub(super) fn lease(&mut self, chunk: u32, domain: Option<&str>, count: u32, touched: bool) {
        *self.of_domain(domain) += count;
        let in_flight =
            ChunkInFlight { domain: domain.map(Into::into), unanswered: count, unstored: count, touched };
        self.chunks.insert(chunk, in_flight);
    }

    /// Records that postponed tasks are in flight.
    pub(super) fn lease_postponed(&mut self, count: u32) {
        self.postponed += count;
    }

    /// Records how many answers of a chunk have arrived and are not stored yet, in total.
    pub(super) fn record_answers(&mut self, chunk: u32, awaiting_store: u32) {
        let Some(in_flight) = self.chunks.get_mut(&chunk) else { return };
        let unanswered = in_flight.unstored.saturating_sub(awaiting_store);
        let before = std::mem::replace(&mut in_flight.unanswered, unanswered);
        let newly_answered = before.saturating_sub(unanswered);
        let of_domain = match &in_flight.domain {
            Some(domain) => self.domains.get_mut(domain),
            None => Some(&mut self.small_domains),
        };
        if let Some(of_domain) = of_domain {
            *of_domain = of_domain.saturating_sub(newly_answered);
        }
    }

    /// Records that the current transaction stores `count` answers of a chunk.
    pub(super) fn record_stored(&mut self, chunk: u32, count: u32) -> ChunkProgress {
        let Some(in_flight) = self.chunks.get_mut(&chunk) else { return ChunkProgress::Further };
        in_flight.unstored = in_flight.unstored.saturating_sub(count);
        match std::mem::replace(&mut in_flight.touched, true) {
            _ if in_flight.unstored == 0 => ChunkProgress::Finished,
            false => ChunkProgress::Touched,
            true => ChunkProgress::Further,
        }
    }

    /// Removes finished chunks and `postponed` postponed tasks after the transaction that stored their answers.
    pub(super) fn release(&mut self, chunks: &[u32], postponed: u32) {
        for chunk in chunks {
            self.chunks.remove(chunk);
        }
        self.postponed = self.postponed.saturating_sub(postponed);
    }

    fn of_domain(&mut self, domain: Option<&str>) -> &mut u32 {
        match domain {
            Some(domain) => self.domains.entry(domain.into()).or_default(),
            None => &mut self.small_domains,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_are_decoded() {
        for (chunk, row) in [(None, 0), (Some(0), 7), (Some(u32::MAX - 1), u32::MAX)] {
            assert_eq!(task(task_id(chunk, row)), (chunk, row));
        }
    }

    #[test]
    fn a_large_domain_leaves_room_for_others() {
        let mut state = InFlightState::default();
        state.lease(0, Some("a.test"), MAX_PER_DOMAIN, false);
        assert!(!state.has_room(Some("a.test")) && state.has_room(Some("b.test")) && state.has_room(None));
        state.record_answers(0, 1);
        assert!(state.has_room(Some("a.test")));
        state.lease(1, None, MAX_SMALL_DOMAINS, false);
        assert!(!state.has_room(None));
    }

    #[test]
    fn a_chunk_is_finished_with_its_last_answer() {
        let mut state = InFlightState::default();
        state.lease(3, None, 3, false);
        state.lease_postponed(1);
        assert_eq!(state.record_stored(3, 1), ChunkProgress::Touched);
        assert_eq!(state.record_stored(3, 1), ChunkProgress::Further);
        assert_eq!(state.record_stored(3, 1), ChunkProgress::Finished);
        state.release(&[3], 0);
        assert!(!state.is_empty());
        state.release(&[], 1);
        assert!(state.is_empty());
    }
}
