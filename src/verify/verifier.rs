//! The engine: what a verifier is made of, and what all lanes of a run share.
//!
//! ```text
//! tasks ─▶ router ─▶ syntax ─▶ domain known? ─▶ lane of its exchangers ─▶ events
//!                      │            └▶ DNS ─▶┘
//!                      └▶ event
//! ```

use std::{
    num::NonZeroI64,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::HashMap;
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use super::{
    CatchAll, DnsConfigError, DomainFacts, Event, Record, Resolver, SubStatus, VerifierConfig,
    input::input_channel,
    lane::status::Statuses,
    outcome::Outcome,
    permits::Permits,
    policy::deadlines::Deadlines,
    router::Router,
    run::{Backlog, EventBatch, Events, MAX_PENDING, Records, Tasks},
};
use crate::{
    client::Endpoint,
    metrics::Metrics,
    pool::{self, BuildError, Key, Pool, PooledConnection},
    proto::Mailbox,
};

/// How long a connection is waited for while as many as there may be are open: as long as it takes.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// An address on its way. Millions wait and move from queue to queue, so it is held to a line of the cache: 64 octets.
pub(super) struct Item {
    pub(super) id: u64,
    /// As it was given. Its record takes it away.
    pub(super) address: String,
    /// In its wire form, where that is another.
    pub(super) wire: Option<Box<Box<str>>>,
    /// Where the `@` is in the wire form.
    pub(super) at: u8,
    pub(super) needs_smtputf8: bool,
    pub(super) domain: u32,
    pub(super) facts: DomainFacts,
    pub(super) attempts: u32,
    /// How often a connection broke when this was next.
    pub(super) losses: u8,
    /// When it was first asked about, in milliseconds since 1970.
    pub(super) started: Option<NonZeroI64>,
    /// Whether it holds a permit of the run; not while it waits for another attempt.
    pub(super) holds_permit: bool,
}

impl Item {
    pub(super) fn mailbox(&self) -> Mailbox<&str> {
        self.mailbox_of(&self.address)
    }

    /// Records the first time that it is asked about.
    pub(super) fn start(&mut self, at: Timestamp) {
        self.started = self.started.or(NonZeroI64::new(at.as_millisecond()));
    }

    /// The mailbox, given the address that may be in the record by now.
    pub(super) fn mailbox_of<'a>(&'a self, address: &'a str) -> Mailbox<&'a str> {
        Mailbox::from_parts(self.wire.as_deref().map_or(address, |wire| wire), self.at.into())
    }
}

/// Who remembers what is to be asked again, and takes verdicts back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOwner {
    /// The engine, in memory.
    Engine,
    /// The caller.
    Caller,
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: VerifierConfig,
    pool: Pool,
    /// Whether the caller keeps the books: what is to be asked again later goes back to it, instead of waiting here.
    pub(super) retry_owner: RetryOwner,
    /// Which domains accept any local part, as far as earlier runs found out.
    pub(super) known: HashMap<Box<str>, CatchAll>,
    pub(super) statuses: Statuses,
    pub(super) deadlines: Deadlines,
    /// For the connections of all runs.
    pub(super) permits: Arc<Permits>,
    pub(super) pending: Arc<Semaphore>,
    /// How many wait without a permit.
    waiting_without_permit: AtomicUsize,
    backlog: Arc<Backlog>,
    event_batches: mpsc::UnboundedSender<EventBatch>,
    /// The start of the run, and the time in milliseconds then: finer would be a pretence for what took a round trip.
    epoch: (Instant, i64),
}

impl Context {
    /// A connection to an exchanger, opened within `limit`.
    ///
    /// Dropping the future ends the attempt.
    pub(super) async fn connect(
        &self,
        exchanger: &Endpoint,
        limit: Duration,
    ) -> Result<PooledConnection, Outcome> {
        let lent = self.pool.open(Key::at(exchanger), limit).await;
        lent.map_err(|error| Outcome::of_checkout_error(self.config.classifier(), &error))
    }

    /// Hands events to whoever takes them; if nobody does any more, there is nothing left to do with them.
    pub(super) fn deliver(&self, event_batch: EventBatch) {
        if !event_batch.is_empty() {
            self.backlog.add(event_batch.octets);
            let _ = self.event_batches.send(event_batch);
        }
    }

    /// Waits while the caller has too much to take. To be awaited before more is asked.
    #[inline]
    pub(super) async fn room(&self) {
        self.backlog.room().await;
    }

    /// Settles an address that no server was asked about.
    pub(super) fn settle(
        &self,
        mut item: Item,
        outcome: &Outcome,
        at: Instant,
        event_batch: &mut EventBatch,
    ) {
        let retry = self.retry_owner == RetryOwner::Caller && outcome.verdict.retry.is_some();
        // Not having found the way is an attempt only as far as the schedule is concerned.
        let pause = if retry { self.config.pause(item.attempts + 1) } else { None };
        let mut record = self.record(&mut item, outcome, self.timestamp(at));
        match pause {
            Some(after) => {
                record.attempts += 1;
                self.later(&item, record, after, event_batch);
            }
            None => self.done(&item, record, event_batch),
        }
    }

