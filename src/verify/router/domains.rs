//! What the router no longer remembers: a list may have any number of domains, and the DNS gives each of them any servers.
//!
//! Once so many domains were met, or so many lanes opened, the router forgets all domains but those that are being looked
//! up, and ends the lanes that have nothing to do. A domain that comes again is a new one: it is looked up in the cache of
//! the resolver, gets a new number, and is asked once more whether it accepts any local part.

use std::{collections::HashSet, mem, sync::Arc};

use foldhash::HashMap;
use tokio::time::Instant;

use super::{DomainState, LaneRef, Router};
use crate::verify::lane::state::Lane;

/// Domains that are remembered: some 300 octets each.
pub(super) const MAX_DOMAINS: usize = 131_072;
/// Lanes that may be idle beside those at work: some 10 KB each, with their servers in the pool.
pub(super) const MAX_LANES: usize = 4_096;

/// What is known of the domains, by their numbers. No number is given twice, since lanes know domains by it.
#[derive(Default)]
pub(super) struct DomainTable {
    /// From this number on.
    first: u32,
    recent: Vec<DomainState>,
    /// Those before it that were being looked up when the others were forgotten.
    old: HashMap<u32, DomainState>,
}

impl DomainTable {
    /// Those met since the others were forgotten.
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }

    /// The number of a new domain.
    pub(super) fn add(&mut self, known: DomainState) -> u32 {
        self.recent.push(known);
        u32::try_from(self.recent.len() - 1).unwrap_or(u32::MAX).saturating_add(self.first)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, domain: u32) -> Option<&mut DomainState> {
        match domain.checked_sub(self.first) {
            Some(at) => self.recent.get_mut(at as usize),
            None => self.old.get_mut(&domain),
        }
    }

    /// Sets what is known of a domain, and gives what was.
    pub(super) fn set(&mut self, domain: u32, known: DomainState) -> Option<DomainState> {
        match self.get_mut(domain) {
            Some(before) => Some(mem::replace(before, known)),
            None => self.old.insert(domain, known),
        }
    }

    /// Forgets all but those that are being looked up.
    fn forget(&mut self) {
        let recent = mem::take(&mut self.recent);
        let next = self.first.saturating_add(u32::try_from(recent.len()).unwrap_or(u32::MAX));
        self.old.extend((self.first..).zip(recent));
        self.old.retain(|_, known| matches!(known, DomainState::Resolving(_)));
        self.first = next;
    }

    fn is_known(&self, domain: u32) -> bool {
        domain >= self.first || self.old.contains_key(&domain)
    }
}

impl Router {
    /// Forgets what is too much to be remembered. Nothing may be on its way to a lane.
    pub(super) fn forget_some(&mut self) {
        debug_assert_eq!(self.batches_in_use, 0, "batches name MX sets by their numbers");
        if self.domain_states.len() < self.most_domains && self.lanes.len() < self.lanes_to_forget {
            return;
        }
        self.domain_states.forget();
        let known = &self.domain_states;
        self.domains.retain(|_, (domain, _)| known.is_known(*domain));
        self.end_idle_lanes();
        // Those that are busy are not looked at with every task.
        self.lanes_to_forget = self.most_lanes.max(2 * self.lanes.len());
    }

    /// Ends the lanes that have nothing to do, but for those of providers: their limits hold for the whole run.
    fn end_idle_lanes(&mut self) {
        let of_providers: HashSet<usize> = self.by_provider.values().copied().collect();
        let now = Instant::now();
        let mut ended: HashSet<*const Lane> = HashSet::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let mut state = lane.lock();
            state.forget_domains();
            if !of_providers.contains(&at) && state.is_idle(now) {
                state.end();
                lane.changed.notify_one();
                ended.insert(Arc::as_ptr(lane));
            }
        }
        let mut new_places = Vec::new();
        let mut lane_refs = Vec::new();
        for LaneRef { lane, at, .. } in mem::take(&mut self.lane_refs) {
            let stays = !ended.contains(&Arc::as_ptr(&lane));
            new_places.push(stays.then_some(lane_refs.len()));
            if stays {
                lane_refs.push(LaneRef { lane, at, item_batch: None });
            }
        }
        self.lane_refs = lane_refs;
        self.by_exchangers.retain(|_, lane_ref| match new_places.get(*lane_ref).copied().flatten() {
            Some(place) => {
                *lane_ref = place;
                true
            }
            None => false,
        });
        let mut new_places = Vec::new();
        let mut lanes = Vec::new();
        for lane in mem::take(&mut self.lanes) {
            new_places.push(lanes.len());
            if !ended.contains(&Arc::as_ptr(&lane)) {
                lanes.push(lane);
            }
        }
        self.lanes = lanes;
        for lane in self.by_provider.values_mut() {
            *lane = new_places.get(*lane).copied().unwrap_or_default();
        }
        // Those that ended before, and so have let go of their status.
        while self.running.try_join_next().is_some() {}
        self.context.statuses.forget_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::{
        client::{Endpoint, Timeouts},
        metrics::Metrics,
        proto::ClientName,
        verify::{
            Event, LaneState, Resolver, Routes, SubStatus, Task, Verifier, VerifierConfig,
            context::RetryOwner, run::Tasks,
        },
    };

