//! The progress of a job, counted during a run, for the display, the metrics server and later readers of the job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    error::Result,
    history::{History, RunMetrics},
};
use crate::{
    metrics::{Metrics, Snapshot},
    verify::{LaneStatus, Lanes, Record, SubStatus},
};

/// The progress of a job, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobProgress {
    /// Rows with a final verdict, by verdict.
    pub verdicts: BTreeMap<SubStatus, u64>,
    /// Rows whose address is to be asked again later.
    pub postponed: u64,
    /// Rows of all sources.
    pub rows: u64,
}

impl JobProgress {
    /// Returns the number of rows with a final verdict.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// Counts a row. `known` holds its verdict, and true if the verdict is final.
    pub(super) fn count(&mut self, known: Option<(SubStatus, bool)>) {
        self.rows += 1;
        match known {
            Some((sub_status, true)) => *self.verdicts.entry(sub_status).or_default() += 1,
            Some(_) => self.postponed += 1,
            None => {}
        }
    }
}

/// Called when a lane becomes blocked or unblocked.
pub type LaneCallback = Box<dyn FnMut(&LaneStatus) + Send>;

/// The current run's progress, together with the statistics to store.
pub(super) struct ProgressBoard {
    progress: Mutex<JobProgress>,
    earlier: History,
    started: Instant,
    /// The metrics at the start of the run.
    began: Snapshot,
    metrics: Arc<Metrics>,
    lanes: Lanes,
    on_lane: Mutex<LaneCallback>,
}

impl ProgressBoard {
    pub(super) fn new(
        progress: JobProgress,
        earlier: History,
        metrics: Arc<Metrics>,
        lanes: Lanes,
        on_lane: LaneCallback,
    ) -> Self {
        let (started, began) = (Instant::now(), metrics.snapshot());
        Self { progress: progress.into(), earlier, started, began, metrics, lanes, on_lane: on_lane.into() }
    }

    fn lock(&self) -> MutexGuard<'_, JobProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> JobProgress {
        self.lock().clone()
    }

    /// Records an answer for `rows` rows. `again` is true if they had an interim answer before.
    pub(super) fn record_answer(&self, record: &Record, rows: u64, is_final: bool, again: bool) {
        let mut progress = self.lock();
        if again {
            progress.postponed = progress.postponed.saturating_sub(rows);
        }
        match is_final {
            true => *progress.verdicts.entry(record.sub_status).or_default() += rows,
            false => progress.postponed += rows,
        }
    }

    /// Records that the verdict of `rows` rows is void and that they are to be asked again.
    pub(super) fn record_void(&self, record: &Record, rows: u64) {
        let mut progress = self.lock();
        if let Some(count) = progress.verdicts.get_mut(&record.sub_status) {
            *count = count.saturating_sub(rows);
        }
        progress.postponed += rows;
    }

    pub(super) fn report_lane(&self, status: &LaneStatus) {
        self.on_lane.lock().unwrap_or_else(PoisonError::into_inner)(status);
    }

    /// Returns the values to store: the statistics of this run and all earlier ones.
    pub(super) fn values(&self) -> Result<Vec<(&'static str, String)>> {
        let run = RunMetrics { began: &self.began, now: &self.metrics.snapshot() };
        let history = self.earlier.with_run(&run, self.lanes.snapshot(), self.started.elapsed());
        Ok(vec![(History::NAME, history.text()?)])
    }
}