    /// The verdict on an address.
    pub(super) fn done(&self, item: &Item, record: Record, event_batch: &mut EventBatch) {
        self.count(item.holds_permit, &record, event_batch);
        event_batch.events.push(Event::Done { id: item.id, record });
    }

    /// What is known of an address that is to be asked again by the caller.
    pub(super) fn later(&self, item: &Item, record: Record, after: Duration, event_batch: &mut EventBatch) {
        self.count(item.holds_permit, &record, event_batch);
        event_batch.events.push(Event::Later { id: item.id, record, after });
    }

    /// Counts what an event takes, and gives back with it.
    #[inline]
    fn count(&self, holds_permit: bool, record: &Record, event_batch: &mut EventBatch) {
        event_batch.octets += record.reply.as_ref().map_or(0, |reply| reply.len());
        match holds_permit {
            true => event_batch.permits += 1,
            // It waited without one, and waits no longer.
            false => drop(self.waiting_without_permit.fetch_sub(1, Relaxed)),
        }
    }

    /// Releases the permit of an address that goes on waiting without one, unless as many as there are permits do so: they
    /// take memory as well.
    pub(super) fn release_permit(&self, item: &mut Item) {
        if !item.holds_permit {
            return;
        }
        if self.waiting_without_permit.fetch_add(1, Relaxed) < MAX_PENDING {
            item.holds_permit = false;
            self.pending.add_permits(1);
        } else {
            self.waiting_without_permit.fetch_sub(1, Relaxed);
        }
    }

    /// A record without what only a connection knows.
    pub(super) fn record(&self, item: &mut Item, outcome: &Outcome, at: Timestamp) -> Record {
        let facts = item.facts;
        let took = item.started.map_or(0, |started| at.as_millisecond() - started.get());
        Record {
            role: self.config.lists.is_role(&item.mailbox()),
            address: std::mem::take(&mut item.address),
            status: outcome.verdict.sub_status.status(),
            sub_status: outcome.verdict.sub_status,
            blame: outcome.verdict.blame,
            catch_all: CatchAll::NotRun,
            disposable: facts.disposable,
            free: facts.free,
            mx_host: None,
            smtp_code: outcome.code,
            enhanced_code: outcome.enhanced,
            reply: outcome.text.clone(),
            attempts: item.attempts,
            tls: None,
            duration_ms: took.try_into().unwrap_or(0),
            checked_at: at,
        }
    }

    /// What acceptance means for an address of a domain that does, or does not, accept anything.
    pub(super) fn accepted(&self, record: &mut Record, catch_all: CatchAll) {
        record.catch_all = catch_all;
        let risky = &self.config.risky;
        record.sub_status = match catch_all {
            _ if record.disposable && risky.disposable => SubStatus::Disposable,
            CatchAll::Accepted => SubStatus::CatchAll,
            _ if record.role && risky.role => SubStatus::RoleBased,
            _ => record.sub_status,
        };
        record.status = record.sub_status.status();
    }

    pub(super) fn syntax_error(&self, address: String, outcome: Outcome) -> Record {
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

    /// The time of day, which goes on from the start of the run as the clock of the run does.
    pub(super) fn timestamp(&self, at: Instant) -> Timestamp {
        let (instant, start) = self.epoch;
        let passed = at.saturating_duration_since(instant);
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).saturating_add(start);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
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
    pool: Pool,
    permits: Arc<Permits>,
    resolver: Arc<Resolver>,
}

/// A verifier cannot be made of its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The DNS configuration of the system cannot be used.
    #[error(transparent)]
    Dns(#[from] DnsConfigError),
    /// The connections cannot be set up: the TLS configuration cannot be used, or a setting makes no sense.
    #[error(transparent)]
    Pool(#[from] BuildError),
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
        let pool = pool(&config, metrics)?;
        let permits = Permits::new(config.max_connections);
        Ok(Self { config, pool, permits, resolver: resolver.into() })
    }

    /// Verifies one address. Whoever waits for a single answer wants it now, so it is asked once, whatever the
    /// schedule.
    ///
    /// # Cancellation safety
    /// Dropping the future abandons the question, without a word to the server.
    pub async fn verify(&self, address: &str) -> Option<Record> {
        let config = VerifierConfig { schedule: Vec::new(), ..self.config.clone() };
        let once = Self { config, ..self.clone() };
        once.verify_all([address.to_owned()]).next().await
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
        let (tasks, mut events) = self.run(RetryOwner::Engine, HashMap::default());
        let (reader, input) = input_channel();
        events.tasks.spawn_blocking(move || reader.read(addresses));
        events.tasks.spawn(tasks.feed(input));
        Records(events)
    }

    /// The longest pause between two attempts, by the schedule.
    #[cfg(feature = "job")]
    pub(crate) fn longest_pause(&self) -> Duration {
        self.config.schedule.iter().max().copied().unwrap_or_default()
    }

    /// Starts a run for a caller that keeps its own books: tasks in at one end, events out of the other, in the order
    /// of the answers. `known` tells of domains, in lower-case A-labels, whether they accept any local part, as far as
    /// earlier runs said by [`Event::CatchAll`].
    ///
    /// It must be called within a tokio runtime. The two ends may be used by different tasks; whoever uses both must
    /// take events while sending, since sending waits while too many of them were not taken.
    ///
    /// ```no_run
    /// # async fn example(verifier: smtp_pool::verify::Verifier) -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_pool::verify::{Event, Task};
    /// let (tasks, mut events) = verifier.start([]);
    /// tasks.send(vec![Task { id: 7, address: "ann@example.com".to_owned(), attempts: 0 }]).await?;
    /// drop(tasks);
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::Done { id, record } => println!("{id}: {:?}", record.status),
    ///         Event::Later { id, after, .. } => println!("{id}: again in {after:?}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn start(&self, known: impl IntoIterator<Item = (String, CatchAll)>) -> (Tasks, Events) {
        let known = known.into_iter().map(|(domain, answer)| (domain.into(), answer)).collect();
        self.run(RetryOwner::Caller, known)
    }

