//! Queries to the DNS: how many go on at once, and how long those of one look-up may take together.
//!
//! A look-up is slow once one of its queries has waited a second for the nameserver. Its queries go on then, until its
//! deadline, with a quarter of the permits while quick ones wait. A query whose permit is needed more is asked again later,
//! when the nameserver may know the answer. So domains whose name servers are silent do not keep others from being looked up.

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hickory_resolver::net::NetError;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::verify::permits::Permits;

/// Queries at once. So many small datagrams fit into the receive buffer of a nameserver, which is 212,992 octets on Linux
/// where nobody has set it. Each has two sockets at most while it waits, which leaves some of the usual 1,024 open files to
/// 256 connections.
const QUERIES: usize = 256;
/// What slow look-ups may hold of them while others wait.
const SLOW_QUERIES: usize = QUERIES / 4;
/// How long a query may wait before its look-up is slow: most of those that are answered at all are answered by then.
const QUICK: Duration = Duration::from_secs(1);
/// How long a slow look-up may take with all of its queries; together with [`QUICK`] three attempts at one of them.
const SLOW: Duration = Duration::from_secs(14);
/// Names that a look-up asks about at once while it is quick. A slow one asks about all.
const NAMES: usize = 2;
/// More names than a look-up ever has.
const MAX_NAMES: usize = 64;

/// The permits for queries, of all look-ups.
#[derive(Debug)]
pub(super) struct QueryLimiter(Arc<Permits>);

/// One look-up.
pub(super) struct DomainLookup {
    permits: Arc<Permits>,
    /// When its first query had a permit.
    began: OnceLock<Instant>,
    slow_since: OnceLock<Instant>,
    names: Semaphore,
}

impl QueryLimiter {
    pub(super) fn new() -> Self {
        Self(Permits::new(QUERIES, SLOW_QUERIES))
    }

    pub(super) fn look_up(&self) -> DomainLookup {
        DomainLookup {
            permits: Arc::clone(&self.0),
            began: OnceLock::new(),
            slow_since: OnceLock::new(),
            names: Semaphore::new(NAMES),
        }
    }
}