    #[test]
    fn a_number_is_never_given_twice() {
        let mut domains = DomainTable::default();
        let soon = || DomainState::Resolving(Vec::new());
        let nowhere = || DomainState::Unroutable(crate::verify::outcome::Outcome::not_asked(), None);
        assert_eq!((domains.add(nowhere()), domains.add(soon()), domains.add(nowhere())), (0, 1, 2));
        domains.forget();
        assert_eq!((domains.len(), domains.add(nowhere())), (0, 3));
        assert!(domains.get_mut(0).is_none() && domains.get_mut(2).is_none());
        assert!(
            matches!(domains.get_mut(1), Some(DomainState::Resolving(_))) && domains.get_mut(3).is_some()
        );
        assert!(matches!(domains.set(1, nowhere()), Some(DomainState::Resolving(_))));
        domains.forget();
        assert!(domains.get_mut(1).is_none() && domains.get_mut(3).is_none());
        assert_eq!(domains.add(soon()), 4);
    }

    /// A run of so many domains, each with an exchanger of its own behind which nobody listens, and every third without.
    #[tokio::test(start_paused = true)]
    async fn any_number_of_domains_is_met_and_few_are_remembered() {
        const DOMAINS: usize = 600;
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut routes = Routes::new();
        for n in 0..DOMAINS {
            let route = match n % 3 {
                0 => Err(crate::verify::Unreachable::NullMx),
                _ => Ok(vec![Endpoint { host: format!("mx{n}.test").into(), addrs: vec![free] }]),
            };
            routes.insert(&format!("d{n}.test"), route);
        }
        let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
        config.client.timeouts = Timeouts::all(Duration::from_secs(2));
        config.schedule = Vec::new();
        let metrics = Arc::new(Metrics::new());
        let verifier = Verifier::new(config, Arc::clone(&metrics)).unwrap();
        let (context, mut received) = verifier.context(RetryOwner::Caller, HashMap::default());
        let (tasks, input) = Tasks::new(Arc::clone(&context.pending));
        let statuses = context.statuses.clone();
        let resolver = Resolver::new(&[], routes, 25, false, metrics).unwrap();
        let mut router = Router::new(context.into(), resolver.into());
        (router.most_domains, router.most_lanes, router.lanes_to_forget) = (50, 20, 20);
        let run = tokio::spawn(router.run(input));
        let mut found = vec![0; 2 * DOMAINS];
        let mut most = 0;
        // Twice, so that what was forgotten comes again.
        for id in 0..2 * DOMAINS {
            let address = format!("ann@d{}.test", id % DOMAINS);
            tasks.send(vec![Task { id: id as u64, address, attempts: 0 }]).await.unwrap();
            // One after the other: the lanes before are idle then.
            let event_batch = timeout(Duration::from_secs(20), received.recv()).await.unwrap().unwrap();
            for event in event_batch.events {
                match event {
                    Event::Done { id, record } => {
                        found[id as usize] += 1;
                        let wanted = match id % 3 {
                            0 => SubStatus::DoesNotAcceptMail,
                            _ => SubStatus::FailedSmtpConnection,
                        };
                        assert_eq!(record.sub_status, wanted);
                    }
                    Event::Lane(status) => assert_ne!(status.state, LaneState::Open),
                    other => panic!("{other:?}"),
                }
            }
            most = most.max(statuses.snapshot().len());
        }
        drop(tasks);
        while let Some(event_batch) = received.recv().await {
            for event in event_batch.events {
                if let Event::Done { id, .. } = event {
                    found[id as usize] += 1;
                }
            }
        }
        run.await.unwrap();
        assert!(found.iter().all(|count| *count == 1), "each has one answer");
        assert!(most < 100, "{most} of {DOMAINS} lanes are remembered");
    }
}
