//! What a verifier is made of.
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

/// Slow hosts get one in so many connections while others wait, and at least one.
const SLOW_SHARE: usize = 16;
/// How long a connection is waited for while as many as there may be are open: as long as it takes.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

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
        let permits = Permits::new(config.max_connections, config.max_connections / SLOW_SHARE);
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
    /// earlier runs said by [`Event::CatchAll`](super::Event::CatchAll).
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
