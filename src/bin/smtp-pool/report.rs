//! `smtp-pool report`: one page about a job, with everything in it.

mod chart;
mod page;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use smtp_pool::{
    job::{About, JobRow, Known, LaneNote, Took},
    verify::{Status, SubStatus},
};

use crate::{
    args::ReportArgs,
    exit::{At, Exit, Result},
    jobs,
};

/// Providers that are shown each by itself.
const PROVIDERS: usize = 15;
/// Points in time that are kept: where there are more, two become one.
const POINTS: usize = 240;

/// What the page is about.
pub(crate) struct Facts {
    about: About,
    rows: u64,
    postponed: u64,
    verdicts: BTreeMap<(Status, SubStatus), u64>,
    /// Rows of each mail exchanger by status, the largest first.
    providers: Vec<(String, BTreeMap<Status, u64>)>,
    pace: Pace,
    took: Vec<Took>,
    lanes: Vec<LaneNote>,
}

pub(crate) fn run(args: &ReportArgs) -> Result<Exit> {
    let facts = gather(args)?;
    let page = page::page(&facts).failed_at("the charts")?;
    fs::write(&args.output, page).usage_at(format_args!("--output {}", args.output.display()))?;
    Ok(Exit::Done)
}

fn gather(args: &ReportArgs) -> Result<Facts> {
    let job = jobs::open(&args.job)?;
    let mut facts = Facts {
        about: job.about().clone(),
        rows: 0,
        postponed: 0,
        verdicts: BTreeMap::new(),
        providers: Vec::new(),
        pace: Pace::default(),
        took: job.took()?,
        lanes: job.lanes()?,
    };
    let mut providers: HashMap<String, BTreeMap<Status, u64>> = HashMap::new();
    for rows in job.rows() {
        for JobRow { known, record, .. } in rows? {
            facts.rows += 1;
            match known {
                Known::Nothing => continue,
                Known::Interim => {
                    facts.postponed += 1;
                    continue;
                }
                Known::Verdict => {}
            }
            *facts.verdicts.entry((record.status, record.sub_status)).or_default() += 1;
            facts.pace.add(record.checked_at.as_second());
            if let Some(host) = &record.mx_host {
                let of_host = match providers.get_mut(&**host) {
                    Some(of_host) => of_host,
                    None => providers.entry(host.to_string()).or_default(),
                };
                *of_host.entry(record.status).or_default() += 1;
            }
        }
    }
    facts.providers = providers.into_iter().collect();
    let size = |of: &BTreeMap<Status, u64>| of.values().sum::<u64>();
    facts.providers.sort_by(|one, other| (size(&other.1), &one.0).cmp(&(size(&one.1), &other.0)));
    facts.providers.truncate(PROVIDERS);
    Ok(facts)
}

/// Verdicts over time, in few points however long it took.
#[derive(Debug, Default)]
struct Pace {
    /// The seconds of one point: a power of two.
    step: i64,
    points: BTreeMap<i64, u64>,
}

impl Pace {
    fn add(&mut self, second: i64) {
        self.step = self.step.max(1);
        *self.points.entry(second.div_euclid(self.step)).or_default() += 1;
        while self.points.len() > POINTS {
            self.step *= 2;
            for (point, count) in std::mem::take(&mut self.points) {
                *self.points.entry(point.div_euclid(2)).or_default() += count;
            }
        }
    }

    /// Seconds from the first, and verdicts a second.
    fn rates(&self) -> Vec<(f64, f64)> {
        let (Some((first, _)), Some((last, _))) =
            (self.points.first_key_value(), self.points.last_key_value())
        else {
            return Vec::new();
        };
        // A long silence is a line along the ground, without a point for each moment of it.
        let rate = |point: i64| self.points.get(&point).copied().unwrap_or(0) as f64 / self.step as f64;
        let mut points: Vec<i64> =
            self.points.keys().flat_map(|point| [point - 1, *point, point + 1]).collect();
        points.retain(|point| (first..=last).contains(&point));
        points.dedup();
        points.sort_unstable();
        points.dedup();
        points.into_iter().map(|point| (((point - first) * self.step) as f64, rate(point))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_keeps_few_points_and_every_verdict() {
        let mut pace = Pace::default();
        for second in 0..10_000 {
            pace.add(1_700_000_000 + second);
        }
        assert!(pace.points.len() <= POINTS && pace.points.values().sum::<u64>() == 10_000);
        let rates = pace.rates();
        assert!(rates.iter().skip(1).rev().skip(1).all(|(_, rate)| (rate - 1.0).abs() < 1e-9), "{rates:?}");
        assert!(Pace::default().rates().is_empty());
    }
}
