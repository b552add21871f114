//! The data that all lanes of an engine share, and the conversion of outcomes to records.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{
    CatchAll, Event, Record, SubStatus, VerifierConfig, call::RecentVerdicts, item::Item, outcome::Outcome,
    permits::Permits, policy::deadlines::Deadlines, run_batches::RunBatches, run_state::RunTable,
};
use crate::{
    client::Endpoint,
    pool::{Key, Pool, PooledConnection},
};

/// The data that all lanes of an engine share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Arc<VerifierConfig>,
    pool: Pool,
    pub(super) recent: Arc<RecentVerdicts>,
    pub(super) runs: Arc<RunTable>,
    pub(super) deadlines: Deadlines,
    /// Bounds the connections of the verifier.
    pub(super) permits: Arc<Permits>,
    /// The open connections of all lanes.
    connections: AtomicUsize,
    /// Notified when the last connection is closed.
    all_closed: Notify,
    /// An instant, and the Unix time then in milliseconds. A round trip takes milliseconds, so a finer unit would have no
    /// meaning.
    epoch: (Instant, AtomicI64),
}

impl Context {
    pub(super) fn new(
        config: Arc<VerifierConfig>,
        pool: Pool,
        permits: Arc<Permits>,
        recent: Arc<RecentVerdicts>,
    ) -> Self {
        Self {
            deadlines: Deadlines::new(&config.client.timeouts),
            config,
            pool,
            recent,
            runs: Arc::default(),
            permits,
            connections: AtomicUsize::new(0),
            all_closed: Notify::new(),
            epoch: (Instant::now(), AtomicI64::new(Timestamp::now().as_millisecond())),
        }
    }

    /// Reads the time of day again. The clock of instants does not follow its corrections, nor the sleep of a machine.
    pub(super) fn read_time_of_day(&self) {
        let (instant, start) = &self.epoch;
        let passed = i64::try_from(instant.elapsed().as_millis()).unwrap_or(i64::MAX);
        start.store(Timestamp::now().as_millisecond().saturating_sub(passed), Relaxed);
    }

    /// Records how many connections a lane has now and had before.
    pub(super) fn record_connections(&self, now: u32, before: u32) {
        let changed = (now as usize).wrapping_sub(before as usize);
        let all = self.connections.fetch_add(changed, Relaxed).wrapping_add(changed);
        if all == 0 && before > 0 {
            self.all_closed.notify_one();
        }
    }

    /// Returns whether no lane has a connection.
    pub(super) fn has_no_connection(&self) -> bool {
        self.connections.load(Relaxed) == 0
    }

    /// Waits until the last connection is closed. It may return early.
    pub(super) async fn all_closed(&self) {
        self.all_closed.notified().await;
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

    /// Adds the verdict on an address.
    pub(super) fn done(&self, item: &Item, record: Record, event_batch: &mut RunBatches) {
        event_batch.settle(item, record, |record| Event::Done { id: item.id, record });
    }

    /// Adds the record so far of an address. The caller is to send the address again `after` this time.
    pub(super) fn later(&self, item: &Item, record: Record, after: Duration, event_batch: &mut RunBatches) {
        event_batch.settle(item, record, |record| Event::Later { id: item.id, record, after });
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
            attempts: item.attempts.into(),
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

    pub(super) fn syntax_error(&self, address: String, outcome: &Outcome) -> Record {
        unasked(address, outcome, self.timestamp(Instant::now()))
    }

    /// Returns the wall-clock time of an instant. It adds the time since the epoch to the time of day at the epoch.
    pub(super) fn timestamp(&self, at: Instant) -> Timestamp {
        let (instant, start) = &self.epoch;
        let passed = at.saturating_duration_since(*instant);
        let start = start.load(Relaxed);
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).saturating_add(start);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

/// Returns the record of an address that no server was asked about, without facts about its domain.
pub(super) fn unasked(address: String, outcome: &Outcome, at: Timestamp) -> Record {
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
        reply: outcome.text.clone(),
        attempts: 0,
        tls: None,
        duration_ms: 0,
        checked_at: at,
        address,
    }
}
