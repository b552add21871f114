//! The router assigns each address to the lane of its domain. It looks up the exchangers of a domain once, and again
//! when the route expires.
//!
//! The router never waits for a lane. Addresses wait in the queue of the lane, and the permits of the run bound their
//! total number.
//!
//! A list may have any number of domains, and their DNS records may name any servers. The router therefore forgets
//! domains once it has met a maximum number of domains or opened a maximum number of lanes. It forgets all domains that
//! are not being looked up, and ends idle lanes.
//!
//! A forgotten domain that comes again is new. It is looked up in the cache of the resolver, gets a new number, and its
//! catch-all test is repeated.

mod domains;

use std::{borrow::Cow, collections::HashSet, mem, sync::Arc, time::Duration};

use foldhash::HashMap;
use memchr::memrchr;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};

use self::domains::{DomainState, DomainTable, MAX_DOMAINS};
use super::{
    DomainFacts, Event, MailRoute, Resolver, Task, Unreachable,
    context::{Context, RetryOwner},
    dns::resolver::Exchangers,
    item::Item,
    lane::{self, state::Lane},
    outcome::Outcome,
    run::{BATCH_SIZE, EventBatch, permits_for},
};
use crate::proto::Mailbox;

/// How long a route is used before the resolver is asked again. The resolver's cache enforces the TTL of the records.
/// It does not store failures, so a failed look-up is also repeated after this time.
const ROUTE_VALIDITY: Duration = Duration::from_secs(60);

/// Lanes that may exist before idle ones are ended. A lane takes about 4 KB, with its servers in the pool.
const MAX_LANES: usize = 4_096;

/// Lanes that may wait for their first connection, including those whose domains are being looked up. The DNS is faster
/// than mail servers. Without this bound, tens of thousands of domains with a server each would have as many lanes at
/// once.
const MAX_OPENING_LANES: usize = 4_096;

/// The number of a domain, and its facts.
type DomainEntry = (u32, DomainFacts);

/// A permit of a lane that waits for its first connection.
type OpeningPermit = Option<OwnedSemaphorePermit>;

/// A reference to an MX set of a lane.
struct LaneRef {
    lane: Arc<Lane>,
    at: usize,
    /// The index of its batch in progress, if there is one.
    item_batch: Option<usize>,
}

/// Items that are sent to an MX set together.
#[derive(Default)]
struct ItemBatch {
    lane_ref: usize,
    items: Vec<Item>,
}

/// Assigns each address to the lane of its domain.
pub(super) struct Router {
    context: Arc<Context>,
    resolver: Arc<Resolver>,
    domains: HashMap<Box<str>, DomainEntry>,
    domain_states: DomainTable,
    by_exchangers: HashMap<Exchangers, usize>,
    by_provider: HashMap<usize, usize>,
    lane_refs: Vec<LaneRef>,
    /// The first `batches_in_use` hold items. The others keep their memory for later use.
    item_batches: Vec<ItemBatch>,
    batches_in_use: usize,
    lanes: Vec<Arc<Lane>>,
    running: JoinSet<()>,
    lookups: JoinSet<(u32, MailRoute, OpeningPermit)>,
    /// A look-up takes a permit. The lane that it opens holds the permit until its first connection.
    opening_permits: Arc<Semaphore>,
    event_batch: EventBatch,
    /// Whether the input has ended.
    input_ended: bool,
    /// The time of the last input or look-up.
    now: Instant,
    most_domains: usize,
    most_lanes: usize,
    /// The number of lanes, busy ones included, at which the router ends idle lanes.
    lanes_to_forget: usize,
}

impl Router {
    pub(super) fn new(context: Arc<Context>, resolver: Arc<Resolver>) -> Self {
        Self {
            context,
            resolver,
            domains: HashMap::default(),
            domain_states: DomainTable::default(),
            by_exchangers: HashMap::default(),
            by_provider: HashMap::default(),
            lane_refs: Vec::new(),
            item_batches: Vec::new(),
            batches_in_use: 0,
            lanes: Vec::new(),
            running: JoinSet::new(),
            lookups: JoinSet::new(),
            opening_permits: Arc::new(Semaphore::new(MAX_OPENING_LANES)),
            event_batch: EventBatch::default(),
            input_ended: false,
            now: Instant::now(),
            most_domains: MAX_DOMAINS,
            most_lanes: MAX_LANES,
            lanes_to_forget: MAX_LANES,
        }
    }

