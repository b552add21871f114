//! Gathers the data of the page from a job.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use smtp_pool::{
    job::{Job, JobInfo, JobRow, LaneSummary, LatencySummary, RowState, Totals},
    verify::{Providers, Status, SubStatus},
};

use crate::{
    exit::Result,
    understood::{self, UnderstoodList},
};

/// The maximum number of providers with a bar of their own.
const MAX_PROVIDERS: usize = 15;
/// The maximum number of points in time. Above it, each two neighbours are joined.
const MAX_POINTS: usize = 240;

/// The data of the page.
pub(super) struct ReportData {
    pub(super) about: JobInfo,
    /// What was understood about the lists.
    pub(super) lists: Vec<UnderstoodList>,
    pub(super) rows: u64,
    pub(super) postponed: u64,
    pub(super) verdicts: BTreeMap<(Status, SubStatus), u64>,
    /// The times of the first and the last verdict.
    pub(super) when: Option<(Timestamp, Timestamp)>,
    /// The rows of each provider by status, the largest provider first. The last entry is all other providers.
    pub(super) providers: Vec<(String, BTreeMap<Status, u64>)>,
    pub(super) throughput: Throughput,
    pub(super) took: Vec<LatencySummary>,
    pub(super) lanes: Vec<LaneSummary>,
    pub(super) totals: Totals,
}

pub(super) fn gather(job: &Job) -> Result<ReportData> {
    let mut facts = ReportData {
        about: job.info().clone(),
        lists: understood::of_job(job),
        rows: 0,
        postponed: 0,
        verdicts: BTreeMap::new(),
        when: None,
        providers: Vec::new(),
        throughput: Throughput::default(),
        took: job.latencies()?,
        lanes: job.lanes()?,
        totals: job.totals()?,
    };
    let mut providers: HashMap<String, BTreeMap<Status, u64>> = HashMap::new();
    for rows in job.rows() {
        for JobRow { state, record, .. } in rows? {
            facts.rows += 1;
            match state {
                RowState::Nothing => continue,
                RowState::Interim => {
                    facts.postponed += 1;
                    continue;
                }
                RowState::Verdict => {}
            }
            *facts.verdicts.entry((record.status, record.sub_status)).or_default() += 1;
            let at = record.checked_at;
            facts.throughput.add(at.as_second());
            facts.when = Some(facts.when.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
            if let Some(host) = &record.mx_host {
                // Some providers have a mail server for each customer.
                let name = Providers::builtin().of(host).map_or(&**host, |provider| &*provider.name);
                let of_provider = match providers.get_mut(name) {
                    Some(of_provider) => of_provider,
                    None => providers.entry(name.to_owned()).or_default(),
                };
                *of_provider.entry(record.status).or_default() += 1;
            }
        }
    }
    facts.providers = providers.into_iter().collect();
    let size = |of: &BTreeMap<Status, u64>| of.values().sum::<u64>();
    facts.providers.sort_by(|one, other| (size(&other.1), &one.0).cmp(&(size(&one.1), &other.0)));
    if facts.providers.len() > MAX_PROVIDERS + 1 {
        let rest = facts.providers.split_off(MAX_PROVIDERS);
        let mut others = BTreeMap::new();
        for (status, count) in rest.iter().flat_map(|(_, counts)| counts) {
            *others.entry(*status).or_default() += count;
        }
        facts.providers.push((format!("{} others", rest.len()), others));
    }
    Ok(facts)
}

/// Verdicts over time, in at most [`MAX_POINTS`] points.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// The length of one point in seconds: a power of two.
    step: i64,
    points: BTreeMap<i64, u64>,
}

impl Throughput {
    fn add(&mut self, second: i64) {
        self.step = self.step.max(1);
        *self.points.entry(second.div_euclid(self.step)).or_default() += 1;
        while self.points.len() > MAX_POINTS {
            self.step *= 2;
            for (point, count) in std::mem::take(&mut self.points) {
                *self.points.entry(point.div_euclid(2)).or_default() += count;
            }
        }
    }

    /// Returns the corners of a step chart: seconds since the first verdict, and verdicts a second.
    pub(super) fn rates(&self) -> Vec<(f64, f64)> {
        let Some((&first, _)) = self.points.first_key_value() else { return Vec::new() };
        let mut corners = Vec::new();
        let mut end = first;
        for (&point, &count) in &self.points {
            let x = |point: i64| ((point - first) * self.step) as f64;
            // A period without verdicts is a line at 0.
            if point > end {
                corners.extend([(x(end), 0.0), (x(point), 0.0)]);
            }
            let rate = count as f64 / self.step as f64;
            end = point + 1;
            corners.extend([(x(point), rate), (x(end), rate)]);
        }
        corners
    }
}

#[cfg(test)]
mod tests {
    use super::{super::chart, *};

    #[test]
    fn the_throughput_has_few_points_and_every_verdict() {
        let mut throughput = Throughput::default();
        for second in 0..10_000 {
            throughput.add(1_700_000_000 + second);
        }
        assert!(throughput.points.len() <= MAX_POINTS && throughput.points.values().sum::<u64>() == 10_000);
        let mut rates = throughput.rates();
        // The last step is not full.
        rates.truncate(rates.len() - 2);
        assert!(rates.iter().skip(2).all(|(_, rate)| (rate - 1.0).abs() < 1e-9), "{rates:?}");
        assert!(Throughput::default().rates().is_empty());
    }

    /// A job may come from anywhere, with any times.
    #[test]
    fn absurd_times_make_a_chart() {
        let mut throughput = Throughput::default();
        let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        [most, least, 0, most, least + 1].into_iter().for_each(|second| throughput.add(second));
        assert!(chart::over_time(&throughput.rates(), "verdicts a second").unwrap().len() < 100_000);
        let lines = [("rcpt".to_owned(), [0.0, 0.001, 1.0, 86_400_000.0])];
        assert!(chart::quantiles(&lines).unwrap().len() < 100_000);
    }

    #[test]
    fn the_throughput_has_steps_and_gaps() {
        let mut throughput = Throughput::default();
        [7, 7, 8, 12].into_iter().for_each(|second| throughput.add(second));
        let corners = [(0, 2), (1, 2), (1, 1), (2, 1), (2, 0), (5, 0), (5, 1), (6, 1)]
            .map(|(x, y)| (x.into(), y.into()));
        assert_eq!(throughput.rates(), corners);
    }
}
