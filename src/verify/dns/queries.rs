//! Limits of DNS queries: how many are in progress at once, and how long all queries of one look-up may take.
//!
//! A look-up is slow once one of its queries has waited 1 s for the nameserver. Slow look-ups share a quarter of the
//! permits while fast ones wait, until their deadline. A query that must release its permit is sent again later, when
//! the nameserver may know the answer. Domains with silent name servers therefore do not block the look-up of others.

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

/// The most queries at once. This many small datagrams fit into the receive buffer of a nameserver, 212,992 octets by
/// default on Linux. Each waiting query has two sockets at most. That leaves open files for 256 connections under the
/// usual limit of 1,024.
const QUERIES: usize = 256;
/// The share of slow look-ups while others wait.
const SLOW_QUERIES: usize = QUERIES / 4;
/// How long a query may wait before its look-up counts as slow. Most queries that are answered at all are answered by
/// then.
const QUICK: Duration = Duration::from_secs(1);
/// How long a slow look-up may take with all its queries. With [`QUICK`], that is three attempts at one query.
const SLOW: Duration = Duration::from_secs(14);
/// Names that a fast look-up queries at once. A slow one queries all.
const NAMES: usize = 2;
/// More names than any look-up has.
const MAX_NAMES: usize = 64;

/// The permits for the queries of all look-ups.
#[derive(Debug)]
pub(super) struct QueryLimiter(Arc<Permits>);

/// The look-up of one domain.
pub(super) struct DomainLookup {
    permits: Arc<Permits>,
    /// When its first query got a permit.
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
    /// Returns the time since its first permit.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Waits until one more name may be queried. The slot is held as long as the return value lives.
    pub(super) async fn next_name(&self) -> Option<SemaphorePermit<'_>> {
        self.names.acquire().await.ok()
    }

    /// Sends a query, more than once if needed, until the deadline of the look-up.
    ///
    /// # Errors
    /// Returns the error of the query, or a time-out.
    pub(super) async fn ask<T, F>(&self, query: impl Fn() -> F) -> Result<T, NetError>
    where
        F: Future<Output = Result<T, NetError>>,
    {
        loop {
            let permit = match self.slow_since.get() {
                // Other look-ups wait too. The wait for the first permit does not count against this one's deadline.
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
    async fn silent_look_ups_delay_others_by_seconds_and_not_by_their_deadlines() {
        let (queries, mut silent) = (QueryLimiter::new(), JoinSet::new());
        for _ in 0..1_000 {
            let lookup = queries.look_up();
            silent.spawn(async move { lookup.ask(pending::<Found>).await });
        }
        sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        queries.look_up().ask(|| answer(Duration::ZERO)).await.unwrap();
        // 1,000 look-ups hold three quarters of the permits for 1 s each.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = Instant::now();
        queries.look_up().ask(|| answer(Duration::ZERO)).await.unwrap();
        assert!(began.elapsed() <= QUICK, "{:?}", began.elapsed());
        // Each look-up ends by its own deadline.
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
    async fn a_query_that_releases_its_permit_is_sent_again() {
        let (queries, asked) = (QueryLimiter::new(), Arc::new(AtomicUsize::new(0)));
        let mut slow = JoinSet::new();
        for _ in 0..QUERIES {
            let (lookup, asked) = (queries.look_up(), Arc::clone(&asked));
            slow.spawn(async move {
                // The nameserver continues its own search, and knows the answer after 3 s.
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
    async fn the_wait_for_the_first_permit_does_not_count() {
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
