//! Runs a lane: opens its connections and follows each from its permit to its end.
//!
//! A lane holds all addresses whose mail goes to the same provider, or to the same exchangers. The number of its
//! connections depends on the provider's rule and on what the servers accept.
//!
//! ```text
//! router ─▶ lane ─▶ open_next ─▶ connect ─▶ pipeline ─┬─ idle ─────────▶ waits a short time for more questions
//!                                   │                 ├─ exhausted ────▶ QUIT
//!                                   │                 └─ broken, closed ▶ unanswered questions return to the lane
//!                                   └─ no connection ─▶ the questions that wait get the reason
//! ```
//!
//! The failure of one address gives no verdict on another. Only when several connections in a row break without an
//! answer does the failure become the answer of all.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    address_family::over_ipv4,
    fence::{Fence, banner_transactions},
    handle::LaneHandle,
    mx_set::MxSet,
    pipeline::Pipeline,
    pipeline_end::PipelineEnd,
    state::Lane,
    watchdog::Watchdog,
};
use crate::{
    client::SessionError,
    pool::PooledConnection,
    proto::{State, Verb},
    verify::{
        ProviderLimits, Retry, Unreachable,
        outcome::Outcome,
        policy::{
            deadlines::{Deadlines, ONE_LOST_PACKET, RECONNECT_PAUSE},
            rejection_budget::Budget,
        },
    },
};

/// How long to wait for the reply to QUIT. Postfix delays it by a second after ten errors. A server that we leave earlier
/// still counts the connection, and refuses the next one.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which a connection without questions stays open.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// The same time while refusals are held back: the caller gets their verdicts once the lane has no connection left.
const IDLE_LIMIT_WITH_HELD_VERDICTS: Duration = Duration::from_millis(250);

/// Opens connections until the input has ended and every question has its answer.
pub(in crate::verify) async fn run(lane: Arc<Lane>) {
    let mut connections = JoinSet::new();
    loop {
        let now = Instant::now();
        let due = {
            let mut state = lane.lock();
            state.tick(now);
            while let Some(mx_set) = state.open_next(now) {
                connections.spawn(work(ConnectionGuard { lane: Arc::clone(&lane), mx_set, live: false }));
            }
            state.update_status(now);
            state.flush();
            state.publish_connections();
            if state.is_done() {
                debug_assert!(
                    !state.mx_sets.iter().any(MxSet::asks_catch_all),
                    "a catch-all question has no answer at the end of its lane"
                );
                break;
            }
            state.next_due(now)
        };
        tokio::select! {
            () = lane.changed.notified() => {}
            Some(_) = connections.join_next() => {}
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => lane.lock().wake_idle(),
        }
    }
}

/// Counts a connection as one of the lane's until it is dropped.
struct ConnectionGuard {
    lane: Arc<Lane>,
    mx_set: usize,
    live: bool,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.lane.lock().closed(self.mx_set, self.live);
    }
}

