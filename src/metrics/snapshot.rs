use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::{Operation, recorder::merge};

/// How long an operation took, over all that was recorded of it; within 0.1 %, and never below a microsecond's
/// precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// The arithmetic mean.
    pub mean: Duration,
    /// Half took no longer than this.
    pub p50: Duration,
    /// 90 % took no longer than this.
    pub p90: Duration,
    /// 99 % took no longer than this.
    pub p99: Duration,
    /// 99.9 % took no longer than this.
    pub p999: Duration,
    /// None took longer than this.
    pub max: Duration,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let quantile = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean: Duration::from_secs_f64(histogram.mean() / 1e6),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

/// What [`Metrics`](super::Metrics) held at one time. It keeps the histograms, so that merging two gives the
/// quantiles of both together, which no average of quantiles would.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) latencies: [Option<Histogram<u64>>; Operation::ALL.len()],
    pub(super) connections_opened: u64,
    pub(super) connections_failed: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// How long `operation` took; `None` if it never happened.
    #[must_use]
    pub fn latency(&self, operation: Operation) -> Option<Latency> {
        self.latencies[operation as usize].as_ref().map(Latency::from)
    }

    /// The operations that happened, in the order of a session.
    pub fn latencies(&self) -> impl Iterator<Item = (Operation, Latency)> + '_ {
        Operation::ALL.into_iter().filter_map(|operation| Some((operation, self.latency(operation)?)))
    }

    /// How many connections became ready for use.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.connections_opened
    }

    /// How many connections did not, by what failed.
    #[must_use]
    pub fn connections_failed(&self) -> &BTreeMap<&'static str, u64> {
        &self.connections_failed
    }

    /// Adds what `other` holds, as if all of it had been recorded in one place.
    pub fn merge(&mut self, other: &Self) {
        for (total, more) in self.latencies.iter_mut().zip(&other.latencies) {
            match (&mut *total, more) {
                (_, None) => {}
                (None, more) => total.clone_from(more),
                (Some(total), Some(more)) => merge(total, more),
            }
        }
        self.connections_opened += other.connections_opened;
        for (kind, count) in &other.connections_failed {
            *self.connections_failed.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("latencies", &self.latencies().collect::<Vec<_>>())
            .field("connections_opened", &self.connections_opened)
            .field("connections_failed", &self.connections_failed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_flight_counts_each_reply() {
        let metrics = Metrics::new();
        metrics.record_many(Operation::Rcpt, 20 * MS, 99);
        metrics.record(Operation::Rcpt, 80 * MS);
        metrics.record_many(Operation::Mail, MS, 0);
        let snapshot = metrics.snapshot();
        assert_eq!(
            snapshot.latencies().map(|(operation, _)| operation).collect::<Vec<_>>(),
            [Operation::Rcpt]
        );
        let rcpt = snapshot.latency(Operation::Rcpt).unwrap();
        assert_eq!(rcpt.count, 100);
        let near = |found: Duration, truth: Duration| found.abs_diff(truth) <= truth / 1_000;
        assert!(near(rcpt.p50, 20 * MS) && near(rcpt.p99, 20 * MS), "{rcpt:?}");
        assert!(near(rcpt.p999, 80 * MS) && near(rcpt.max, 80 * MS), "{rcpt:?}");
        assert!(near(rcpt.mean, Duration::from_micros(20_600)), "{rcpt:?}");
    }

    #[test]
    fn merged_is_as_recorded_together() {
        let (one, other, both) = (Metrics::new(), Metrics::new(), Metrics::new());
        for step in 1..=1_000 {
            let metrics = if step % 3 == 0 { &one } else { &other };
            metrics.record(Operation::Tls, step * MS);
            both.record(Operation::Tls, step * MS);
        }
        other.record(Operation::Auth, MS);
        both.record(Operation::Auth, MS);
        for metrics in [&one, &both] {
            metrics.connection_opened();
            metrics.connection_failed("refused");
        }
        for metrics in [&other, &both] {
            metrics.connection_failed("refused");
            metrics.connection_failed("tls");
        }

        let mut merged = one.snapshot();
        merged.merge(&other.snapshot());
        let both = both.snapshot();
        assert_eq!(merged.latencies().collect::<Vec<_>>(), both.latencies().collect::<Vec<_>>());
        assert_eq!(merged.connections_opened(), 1);
        assert_eq!(merged.connections_failed(), both.connections_failed());
        assert_eq!(merged.connections_failed()["refused"], 2);
    }
}
