//! Carries the limits and blocks of lanes from an engine to the next one. An engine ends with its runtime, but limits hold
//! for the life of the verifier.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::time::Instant;

use crate::verify::{dns::resolver::Exchangers, lane::lifetime::CarriedLimits};

/// What a lane belongs to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum LaneKey {
    /// A known provider, by its index.
    Provider(usize),
    /// A set of exchangers.
    Exchangers(Exchangers),
}

/// The limits and blocks of lanes of earlier engines.
#[derive(Debug, Default)]
pub(in crate::verify) struct CarriedLanes(Mutex<HashMap<LaneKey, CarriedLimits>>);

impl CarriedLanes {
    /// Takes the limits and blocks for a new lane.
    pub(super) fn take(&self, key: &LaneKey) -> Option<CarriedLimits> {
        self.lock().remove(key)
    }

    /// Adds those that still hold, and forgets those that no longer do.
    pub(super) fn add(&self, lanes: impl Iterator<Item = (LaneKey, CarriedLimits)>, now: Instant) {
        let mut carried = self.lock();
        carried.retain(|_, limits| limits.matter(now));
        carried.extend(lanes.filter(|(_, limits)| limits.matter(now)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaneKey, CarriedLimits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
