//! The engine: addresses in, records out, one task a lane.
//!
//! ```text
//! addresses ─▶ router ─▶ syntax ─▶ domain known? ─▶ lane of its exchangers ─▶ records
//!                          │            └▶ DNS ─▶┘
//!                          └▶ record
//! ```
//!
//! The router never waits for a lane: what a lane is given waits in its queue, and [`MAX_PENDING`] bounds all of it
//! together, records not yet taken included.

use std::{pin::pin, sync::Arc, time::Duration};

use foldhash::HashMap;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    CatchAll, DnsConfigError, DomainFacts, MailRoute, Record, Resolver, SubStatus, Unreachable,
    VerifierConfig,
    intake::{Intake, intake},
    is_role,
    lane::Lane,
    mx::Exchangers,
    outcome::Outcome,
    queue::Queue,
};
use crate::{client::Connector, metrics::Metrics, net::TlsConfigError, proto::Mailbox};

/// Addresses that may be under way at once.
const MAX_PENDING: usize = 65_536;
/// Domains that may be looked up at once.
const MAX_LOOKUPS: usize = 128;

/// An address on its way.
pub(super) struct Item {
    pub(super) address: String,
    pub(super) mailbox: Mailbox,
    pub(super) domain: u32,
    pub(super) facts: DomainFacts,
    pub(super) attempts: u32,
    /// How often a connection broke when this was next.
    pub(super) losses: u32,
    pub(super) started: Option<Instant>,
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: VerifierConfig,
    pub(super) connector: Connector,
    places: Arc<Semaphore>,
    records: mpsc::UnboundedSender<Vec<Record>>,
    epoch: (Instant, Timestamp),
}

impl Context {
    /// Waits for a place among the connections that may be open at once.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Hands records to whoever reads them; if nobody does any more, there is nothing left to do with them.
    pub(super) fn deliver(&self, records: Vec<Record>) {
        let _ = self.records.send(records);
    }

    /// A record without what only a connection knows.
    pub(super) fn record(&self, item: Item, outcome: &Outcome, at: Instant, took: Duration) -> Record {
        let facts = item.facts;
        Record {
            address: item.address,
            status: outcome.verdict.sub_status.status(),
            sub_status: outcome.verdict.sub_status,
            blame: outcome.verdict.blame,
            catch_all: CatchAll::NotRun,
            role: is_role(&item.mailbox),
            disposable: facts.disposable,
            free: facts.free,
            mx_host: None,
            smtp_code: outcome.code,
            enhanced_code: outcome.enhanced,
            reply: outcome.text.clone(),
            attempts: item.attempts,
            tls: None,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            checked_at: self.timestamp(at),
        }
    }

    /// What acceptance means for an address of a domain that does, or does not, accept anything.
    pub(super) fn accepted(&self, mut record: Record, catch_all: CatchAll) -> Record {
        record.catch_all = catch_all;
        let risky = &self.config.risky;
        record.sub_status = match catch_all {
            _ if record.disposable && risky.disposable => SubStatus::Disposable,
            CatchAll::Accepted => SubStatus::CatchAll,
            _ if record.role && risky.role => SubStatus::RoleBased,
            _ => record.sub_status,
        };
        record.status = record.sub_status.status();
        record
    }

    fn syntax_error(&self, address: String, outcome: Outcome) -> Record {
        Record {
            status: outcome.verdict.sub_status.status(),
            sub_status: outcome.verdict.sub_status,
            blame: outcome.verdict.blame,
            catch_all: CatchAll::NotRun,
            role: false,
            disposable: false,
            free: false,
            mx_host: None,
            smtp_code: None,
            enhanced_code: None,
            reply: outcome.text,
            attempts: 0,
            tls: None,
            duration_ms: 0,
            checked_at: self.timestamp(Instant::now()),
            address,
        }
    }

    fn timestamp(&self, at: Instant) -> Timestamp {
        let (instant, timestamp) = self.epoch;
        let millis = i64::try_from(at.saturating_duration_since(instant).as_millis()).unwrap_or(i64::MAX);
        timestamp.checked_add(jiff::SignedDuration::from_millis(millis)).unwrap_or(timestamp)
    }
}

/// Verifies addresses; cheap to share.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{metrics::Metrics, proto::ClientName, verify::{Verifier, VerifierConfig}};
/// let config = VerifierConfig::new(ClientName::parse("verifier.example.org")?);
/// let verifier = Verifier::new(config, Metrics::new().into())?;
/// let mut records = verifier.verify_all(["ann@example.com".to_owned(), "bob@example.net".to_owned()]);
/// while let Some(record) = records.next().await {
///     println!("{}: {:?}", record.address, record.status);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    config: VerifierConfig,
    metrics: Arc<Metrics>,
    resolver: Arc<Resolver>,
}

