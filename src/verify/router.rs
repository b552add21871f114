//! The router is the task of an engine. It assigns each address of all runs to the lane of its domain. It looks up the
//! exchangers of a domain once, and again when the route expires.
//!
//! The router never waits for a lane. Addresses wait in the queue of the lane, and the permits of each run bound their
//! number.
//!
//! A run ends once it has no open work. While no other run goes on, it ends after its connections are closed.
//!
//! Lists may have any number of domains, and their DNS records may name any servers. The router therefore forgets
//! domains once it has met a maximum number of domains or opened a maximum number of lanes. It forgets all domains that
//! are not being looked up, and ends idle lanes. It also ends lanes that were not used for long. A lane that holds a
//! limit, a block or a detection stays until that has expired.
//!
//! A forgotten domain that comes again is new. It is looked up in the cache of the resolver, gets a new number, and its
//! catch-all test is repeated.

mod carried;
mod domains;
mod forgetting;
mod unroutable;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use foldhash::HashMap;
use memchr::memrchr;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

pub(super) use self::carried::CarriedLanes;
use self::{
    carried::LaneKey,
    domains::{DomainState, DomainTable, MAX_DOMAINS},
    unroutable::settle_unroutable,
};
use super::{
    DomainFacts, Event, MailRoute, Resolver, Task,
    context::Context,
    dns::resolver::Exchangers,
    item::Item,
    lane::{self, state::Lane},
    outcome::Outcome,
    run::{BATCH_SIZE, permits_for},
    run_batches::RunBatches,
    run_state::{Message, RunState},
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

/// Longest wait for the connections to close at the end of a run or of the engine. A dropped run may leave a connection
/// that is being opened.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Time between searches for lanes that were not used for long.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// The number of a domain, and its facts.
type DomainEntry = (u32, DomainFacts);

/// A permit of a lane that waits for its first connection.
type OpeningPermit = Option<OwnedSemaphorePermit>;

/// A reference to an MX set of a lane.
struct LaneRef {
    lane: Arc<Lane>,
    /// Whether the lane is that of a known provider.
    is_of_provider: bool,
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
    by_provider: HashMap<usize, Arc<Lane>>,
    /// Limits and blocks from earlier engines.
    carried: Arc<CarriedLanes>,
    /// Each keeps its index. `None` is free for another.
    lane_refs: Vec<Option<LaneRef>>,
    free_lane_refs: Vec<usize>,
    /// The first `batches_in_use` hold items. The others keep their memory for later use.
    item_batches: Vec<ItemBatch>,
    batches_in_use: usize,
    lanes: Vec<Arc<Lane>>,
    running: JoinSet<()>,
    lookups: JoinSet<(u32, MailRoute, OpeningPermit)>,
    /// A look-up takes a permit. The lane that it opens holds the permit until its first connection.
    opening_permits: Arc<Semaphore>,
    event_batch: RunBatches,
    /// Addresses whose look-up failed and is repeated, by the time of that and a number.
    postponed: BTreeMap<(Instant, u64), Item>,
    next_postponed: u64,
    /// Runs, except calls, whose input has not ended.
    open_runs: HashSet<u32>,
    /// Runs without open work that end once all connections are closed.
    ending_runs: Vec<Arc<RunState>>,
    /// When they end at the latest.
    ending_until: Instant,
    /// The time of the last message or look-up.
    now: Instant,
    /// The next search for lanes that were not used for long.
    next_search: Instant,
    /// When all domains were forgotten.
    forgotten: Instant,
    most_domains: usize,
    most_lanes: usize,
    /// The number of lanes, busy ones included, at which the router ends idle lanes.
    lanes_to_forget: usize,
}

impl Router {
    pub(super) fn new(context: Arc<Context>, resolver: Arc<Resolver>, carried: Arc<CarriedLanes>) -> Self {
        let now = Instant::now();
        Self {
            event_batch: RunBatches::new(Arc::clone(&context.runs)),
            context,
            resolver,
            domains: HashMap::default(),
            domain_states: DomainTable::default(),
            by_exchangers: HashMap::default(),
            by_provider: HashMap::default(),
            carried,
            lane_refs: Vec::new(),
            free_lane_refs: Vec::new(),
            item_batches: Vec::new(),
            batches_in_use: 0,
            lanes: Vec::new(),
            running: JoinSet::new(),
            lookups: JoinSet::new(),
            opening_permits: Arc::new(Semaphore::new(MAX_OPENING_LANES)),
            postponed: BTreeMap::new(),
            next_postponed: 0,
            open_runs: HashSet::new(),
            ending_runs: Vec::new(),
            ending_until: now,
            now,
            next_search: now + SEARCH_INTERVAL,
            forgotten: now,
            most_domains: MAX_DOMAINS,
            most_lanes: MAX_LANES,
            lanes_to_forget: MAX_LANES,
        }
    }

    /// Runs until the verifier and all ends of its runs are dropped. Then closes the connections.
    pub(super) async fn run(self, messages: mpsc::UnboundedReceiver<Message>) {
        // If the runtime ends, the router is dropped before its channel is closed. So the next engine finds its limits.
        let mut messages = messages;
        let mut router = self;
        router.serve(&mut messages).await;
        for lane in &router.lanes {
            lane.lock().end();
            lane.changed.notify_one();
        }
        let all = async { while router.running.join_next().await.is_some() {} };
        let _ = timeout(CLOSE_LIMIT, all).await;
    }

    /// Serves messages until the channel is closed.
    async fn serve(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) {
        loop {
            let due = self.next_due();
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => {
                        self.now = Instant::now();
                        self.handle(message);
                    }
                    None => return,
                },
                Some(Ok((domain, route, permit))) = self.lookups.join_next() => {
                    self.now = Instant::now();
                    self.resolved(domain, route, permit);
                }
                () = self.context.all_closed(), if !self.ending_runs.is_empty() => {
                    if self.context.has_no_connection() {
                        self.end_runs();
                    }
                }
                () = sleep_until(due.unwrap_or(self.now)), if due.is_some() => {
                    self.now = Instant::now();
                    if self.now >= self.ending_until {
                        self.end_runs();
                    }
                    self.route_postponed();
                    self.search_outdated();
                }
            }
            self.flush();
            self.forget_some();
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Start(run) => {
                self.context.read_time_of_day();
                self.end_runs();
                if !run.options.is_call {
                    if self.open_runs.is_empty() {
                        self.lanes.iter().for_each(|lane| lane.lock().begin_input());
                    }
                    self.open_runs.insert(run.id);
                }
                self.context.runs.add(run);
            }
            Message::Tasks(run, tasks) => {
                let Some(run) = self.event_batch.run(run) else { return };
                run.add_open(tasks.len());
                let run = run.id;
                tasks.into_iter().for_each(|task| self.take_in(run, task));
            }
            Message::InputEnded(run) => {
                self.end_input(run);
                self.event_batch.finish(run, 1);
            }
            Message::Finished(run) => {
                let Some(run) = self.context.runs.remove(run) else { return };
                if run.options.is_call || !self.context.runs.is_empty() {
                    run.end();
                    return;
                }
                self.ending_runs.push(run);
                self.ending_until = self.now + CLOSE_LIMIT;
                self.lanes.iter().for_each(|lane| lane.lock().end_input());
                if self.context.has_no_connection() {
                    self.end_runs();
                }
            }
            Message::BacklogShrunk(run) => {
                for lane in &self.lanes {
                    lane.lock().unpark(run);
                    lane.changed.notify_one();
                }
            }
            Message::Dropped(run) => {
                self.context.runs.remove(run);
                self.end_input(run);
                self.postponed.retain(|_, item| item.run != run);
                for lane in &self.lanes {
                    lane.lock().withdraw(run);
                    lane.changed.notify_one();
                }
            }
        }
    }

    /// Records that the input of a run has ended.
    fn end_input(&mut self, run: u32) {
        if self.open_runs.remove(&run) && self.open_runs.is_empty() {
            self.lanes.iter().for_each(|lane| lane.lock().end_input());
        }
    }

    /// Ends the runs without open work.
    fn end_runs(&mut self) {
        self.ending_runs.drain(..).for_each(|run| run.end());
    }

    /// Returns the next time at which something is due without a message.
    fn next_due(&self) -> Option<Instant> {
        let search = (!self.lanes.is_empty()).then_some(self.next_search);
        let postponed = self.postponed.keys().next().map(|(due, _)| *due);
        let end = (!self.ending_runs.is_empty()).then_some(self.ending_until);
        [search, postponed, end].into_iter().flatten().min()
    }

    /// Looks the domains of addresses up again whose pause is over.
    fn route_postponed(&mut self) {
        while let Some(next) = self.postponed.first_entry()
            && next.key().0 <= self.now
        {
            let item = next.remove();
            self.route(item);
        }
    }

    fn take_in(&mut self, run: u32, task: Task) {
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
                    self.event_batch.release(run, permits_for(&address));
                    let record = self.context.syntax_error(address, &Outcome::of_syntax(error));
                    self.event_batch.push(run, Event::Done { id, record });
                    self.event_batch.finish(run, 1);
                    return;
                }
            },
        };
        // The address as given may be longer than a mailbox. From here on it holds one permit.
        self.event_batch.release(run, permits_for(&address) - 1);
        let needs_smtputf8 = mailbox.needs_smtputf8();
        let (text, at) = mailbox.into_parts();
        let wire = match text {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(Box::new(text.into())),
        };
        // A mailbox has 254 octets at most.
        let at = u8::try_from(at).unwrap_or(u8::MAX);
        let attempts = u16::try_from(attempts).unwrap_or(u16::MAX);
        let (losses, started, holds_permit) = (0, None, true);
        let item = Item {
            id,
            run,
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
    fn route(&mut self, mut item: Item) {
        let domain = item.domain;
        match self.domain_states.get_mut(domain) {
            Some(DomainState::Resolving(items)) => items.push(item),
            Some(DomainState::Routed(at, until))
                if self.now < *until
                    && let Some(Some(lane_ref)) = self.lane_refs.get_mut(*at) =>
            {
                item.losses = 0;
                let item_batch = *lane_ref.item_batch.get_or_insert_with(|| {
                    self.batches_in_use += 1;
                    self.item_batches
                        .resize_with(self.batches_in_use.max(self.item_batches.len()), ItemBatch::default);
                    self.item_batches[self.batches_in_use - 1].lane_ref = *at;
                    self.batches_in_use - 1
                });
                self.item_batches[item_batch].items.push(item);
            }
            Some(DomainState::Unroutable(outcome, until)) if until.is_none_or(|until| self.now < until) => {
                if let Some((pause, item)) =
                    settle_unroutable(&self.context, &mut self.event_batch, item, outcome)
                {
                    self.next_postponed += 1;
                    self.postponed.insert((self.now + pause, self.next_postponed), item);
                }
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
        let (resolver, permits) = (Arc::clone(&self.resolver), Arc::clone(&self.opening_permits));
        self.lookups.spawn(async move {
            let permit = permits.acquire_owned().await.ok();
            // Boxed, so that look-ups that wait for a permit take little memory.
            let route = Box::pin(resolver.resolve(&mailbox)).await.map(|found| found.exchangers);
            (domain, route, permit)
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
            Some(lane) => Arc::clone(lane),
            None => {
                let known = provider.and_then(|provider| providers.get(provider));
                let (name, limits) = known.map_or_else(
                    || (host, providers.default_limits()),
                    |provider| (Arc::clone(&provider.name), provider.limits),
                );
                let key = provider.map_or_else(|| LaneKey::Exchangers(exchangers.clone()), LaneKey::Provider);
                let lane = Arc::new(Lane::new(Arc::clone(&self.context), name, limits));
                {
                    let mut state = lane.lock();
                    state.opening_permit = permit;
                    if let Some(limits) = self.carried.take(&key) {
                        state.take_over(limits);
                    }
                }
                self.running.spawn(lane::run(Arc::clone(&lane)));
                self.by_provider.extend(provider.map(|provider| (provider, Arc::clone(&lane))));
                self.lanes.push(Arc::clone(&lane));
                lane
            }
        };
        let at = {
            let mut state = lane.lock();
            if self.open_runs.is_empty() {
                state.end_input();
            }
            state.add(exchangers.clone())
        };
        let index = self.free_lane_refs.pop().unwrap_or_else(|| {
            self.lane_refs.push(None);
            self.lane_refs.len() - 1
        });
        self.lane_refs[index] =
            Some(LaneRef { lane, is_of_provider: provider.is_some(), at, item_batch: None });
        self.by_exchangers.insert(exchangers, index);
        index
    }

    /// Sends the collected batches and events.
    fn flush(&mut self) {
        for ItemBatch { lane_ref, items } in
            self.item_batches.iter_mut().take(mem::take(&mut self.batches_in_use))
        {
            let Some(LaneRef { lane, at, item_batch, .. }) = &mut self.lane_refs[*lane_ref] else { continue };
            *item_batch = None;
            lane.lock().take_in(*at, items.drain(..));
            lane.changed.notify_one();
            items.shrink_to(BATCH_SIZE);
        }
        self.event_batch.deliver();
    }
}

#[cfg(test)]
mod tests;
