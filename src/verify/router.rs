//! The router: each address to the lane of its domain, whose way is looked up once, and again as the DNS has it.
//!
//! It never waits for a lane: what a lane is given waits in its queue, and the permits of the run bound all of it together.

mod domains;

use std::{borrow::Cow, mem, sync::Arc, time::Duration};

use foldhash::HashMap;
use memchr::memrchr;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::domains::{DomainTable, MAX_DOMAINS, MAX_LANES};
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

/// How long what the resolver said stands before it is asked again. Its cache knows how long the DNS lets it stand; and a
/// failure, of which it knows nothing, is worth a new attempt then.
const ROUTE_VALIDITY: Duration = Duration::from_secs(60);

/// The number of a domain, and its facts.
type DomainEntry = (u32, DomainFacts);

/// What is known of a domain.
enum DomainState {
    /// Its way is being looked up; these wait.
    Resolving(Vec<Item>),
    /// The number of its [`LaneRef`], until this time.
    Routed(usize, Instant),
    /// Nobody to ask, until this time or ever.
    Unroutable(Outcome, Option<Instant>),
}

/// An MX set of a lane.
struct LaneRef {
    lane: Arc<Lane>,
    at: usize,
    /// The batch that gathers for it, if one does.
    item_batch: Option<usize>,
}

/// Items that go to an MX set together.
#[derive(Default)]
struct ItemBatch {
    lane_ref: usize,
    items: Vec<Item>,
}

/// Gives each address to the lane of its domain.
pub(super) struct Router {
    context: Arc<Context>,
    resolver: Arc<Resolver>,
    domains: HashMap<Box<str>, DomainEntry>,
    domain_states: DomainTable,
    by_exchangers: HashMap<Exchangers, usize>,
    by_provider: HashMap<usize, usize>,
    lane_refs: Vec<LaneRef>,
    /// Of which the first so many have something in them; the others keep their memory for the next time.
    item_batches: Vec<ItemBatch>,
    batches_in_use: usize,
    lanes: Vec<Arc<Lane>>,
    running: JoinSet<()>,
    lookups: JoinSet<(u32, MailRoute)>,
    event_batch: EventBatch,
    /// Whether no more tasks will come.
    input_ended: bool,
    /// When the last came in.
    now: Instant,
    most_domains: usize,
    most_lanes: usize,
    /// As many lanes as are too many, those at work included.
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
            event_batch: EventBatch::default(),
            input_ended: false,
            now: Instant::now(),
            most_domains: MAX_DOMAINS,
            most_lanes: MAX_LANES,
            lanes_to_forget: MAX_LANES,
        }
    }

    /// Works until the input has ended and every lane is done.
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
                Some(Ok((domain, route))) = self.lookups.join_next() => {
                    self.now = Instant::now();
                    self.resolved(domain, route);
                }
            }
            self.flush();
            self.forget_some();
        }
        for lane in &self.lanes {
            lane.lock().end();
            lane.changed.notify_one();
        }
        // The lanes end when they have answered everything.
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
        // An address may be longer as it was written; from here on it has one permit.
        self.event_batch.permits += permits_for(&address) - 1;
        let needs_smtputf8 = mailbox.needs_smtputf8();
        let (text, at) = mailbox.into_parts();
        let wire = match text {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(Box::new(text.into())),
        };
        // A mailbox has 254 octets at the most.
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

    /// An address whose domain was met before, and is written as it goes on the wire.
    #[inline]
    fn recognise<'a>(&self, address: &'a str) -> Option<(Mailbox<Cow<'a, str>>, DomainEntry)> {
        let at = memrchr(b'@', address.as_bytes())?;
        let known = self.domains.get(&address[at + 1..])?;
        Some((Mailbox::parse_at(address, at)?, *known))
    }

    /// Inlined, so that an item is made where it will lie.
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
                self.context.settle(item, outcome, Instant::now(), &mut self.event_batch);
            }
            _ => {
                let mailbox = item.mailbox().shared();
                self.domain_states.set(domain, DomainState::Resolving(vec![item]));
                self.look_up(domain, mailbox);
            }
        }
    }

    /// A domain seen for the first time.
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
        self.lookups.spawn(async move {
            let mut attempts = 0;
            loop {
                let route = resolver.resolve(&mailbox).await.map(|found| found.exchangers);
                attempts += 1;
                match context.config.pause(attempts) {
                    Some(pause)
                        if context.retry_owner == RetryOwner::Engine
                            && matches!(route, Err(Unreachable::Dns { .. })) =>
                    {
                        sleep(pause).await;
                    }
                    _ => return (domain, route),
                }
            }
        });
    }

    fn resolved(&mut self, domain: u32, route: MailRoute) {
        let until = self.now + ROUTE_VALIDITY;
        let known = match route {
            Ok(exchangers) => DomainState::Routed(self.lane_ref(exchangers), until),
            Err(unreachable) => DomainState::Unroutable(Outcome::of_unreachable(&unreachable), Some(until)),
        };
        if let Some(DomainState::Resolving(items)) = self.domain_states.set(domain, known) {
            items.into_iter().for_each(|item| self.route(item));
        }
    }

    /// The reference to a set of exchangers, in the lane of their provider or in one of its own.
    fn lane_ref(&mut self, exchangers: Exchangers) -> usize {
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

    /// Sends what has gathered.
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
}