    /// Runs until the input has ended and every lane is done.
    pub(super) async fn run(mut self, mut input: mpsc::UnboundedReceiver<Vec<Task>>) {
        while !self.input_ended || !self.lookups.is_empty() {
            tokio::select! {
                tasks = input.recv(), if !self.input_ended => match tasks {
                    Some(tasks) => {
                        self.now = Instant::now();
                        tasks.into_iter().for_each(|task| self.take_in(task));
                    }
                    None => {
                        self.input_ended = true;
                        self.lanes.iter().for_each(|lane| lane.lock().end_input());
                    }
                },
                Some(Ok((domain, route, permit))) = self.lookups.join_next() => {
                    self.now = Instant::now();
                    self.resolved(domain, route, permit);
                }
            }
            self.flush();
            self.forget_some();
        }
        for lane in &self.lanes {
            lane.lock().end();
            lane.changed.notify_one();
        }
        // Each lane ends once it has answered all its addresses.
        let Self { mut running, .. } = self;
        while running.join_next().await.is_some() {}
    }

    fn take_in(&mut self, task: Task) {
        let Task { id, address, attempts } = task;
        let (mailbox, (domain, facts)) = match self.recognise(&address) {
            Some(found) => found,
            None => match Mailbox::parse_lent(&address) {
                Ok(mailbox) => {
                    let known = self.domains.get(mailbox.domain()).copied();
                    let known = known.unwrap_or_else(|| self.add_domain(&mailbox));
                    (mailbox, known)
                }
                Err(error) => {
                    self.event_batch.permits += permits_for(&address);
                    let record = self.context.syntax_error(address, Outcome::of_syntax(error));
                    self.event_batch.events.push(Event::Done { id, record });
                    return;
                }
            },
        };
        // The address as given may be longer than a mailbox. From here on it holds one permit.
        self.event_batch.permits += permits_for(&address) - 1;
        let needs_smtputf8 = mailbox.needs_smtputf8();
        let (text, at) = mailbox.into_parts();
        let wire = match text {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(Box::new(text.into())),
        };
        // A mailbox has 254 octets at most.
        let at = u8::try_from(at).unwrap_or(u8::MAX);
        let (losses, started, holds_permit) = (0, None, true);
        let item = Item {
            id,
            address,
            wire,
            at,
            needs_smtputf8,
            domain,
            facts,
            attempts,
            losses,
            started,
            holds_permit,
        };
        self.route(item);
    }

