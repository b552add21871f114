//! Writes snapshots as a log of HDR histograms.

use std::{collections::BTreeMap, io, time::SystemTime};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

use super::{Operation, ServerSnapshot, Snapshot};

/// Writes an interval log in the V2 format of HdrHistogram; needs the feature `hdr-log`.
///
/// Each [`write`](Self::write) adds the values since the previous one, a line for each histogram, in µs. Tags name
/// the histograms: `rcpt` is RCPT to all servers, and `mx.example.com/rcpt` is RCPT to that server. Besides
/// operations there are `lifetime`, `checkout_wait` and `health_check`. `HistogramLogProcessor -i FILE -tag rcpt` and
/// other tools show percentiles of any period, within 1 %.
///
/// ```
/// use std::time::Duration;
/// use smtp_pool::metrics::{HdrLog, Metrics, Operation};
///
/// let metrics = Metrics::new();
/// let mut log = HdrLog::new(Vec::new());
/// metrics.server("mx.example.com").record(Operation::Rcpt, Duration::from_millis(20));
/// log.write(&metrics.snapshot())?;
/// let text = String::from_utf8_lossy(log.get_ref());
/// assert!(text.contains("\nTag=rcpt,0.000,") && text.contains("\nTag=mx.example.com/rcpt,0.000,"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct HdrLog<W> {
    writer: W,
    /// The start of the log and the end of its last interval; `None` before the first snapshot.
    span: Option<(SystemTime, SystemTime)>,
    /// The histograms at the last snapshot.
    written: BTreeMap<String, Histogram<u64>>,
}

impl<W: io::Write> HdrLog<W> {
    /// Creates a log that begins at the start of the [`Metrics`](super::Metrics) of the first snapshot.
    #[must_use]
    pub fn new(writer: W) -> Self {
        Self { writer, span: None, written: BTreeMap::new() }
    }

    /// Returns the output.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// Writes the values recorded since the last call. The snapshots must be of one [`Metrics`](super::Metrics), in
    /// order.
    ///
    /// # Errors
    /// Fails if the output cannot be written, or if the snapshot does not follow the last one.
    pub fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut builder = IntervalLogWriterBuilder::new();
        let (base, from) = *self.span.get_or_insert_with(|| {
            builder
                .add_comment("[Histogram log format version 1.3]")
                .with_start_time(snapshot.since)
                .with_base_time(snapshot.since);
            (snapshot.since, snapshot.since)
        });
        let mut serializer = V2DeflateSerializer::new();
        let mut log = builder.begin_log_with(&mut self.writer, &mut serializer)?;
        let start = from.duration_since(base).unwrap_or_default();
        let took = snapshot.until.duration_since(from).unwrap_or_default();
        let now = tagged(snapshot);
        for (tag, histogram) in &now {
            let mut new = histogram.clone();
            if let Some(old) = self.written.get(tag) {
                new.subtract(old).map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "the snapshot is not a later one of the same metrics",
                    )
                })?;
            }
            if !new.is_empty() {
                log.write_histogram(&new, start, took, Tag::new(tag)).map_err(io::Error::other)?;
            }
        }
        self.span = Some((base, from + took));
        self.written = now;
        self.writer.flush()
    }
}

/// Returns every histogram by its tag. The format allows no commas or spaces in tags.
fn tagged(snapshot: &Snapshot) -> BTreeMap<String, Histogram<u64>> {
    let mut all = BTreeMap::new();
    for (name, histogram) in named(snapshot.total()) {
        all.insert(name.to_owned(), histogram);
    }
    for (server, seen) in snapshot.servers() {
        let server = server.replace(|c: char| c == ',' || c.is_whitespace(), "_");
        for (name, histogram) in named(seen) {
            all.insert(format!("{server}/{name}"), histogram);
        }
    }
    all
}

