//! A lane: all addresses whose mail goes to the same exchangers, asked over one connection at a time.
//!
//! ```text
//! wait ─▶ connect ─▶ probe ─┬─ idle ──▶ wait, the connection kept
//!   ▲        │              ├─ spent ─▶ QUIT
//!   │        ▼ no way       └─ broken, closed: what was not answered is asked again
//!   └──── everybody who waits gets the reason
//! ```
//!
//! An address is never judged by the trouble of another: only when connections keep breaking without a single answer
//! does their breaking become the answer.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    engine::Context,
    mx::Exchangers,
    outcome::Outcome,
    probe::{Answer, End, Probe},
    queue::{Question, Queue},
    throttle::Budget,
};
use crate::{client::Connection, proto::Verb};

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(2);
/// How long exchangers that could not be reached are left alone.
const REST: Duration = Duration::from_secs(60);
/// Connections in a row that break without an answer, after which the lane gives up on those who wait.
const FRUITLESS: u32 = 4;

pub(super) struct Lane {
    context: Arc<Context>,
    exchangers: Exchangers,
    queue: Queue,
    /// Recipients that the server takes in a transaction, as far as it has shown.
    recipients: Option<u32>,
    fruitless: u32,
    /// Memory for answers that are held back.
    held: Vec<(Question, Answer)>,
    /// No way to the server: until when, and why.
    resting: Option<(Instant, Outcome)>,
}

/// A connection with what it may still be asked.
struct Live {
    connection: Connection,
    budget: Budget,
    /// Whether it has stood idle, so that the server may have closed it meanwhile.
    reused: bool,
    /// Our place among the connections that may be open at once.
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Lane {
    pub(super) fn new(context: Arc<Context>, exchangers: Exchangers, queue: Queue) -> Self {
        Self { context, exchangers, queue, recipients: None, fruitless: 0, held: Vec::new(), resting: None }
    }

    /// Works until the input has ended and everything is answered.
    pub(super) async fn run(mut self) {
        let mut idle: Option<Live> = None;
        while self.wait(&mut idle).await {
            if let Some(outcome) = self.hopeless() {
                self.queue.fail(self.exchangers.first().map(|exchanger| &exchanger.host), &outcome);
                continue;
            }
            let live = match idle.take() {
                Some(live) if live.connection.is_idle() => Some(live),
                _ => self.connect().await,
            };
            if let Some(live) = live {
                idle = self.work(live).await;
            }
        }
        if let Some(live) = idle {
            goodbye(live).await;
        }
    }

    /// Waits for work; a connection that waits too long is closed.
    async fn wait(&mut self, idle: &mut Option<Live>) -> bool {
        if idle.is_some() {
            if let Ok(more) = timeout(IDLE, self.queue.wait()).await {
                return more;
            }
            if let Some(live) = idle.take() {
                goodbye(live).await;
            }
        }
        self.queue.wait().await
    }

    /// Why there is no use in asking, if there is none.
    fn hopeless(&mut self) -> Option<Outcome> {
        if let Some(outcome) = &self.queue.unwelcome {
            return Some(outcome.clone());
        }
        match &self.resting {
            Some((until, outcome)) if Instant::now() < *until => Some(outcome.clone()),
            _ => {
                self.resting = None;
                None
            }
        }
    }

    /// Connects to the most preferred exchanger that lets us in (RFC 5321 5.1).
    async fn connect(&mut self) -> Option<Live> {
        let place = self.context.place().await?;
        let mut failure = None;
        for exchanger in &self.exchangers {
            match self.context.connector.connect(exchanger).await {
                Ok(connection) => {
                    let limits = connection.extensions().limits;
                    let recipients = self.recipients.into_iter().chain(limits.rcpt_max).min();
                    self.queue.connected(&connection);
                    let budget = Budget::new(limits.mail_max, recipients);
                    return Some(Live { connection, budget, reused: false, _place: place });
                }
                Err(error) => {
                    tracing::debug!(host = %exchanger, kind = error.kind(), "cannot connect");
                    let outcome = Outcome::of_connect_error(self.context.config.classifier(), &error);
                    // Words of a server say more than a way that could not be found, and the preferred one counts.
                    match &failure {
                        Some((_, Outcome { code: known, .. }))
                            if known.is_some() || outcome.code.is_none() => {}
                        _ => failure = Some((Arc::clone(&exchanger.host), outcome)),
                    }
                }
            }
        }
        if let Some((host, outcome)) = failure {
            self.queue.fail(Some(&host), &outcome);
            self.resting = Some((Instant::now() + REST.min(self.context.config.retry_after), outcome));
        }
        None
    }

    /// Asks all there is to ask, and gives the connection back if it is still good.
    async fn work(&mut self, mut live: Live) -> Option<Live> {
        let answers = self.queue.answers;
        let from = &self.context.config.from;
        let probe = Probe::new(&mut live.connection, &mut live.budget, from, &mut self.queue, &mut self.held);
        let end = probe.run().await;
        if live.budget.full_window() < self.recipients.unwrap_or(u32::MAX) {
            self.recipients = Some(live.budget.full_window());
        }
        if self.queue.answers > answers {
            self.fruitless = 0;
        }
        match end {
            End::Idle => {
                live.reused = true;
                return Some(live);
            }
            End::Spent => goodbye(live).await,
            End::Closed(reply) => {
                let outcome = Outcome::of_reply(self.context.config.classifier(), Verb::Rcpt, &reply);
                self.lost(&live, answers, outcome).await;
            }
            End::Broken(error) => {
                let outcome = Outcome::of_session_error(&error);
                self.lost(&live, answers, outcome).await;
            }
        }
        None
    }

    /// A connection broke; what it was asked and did not answer waits again.
    async fn lost(&mut self, live: &Live, answers: u64, outcome: Outcome) {
        // Servers close idle connections as they like: that says nothing.
        if self.queue.answers > answers || live.reused {
            return;
        }
        self.fruitless += 1;
        if self.fruitless >= FRUITLESS {
            self.fruitless = 0;
            self.queue.fail(Some(live.connection.host()), &outcome);
            self.resting = Some((Instant::now() + REST.min(self.context.config.retry_after), outcome));
        } else {
            self.queue.blame_next(&outcome);
            sleep(Duration::from_millis(100 << self.fruitless)).await;
        }
    }
}

/// QUIT, and no more than a moment for its answer.
async fn goodbye(mut live: Live) {
    if let Err(error) = live.connection.quit().await {
        tracing::trace!(kind = error.kind(), "no answer to QUIT");
    }
}
