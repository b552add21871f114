//! Statistics of all runs, which a job stores: latencies, connections, time, lanes.
//!
//! Latencies are stored as the counts of their histograms. The quantiles of several runs cannot be computed from the
//! quantiles of each run.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    error::{JobError, Result},
    store::Store,
};
use crate::{
    metrics::{Latency, Operation, Snapshot},
    verify::{LaneState, LaneStatus, SubStatus},
};

/// The most lanes that a job stores.
const MAX_LANES: usize = 100;
/// The most values of a stored histogram. A histogram with two significant digits and values up to a day has fewer.
const MAX_VALUES: usize = 10_000;
/// The longest latency that is stored, in microseconds: one day, as in the metrics.
const MAX_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// The latencies of one operation, as a job stores them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencySummary {
    /// The operation, such as `rcpt`.
    pub operation: String,
    /// The number of operations.
    pub count: u64,
    /// The median, in milliseconds.
    pub p50: f64,
    /// The 90 % quantile, in milliseconds.
    pub p90: f64,
    /// The 99 % quantile, in milliseconds.
    pub p99: f64,
    /// The maximum, in milliseconds.
    pub max: f64,
}

/// One lane, as a job stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaneSummary {
    /// The provider, or the most preferred mail exchanger.
    pub name: String,
    /// The number of answers.
    pub answered: u64,
    /// The cause and the reply, if the provider refused us at the end of the last run that asked it or of an earlier
    /// one.
    pub blocked: Option<String>,
    /// True if a later run got answers again. Addresses refused before may still have no verdict.
    #[serde(default)]
    pub answers_again: bool,
    /// Answers that refused the sender.
    #[serde(default)]
    pub sender_refusals: u64,
    /// How often the lane rejected all recipients as unknown, which a defence against directory harvesting does.
    #[serde(default)]
    pub harvest_defences: u32,
}

impl LaneSummary {
    /// Returns true if addresses of the lane have no verdict because the provider refused us. `verdicts` are those of
    /// the whole job.
    #[must_use]
    pub fn is_blocked(&self, verdicts: &BTreeMap<SubStatus, u64>) -> bool {
        let left = verdicts.get(&SubStatus::Blocked).is_some_and(|count| *count > 0);
        self.blocked.is_some() && (!self.answers_again || left)
    }
}

/// Totals of all runs of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// The number of runs.
    pub runs: u64,
    /// The sum of their durations, in milliseconds.
    pub milliseconds: u64,
    /// Connections that became ready for use.
    pub connections_opened: u64,
    /// Connections that did not become ready.
    pub connections_failed: u64,
}

impl Totals {
    /// Returns the sum of the durations of all runs.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}

/// The metrics at the start of a run and now. Several jobs may share one set of metrics, so only the difference
/// counts.
pub(super) struct RunMetrics<'a> {
    pub(super) began: &'a Snapshot,
    pub(super) now: &'a Snapshot,
}

/// Statistics of all runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) totals: Totals,
    /// For each operation, pairs of a latency in microseconds and its count.
    latencies: BTreeMap<String, Vec<(u64, u64)>>,
    pub(super) lanes: Vec<LaneSummary>,
}

impl History {
    /// The name of the value in the store.
    pub(super) const NAME: &str = "history";