fn named(seen: &ServerSnapshot) -> impl Iterator<Item = (&'static str, Histogram<u64>)> {
    let operations = Operation::ALL.into_iter().zip(seen.operations.iter().cloned());
    operations
        .map(|(operation, histogram)| (operation.as_str(), histogram))
        .chain([
            ("lifetime", seen.lifetime.clone()),
            ("checkout_wait", seen.checkout_wait.clone()),
            ("health_check", seen.health_check_duration.clone()),
        ])
        .filter_map(|(name, histogram)| Some((name, histogram?)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    use super::*;
    use crate::metrics::Metrics;

    const MS: Duration = Duration::from_millis(1);

    /// Returns the tag, start, end and content of each line, as another tool would read them.
    fn read(log: &[u8]) -> Vec<(String, Duration, Duration, Histogram<u64>)> {
        let mut lines = Vec::new();
        for entry in IntervalLogIterator::new(log) {
            if let LogEntry::Interval(line) = entry.unwrap() {
                let coded = BASE64_STANDARD.decode(line.encoded_histogram()).unwrap();
                let histogram = Deserializer::new().deserialize(&mut coded.as_slice()).unwrap();
                let tag = line.tag().unwrap().as_str().to_owned();
                lines.push((tag, line.start_timestamp(), line.duration(), histogram));
            }
        }
        lines
    }

    #[test]
    fn each_interval_is_read_back_as_it_was_recorded() {
        let metrics = Metrics::new();
        let mut log = HdrLog::new(Vec::new());
        let server = metrics.server("mx.example.com, or so");
        server.record_many(Operation::Rcpt, 20 * MS, 3);
        server.connection_closed(3_600_000 * MS, "max_lifetime");
        (0..7).for_each(|_| server.checkout(Duration::ZERO));
        metrics.record(Operation::Dns, MS);
        let first = metrics.snapshot();
        log.write(&first).unwrap();
        server.record_many(Operation::Rcpt, 500 * MS, 2);
        let second = metrics.snapshot();
        log.write(&second).unwrap();
        log.write(&metrics.snapshot()).unwrap();

        let lines = read(log.get_ref());
        let tags: Vec<_> = lines.iter().map(|(tag, ..)| tag.as_str()).collect();
        let server = "mx.example.com__or_so";
        let of_server = |name: &str| format!("{server}/{name}");
        let mut expected: Vec<String> = ["checkout_wait", "dns", "lifetime"].map(String::from).to_vec();
        expected.extend(["checkout_wait", "lifetime", "rcpt"].map(of_server));
        expected.extend(["rcpt".into(), of_server("rcpt"), "rcpt".into()]);
        assert_eq!(tags, expected, "the third interval had nothing");

        let rcpt: Vec<_> = lines.iter().filter(|(tag, ..)| *tag == of_server("rcpt")).collect();
        let (_, start, took, histogram) = rcpt[0];
        assert_eq!(Some(histogram), first.total().operations[Operation::Rcpt as usize].as_ref());
        assert_eq!(*start, Duration::ZERO);
        let (_, next, _, histogram) = rcpt[1];
        assert!(next.abs_diff(*took) <= 2 * MS, "{next:?} after {took:?}");
        assert_eq!((histogram.len(), histogram.max()), (2, histogram.highest_equivalent(500_000)));
        let [wait, lifetime] = [0, 2].map(|line: usize| &lines[line].3);
        assert_eq!((wait.len(), wait.max()), (7, 0));
        assert_eq!(lifetime.max(), lifetime.highest_equivalent(3_600_000_000));

        let text = String::from_utf8(log.writer).unwrap();
        assert_eq!(text.matches("#[StartTime: ").count(), 1, "the head comes once");
    }

    #[test]
    fn a_snapshot_of_others_is_an_error() {
        let (metrics, others) = (Metrics::new(), Metrics::new());
        metrics.server("a").record(Operation::Noop, MS);
        others.server("a").record(Operation::Noop, 2 * MS);
        let mut log = HdrLog::new(Vec::new());
        log.write(&metrics.snapshot()).unwrap();
        assert_eq!(log.write(&others.snapshot()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