    /// Returns the mailbox and domain of an address, if the domain is known and the address is in its wire form.
    #[inline]
    fn recognise<'a>(&self, address: &'a str) -> Option<(Mailbox<Cow<'a, str>>, DomainEntry)> {
        let at = memrchr(b'@', address.as_bytes())?;
        let known = self.domains.get(&address[at + 1..])?;
        Some((Mailbox::parse_at(address, at)?, *known))
    }

    /// Adds an item to the batch of its lane, or starts a look-up. Inlined, so that the item is built in place.
    #[inline]
    fn route(&mut self, item: Item) {
        let domain = item.domain;
        match self.domain_states.get_mut(domain) {
            Some(DomainState::Resolving(items)) => items.push(item),
            Some(DomainState::Routed(lane_ref, until)) if self.now < *until => {
                let lane_ref = *lane_ref;
                let item_batch = *self.lane_refs[lane_ref].item_batch.get_or_insert_with(|| {
                    self.batches_in_use += 1;
                    self.item_batches
                        .resize_with(self.batches_in_use.max(self.item_batches.len()), ItemBatch::default);
                    self.item_batches[self.batches_in_use - 1].lane_ref = lane_ref;
                    self.batches_in_use - 1
                });
                self.item_batches[item_batch].items.push(item);
            }
            Some(DomainState::Unroutable(outcome, until)) if until.is_none_or(|until| self.now < until) => {
                self.context.finish_unasked(item, outcome, Instant::now(), &mut self.event_batch);
            }
            _ => {
                let mailbox = item.mailbox().shared();
                self.domain_states.set(domain, DomainState::Resolving(vec![item]));
                self.look_up(domain, mailbox);
            }
        }
    }

    /// Adds a domain that is seen for the first time, and starts its look-up.
    fn add_domain(&mut self, mailbox: &Mailbox<Cow<'_, str>>) -> DomainEntry {
        let facts = self.context.config.lists.domain(mailbox.domain());
        let id = match self.context.config.probe {
            true => self.domain_states.add(DomainState::Resolving(Vec::new())),
            false => self.domain_states.add(DomainState::Unroutable(Outcome::not_asked(), None)),
        };
        self.domains.insert(mailbox.domain().into(), (id, facts));
        if self.context.config.probe {
            self.look_up(id, mailbox.shared());
        }
        (id, facts)
    }

    fn look_up(&mut self, domain: u32, mailbox: Mailbox) {
        let (context, resolver) = (Arc::clone(&self.context), Arc::clone(&self.resolver));
        let permits = Arc::clone(&self.opening_permits);
        self.lookups.spawn(async move {
            let mut attempts = 0;
            loop {
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                // Boxed, so that look-ups that wait for a permit take little memory.
                let route = Box::pin(resolver.resolve(&mailbox)).await.map(|found| found.exchangers);
                attempts += 1;
                match context.config.pause(attempts) {
                    Some(pause)
                        if context.retry_owner == RetryOwner::Engine
                            && matches!(route, Err(Unreachable::Dns { .. })) =>
                    {
                        drop(permit);
                        sleep(pause).await;
                    }
                    _ => return (domain, route, permit),
                }
            }
        });
    }

    fn resolved(&mut self, domain: u32, route: MailRoute, permit: OpeningPermit) {
        let until = self.now + ROUTE_VALIDITY;
        let known = match route {
            Ok(exchangers) => DomainState::Routed(self.lane_ref(exchangers, permit), until),
            Err(unreachable) => DomainState::Unroutable(Outcome::of_unreachable(&unreachable), Some(until)),
        };
        if let Some(DomainState::Resolving(items)) = self.domain_states.set(domain, known) {
            items.into_iter().for_each(|item| self.route(item));
        }
    }

    /// Returns the reference to a set of exchangers, in the lane of their provider or in one of its own. A new lane keeps
    /// the permit until its first connection.
    fn lane_ref(&mut self, exchangers: Exchangers, permit: OpeningPermit) -> usize {
        if let Some(lane_ref) = self.by_exchangers.get(&exchangers) {
            return *lane_ref;
        }
        let host = exchangers.first().map_or_else(|| "".into(), |exchanger| Arc::clone(&exchanger.host));
        let providers = self.context.config.providers();
        let provider = providers.index(&host);
        let lane = match provider.and_then(|provider| self.by_provider.get(&provider)) {
            Some(lane) => Arc::clone(&self.lanes[*lane]),
            None => {
                let known = provider.and_then(|provider| providers.get(provider));
                let (name, limits) = known.map_or_else(
                    || (host, providers.default_limits()),
                    |provider| (Arc::clone(&provider.name), provider.limits),
                );
                let lane = Arc::new(Lane::new(Arc::clone(&self.context), name, limits));
                lane.lock().opening_permit = permit;
                self.running.spawn(lane::run(Arc::clone(&lane)));
                self.by_provider.extend(provider.map(|provider| (provider, self.lanes.len())));
                self.lanes.push(Arc::clone(&lane));
                lane
            }
        };
        let at = {
            let mut state = lane.lock();
            if self.input_ended {
                state.end_input();
            }
            state.add(exchangers.clone())
        };
        self.lane_refs.push(LaneRef { lane, at, item_batch: None });
        self.by_exchangers.insert(exchangers, self.lane_refs.len() - 1);
        self.lane_refs.len() - 1
    }

    /// Sends the collected batches and events.
    fn flush(&mut self) {
        for ItemBatch { lane_ref, items } in
            self.item_batches.iter_mut().take(mem::take(&mut self.batches_in_use))
        {
            let LaneRef { lane, at, item_batch } = &mut self.lane_refs[*lane_ref];
            *item_batch = None;
            lane.lock().take_in(*at, items.drain(..));
            lane.changed.notify_one();
            items.shrink_to(BATCH_SIZE);
        }
        self.context.deliver(mem::take(&mut self.event_batch));
    }

    /// Forgets domains and ends idle lanes if there are too many. No batch may hold items.
    fn forget_some(&mut self) {
        debug_assert_eq!(self.batches_in_use, 0, "batches name MX sets by their numbers");
        if self.domain_states.len() < self.most_domains && self.lanes.len() < self.lanes_to_forget {
            return;
        }
        self.domain_states.forget();
        let known = &self.domain_states;
        self.domains.retain(|_, (domain, _)| known.is_known(*domain));
        self.end_idle_lanes();
        // The limit grows with the number of busy lanes, so that not every task causes a search.
        self.lanes_to_forget = self.most_lanes.max(2 * self.lanes.len());
    }

    /// Ends idle lanes. Lanes of known providers stay, because their limits hold for the whole run.
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
        let mut new_positions = Vec::new();
        let mut lane_refs = Vec::new();
        for LaneRef { lane, at, .. } in mem::take(&mut self.lane_refs) {
            let stays = !ended.contains(&Arc::as_ptr(&lane));
            new_positions.push(stays.then_some(lane_refs.len()));
            if stays {
                lane_refs.push(LaneRef { lane, at, item_batch: None });
            }
        }
        self.lane_refs = lane_refs;
        self.by_exchangers.retain(|_, lane_ref| match new_positions.get(*lane_ref).copied().flatten() {
            Some(position) => {
                *lane_ref = position;
                true
            }
            None => false,
        });
        let mut new_positions = Vec::new();
        let mut lanes = Vec::new();
        for lane in mem::take(&mut self.lanes) {
            new_positions.push(lanes.len());
            if !ended.contains(&Arc::as_ptr(&lane)) {
                lanes.push(lane);
            }
        }
        self.lanes = lanes;
        for lane in self.by_provider.values_mut() {
            *lane = new_positions.get(*lane).copied().unwrap_or_default();
        }
        // Collects lanes that have ended and released their status.
        while self.running.try_join_next().is_some() {}
        self.context.statuses.forget_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        client::{Endpoint, Timeouts},
        metrics::Metrics,
        proto::ClientName,
        verify::{LaneState, Routes, SubStatus, Verifier, VerifierConfig, run::Tasks},
    };

    /// A run of many domains. Each has its own exchanger, where nothing listens; every third has none.
    #[tokio::test(start_paused = true)]
    async fn any_number_of_domains_is_routed_and_few_are_remembered() {
        const DOMAINS: usize = 600;
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut routes = Routes::new();
        for n in 0..DOMAINS {
            let route = match n % 3 {
                0 => Err(Unreachable::NullMx),
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
        // Twice, so that forgotten domains come again.
        for id in 0..2 * DOMAINS {
            let address = format!("ann@d{}.test", id % DOMAINS);
            tasks.send(vec![Task { id: id as u64, address, attempts: 0 }]).await.unwrap();
            // One at a time, so that the earlier lanes are idle.
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

    /// A run of many domains, all sent at once. Each has its own exchanger, where nothing listens.
    #[tokio::test(start_paused = true)]
    async fn few_lanes_wait_for_their_first_connection() {
        const DOMAINS: usize = 600;
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut routes = Routes::new();
        for n in 0..DOMAINS {
            let exchanger = Endpoint { host: format!("mx{n}.test").into(), addrs: vec![free] };
            routes.insert(&format!("d{n}.test"), Ok(vec![exchanger]));
        }
        let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
        // With this deadline, the pause before the second attempt does not make the host slow.
        config.client.timeouts = Timeouts::all(Duration::from_secs(30));
        (config.schedule, config.max_connections) = (Vec::new(), 4);
        let metrics = Arc::new(Metrics::new());
        let verifier = Verifier::new(config, Arc::clone(&metrics)).unwrap();
        let (context, mut received) = verifier.context(RetryOwner::Caller, HashMap::default());
        let (tasks, input) = Tasks::new(Arc::clone(&context.pending));
        let statuses = context.statuses.clone();
        let resolver = Resolver::new(&[], routes, 25, false, metrics).unwrap();
        let mut router = Router::new(context.into(), resolver.into());
        (router.most_domains, router.most_lanes, router.lanes_to_forget) = (50, 20, 20);
        router.opening_permits = Arc::new(Semaphore::new(20));
        let run = tokio::spawn(router.run(input));
        let task = |id| Task { id: id as u64, address: format!("ann@d{id}.test"), attempts: 0 };
        tasks.send((0..DOMAINS).map(task).collect()).await.unwrap();
        drop(tasks);
        let (mut done, mut most) = (0, 0);
        while let Some(batch) = received.recv().await {
            done += batch.events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
            most = most.max(statuses.snapshot().len());
        }
        run.await.unwrap();
        assert_eq!(done, DOMAINS);
        assert!(most < 200, "{most} of {DOMAINS} lanes at once");
    }
}