    /// Reads the statistics from a job.
    pub(super) fn of(store: &dyn Store) -> Result<Self> {
        if let Some(text) = store.value(Self::NAME)? {
            return parse(&text);
        }
        // Version 1 stored the lanes of its last run, and of the latencies only quantiles.
        let took: Vec<LatencySummary> = store.value("took")?.map_or(Ok(Vec::new()), |text| parse(&text))?;
        let lanes = store.value("lanes")?.map_or(Ok(Vec::new()), |text| parse(&text))?;
        let latencies = took.into_iter().map(|took| {
            let micros = |ms: f64| (ms.clamp(0.0, MAX_MICROS as f64 / 1e3) * 1e3) as u64;
            let share = |share: f64| (took.count as f64 * share) as u64;
            let (p90, p99) = (share(0.4), share(0.09));
            let p50 = share(0.5).max(1).min(took.count);
            let rest = took.count.saturating_sub(p50 + p90 + p99);
            let values = [(took.p50, p50), (took.p90, p90), (took.p99, p99), (took.max, rest)];
            let values = values.map(|(ms, count)| (micros(ms), count));
            (took.operation, values.into_iter().filter(|(_, count)| *count > 0).collect())
        });
        Ok(Self { totals: Totals::default(), latencies: latencies.collect(), lanes })
    }

    /// Returns the statistics with a run added. What the metrics held when it began is subtracted.
    pub(super) fn with_run(&self, run: &RunMetrics<'_>, lanes: Vec<LaneStatus>, elapsed: Duration) -> Self {
        let RunMetrics { began, now } = run;
        let Totals { runs, milliseconds, connections_opened, connections_failed } = self.totals;
        let more = |count: fn(&Snapshot) -> u64| count(now).saturating_sub(count(began));
        let failed = |snapshot: &Snapshot| snapshot.connections_failed().values().sum();
        let totals = Totals {
            runs: runs.saturating_add(1),
            milliseconds: milliseconds.saturating_add(elapsed.as_millis() as u64),
            connections_opened: connections_opened.saturating_add(more(Snapshot::connections_opened)),
            connections_failed: connections_failed.saturating_add(more(failed)),
        };
        let mut latencies = self.latencies.clone();
        for operation in Operation::ALL {
            let Some(histogram) = now.total().histogram(operation) else { continue };
            let began = began.total().histogram(operation);
            let before = latencies.entry(operation.to_string()).or_default();
            let mut counts: BTreeMap<u64, u64> = before.iter().copied().collect();
            for value in histogram.iter_recorded() {
                let micros = value.value_iterated_to();
                let then = began.map_or(0, |began| began.count_at(micros));
                let more = value.count_since_last_iteration().saturating_sub(then);
                let count = counts.entry(micros.min(MAX_MICROS)).or_default();
                *count = count.saturating_add(more);
            }
            *before = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        }
        Self { totals, latencies, lanes: merged(&self.lanes, lanes) }
    }

    /// Returns the latencies of each operation, in the order of an SMTP session.
    pub(super) fn latencies(&self) -> Result<Vec<LatencySummary>> {
        let mut found = Vec::new();
        for operation in Operation::ALL {
            let name = operation.to_string();
            let Some(values) = self.latencies.get(&name).filter(|values| !values.is_empty()) else {
                continue;
            };
            let mut histogram =
                Histogram::<u64>::new_with_bounds(1, MAX_MICROS, 2).map_err(|_| JobError::Damaged)?;
            for (micros, count) in values {
                histogram.record_n((*micros).min(MAX_MICROS), *count).map_err(|_| JobError::Damaged)?;
            }
            let Latency { count, p50, p90, p99, max, .. } = Latency::from(&histogram);
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(|took| took.as_secs_f64() * 1e3);
            found.push(LatencySummary { operation: name, count, p50, p90, p99, max });
        }
        Ok(found)
    }

    pub(super) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|_| JobError::Damaged)
    }

    /// Returns true if no list is longer than this version writes.
    fn is_sound(&self) -> bool {
        self.latencies.len() <= Operation::ALL.len()
            && self.latencies.values().all(|values| values.len() <= MAX_VALUES)
            && self.lanes.len() <= MAX_LANES
    }
}

fn parse<T: serde::de::DeserializeOwned + Sound>(text: &str) -> Result<T> {
    let parsed: Option<T> = serde_json::from_str(text).ok();
    parsed.filter(Sound::is_sound).ok_or_else(|| JobError::Damaged.within("the statistics of its runs"))
}

