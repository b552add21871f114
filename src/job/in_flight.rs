//! What is under way: shared by the thread that feeds addresses and the one that keeps their answers.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::HashMap;

/// Addresses of one large domain that may be under way at once: the rest of what may be is for others, so that no slow
/// provider holds up the whole.
const DOMAIN: u32 = 16_384;
/// Addresses of all small domains together.
const SCATTERED: u32 = 40_960;

/// The chunk of a task that was asked before, and is kept by its row.
const AGAIN: u32 = u32::MAX;

/// Names a task to the engine.
pub(super) fn task_id(chunk: Option<u32>, row: u32) -> u64 {
    u64::from(chunk.unwrap_or(AGAIN)) << 32 | u64::from(row)
}

/// What a name stands for: the chunk, unless it was asked before, and the row.
pub(super) fn task(id: u64) -> (Option<u32>, u32) {
    let chunk = (id >> 32) as u32;
    ((chunk != AGAIN).then_some(chunk), id as u32)
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    state: Mutex<InFlightState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct InFlightState {
    /// Nothing more is to be fed.
    pub(super) stopped: bool,
    leased: HashMap<u32, Leased>,
    domains: HashMap<Box<str>, u32>,
    scattered: u32,
    /// Asked again, and not yet answered and kept.
    again: u32,
}

#[derive(Debug)]
struct Leased {
    domain: Option<Box<str>>,
    unanswered: u32,
    unkept: u32,
    touched: bool,
}

/// What became of a chunk when answers were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkProgress {
    /// These are its first.
    Touched,
    Further,
    /// All of it is answered.
    Finished,
}

impl InFlight {
    pub(super) fn lock(&self) -> MutexGuard<'_, InFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change, or for the time.
    pub(super) fn wait(&self, state: MutexGuard<'_, InFlightState>, time: Duration) {
        drop(self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner));
    }
}

impl InFlightState {
    /// Whether a chunk may be fed now.
    pub(super) fn has_room(&self, domain: Option<&str>) -> bool {
        match domain {
            Some(domain) => self.domains.get(domain).is_none_or(|unanswered| *unanswered < DOMAIN),
            None => self.scattered < SCATTERED,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leased.is_empty() && self.again == 0
    }

    pub(super) fn lease(&mut self, chunk: u32, domain: Option<&str>, count: u32, touched: bool) {
        *self.of_domain(domain) += count;
        let leased = Leased { domain: domain.map(Into::into), unanswered: count, unkept: count, touched };
        self.leased.insert(chunk, leased);
    }

    pub(super) fn lease_again(&mut self, count: u32) {
        self.again += count;
    }

    /// So many answers of a chunk have come since those that were kept.
    pub(super) fn answered(&mut self, chunk: u32, unkept: u32) {
        let Some(leased) = self.leased.get_mut(&chunk) else { return };
        let unanswered = leased.unkept.saturating_sub(unkept);
        let came = std::mem::replace(&mut leased.unanswered, unanswered).saturating_sub(unanswered);
        let of_domain = match &leased.domain {
            Some(domain) => self.domains.get_mut(domain),
            None => Some(&mut self.scattered),
        };
        if let Some(of_domain) = of_domain {
            *of_domain = of_domain.saturating_sub(came);
        }
    }

    /// So many answers of a chunk are about to be kept.
    pub(super) fn kept(&mut self, chunk: u32, count: u32) -> ChunkProgress {
        let Some(leased) = self.leased.get_mut(&chunk) else { return ChunkProgress::Further };
        leased.unkept = leased.unkept.saturating_sub(count);
        match std::mem::replace(&mut leased.touched, true) {
            _ if leased.unkept == 0 => ChunkProgress::Finished,
            false => ChunkProgress::Touched,
            true => ChunkProgress::Further,
        }
    }

    /// Chunks, and so many that were asked again, have been kept for good.
    pub(super) fn release(&mut self, chunks: &[u32], again: u32) {
        for chunk in chunks {
            self.leased.remove(chunk);
        }
        self.again = self.again.saturating_sub(again);
    }

    fn of_domain(&mut self, domain: Option<&str>) -> &mut u32 {
        match domain {
            Some(domain) => self.domains.entry(domain.into()).or_default(),
            None => &mut self.scattered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (chunk, row) in [(None, 0), (Some(0), 7), (Some(u32::MAX - 1), u32::MAX)] {
            assert_eq!(task(task_id(chunk, row)), (chunk, row));
        }
    }

    #[test]
    fn a_large_domain_leaves_room_for_others() {
        let mut state = InFlightState::default();
        state.lease(0, Some("a.test"), DOMAIN, false);
        assert!(!state.has_room(Some("a.test")) && state.has_room(Some("b.test")) && state.has_room(None));
        state.answered(0, 1);
        assert!(state.has_room(Some("a.test")));
        state.lease(1, None, SCATTERED, false);
        assert!(!state.has_room(None));
    }

    #[test]
    fn a_chunk_is_finished_with_its_last_answer() {
        let mut state = InFlightState::default();
        state.lease(3, None, 3, false);
        state.lease_again(1);
        assert_eq!(state.kept(3, 1), ChunkProgress::Touched);
        assert_eq!(state.kept(3, 1), ChunkProgress::Further);
        assert_eq!(state.kept(3, 1), ChunkProgress::Finished);
        state.release(&[3], 0);
        assert!(!state.is_empty());
        state.release(&[], 1);
        assert!(state.is_empty());
    }
}