/// A verifier cannot be made of its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The DNS configuration of the system cannot be used.
    #[error(transparent)]
    Dns(#[from] DnsConfigError),
    /// The TLS configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

impl Verifier {
    /// A verifier. Its DNS cache lives as long as it does.
    ///
    /// # Errors
    /// DNS or TLS cannot be set up.
    pub fn new(config: VerifierConfig, metrics: Arc<Metrics>) -> Result<Self, VerifierError> {
        let resolver = Resolver::new(
            &config.nameservers,
            config.routes.clone(),
            config.port,
            config.allow_private,
            Arc::clone(&metrics),
        )?;
        // Found out now rather than at the first run.
        Connector::new(config.client.clone(), Arc::clone(&metrics))?;
        Ok(Self { config, metrics, resolver: resolver.into() })
    }

    /// Verifies one address.
    ///
    /// # Cancellation safety
    /// Dropping the future abandons the question, without a word to the server.
    pub async fn verify(&self, address: &str) -> Option<Record> {
        self.verify_all([address.to_owned()]).next().await
    }

    /// Verifies any number of addresses: exactly one record comes out for each, in the order of the answers.
    ///
    /// The iterator is read on a thread of its own, so that it may block, and no further ahead than needed; an address
    /// is asked about without waiting for the next. It must be called within a tokio runtime.
    pub fn verify_all<I>(&self, addresses: I) -> Records
    where
        I: IntoIterator<Item = String>,
        I::IntoIter: Send + 'static,
    {
        let addresses = addresses.into_iter();
        let (records, received) = mpsc::unbounded_channel();
        let pending = Arc::new(Semaphore::new(MAX_PENDING));
        let tasks = JoinSet::new();
        let mut run =
            Records { received, ready: Vec::new().into_iter(), pending: Arc::clone(&pending), tasks };
        let context = match Connector::new(self.config.client.clone(), Arc::clone(&self.metrics)) {
            Ok(connector) => Arc::new(Context {
                config: self.config.clone(),
                connector,
                places: Semaphore::new(self.config.max_connections.max(1)).into(),
                records,
                epoch: (Instant::now(), now()),
            }),
            // It was made of the same configuration before, in `new`.
            Err(_) => return run,
        };
        let (reader, input) = intake();
        run.tasks.spawn_blocking(move || reader.read(addresses));
        run.tasks.spawn(Router::new(context, Arc::clone(&self.resolver), pending).run(input));
        run
    }
}

/// The time, in milliseconds: finer would be a pretence for what took a round trip.
fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// The records of a run, as they come. Dropping it abandons the run.
#[derive(Debug)]
pub struct Records {
    received: mpsc::UnboundedReceiver<Vec<Record>>,
    ready: std::vec::IntoIter<Record>,
    pending: Arc<Semaphore>,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Records {
    /// The next record, or none when every address has its record.
    ///
    /// # Cancellation safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(record);
            }
            let records = self.received.recv().await?;
            self.pending.add_permits(records.len());
            self.ready = records.into_iter();
        }
    }
}

/// What is known of a domain.
enum Known {
    /// Its way is being looked up; these wait.
    Soon(Vec<Item>),
    /// Its lane.
    Lane(usize),
    /// Nobody to ask.
    Nowhere(Outcome),
}

/// Gives each address to the lane of its domain.
struct Router {
    context: Arc<Context>,
    resolver: Arc<Resolver>,
    pending: Arc<Semaphore>,
    domains: HashMap<Box<str>, (u32, DomainFacts)>,
    known: Vec<Known>,
    by_exchangers: HashMap<Exchangers, usize>,
    lanes: Vec<(mpsc::UnboundedSender<Vec<Item>>, Vec<Item>)>,
    running: JoinSet<()>,
    lookups: JoinSet<(u32, MailRoute)>,
    lookup_places: Arc<Semaphore>,
    records: Vec<Record>,
}

impl Router {
    fn new(context: Arc<Context>, resolver: Arc<Resolver>, pending: Arc<Semaphore>) -> Self {
        Self {
            context,
            resolver,
            pending,
            domains: HashMap::default(),
            known: Vec::new(),
            by_exchangers: HashMap::default(),
            lanes: Vec::new(),
            running: JoinSet::new(),
            lookups: JoinSet::new(),
            lookup_places: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            records: Vec::new(),
        }
    }