impl DomainLookup {
    /// How long it has taken, not counting the wait for its first permit.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Waits until one more name may be asked about, as long as the return value is held.
    pub(super) async fn next_name(&self) -> Option<SemaphorePermit<'_>> {
        self.names.acquire().await.ok()
    }

    /// Asks a query, more than once if need be, until the look-up has had its time.
    ///
    /// # Errors
    /// That of the query, or a time-out.
    pub(super) async fn ask<T, F>(&self, query: impl Fn() -> F) -> Result<T, NetError>
    where
        F: Future<Output = Result<T, NetError>>,
    {
        loop {
            let permit = match self.slow_since.get() {
                // Others are in line; that is not the fault of this one, and its time does not run.
                None => self.permits.acquire(false).await,
                Some(since) => timeout_at(*since + SLOW, self.permits.acquire(true))
                    .await
                    .map_err(|_| NetError::Timeout)?,
            };
            self.began.get_or_init(Instant::now);
            let mut query = pin!(query());
            if let Ok(found) = timeout(QUICK, query.as_mut()).await {
                return found;
            }
            let since = self.slow_since.get_or_init(|| {
                self.names.add_permits(MAX_NAMES);
                Instant::now()
            });
            permit.set_slow(true);
            tokio::select! {
                biased;
                found = query => return found,
                () = permit.asked_back() => {}
                () = sleep_until(*since + SLOW) => return Err(NetError::Timeout),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    type Found = Result<(), NetError>;

    async fn answer(after: Duration) -> Found {
        sleep(after).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn silent_look_ups_hold_the_others_up_for_seconds_and_not_for_their_deadlines() {
        let (queries, mut silent) = (QueryLimiter::new(), JoinSet::new());
        for _ in 0..1_000 {
            let lookup = queries.look_up();
            silent.spawn(async move { lookup.ask(pending::<Found>).await });
        }
        sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        queries.look_up().ask(|| answer(Duration::ZERO)).await.unwrap();
        // 1,000 of them, three quarters of the permits for a second each.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = Instant::now();
        queries.look_up().ask(|| answer(Duration::ZERO)).await.unwrap();
        assert!(began.elapsed() <= QUICK, "{:?}", began.elapsed());
        // Each of them ends, by its own deadline.
        let began = Instant::now();
        while let Some(ended) = silent.join_next().await {
            assert!(matches!(ended.unwrap(), Err(NetError::Timeout)));
        }
        assert!(began.elapsed() <= QUICK + SLOW + Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_late_still_arrives() {
        let (queries, asked) = (QueryLimiter::new(), AtomicUsize::new(0));
        let lookup = queries.look_up();
        let late = lookup.ask(|| {
            asked.fetch_add(1, Relaxed);
            answer(Duration::from_secs(14))
        });
        late.await.unwrap();
        assert_eq!(asked.into_inner(), 1, "nobody waits for its permit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_whose_permit_is_needed_more_is_asked_again() {
        let (queries, asked) = (QueryLimiter::new(), Arc::new(AtomicUsize::new(0)));
        let mut slow = JoinSet::new();
        for _ in 0..QUERIES {
            let (lookup, asked) = (queries.look_up(), Arc::clone(&asked));
            slow.spawn(async move {
                // The nameserver goes on looking, and knows the answer after three seconds.
                let began = Instant::now();
                let query = || {
                    asked.fetch_add(1, Relaxed);
                    answer(Duration::from_secs(3).saturating_sub(began.elapsed()))
                };
                lookup.ask(query).await
            });
        }
        sleep(Duration::from_millis(1)).await;
        let quick: Vec<_> = (0..10).map(|_| queries.look_up()).collect();
        for lookup in &quick {
            lookup.ask(|| answer(Duration::ZERO)).await.unwrap();
        }
        while let Some(ended) = slow.join_next().await {
            ended.unwrap().unwrap();
        }
        assert!((QUERIES + 1..QUERIES + 20).contains(&asked.load(Relaxed)), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_queries_of_a_look_up_have_one_deadline() {
        let queries = QueryLimiter::new();
        let lookup = queries.look_up();
        let began = Instant::now();
        lookup.ask(|| answer(Duration::from_secs(10))).await.unwrap();
        lookup.ask(pending::<Found>).await.unwrap_err();
        assert_eq!(began.elapsed(), QUICK + SLOW);
        lookup.ask(pending::<Found>).await.unwrap_err();
        assert!(began.elapsed() <= QUICK * 2 + SLOW);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_in_line_does_not_count() {
        let queries = QueryLimiter::new();
        let mut silent = JoinSet::new();
        for _ in 0..6_000 {
            let lookup = queries.look_up();
            silent.spawn(async move { lookup.ask(pending::<Found>).await });
        }
        let lookup = queries.look_up();
        lookup.ask(|| answer(Duration::ZERO)).await.unwrap();
        let began = Instant::now();
        for _ in 0..3_000 {
            let lookup = queries.look_up();
            silent.spawn(async move { lookup.ask(pending::<Found>).await });
        }
        sleep(Duration::from_millis(1)).await;
        lookup.ask(|| answer(Duration::ZERO)).await.unwrap();
        assert!(began.elapsed() > QUICK, "it did wait");
    }

    #[tokio::test(start_paused = true)]
    async fn two_names_are_asked_about_at_once_and_all_by_a_slow_look_up() {
        let queries = QueryLimiter::new();
        let lookup = queries.look_up();
        let first = (lookup.next_name().await, lookup.next_name().await);
        assert!(timeout(QUICK, lookup.next_name()).await.is_err());
        assert!(timeout(QUICK * 2, lookup.ask(pending::<Found>)).await.is_err());
        let all = tokio::join!(lookup.next_name(), lookup.next_name(), lookup.next_name());
        drop((first, all));
    }
}
