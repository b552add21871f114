//! Forgets domains and ends lanes, so that the memory of an engine is bounded however long it lives.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Router, SEARCH_INTERVAL, carried::LaneKey};
use crate::verify::lane::state::{Lane, LaneInner};

/// Time after which all domains are forgotten, if only calls use them. Their catch-all tests are repeated then.
const DOMAIN_LIFETIME: Duration = Duration::from_secs(1_800);

impl Router {
    /// Forgets domains and ends idle lanes if there are too many. No batch may hold items.
    pub(super) fn forget_some(&mut self) {
        debug_assert_eq!(self.batches_in_use, 0, "batches name MX sets by their numbers");
        if self.domain_states.len() < self.most_domains && self.lanes.len() < self.lanes_to_forget {
            return;
        }
        self.forget_domains();
        self.end_lanes(LaneInner::is_idle);
        // The limit grows with the number of busy lanes, so that not every task causes a search.
        self.lanes_to_forget = self.most_lanes.max(2 * self.lanes.len());
    }

    /// Forgets the domains that are not being looked up.
    fn forget_domains(&mut self) {
        self.forgotten = self.now;
        self.domain_states.forget();
        let known = &self.domain_states;
        self.domains.retain(|_, (domain, _)| known.is_known(*domain));
        self.lanes.iter().for_each(|lane| lane.lock().forget_domains());
    }

    /// Ends lanes that were not used for long, and forgets what is outdated.
    pub(super) fn search_outdated(&mut self) {
        if self.now < self.next_search {
            return;
        }
        self.next_search = self.now + SEARCH_INTERVAL;
        let only_calls = self.open_runs.is_empty() && self.context.runs.has_only_calls();
        if only_calls && self.now >= self.forgotten + DOMAIN_LIFETIME {
            self.forget_domains();
        }
        self.lanes.iter().for_each(|lane| lane.lock().expire_domain_blocks(self.now));
        self.end_lanes(LaneInner::is_outdated);
    }

    /// Ends the lanes for which `is_over` is true. The routes to them must be forgotten or expired.
    fn end_lanes(&mut self, is_over: impl Fn(&mut LaneInner, Instant) -> bool) {
        let mut ended: HashSet<*const Lane> = HashSet::new();
        self.lanes.retain(|lane| {
            let mut state = lane.lock();
            let is_over = is_over(&mut state, self.now);
            if is_over {
                state.end();
                lane.changed.notify_one();
                ended.insert(Arc::as_ptr(lane));
            }
            !is_over
        });
        let has_ended = |lane: &Arc<Lane>| ended.contains(&Arc::as_ptr(lane));
        self.by_provider.retain(|_, lane| !has_ended(lane));
        self.by_exchangers.retain(|_, index| {
            let over = self.lane_refs[*index].as_ref().is_none_or(|lane_ref| has_ended(&lane_ref.lane));
            if over {
                self.lane_refs[*index] = None;
                self.free_lane_refs.push(*index);
            }
            !over
        });
        // Collects lanes that have ended.
        while self.running.try_join_next().is_some() {}
    }
}

/// Carries the limits and blocks to the next engine.
impl Drop for Router {
    fn drop(&mut self) {
        let of_provider = |(provider, lane): (&usize, &Arc<Lane>)| {
            (LaneKey::Provider(*provider), lane.lock().carried_limits())
        };
        let lane_refs = &self.lane_refs;
        let of_exchangers = |(exchangers, index)| {
            let lane_ref: &Option<_> = lane_refs.get::<usize>(index)?;
            let lane_ref = lane_ref.as_ref().filter(|lane_ref| !lane_ref.is_of_provider)?;
            Some((LaneKey::Exchangers(exchangers), lane_ref.lane.lock().carried_limits()))
        };
        let others = self.by_exchangers.drain().filter_map(of_exchangers);
        self.carried.add(self.by_provider.iter().map(of_provider).chain(others), Instant::now());
    }
}