    async fn run(mut self, mut input: Intake) {
        let mut open = true;
        while open || !self.lookups.is_empty() {
            tokio::select! {
                batch = input.take(), if open => match batch {
                    Some(batch) => self.take_in(batch).await,
                    None => open = false,
                },
                Some(Ok((domain, route))) = self.lookups.join_next() => self.resolved(domain, route),
            }
            self.flush();
        }
        // Without senders the lanes end when they have answered everything.
        self.lanes.clear();
        drop(self.context);
        while self.running.join_next().await.is_some() {}
    }

    async fn take_in(&mut self, batch: Vec<String>) {
        let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        // Lookups go on meanwhile: places may be waiting for just them.
        let mut places = pin!(Arc::clone(&self.pending).acquire_many_owned(size));
        loop {
            tokio::select! {
                place = &mut places => {
                    // Given back by `Records::next`, one for each record taken.
                    if let Ok(place) = place { place.forget() }
                    break;
                }
                Some(Ok((domain, route))) = self.lookups.join_next() => {
                    self.resolved(domain, route);
                    self.flush();
                }
            }
        }
        for address in batch {
            match Mailbox::parse(&address) {
                Ok(mailbox) => self.route(address, mailbox),
                Err(error) => {
                    self.records.push(self.context.syntax_error(address, Outcome::of_syntax(error)))
                }
            }
        }
    }

    fn route(&mut self, address: String, mailbox: Mailbox) {
        let (domain, facts) = match self.domains.get(mailbox.domain()) {
            Some(known) => *known,
            None => self.meet(&mailbox),
        };
        let item = Item { address, mailbox, domain, facts, attempts: 0, losses: 0, started: None };
        match &mut self.known[domain as usize] {
            Known::Soon(items) => items.push(item),
            Known::Lane(lane) => self.lanes[*lane].1.push(item),
            Known::Nowhere(outcome) => {
                self.records.push(self.context.record(item, outcome, Instant::now(), Duration::ZERO));
            }
        }
    }

    /// A domain seen for the first time.
    fn meet(&mut self, mailbox: &Mailbox) -> (u32, DomainFacts) {
        let id = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let facts = DomainFacts::of(mailbox.domain());
        self.domains.insert(mailbox.domain().into(), (id, facts));
        if !self.context.config.probe {
            self.known.push(Known::Nowhere(Outcome::not_asked()));
            return (id, facts);
        }
        self.known.push(Known::Soon(Vec::new()));
        let (resolver, places, mailbox) =
            (self.resolver.clone(), self.lookup_places.clone(), mailbox.clone());
        let (attempts, pause) = (self.context.config.attempts, self.context.config.retry_after);
        self.lookups.spawn(async move {
            let mut asked = 0;
            loop {
                let place = places.acquire().await;
                let route = resolver.resolve(&mailbox).await;
                drop(place);
                asked += 1;
                if asked >= attempts || !matches!(route, Err(Unreachable::Dns { .. })) {
                    return (id, route);
                }
                sleep(pause).await;
            }
        });
        (id, facts)
    }

    fn resolved(&mut self, domain: u32, route: MailRoute) {
        let known = match route {
            Ok(exchangers) => Known::Lane(self.lane(exchangers)),
            Err(unreachable) => Known::Nowhere(Outcome::of_unreachable(&unreachable)),
        };
        let waiting = std::mem::replace(&mut self.known[domain as usize], known);
        let Known::Soon(items) = waiting else { return };
        match &self.known[domain as usize] {
            Known::Lane(lane) => self.lanes[*lane].1.extend(items),
            Known::Nowhere(outcome) => {
                let now = Instant::now();
                let records =
                    items.into_iter().map(|item| self.context.record(item, outcome, now, Duration::ZERO));
                self.records.extend(records);
            }
            Known::Soon(_) => {}
        }
    }

    fn lane(&mut self, exchangers: Exchangers) -> usize {
        *self.by_exchangers.entry(exchangers).or_insert_with_key(|exchangers| {
            let (sender, inbox) = mpsc::unbounded_channel();
            let queue = Queue::new(Arc::clone(&self.context), inbox);
            self.running.spawn(Lane::new(Arc::clone(&self.context), exchangers.clone(), queue).run());
            self.lanes.push((sender, Vec::new()));
            self.lanes.len() - 1
        })
    }

    /// Sends what has gathered.
    fn flush(&mut self) {
        for (sender, items) in self.lanes.iter_mut().filter(|(_, items)| !items.is_empty()) {
            // A lane ends only after its sender is dropped.
            let _ = sender.send(std::mem::take(items));
        }
        if !self.records.is_empty() {
            self.context.deliver(std::mem::take(&mut self.records));
        }
    }
}