/// Runs one connection from its permit to its end.
async fn work(mut guard: ConnectionGuard) {
    let (lane, mx_set) = (Arc::clone(&guard.lane), guard.mx_set);
    let Some(watchdog) = Watchdog::admit(&lane, mx_set).await else { return };
    let connected = tokio::select! {
        biased;
        connected = connect(&lane, mx_set) => connected,
        () = watchdog.expired() => return,
    };
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(ConnectFailure { host, outcome, all }) => {
            let (mut state, now) = (lane.lock(), Instant::now());
            if all {
                state.mx_sets[mx_set].lag().lock().reset(now);
                state.mx_sets[mx_set].record_not_reached(outcome.verdict.sub_status, now);
                state.record_unreachable(mx_set, &host, &outcome, now);
            } else {
                state.record_connection_refused(mx_set, now);
            }
            return;
        }
    };
    let limits = connection.extensions().limits;
    let Some(mut handle) = LaneHandle::join(Arc::clone(&lane), mx_set, &connection, Arc::clone(&watchdog))
    else {
        return quit(connection).await;
    };
    guard.live = true;
    let (mut budget, mut fence) = {
        let known = &lane.lock().mx_sets[mx_set];
        let (max_recipients, max_transactions) = known.observed_limits();
        let recipients = limits.rcpt_max.into_iter().chain(max_recipients).min();
        let by_banner = banner_transactions(connection.banner().as_bytes());
        let transactions = limits.mail_max.into_iter().chain(max_transactions).chain(by_banner).min();
        let rejections = known.harvest.rejections(lane.limits.rejections);
        let budget = Budget::new(&ProviderLimits { rejections, ..lane.limits }, transactions, recipients);
        (budget, Fence::new(known.proves_by_greeting()))
    };
    // Whether the connection was idle before: the server may have closed it meanwhile.
    let mut reused = false;
    loop {
        let before = handle.peer.answer_count;
        let pipeline =
            Pipeline::new(&mut connection, &mut budget, &mut fence, &lane.context.config.from, &mut handle);
        let end = pipeline.run().await;
        let answer_count = handle.peer.answer_count - before;
        let (outcome, bisection) = match end {
            PipelineEnd::Idle => {
                lane.lock().record_good_end(mx_set);
                reused = true;
                let idle = if lane.lock().holds_verdicts_back(mx_set) {
                    IDLE_LIMIT_WITH_HELD_VERDICTS
                } else {
                    IDLE_LIMIT
                };
                watchdog.set_idle(true);
                let more = tokio::select! {
                    biased;
                    () = watchdog.asked_back() => false,
                    more = lane.has_more(mx_set, Instant::now() + idle, true) => more,
                };
                if !more {
                    return quit(connection).await;
                }
                watchdog.set_idle(false);
                if connection.check_quiet().is_err() {
                    return;
                }
                continue;
            }
            PipelineEnd::Exhausted => {
                lane.lock().record_good_end(mx_set);
                return quit(connection).await;
            }
            PipelineEnd::Expired => return,
            PipelineEnd::Closed(reply, bisection) => {
                (Outcome::of_reply(lane.context.config.classifier(), Verb::Rcpt, &reply), bisection)
            }
            PipelineEnd::Broken(error, bisection) => {
                if matches!(error, SessionError::Dialogue(_)) {
                    lane.lock().record_out_of_step(mx_set);
                }
                (Outcome::of_session_error(&error), bisection)
            }
        };
        drop(connection);
        // Servers close idle connections at any time. Such a close says nothing about the recipients.
        if answer_count > 0 || !reused {
            lane.lock().record_lost(handle.peer.source(), answer_count, &outcome, bisection, Instant::now());
        } else {
            handle.take_back(bisection.into_questions(), false);
        }
        return;
    }
}

/// Why there is no connection.
struct ConnectFailure {
    host: Arc<str>,
    outcome: Outcome,
    /// Whether every exchanger was tried.
    all: bool,
}

/// Connects to the most preferred exchanger that accepts a connection (RFC 5321 5.1).
///
/// Dropping the future ends the attempt.
async fn connect(lane: &Lane, mx_set: usize) -> Result<PooledConnection, ConnectFailure> {
    let started = Instant::now();
    let connected = try_exchangers(lane, mx_set).await;
    // A failure that one lost packet can cause is tried a second time. Other failures count at once: a permanent
    // refusal, the same failure as the time before, or a timeout that outlasts several lost packets.
    match &connected {
        Err(ConnectFailure { outcome: Outcome { verdict, .. }, all: true, .. })
            if verdict.retry.is_some()
                && started.elapsed() < ONE_LOST_PACKET
                && !lane.lock().mx_sets[mx_set].failed_the_same(verdict.sub_status, Instant::now()) =>
        {
            sleep(RECONNECT_PAUSE).await;
            try_exchangers(lane, mx_set).await
        }
        _ => connected,
    }
}

async fn try_exchangers(lane: &Lane, mx_set: usize) -> Result<PooledConnection, ConnectFailure> {
    match try_addresses(lane, mx_set).await {
        Err(failure) if failure.outcome.verdict.retry == Some(Retry::OverIpv4) => {
            let bind = lane.context.config.client.bind;
            let before = lane.lock().mx_sets[mx_set].is_ipv4_only();
            if !before && lane.lock().mx_sets[mx_set].use_ipv4(bind) {
                return try_addresses(lane, mx_set).await;
            }
            Err(ConnectFailure { outcome: failure.outcome.without_ipv4(), ..failure })
        }
        connected => connected,
    }
}

async fn try_addresses(lane: &Lane, mx_set: usize) -> Result<PooledConnection, ConnectFailure> {
    let (exchangers, order, ipv4_only) = {
        let known = &lane.lock().mx_sets[mx_set];
        (Arc::clone(known.exchangers()), known.exchanger_order(Instant::now()), known.is_ipv4_only())
    };
    let (all, mut left) = (order.len() == exchangers.len(), order.len());
    let until = Instant::now() + lane.context.deadlines.exchangers;
    let mut failure: Option<(Arc<str>, Outcome)> = None;
    for exchanger in order.into_iter().filter_map(|at| exchangers.get(at)) {
        let exchanger = match ipv4_only {
            true => over_ipv4(exchanger).map(Cow::Owned),
            false => Some(Cow::Borrowed(exchanger)),
        };
        let limit = Deadlines::share(until.saturating_duration_since(Instant::now()), left);
        left -= 1;
        let Some(exchanger) = exchanger else { continue };
        match lane.context.connect(&exchanger, limit).await {
            Ok(connection) => return Ok(connection),
            Err(outcome) => {
                tracing::debug!(host = %exchanger, sub_status = %outcome.verdict.sub_status, "cannot connect");
                lane.lock().mx_sets[mx_set].record_failure(&exchanger.host, Instant::now());
                // A reply of a server tells more than a failure to connect. Among equals, the more preferred exchanger
                // counts.
                match &failure {
                    Some((_, known)) if known.code.is_some() || outcome.code.is_none() => {}
                    _ => failure = Some((Arc::clone(&exchanger.host), outcome)),
                }
            }
        }
    }
    let (host, outcome) =
        failure.unwrap_or_else(|| ("".into(), Outcome::of_unreachable(&Unreachable::NoDnsEntries)));
    Err(ConnectFailure { host, outcome, all })
}

