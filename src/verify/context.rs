//! The data that all lanes of a run share, and the conversion of outcomes to records and events.

use std::{
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
    CatchAll, Event, Record, SubStatus, VerifierConfig,
    item::Item,
    lane::status::Statuses,
    outcome::Outcome,
    permits::Permits,
    policy::deadlines::Deadlines,
    run::{Backlog, EventBatch, MAX_PENDING},
};
use crate::{
    client::Endpoint,
    pool::{Key, Pool, PooledConnection},
};

/// Who stores addresses that are to be asked again, and accepts withdrawn verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOwner {
    /// The engine, in memory.
    Engine,
    /// The caller.
    Caller,
}

/// The data that all lanes of a run share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: VerifierConfig,
    pool: Pool,
    /// If this is the caller, an address to be asked again leaves the run as [`Event::Later`]. Otherwise it waits in
    /// memory.
    pub(super) retry_owner: RetryOwner,
    /// Results of catch-all tests of earlier runs, by domain.
    pub(super) known: HashMap<Box<str>, CatchAll>,
    pub(super) statuses: Statuses,
    pub(super) deadlines: Deadlines,
    /// Bounds the connections of all runs of the verifier.
    pub(super) permits: Arc<Permits>,
    pub(super) pending: Arc<Semaphore>,
    /// Items that wait without a permit.
    waiting_without_permit: AtomicUsize,
    pub(super) backlog: Arc<Backlog>,
    event_batches: mpsc::UnboundedSender<EventBatch>,
    /// The start of the run, and the Unix time then in milliseconds. A round trip takes milliseconds, so a finer unit
    /// would have no meaning.
    epoch: (Instant, i64),
}

impl Context {
    pub(super) fn new(
        config: VerifierConfig,
        pool: Pool,
        permits: Arc<Permits>,
        retry_owner: RetryOwner,
        known: HashMap<Box<str>, CatchAll>,
        event_batches: mpsc::UnboundedSender<EventBatch>,
    ) -> Self {
        Self {
            deadlines: Deadlines::new(&config.client.timeouts),
            config,
            pool,
            retry_owner,
            known,
            statuses: Statuses::default(),
            permits,
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            waiting_without_permit: AtomicUsize::new(0),
            backlog: Arc::default(),
            event_batches,
            epoch: (Instant::now(), Timestamp::now().as_millisecond()),
        }
    }

    /// Opens a connection to an exchanger within `limit`.
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

    /// Sends events to the caller. They are discarded if the caller has dropped its end.
    pub(super) fn deliver(&self, event_batch: EventBatch) {
        if !event_batch.is_empty() {
            self.backlog.add(event_batch.octets);
            let _ = self.event_batches.send(event_batch);
        }
    }

    /// Waits while the backlog of events is over its limit. Await it before each new question.
    #[inline]
    pub(super) async fn wait_for_capacity(&self) {
        self.backlog.wait_for_capacity().await;
    }

    /// Adds the event of an address that no server was asked about.
    pub(super) fn finish_unasked(
        &self,
        mut item: Item,
        outcome: &Outcome,
        at: Instant,
        event_batch: &mut EventBatch,
    ) {
        let retry = self.retry_owner == RetryOwner::Caller && outcome.verdict.retry.is_some();
        // A failed look-up counts as an attempt for the schedule only.
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

    /// Adds the verdict on an address.
    pub(super) fn done(&self, item: &Item, record: Record, event_batch: &mut EventBatch) {
        self.count(item.holds_permit, &record, event_batch);
        event_batch.events.push(Event::Done { id: item.id, record });
    }

    /// Adds the record so far of an address. The caller is to send the address again `after` this time.
    pub(super) fn later(&self, item: &Item, record: Record, after: Duration, event_batch: &mut EventBatch) {
        self.count(item.holds_permit, &record, event_batch);
        event_batch.events.push(Event::Later { id: item.id, record, after });
    }

    /// Counts the octets of an event, and the permit that it releases.
    #[inline]
    fn count(&self, holds_permit: bool, record: &Record, event_batch: &mut EventBatch) {
        event_batch.octets += record.reply.as_ref().map_or(0, |reply| reply.len());
        match holds_permit {
            true => event_batch.permits += 1,
            // The item waited without a permit, and its wait has ended.
            false => drop(self.waiting_without_permit.fetch_sub(1, Relaxed)),
        }
    }

    /// Releases the permit of an address that waits for another attempt. At most [`MAX_PENDING`] addresses wait without
    /// a permit, since they also take memory.
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

    /// Returns a record without the fields that come from the connection, such as the exchanger and the TLS version.
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

    /// Updates the record of an accepted address after the catch-all test of its domain.
    pub(super) fn apply_catch_all(&self, record: &mut Record, catch_all: CatchAll) {
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

    /// Returns the wall-clock time of an instant. It adds the time since the start of the run to the time of day at the
    /// start.
    pub(super) fn timestamp(&self, at: Instant) -> Timestamp {
        let (instant, start) = self.epoch;
        let passed = at.saturating_duration_since(instant);
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).saturating_add(start);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::Metrics,
        proto::ClientName,
        verify::{DomainFacts, Verifier},
    };

    #[tokio::test]
    async fn as_many_wait_without_a_permit_as_there_are_permits() {
        let config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
        let verifier = Verifier::new(config, Metrics::new().into()).unwrap();
        let (context, _received) = verifier.context(RetryOwner::Engine, HashMap::default());
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
