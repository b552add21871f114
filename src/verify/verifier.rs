//! The verifier: its configuration, pool, resolver and permits, and the engine that all its runs share.
//!
//! ```text
//! verify, verify_all, start ─▶ engine: router ─▶ syntax ─▶ domain known? ─▶ lane of its exchangers ─▶ events
//!                                        │                     └▶ DNS ─▶┘
//!                                        └▶ event
//! ```
//!
//! The first call starts the engine, as a task of its runtime. The engine ends with that runtime, or once the verifier
//! and all ends of its runs are dropped. The next call starts another, which takes over the limits and blocks.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use foldhash::HashMap;
use futures_core::Stream;
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    CatchAll, DnsConfigError, Event, Record, Resolver, Task, VerifierConfig, VerifyOptions,
    call::RecentVerdicts,
    context::{Context, unasked},
    input::{InputReader, InputReceiver, input_channel},
    outcome::Outcome,
    permits::Permits,
    policy::deadlines::Deadlines,
    router::{CarriedLanes, Router},
    run::{Events, Records, Tasks},
    run_state::{Message, RetryOwner, RunOptions, RunState},
};
use crate::{
    metrics::Metrics,
    pool::{self, BuildError, Pool},
    proto::Mailbox,
};

/// While others wait, slow hosts get one of this many connections, and at least one.
const SLOW_SHARE: usize = 16;
/// Longest wait for a connection while the maximum is open. Lanes wait without limit, so it only has to be long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// Verifies e-mail addresses with their mail servers, without sending a message.
///
/// A verifier has one engine for its whole life. Every call and every clone shares its connections, limits, blocks,
/// catch-all results and DNS cache. So the limits of a provider hold for all calls together, in any number of tasks and
/// threads. A clone is cheap: it copies one `Arc`. Make one verifier per process, since two verifiers know nothing of
/// each other.
///
/// The engine forgets a server ten minutes after its last address, except limits and blocks that have not expired.
///
/// The first call starts the engine on its runtime. Calls from other runtimes use it as well. When that runtime ends,
/// runs in progress end early. The next call starts another engine, which continues with the limits and blocks.
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
pub struct Verifier(Arc<Shared>);

/// What the clones of a verifier share.
#[derive(Debug)]
struct Shared {
    config: Arc<VerifierConfig>,
    schedule: Arc<[Duration]>,
    pool: Pool,
    permits: Arc<Permits>,
    resolver: Arc<Resolver>,
    /// Recent verdicts of calls.
    recent: Arc<RecentVerdicts>,
    /// The limits and blocks of engines whose runtime has ended.
    carried: Arc<CarriedLanes>,
    next_run: AtomicU32,
    /// The way to the engine, once it has started.
    engine: Mutex<Option<mpsc::UnboundedSender<Message>>>,
}

/// Why a [`Verifier`] cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The DNS resolver cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsConfigError),
    /// The connection pool cannot be built: the TLS configuration or another setting is invalid.
    #[error(transparent)]
    Pool(#[from] BuildError),
}

impl Verifier {
    /// Builds a verifier. Opens no connection.
    ///
    /// # Errors
    /// Returns [`VerifierError`] if the DNS resolver or the connection pool cannot be set up.
    pub fn new(config: VerifierConfig, metrics: Arc<Metrics>) -> Result<Self, VerifierError> {
        let resolver = Resolver::new(
            &config.nameservers,
            config.routes.clone(),
            config.port,
            config.allow_private,
            Arc::clone(&metrics),
        )?;
        let pool = pool(&config, metrics)?;
        let permits = Permits::new(config.max_connections, config.max_connections / SLOW_SHARE);
        Ok(Self(Arc::new(Shared {
            schedule: config.schedule.as_slice().into(),
            config: config.into(),
            pool,
            permits,
            recent: Arc::default(),
            resolver: resolver.into(),
            carried: Arc::default(),
            next_run: AtomicU32::new(0),
            engine: Mutex::new(None),
        })))
    }

    /// Verifies one address in a single attempt. It ignores [`VerifierConfig::schedule`], because the caller waits for
    /// the answer. A greylisted address is therefore `unknown` at once.
    ///
    /// All calls share the limits of a provider, so a call may wait for others. A connection without questions stays
    /// open for two seconds, so that the next call can use it.
    ///
    /// Returns `None` only if the runtime of the engine ends.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    ///
    /// # Cancellation safety
    /// Dropping the future withdraws the question, if it is not in flight yet.
    pub async fn verify(&self, address: &str) -> Option<Record> {
        self.verify_with(address, VerifyOptions::new()).await
    }