/// Sends QUIT unless it was sent already, and waits a short time for the reply and the close.
async fn quit(mut connection: PooledConnection) {
    let quit_sent = connection.state() == State::Closed;
    match timeout(QUIT_TIMEOUT, connection.quit()).await {
        Ok(Err(error)) if !quit_sent => tracing::trace!(kind = error.kind(), "no answer to QUIT"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::{
        client::Endpoint,
        verify::{
            SubStatus,
            lane::testing::{item, lane},
        },
    };

    fn exchanger(host: &str, addr: SocketAddr) -> Endpoint {
        Endpoint { host: host.into(), addrs: vec![addr] }
    }

    /// Returns an address where nothing listens.
    async fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// Starts a server that greets with these lines and closes.
    async fn greeting(lines: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(lines.as_bytes()).await;
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_reply_counts_more_than_a_failure_to_connect() {
        let (lane, _events) = lane();
        let (dead, refuses) = (refusing().await, greeting("554 5.3.2 No service here\r\n").await);
        for exchangers in [
            vec![exchanger("dead", dead), exchanger("refuses", refuses)],
            vec![exchanger("refuses", refuses), exchanger("dead", dead)],
        ] {
            let mx_set = lane.lock().add(exchangers);
            let Err(ConnectFailure { host, outcome, all }) = try_exchangers(&lane, mx_set).await else {
                panic!("it connected")
            };
            assert_eq!((&*host, outcome.code, all), ("refuses", Some(554), true));
        }
    }

    #[tokio::test]
    async fn the_first_reply_counts_and_a_failed_exchanger_is_tried_after_the_others() {
        let (lane, _events) = lane();
        let first = greeting("554 5.3.2 No service here\r\n").await;
        let dead = refusing().await;
        let second = greeting("421 4.3.2 Busy\r\n").await;
        let mx_set = lane.lock().add(vec![
            exchanger("first", first),
            exchanger("second", second),
            exchanger("dead", dead),
        ]);
        lane.lock().mx_sets[mx_set].record_failure(&"first".into(), Instant::now());
        let Err(failure) = try_exchangers(&lane, mx_set).await else { panic!("it connected") };
        assert_eq!((&*failure.host, failure.outcome.code), ("second", Some(421)), "it was tried first");
    }

    #[tokio::test]
    async fn beside_a_live_connection_not_every_exchanger_is_tried() {
        let (lane, _events) = lane();
        let (dead, backup) = (refusing().await, greeting("220 mx2\r\n").await);
        let mx_set = lane.lock().add(vec![exchanger("mx1", dead), exchanger("mx2", backup)]);
        assert!(lane.lock().record_connected(mx_set, &"mx1".into()));
        let Err(failure) = try_exchangers(&lane, mx_set).await else { panic!("the backup was asked") };
        assert_eq!((&*failure.host, failure.all), ("mx1", false));
        assert_eq!(failure.outcome.verdict.sub_status, SubStatus::FailedSmtpConnection);
    }

    #[tokio::test]
    async fn a_connection_counts_until_its_guard_is_dropped() {
        let (lane, _events) = lane();
        let dead = refusing().await;
        let mx_set = lane.lock().add(vec![exchanger("mx1", dead)]);
        lane.lock().take_in(mx_set, [item("ann@example.com")].into_iter());
        let now = Instant::now();
        assert_eq!(lane.lock().open_next(now), Some(mx_set));
        let guard = ConnectionGuard { lane: Arc::clone(&lane), mx_set, live: false };
        assert_eq!(lane.lock().mx_sets[mx_set].connections(), 1);
        assert_eq!(lane.lock().open_next(now), None);
        drop(guard);
        assert_eq!(lane.lock().mx_sets[mx_set].connections(), 0);
        assert_eq!(lane.lock().open_next(now), Some(mx_set), "the question gets another connection");
    }
}
