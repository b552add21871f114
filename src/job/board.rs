//! How a job stands: counted while it runs, for a screen, a server of metrics, and whoever reads the job later.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    metrics::Metrics,
    verify::{LaneState, LaneStatus, Lanes, Record, SubStatus},
};

/// How a job stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Rows that have a verdict for good, by verdict.
    pub verdicts: BTreeMap<SubStatus, u64>,
    /// Rows whose address is to be asked again later.
    pub postponed: u64,
    /// Rows of all sources.
    pub rows: u64,
}

impl Standing {
    /// Rows that have a verdict for good.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// Counts a row with what is known of it.
    pub(super) fn count(&mut self, record: Option<&Record>, is_final: bool) {
        self.rows += 1;
        match record {
            Some(record) if is_final => *self.verdicts.entry(record.sub_status).or_default() += 1,
            Some(_) => self.postponed += 1,
            None => {}
        }
    }
}

/// How long an operation took, as a job keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// What was done.
    pub operation: String,
    /// How often.
    pub count: u64,
    /// Half took no longer, in milliseconds.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// None took longer.
    pub max: f64,
}

/// A lane as a job keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneNote {
    /// The provider, or the most preferred exchanger.
    pub name: String,
    /// Answers.
    pub answered: u64,
    /// Why it does not want us, if it does not.
    pub blocked: Option<String>,
    /// Answers that refuse the sender.
    #[serde(default)]
    pub sender_refusals: u64,
    /// How often it refused everybody as unknown, as a defence against directory harvesting does.
    #[serde(default)]
    pub harvest_defences: u32,
}

/// Told when a lane begins or ceases to be blocked.
pub type OnLane = Box<dyn FnMut(&LaneStatus) + Send>;

/// Where a run writes down how it stands.
pub(super) struct Board {
    standing: Mutex<Standing>,
    metrics: Arc<Metrics>,
    lanes: Lanes,
    on_lane: Mutex<OnLane>,
}

impl Board {
    pub(super) fn new(standing: Standing, metrics: Arc<Metrics>, lanes: Lanes, on_lane: OnLane) -> Self {
        Self { standing: standing.into(), metrics, lanes, on_lane: on_lane.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// An answer for so many rows; `again` if there was an interim one before.
    pub(super) fn answer(&self, record: &Record, rows: u64, is_final: bool, again: bool) {
        let mut standing = self.lock();
        if again {
            standing.postponed = standing.postponed.saturating_sub(rows);
        }
        match is_final {
            true => *standing.verdicts.entry(record.sub_status).or_default() += rows,
            false => standing.postponed += rows,
        }
    }

    /// The verdict of so many rows is void, and they are to be asked again.
    pub(super) fn void(&self, record: &Record, rows: u64) {
        let mut standing = self.lock();
        if let Some(count) = standing.verdicts.get_mut(&record.sub_status) {
            *count = count.saturating_sub(rows);
        }
        standing.postponed += rows;
    }

    pub(super) fn lane(&self, status: &LaneStatus) {
        self.on_lane.lock().unwrap_or_else(PoisonError::into_inner)(status);
    }

    /// What the job keeps of how it went.
    pub(super) fn values(&self) -> Vec<(&'static str, String)> {
        let took: Vec<Took> = took(&self.metrics);
        let note = |lane: LaneStatus| LaneNote {
            name: lane.name.to_string(),
            answered: lane.answered,
            blocked: match lane.state {
                LaneState::Blocked(block) => Some(format!("{}: {}", block.cause, block.reply)),
                _ => None,
            },
            sender_refusals: lane.sender_refusals,
            harvest_defences: lane.harvest_defences,
        };
        let mut lanes = self.lanes.snapshot();
        lanes.sort_by_key(|lane| {
            std::cmp::Reverse((matches!(lane.state, LaneState::Blocked(_)), lane.answered))
        });
        let lanes: Vec<LaneNote> = lanes.into_iter().take(MAX_LANES).map(note).collect();
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        vec![("took", json(serde_json::to_string(&took))), ("lanes", json(serde_json::to_string(&lanes)))]
    }
}

/// Lanes that a job keeps.
const MAX_LANES: usize = 100;

fn took(metrics: &Metrics) -> Vec<Took> {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let snapshot = metrics.snapshot();
    let took = snapshot.latencies().map(|(operation, latency)| Took {
        operation: operation.to_string(),
        count: latency.count,
        p50: ms(latency.p50),
        p90: ms(latency.p90),
        p99: ms(latency.p99),
        max: ms(latency.max),
    });
    took.collect()
}