    /// Verifies one address as [`verify`](Self::verify) does, with a deadline or from a recent verdict.
    ///
    /// Returns `None` only if the runtime of the engine ends.
    ///
    /// # Panics
    /// As [`verify`](Self::verify).
    ///
    /// # Cancellation safety
    /// As [`verify`](Self::verify).
    ///
    /// ```no_run
    /// # async fn example(verifier: smtp_pool::verify::Verifier) {
    /// use std::time::Duration;
    /// use smtp_pool::verify::{Status, VerifyOptions};
    /// let options = VerifyOptions::new().deadline(Duration::from_secs(3)).max_age(Duration::from_secs(3600));
    /// let record = verifier.verify_with("ann@example.com", options).await;
    /// // Accept the address unless its server refuses it.
    /// let is_refused = record.is_some_and(|record| record.status == Status::Undeliverable);
    /// # }
    /// ```
    pub async fn verify_with(&self, address: &str, options: VerifyOptions) -> Option<Record> {
        let recent = |max_age| self.0.recent.get(address, max_age, Instant::now());
        if let Some(record) = options.max_age.and_then(recent) {
            return Some(record);
        }
        let record = match options.deadline {
            Some(deadline) => match timeout(deadline, self.call(address)).await {
                Ok(record) => record?,
                Err(_) => return Some(self.unanswered(address, deadline)),
            },
            None => self.call(address).await?,
        };
        self.0.recent.add(&record, Instant::now());
        Some(record)
    }

    /// Returns the record of an address without a verdict within `deadline`.
    fn unanswered(&self, address: &str, deadline: Duration) -> Record {
        let outcome = Outcome::deadline_passed(deadline);
        let Ok(mailbox) = Mailbox::parse(address) else {
            return unasked(address.to_owned(), &outcome, Timestamp::now());
        };
        let lists = &self.0.config.lists;
        let facts = lists.domain(mailbox.domain());
        Record {
            role: lists.is_role(&mailbox.borrowed()),
            disposable: facts.disposable,
            free: facts.free,
            ..unasked(address.to_owned(), &outcome, Timestamp::now())
        }
    }

    async fn call(&self, address: &str) -> Option<Record> {
        let options = RunOptions { retry_owner: RetryOwner::Engine, schedule: Arc::default(), is_call: true };
        let (tasks, mut events) = self.run(options, HashMap::default());
        tasks.send(vec![Task { id: 0, address: address.to_owned(), attempts: 0 }]).await.ok()?;
        drop(tasks);
        while let Some(event) = events.next().await {
            if let Event::Done { record, .. } = event {
                events.set_over();
                return Some(record);
            }
        }
        None
    }

    /// Verifies any number of addresses. Each address gets exactly one record, in the order of the answers.
    ///
    /// A separate thread reads the iterator, so the iterator may block. At most 262,144 addresses are in progress, and
    /// the thread reads ahead 4,096 more, or 1 MiB. The run verifies an address without waiting for the next one.
    ///
    /// Dropping [`Records`] ends the reading. A thread that the iterator blocks ends with the next address, and delays
    /// neither the end of the runtime nor that of the process.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn verify_all<I>(&self, addresses: I) -> Records
    where
        I: IntoIterator<Item = String>,
        I::IntoIter: Send + 'static,
    {
        let (tasks, mut events) = self.run(self.options(RetryOwner::Engine), HashMap::default());
        events.tasks.spawn(tasks.feed(read(addresses.into_iter())));
        Records(events)
    }

    /// Verifies the addresses of a stream. Otherwise as [`verify_all`](Self::verify_all).
    ///
    /// The stream is polled on the runtime of the caller. Dropping [`Records`] drops it.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn verify_stream<S>(&self, addresses: S) -> Records
    where
        S: Stream<Item = String> + Send + 'static,
    {
        let (tasks, mut events) = self.run(self.options(RetryOwner::Engine), HashMap::default());
        events.tasks.spawn(tasks.feed_stream(addresses));
        Records(events)
    }

    fn options(&self, retry_owner: RetryOwner) -> RunOptions {
        RunOptions { retry_owner, schedule: Arc::clone(&self.0.schedule), is_call: false }
    }

    /// Returns the longest pause between two attempts in the schedule, or zero without one.
    #[cfg(feature = "job")]
    pub(crate) fn longest_pause(&self) -> Duration {
        self.0.schedule.iter().max().copied().unwrap_or_default()
    }