    fn run(&self, retry_owner: RetryOwner, known: HashMap<Box<str>, CatchAll>) -> (Tasks, Events) {
        let (context, received) = self.context(retry_owner, known);
        let (tasks, input) = Tasks::new(Arc::clone(&context.pending));
        let (pending, backlog) = (Arc::clone(&context.pending), Arc::clone(&context.backlog));
        let mut events = Events::new(received, pending, backlog, context.statuses.clone());
        events.tasks.spawn(Router::new(context.into(), Arc::clone(&self.resolver)).run(input));
        (tasks, events)
    }

    /// What the lanes of a new run share, and where their events come out.
    pub(super) fn context(
        &self,
        retry_owner: RetryOwner,
        known: HashMap<Box<str>, CatchAll>,
    ) -> (Context, mpsc::UnboundedReceiver<EventBatch>) {
        let (event_batches, received) = mpsc::unbounded_channel();
        let context = Context {
            config: self.config.clone(),
            pool: self.pool.clone(),
            retry_owner,
            known,
            statuses: Statuses::default(),
            deadlines: Deadlines::new(&self.config.client.timeouts),
            permits: Arc::clone(&self.permits),
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            waiting_without_permit: AtomicUsize::new(0),
            backlog: Arc::default(),
            event_batches,
            epoch: (Instant::now(), Timestamp::now().as_millisecond()),
        };
        (context, received)
    }
}

/// The pool that suits the lanes. They decide how many connections a server gets, when one that failed is tried again
/// and when one is closed; the pool opens them, and holds them all together to their number.
fn pool(config: &VerifierConfig, metrics: Arc<Metrics>) -> Result<Pool, BuildError> {
    let client = &config.client;
    let settings = pool::Config {
        max_connections: config.providers().most_connections() as usize,
        max_total_connections: config.max_connections.max(1),
        connection_timeout: Deadlines::new(&client.timeouts).exchangers,
        acquire_timeout: PATIENCE,
        max_retries: 0,
        breaker_failures: 0,
        // The lanes remember what is known of a server, and there may be any number of servers.
        server_ttl: Duration::from_secs(60),
        cleanup_interval: Duration::from_secs(30),
        helo: client.name.clone(),
        bind: client.bind,
        tls: client.tls,
        credentials: client.credentials.clone(),
        timeouts: client.timeouts,
        ..pool::Config::default()
    };
    let builder = Pool::builder().config(settings).metrics(metrics);
    match &client.tls_config {
        Some(tls) => builder.tls_config(tls.clone()).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ClientName;

    #[tokio::test]
    async fn as_many_wait_without_a_place_as_there_are_places() {
        let config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
        let verifier = Verifier::new(config, Metrics::new().into()).unwrap();
        let (context, _lots) = verifier.context(RetryOwner::Engine, HashMap::default());
        let item = || Item {
            id: 0,
            address: String::new(),
            wire: None,
            at: 0,
            needs_smtputf8: false,
            domain: 0,
            facts: DomainFacts::default(),
            attempts: 1,
            losses: 0,
            started: None,
            holds_permit: true,
        };
        for _ in 0..MAX_PENDING {
            let mut item = item();
            context.release_permit(&mut item);
            assert!(!item.holds_permit);
        }
        let mut next = item();
        context.release_permit(&mut next);
        assert!(next.holds_permit, "it keeps its permit");
        assert_eq!(context.pending.available_permits(), 2 * MAX_PENDING);
        // One that waited is done.
        let mut waited = Item { holds_permit: false, ..item() };
        let record = context.record(&mut waited, &Outcome::not_asked(), Timestamp::UNIX_EPOCH);
        let mut event_batch = EventBatch::default();
        context.done(&waited, record, &mut event_batch);
        assert_eq!(event_batch.permits, 0);
        context.release_permit(&mut next);
        assert!(!next.holds_permit);
    }
}
