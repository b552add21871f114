//! The verifier: its configuration, pool, resolver and permits, and the start of a run.
//!
//! ```text
//! tasks ─▶ router ─▶ syntax ─▶ domain known? ─▶ lane of its exchangers ─▶ events
//!                      │            └▶ DNS ─▶┘
//!                      └▶ event
//! ```

use std::{sync::Arc, time::Duration};

use foldhash::HashMap;
use tokio::sync::mpsc;

use super::{
    CatchAll, DnsConfigError, Record, Resolver, VerifierConfig,
    context::{Context, RetryOwner},
    input::input_channel,
    permits::Permits,
    policy::deadlines::Deadlines,
    router::Router,
    run::{EventBatch, Events, Records, Tasks},
};
use crate::{
    metrics::Metrics,
    pool::{self, BuildError, Pool},
};

/// While others wait, slow hosts get one of this many connections, and at least one.
const SLOW_SHARE: usize = 16;
/// Longest wait for a connection while the maximum is open. Lanes wait without limit, so it only has to be long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// Verifies e-mail addresses with their mail servers, without sending a message.
///
/// Clones share the connection pool, the connection limit and the DNS cache. A clone is cheap. Each call starts a
/// separate run.
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
    /// Builds a verifier. Its DNS cache lives until the last clone is dropped. Opens no connection.
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
        Ok(Self { config, pool, permits, resolver: resolver.into() })
    }

    /// Verifies one address in a single attempt. It ignores [`VerifierConfig::schedule`], because the caller waits for
    /// the answer. A greylisted address is therefore `unknown` at once.
    ///
    /// Returns `None` only if the run ends without a record, for example while the runtime shuts down.
    ///
    /// # Cancellation safety
    /// Dropping the future abandons the attempt. No QUIT is sent.
    pub async fn verify(&self, address: &str) -> Option<Record> {
        let config = VerifierConfig { schedule: Vec::new(), ..self.config.clone() };
        let once = Self { config, ..self.clone() };
        once.verify_all([address.to_owned()]).next().await
    }

    /// Verifies any number of addresses. Each address gets exactly one record, in the order of the answers.
    ///
    /// A separate thread reads the iterator, so the iterator may block. At most 262,144 addresses are in progress, and
    /// the thread reads ahead 4,096 more, or 1 MiB. The run verifies an address without waiting for the next one.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
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

    /// Returns the longest pause between two attempts in the schedule, or zero without one.
    #[cfg(feature = "job")]
    pub(crate) fn longest_pause(&self) -> Duration {
        self.config.schedule.iter().max().copied().unwrap_or_default()
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

    /// Returns what the lanes of a new run share, and the receiver of their events.
    pub(super) fn context(
        &self,
        retry_owner: RetryOwner,
        known: HashMap<Box<str>, CatchAll>,
    ) -> (Context, mpsc::UnboundedReceiver<EventBatch>) {
        let (event_batches, received) = mpsc::unbounded_channel();
        let context = Context::new(
            self.config.clone(),
            self.pool.clone(),
            Arc::clone(&self.permits),
            retry_owner,
            known,
            event_batches,
        );
        (context, received)
    }
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