    /// Starts a run for a caller that stores retries and verdicts itself. Tasks go in at one end; events come out of
    /// the other, in the order of the answers.
    ///
    /// `known` holds results of earlier runs: whether a domain accepts any local part, as
    /// [`Event::CatchAll`](super::Event::CatchAll) reported it. Domains are in lower-case A-labels. The run uses these
    /// results instead of its own test for answers from the most preferred exchanger.
    ///
    /// Different tasks may use the two ends. A task that uses both must take events while it sends. [`Tasks::send`]
    /// waits while too many addresses are in progress, including those with events that were not taken.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    ///
    /// ```no_run
    /// # async fn example(verifier: smtp_pool::verify::Verifier) -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_pool::verify::{Event, Task};
    /// let (tasks, mut events) = verifier.start([]);
    /// tasks.send(vec![Task::new(7, "ann@example.com".to_owned())]).await?;
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
        self.run(self.options(RetryOwner::Caller), known)
    }

    fn run(&self, options: RunOptions, known: HashMap<Box<str>, CatchAll>) -> (Tasks, Events) {
        let engine = self.engine();
        let (event_batches, received) = mpsc::unbounded_channel();
        let id = self.0.next_run.fetch_add(1, Relaxed);
        let run = RunState::new(id, options, known, event_batches, engine.downgrade());
        let (capacity, statuses) = (Arc::clone(&run.capacity), run.statuses.clone());
        // If the engine has just ended, the run ends at once.
        let _ = engine.send(Message::Start(run.into()));
        let tasks = Tasks::new(id, engine.clone(), Arc::clone(&capacity));
        (tasks, Events::new(received, id, engine, capacity, statuses))
    }

    /// Returns the way to the engine. Starts one on the present runtime if there is none.
    fn engine(&self) -> mpsc::UnboundedSender<Message> {
        let mut engine = self.0.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = engine.as_ref().filter(|sender| !sender.is_closed()) {
            return sender.clone();
        }
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(self.router().run(messages));
        *engine = Some(sender.clone());
        sender
    }

    fn router(&self) -> Router {
        let (resolver, carried) = (Arc::clone(&self.0.resolver), Arc::clone(&self.0.carried));
        Router::new(self.context().into(), resolver, carried)
    }

    /// Starts an engine whose router `change` has changed. Returns its task.
    #[cfg(test)]
    pub(super) fn start_engine(&self, change: impl FnOnce(&mut Router)) -> tokio::task::JoinHandle<()> {
        let (sender, messages) = mpsc::unbounded_channel();
        let mut router = self.router();
        change(&mut router);
        *self.0.engine.lock().unwrap() = Some(sender);
        tokio::spawn(router.run(messages))
    }

    fn context(&self) -> Context {
        let Shared { config, pool, permits, recent, .. } = &*self.0;
        Context::new(Arc::clone(config), pool.clone(), Arc::clone(permits), Arc::clone(recent))
    }

    /// Returns a context with run 0, and the receiver of its events.
    #[cfg(test)]
    pub(super) fn context_of_run(
        &self,
        retry_owner: RetryOwner,
    ) -> (Context, mpsc::UnboundedReceiver<super::run_state::EventBatch>) {
        let context = self.context();
        let (run, received) = RunState::for_test(retry_owner, &self.0.schedule);
        context.runs.add(run);
        (context, received)
    }
}

/// Reads the iterator in a thread of its own, which may block without end. A thread of the runtime would delay its end.
fn read<I>(addresses: I) -> InputReceiver
where
    I: Iterator<Item = String> + Send + 'static,
{
    let (reader, input) = input_channel();
    let work = Arc::new(Mutex::new(Some((reader, addresses))));
    let runtime = Handle::current();
    let read = |work: &Mutex<Option<_>>| {
        let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((reader, addresses)) = taken {
            InputReader::read(reader, addresses);
        }
    };
    let started = thread::Builder::new().name("smtp-pool input".to_owned()).spawn({
        let work = Arc::clone(&work);
        move || {
            // The iterator may use the runtime.
            let _entered = runtime.enter();
            read(&work);
        }
    });
    if started.is_err() {
        // No more threads: one of the runtime serves as well.
        spawn_blocking(move || read(&work));
    }
    input
}

/// Builds the pool for the lanes. Lanes decide the number of connections to a server, when to close one, and when to
/// retry. The pool opens connections and enforces the total limit.
fn pool(config: &VerifierConfig, metrics: Arc<Metrics>) -> Result<Pool, BuildError> {
    let client = &config.client;
    let settings = pool::Config {
        max_connections: config.providers().most_connections() as usize,
        max_total_connections: config.max_connections.max(1),
        connection_timeout: Deadlines::new(&client.timeouts).exchangers,
        acquire_timeout: ACQUIRE_TIMEOUT,
        max_retries: 0,
        breaker_failures: 0,
        // Lanes keep the state of a server, and the number of servers has no limit.
        server_ttl: Duration::from_secs(5),
        cleanup_interval: Duration::from_secs(5),
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
mod tests;
