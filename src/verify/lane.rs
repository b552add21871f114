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

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Blame, Unreachable,
    engine::Context,
    mx::Exchangers,
    outcome::Outcome,
    probe::{Answer, End, Probe},
    queue::{Question, Queue},
    status::{self, Block, LaneState},
    throttle::Budget,
};
use crate::{client::Connection, proto::Verb};

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(2);
/// How long exchangers that could not be reached are left alone.
const REST: Duration = Duration::from_secs(60);
/// Connections in a row that break without an answer, after which the lane gives up on those who wait.
const FRUITLESS: u32 = 4;

/// Before exchangers that cannot be reached are tried once more.
const AGAIN: Duration = Duration::from_secs(1);
/// Answers that make a connection worth its while; after less, there is a pause before the next.
const WORTH: u64 = 5;
/// Twice to eight times this is the pause: at most two connections a second to a server that keeps closing them.
const PAUSE: Duration = Duration::from_millis(60);
/// Times in a row that the server may close with blame on us and without an answer, before it counts as not wanting us.
const TURNED_AWAY: u32 = 3;

pub(super) struct Lane {
    context: Arc<Context>,
    exchangers: Exchangers,
    queue: Queue,
    /// Recipients that the server takes in a transaction, as far as it has shown.
    recipients: Option<u32>,
    fruitless: u32,
    /// Connections in a row that broke after few answers.
    poor: u32,
    turned_away: u32,
    /// Memory for answers that are held back.
    held: Vec<(Question, Answer)>,
    /// No way to the server: until when, and why.
    resting: Option<(Instant, Outcome)>,
    status: status::Shared,
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
        let name = exchangers.first().map_or_else(|| "".into(), |exchanger| Arc::clone(&exchanger.host));
        let status = context.statuses.add(name);
        Self {
            context,
            exchangers,
            queue,
            recipients: None,
            fruitless: 0,
            poor: 0,
            turned_away: 0,
            held: Vec::new(),
            resting: None,
            status,
        }
    }

    /// Works until the input has ended and everything is answered.
    pub(super) async fn run(mut self) {
        let mut idle: Option<Live> = None;
        while self.wait(&mut idle).await {
            self.note();
            let preferred = self.exchangers.first().map(|exchanger| Arc::clone(&exchanger.host));
            if let Some(outcome) = self.queue.unwelcome.clone() {
                self.queue.dismiss(preferred.as_ref(), &outcome);
                continue;
            }
            if let Some(outcome) = self.resting() {
                self.queue.fail(preferred.as_ref(), &outcome);
                continue;
            }
            // Its place is given back before another one is asked for.
            let kept = idle.take().and_then(|mut live| live.connection.check_quiet().is_ok().then_some(live));
            let live = match kept {
                Some(live) => Some(live),
                None => self.connect().await,
            };
            if let Some(live) = live {
                idle = self.work(live).await;
            }
            self.note();
        }
        if let Some(live) = idle {
            goodbye(live).await;
        }
    }

    /// Lets everybody know how the lane is doing.
    fn note(&mut self) {
        let state = match (&self.queue.unwelcome, &self.resting) {
            (Some(outcome), _) => LaneState::Blocked(Block::of(outcome)),
            (None, Some(_)) => LaneState::Unreachable,
            (None, None) => LaneState::Open,
        };
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = status.state != state;
        status.state = state;
        (status.waiting, status.answered) = (self.queue.len(), self.queue.answers);
        if changed {
            self.queue.announce(status.clone());
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

    /// Why the exchangers are left alone for now, if they are.
    fn resting(&mut self) -> Option<Outcome> {
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
        let mut connected = self.try_exchangers().await;
        // One lost packet must not decide about everybody who waits; a refusal that is meant may.
        if matches!(&connected, Err((_, outcome)) if outcome.verdict.retry.is_some()) {
            sleep(AGAIN).await;
            connected = self.try_exchangers().await;
        }
        match connected {
            Ok(connection) => {
                let limits = connection.extensions().limits;
                let recipients = self.recipients.into_iter().chain(limits.rcpt_max).min();
                self.queue.connected(&connection);
                let budget = Budget::new(limits.mail_max, recipients);
                Some(Live { connection, budget, reused: false, _place: place })
            }
            Err((host, outcome)) => {
                self.give_up(&host, outcome);
                None
            }
        }
    }

    async fn try_exchangers(&self) -> Result<Connection, (Arc<str>, Outcome)> {
        let mut failure: Option<(Arc<str>, Outcome)> = None;
        for exchanger in &self.exchangers {
            match self.context.connector.connect(exchanger).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!(host = %exchanger, kind = error.kind(), "cannot connect");
                    let outcome = Outcome::of_connect_error(self.context.config.classifier(), &error);
                    // Words of a server say more than a way that could not be found, and the preferred one counts.
                    match &failure {
                        Some((_, known)) if known.code.is_some() || outcome.code.is_none() => {}
                        _ => failure = Some((Arc::clone(&exchanger.host), outcome)),
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| (Arc::from(""), Outcome::of_unreachable(&Unreachable::NoDnsEntries))))
    }

    /// Nobody who waits can be asked, nor anybody who comes in the next minute.
    fn give_up(&mut self, host: &Arc<str>, outcome: Outcome) {
        self.fruitless = 0;
        self.queue.fail(Some(host), &outcome);
        self.resting = Some((
            Instant::now() + self.context.config.pause(1).map_or(REST, |pause| pause.min(REST)),
            outcome,
        ));
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
        let gained = self.queue.answers - answers;
        match end {
            End::Idle => {
                (self.fruitless, self.poor, self.turned_away) = (0, 0, 0);
                live.reused = true;
                return Some(live);
            }
            End::Spent => {
                (self.fruitless, self.poor, self.turned_away) = (0, 0, 0);
                goodbye(live).await;
            }
            End::Closed(reply) => {
                let outcome = Outcome::of_reply(self.context.config.classifier(), Verb::Rcpt, &reply);
                self.lost(live, gained, outcome).await;
            }
            End::Broken(error) => {
                let outcome = Outcome::of_session_error(&error);
                self.lost(live, gained, outcome).await;
            }
        }
        None
    }

    /// A connection broke; what it was asked and did not answer waits again.
    async fn lost(&mut self, live: Live, gained: u64, outcome: Outcome) {
        // Servers close idle connections as they like: that says nothing.
        if gained == 0 && live.reused {
            return;
        }
        let host = Arc::clone(live.connection.host());
        // The place is free for others while this lane pauses.
        drop(live);
        self.poor = if gained < WORTH { self.poor + 1 } else { 0 };
        self.fruitless = if gained == 0 { self.fruitless + 1 } else { 0 };
        // A limit of the connection blames us too; as long as connections are answered, the next one is welcome.
        let unwelcome = gained == 0 && outcome.verdict.blame == Some(Blame::Us);
        self.turned_away = if unwelcome { self.turned_away + 1 } else { 0 };
        if self.turned_away >= TURNED_AWAY {
            self.queue.unwelcome = Some(outcome);
            return;
        }
        if self.fruitless >= FRUITLESS {
            self.give_up(&host, outcome);
            return;
        }
        if gained == 0 {
            self.queue.blame_next(&outcome);
        }
        if self.poor > 0 {
            sleep(PAUSE.saturating_mul(1 << self.poor.min(3))).await;
        }
    }
}

/// QUIT, and no more than a moment for its answer.
async fn goodbye(mut live: Live) {
    if let Err(error) = live.connection.quit().await {
        tracing::trace!(kind = error.kind(), "no answer to QUIT");
    }
}