/// Checks values that are read from a file of unknown origin.
trait Sound {
    fn is_sound(&self) -> bool;
}

impl Sound for History {
    fn is_sound(&self) -> bool {
        self.is_sound()
    }
}

impl Sound for Vec<LatencySummary> {
    fn is_sound(&self) -> bool {
        let is_span = |ms: f64| (0.0..=MAX_MICROS as f64 / 1e3).contains(&ms);
        let all = |took: &LatencySummary| [took.p50, took.p90, took.p99, took.max].into_iter().all(is_span);
        self.len() <= Operation::ALL.len() && self.iter().all(all)
    }
}

impl Sound for Vec<LaneSummary> {
    fn is_sound(&self) -> bool {
        self.len() <= MAX_LANES
    }
}

/// Merges the lanes of this run into those of earlier runs. A lane stays blocked until it answers again.
fn merged(before: &[LaneSummary], now: Vec<LaneStatus>) -> Vec<LaneSummary> {
    let mut summaries: BTreeMap<String, LaneSummary> =
        before.iter().map(|summary| (summary.name.clone(), summary.clone())).collect();
    for lane in now {
        let new = || LaneSummary {
            name: lane.name.to_string(),
            answered: 0,
            blocked: None,
            answers_again: false,
            sender_refusals: 0,
            harvest_defences: 0,
        };
        let summary = summaries.entry(lane.name.to_string()).or_insert_with(new);
        summary.answered = summary.answered.saturating_add(lane.answered);
        summary.sender_refusals = summary.sender_refusals.saturating_add(lane.sender_refusals);
        summary.harvest_defences = summary.harvest_defences.saturating_add(lane.harvest_defences);
        match lane.state {
            LaneState::Blocked(block) => {
                summary.blocked = Some(format!("{}: {}", block.cause, block.reply));
                summary.answers_again = false;
            }
            _ => summary.answers_again |= lane.answered > 0,
        }
    }
    let mut summaries: Vec<LaneSummary> = summaries.into_values().collect();
    summaries.sort_by_key(|summary| {
        Reverse((summary.blocked.is_some(), !summary.answers_again, summary.answered))
    });
    summaries.truncate(MAX_LANES);
    summaries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::sqlite::Sqlite, job::store::Changes, metrics::Metrics};

    fn stored(values: Vec<(&'static str, String)>) -> Sqlite {
        let mut store = Sqlite::in_memory().unwrap();
        store.commit(&Changes { values, ..Changes::default() }).unwrap();
        store
    }

    #[test]
    fn two_runs_are_one_when_they_are_read() {
        let ms = Duration::from_millis;
        let (one, other, both) = (Metrics::new(), Metrics::new(), Metrics::new());
        let none = Metrics::new().snapshot();
        for (metrics, took, count) in [(&one, 10, 90), (&other, 50, 9), (&other, 800, 1)] {
            for metrics in [metrics, &both] {
                metrics.server("mx").record_many(Operation::Rcpt, ms(took), count);
                metrics.server("mx").connection_opened();
            }
        }
        let run = |began, metrics: &Metrics, before: &History, took| {
            before.with_run(&RunMetrics { began, now: &metrics.snapshot() }, Vec::new(), took)
        };
        let first = run(&none, &one, &History::default(), ms(1_000));
        let store = stored(vec![(History::NAME, first.text().unwrap())]);
        let kept = History::of(&store).unwrap();
        let all = run(&none, &other, &kept, ms(500));
        let wanted = run(&none, &both, &History::default(), ms(1_500));
        assert_eq!(all.latencies().unwrap(), wanted.latencies().unwrap());
        let took = &all.latencies().unwrap()[0];
        assert_eq!((took.operation.as_str(), took.count), ("rcpt", 100));
        assert!(
            (took.p50 - 10.0).abs() < 0.2 && (took.p99 - 50.0).abs() < 1.0 && took.max > 790.0,
            "{took:?}"
        );
        assert_eq!(
            all.totals,
            Totals { runs: 2, milliseconds: 1_500, connections_opened: 3, connections_failed: 0 }
        );
        // Measurements from before the run do not count.
        let twice = run(&both.snapshot(), &both, &wanted, ms(0));
        assert_eq!(twice.latencies().unwrap(), wanted.latencies().unwrap());
    }

    #[test]
    fn the_quantiles_of_version_1_stay_what_they_were() {
        let took = LatencySummary {
            operation: "rcpt".into(),
            count: 1_000,
            p50: 10.0,
            p90: 20.0,
            p99: 80.0,
            max: 200.0,
        };
        let store = stored(vec![("took", serde_json::to_string(&[&took]).unwrap())]);
        let kept = History::of(&store).unwrap().latencies().unwrap();
        let near = |one: f64, other: f64| (one - other).abs() <= other / 100.0;
        let same = near(kept[0].p50, 10.0) && near(kept[0].p90, 20.0) && near(kept[0].p99, 80.0);
        assert!(same && near(kept[0].max, 200.0) && kept[0].count == 1_000, "{kept:?}");
    }

    #[test]
    fn absurd_numbers_are_refused_or_bounded() {
        for (name, text) in [
            ("took", r#"[{"operation":"rcpt","count":1,"p50":1e308,"p90":1,"p99":1,"max":1}]"#.to_owned()),
            ("took", r#"[{"operation":"rcpt","count":1,"p50":-1,"p90":1,"p99":1,"max":1}]"#.to_owned()),
            ("took", "[1".to_owned()),
            (History::NAME, "{}".to_owned()),
            (
                History::NAME,
                format!(
                    r#"{{"totals":{{"runs":1,"milliseconds":1,"connections_opened":0,"connections_failed":0}},
                        "latencies":{{"rcpt":{:?}}},"lanes":[]}}"#,
                    vec![[1, 1]; MAX_VALUES + 1]
                ),
            ),
        ] {
            assert!(History::of(&stored(vec![(name, text.clone())])).is_err(), "{text:.80}");
        }
        let most = u64::MAX;
        let text = format!(
            r#"{{"totals":{{"runs":{most},"milliseconds":{most},"connections_opened":{most},"connections_failed":{most}}},
                "latencies":{{"rcpt":[[{most},{most}],[{most},{most}],[0,{most}]],"nonsense":[[1,1]]}},"lanes":[]}}"#
        );
        let (kept, none) =
            (History::of(&stored(vec![(History::NAME, text)])).unwrap(), Metrics::new().snapshot());
        let took = kept
            .with_run(&RunMetrics { began: &none, now: &none }, Vec::new(), Duration::MAX)
            .latencies()
            .unwrap();
        assert!(took.len() == 1 && took[0].max <= 90_000_000.0, "{took:?}");
    }

    #[test]
    fn a_lane_is_blocked_until_it_answers_again() {
        let summary = |name: &str, blocked: Option<&str>, answers_again| LaneSummary {
            name: name.into(),
            answered: 1,
            blocked: blocked.map(Into::into),
            answers_again,
            sender_refusals: 0,
            harvest_defences: 0,
        };
        let blocked = BTreeMap::from([(SubStatus::Blocked, 1)]);
        let none = BTreeMap::new();
        assert!(summary("a", Some("no"), false).is_blocked(&none));
        // Its refused addresses were asked again, or not.
        assert!(!summary("a", Some("no"), true).is_blocked(&none));
        assert!(summary("a", Some("no"), true).is_blocked(&blocked));
        assert!(!summary("a", None, false).is_blocked(&blocked));
        // A lane that this run did not ask keeps its state.
        let kept = merged(&[summary("a", None, false), summary("b", Some("no"), false)], Vec::new());
        assert_eq!(kept, [summary("b", Some("no"), false), summary("a", None, false)]);
    }
}
