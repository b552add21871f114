//! Decides when a lane may be forgotten, and what of it outlives its engine.

use std::time::Duration;

use tokio::time::Instant;

use super::state::LaneInner;
use crate::verify::policy::{breaker::ProviderBlock, rate_limit::RateLimiter};

/// Time without addresses after which a lane is forgotten.
const LANE_LIFETIME: Duration = Duration::from_secs(600);
/// The same for a provider that blocked us, or was seen to refuse existing mailboxes.
const DOUBT_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// What protects the servers of a lane and outlives its engine.
#[derive(Debug)]
pub(in crate::verify) struct CarriedLimits {
    rate_limiter: RateLimiter,
    block: Option<(ProviderBlock, u32)>,
}

impl CarriedLimits {
    /// Returns whether anything of it still holds.
    pub(in crate::verify) fn matter(&self, now: Instant) -> bool {
        let blocked = self.block.as_ref().is_some_and(|(block, _)| !block.is_over(now));
        blocked || !self.rate_limiter.clone().is_full(now)
    }
}

impl LaneInner {
    /// Returns whether the lane has no work and holds no limit, block or detection that must be kept.
    pub(in crate::verify) fn is_idle(&mut self, now: Instant) -> bool {
        self.is_at_rest()
            && self.event_batch.is_empty()
            && self.breaker.is_clear(now)
            && self.rate_limiter.is_full(now)
            && (now >= self.used + DOUBT_LIFETIME
                || !self.mx_sets.iter().any(|mx_set| mx_set.harvest.was_detected()))
    }

    /// Returns whether the lane is idle and has not been used for long.
    pub(in crate::verify) fn is_outdated(&mut self, now: Instant) -> bool {
        let doubtful = self.breaker.last_block().is_some();
        let lifetime = if doubtful { DOUBT_LIFETIME } else { LANE_LIFETIME };
        now >= self.used + lifetime && self.is_idle(now)
    }

    /// Returns the limits and blocks for a lane of another engine.
    pub(in crate::verify) fn carried_limits(&self) -> CarriedLimits {
        CarriedLimits { rate_limiter: self.rate_limiter.clone(), block: self.breaker.block_and_trips() }
    }

    /// Continues with the limits and blocks of a lane of another engine.
    pub(in crate::verify) fn take_over(&mut self, limits: CarriedLimits) {
        self.rate_limiter = limits.rate_limiter;
        if let Some(block) = limits.block {
            self.breaker.continue_block(block);
        }
    }

    /// Forgets blocks of domains whose time is over.
    pub(in crate::verify) fn expire_domain_blocks(&mut self, now: Instant) {
        self.breaker.expire_domain_blocks(now);
    }
}
