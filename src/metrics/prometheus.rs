//! Writes a snapshot in the text exposition format of Prometheus, version 0.0.4.
//!
//! The encoder is part of this crate, because existing crates expose only live metrics of their own types. Here a
//! snapshot of HDR histograms is exposed, and its buckets are summed up to those of Prometheus.

use std::fmt::{self, Write as _};

use hdrhistogram::Histogram;

use super::{BreakerState, HealthResult, Operation, PoolState, ServerSnapshot, Sizes, Snapshot};

/// The bucket bounds of waits, in µs: from a socket on the same machine to ten minutes. RFC 5321 4.5.3.2 sets ten
/// minutes as the timeout of the reply to a message.
const WAITS: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
];

/// The bucket bounds of lifetimes, in µs: from a second to a day.
const LIFETIMES: [u64; 12] = [
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    1_800_000_000,
    3_600_000_000,
    7_200_000_000,
    14_400_000_000,
    43_200_000_000,
    86_400_000_000,
];

/// A [`Snapshot`] in the text exposition format of Prometheus, made by [`Snapshot::prometheus`].
///
/// ```
/// use std::time::Duration;
/// use smtp_pool::metrics::{Metrics, Operation};
///
/// let metrics = Metrics::new();
/// metrics.server("mx.example.com").record(Operation::Rcpt, Duration::from_millis(20));
/// let text = metrics.snapshot().prometheus().to_string();
/// let bucket = r#"smtp_operation_duration_seconds_bucket{server="mx.example.com",operation="rcpt",le="0.025"} 1"#;
/// assert!(text.contains(bucket));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Prometheus<'a>(&'a Snapshot);

impl Prometheus<'_> {
    /// The media type of the text.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

impl Snapshot {
    /// Returns the snapshot in the text exposition format of Prometheus.
    ///
    /// The [table of metrics](super#metrics) lists its content. A bucket also contains values up to 1 % above its
    /// bound, and the sum is as precise. Values without a server have an empty label `server`, which equals no label
    /// in Prometheus.
    #[must_use]
    pub fn prometheus(&self) -> Prometheus<'_> {
        Prometheus(self)
    }
}

impl fmt::Display for Prometheus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Exposition { out: f, snapshot: self.0 };
        out.pools()?;
        out.connections()?;
        out.checkouts()?;
        out.operations()?;
        out.health()
    }
}

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// Writes family by family, and server by server within each, as the format requires.
struct Exposition<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    snapshot: &'a Snapshot,
}

impl<'a> Exposition<'a, '_> {
    fn pools(&mut self) -> fmt::Result {
        let name = "smtp_pool_connections";
        self.family(name, "gauge", "Connections by state, and callers that wait for one.")?;
        for (server, sizes) in self.sizes() {
            for state in PoolState::ALL {
                self.sample(name, &[("server", server), ("state", state.as_str())], sizes.of(state))?;
            }
        }
        let name = "smtp_pool_max_connections";
        self.family(name, "gauge", "The most connections allowed.")?;
        for (server, sizes) in self.sizes().filter(|(_, sizes)| (1..usize::MAX).contains(&sizes.max)) {
            self.sample(name, &[("server", server)], sizes.max)?;
        }
        let name = "smtp_breaker_state";
        self.family(name, "gauge", "1 for the state that the circuit breaker is in, 0 for the others.")?;
        for (server, sizes) in self.sizes() {
            for state in BreakerState::ALL {
                let labels = [("server", server), ("state", state.as_str())];
                self.sample(name, &labels, u8::from(sizes.breaker == state))?;
            }
        }
        let name = "smtp_breaker_changes_total";
        self.family(name, "counter", "Changes of the circuit breaker to a state.")?;
        self.by_value(name, "state", |server| {
            BreakerState::ALL.map(|state| (state.as_str(), server.breaker_changes(state)))
        })
    }

    fn connections(&mut self) -> fmt::Result {
        let name = "smtp_connections_opened_total";
        self.family(name, "counter", "Connections that became ready for use.")?;
        self.count(name, |server| server.connections_opened)?;
        let name = "smtp_connection_errors_total";
        self.family(name, "counter", "Connections that did not become ready for use, by kind of failure.")?;
        self.by_value(name, "kind", |server| &server.connection_errors)?;
        let name = "smtp_tls_handshakes_total";
        self.family(name, "counter", "TLS handshakes that were completed, in full or resumed.")?;
        self.by_value(name, "kind", |server| &server.tls_handshakes)?;
        let name = "smtp_connections_closed_total";
        self.family(name, "counter", "Connections that ended, by reason.")?;
        self.by_value(name, "reason", |server| &server.connections_closed)?;
        let name = "smtp_connection_lifetime_seconds";
        self.family(name, "histogram", "Lifetime of ended connections.")?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.lifetime.as_ref(), &LIFETIMES)?;
        }
        Ok(())
    }

    fn checkouts(&mut self) -> fmt::Result {
        let name = "smtp_checkout_wait_seconds";
        self.family(name, "histogram", "How long callers waited for a connection, 0 if one was idle.")?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.checkout_wait.as_ref(), &WAITS)?;
        }
        let name = "smtp_checkout_errors_total";
        self.family(name, "counter", "Callers that got no connection, by reason.")?;
        self.by_value(name, "kind", |server| &server.checkout_errors)
    }

    fn operations(&mut self) -> fmt::Result {
        let name = "smtp_operation_duration_seconds";
        self.family(name, "histogram", "Time from an operation to its answer.")?;
        for (server, seen) in [("", &self.snapshot.unattributed)].into_iter().chain(self.servers()) {
            for operation in Operation::ALL {
                let labels = [("server", server), ("operation", operation.as_str())];
                self.histogram(name, &labels, seen.operations[operation as usize].as_ref(), &WAITS)?;
            }
        }
        let name = "smtp_operation_errors_total";
        self.family(name, "counter", "Operations without an answer, by kind of failure.")?;
        for (server, seen) in self.servers() {
            for ((operation, kind), count) in &seen.operation_errors {
                let labels = [("server", server), ("operation", operation.as_str()), ("kind", kind)];
                self.sample(name, &labels, count)?;
            }
        }
        let name = "smtp_retries_total";
        self.family(name, "counter", "Commands sent again because a connection was stale.")?;
        self.count(name, |server| server.retries)
    }

    fn health(&mut self) -> fmt::Result {
        let name = "smtp_health_check_results_total";
        self.family(name, "counter", "Health checks of a server, by result.")?;
        self.by_value(name, "result", |server| {
            HealthResult::ALL.map(|result| (result.as_str(), server.health_checks(result)))
        })?;
        let name = "smtp_health_check_duration_seconds";
        self.family(name, "histogram", "Duration of the health checks of a server.")?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.health_check_duration.as_ref(), &WAITS)?;
        }
        let name = "smtp_health_check_last_timestamp_seconds";
        self.family(name, "gauge", "Time of the last health check of a server, in seconds since 1970.")?;
        for (server, seen) in self.servers() {
            if let Some(last) = seen.health_last {
                let last = last.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                self.sample(name, &[("server", server)], last.as_secs())?;
            }
        }
        Ok(())
    }

    fn servers(&self) -> impl Iterator<Item = (&'a str, &'a ServerSnapshot)> + use<'a> {
        self.snapshot.servers()
    }

    fn sizes(&self) -> impl Iterator<Item = (&'a str, Sizes)> + use<'a> {
        self.servers().filter_map(|(server, seen)| Some((server, seen.sizes?)))
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
    }

    /// Writes one sample for each server.
    fn count(&mut self, name: &str, count: impl Fn(&ServerSnapshot) -> u64) -> fmt::Result {
        for (server, seen) in self.servers() {
            self.sample(name, &[("server", server)], count(seen))?;
        }
        Ok(())
    }

    /// Writes one sample for each server and value of `label`.
    fn by_value<V, C, I>(
        &mut self,
        name: &str,
        label: &'static str,
        counts: impl Fn(&'a ServerSnapshot) -> I,
    ) -> fmt::Result
    where
        V: AsRef<str>,
        C: fmt::Display,
        I: IntoIterator<Item = (V, C)>,
    {
        for (server, seen) in self.servers() {
            for (value, count) in counts(seen) {
                self.sample(name, &[("server", server), (label, value.as_ref())], count)?;
            }
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        histogram: Option<&Histogram<u64>>,
        bounds: &[u64],
    ) -> fmt::Result {
        let Some(histogram) = histogram else { return Ok(()) };
        let mut recorded = histogram.iter_recorded().peekable();
        let (mut below, mut micros) = (0, 0.0);
        // A duration of exactly a millisecond is not above that bound, although its bucket extends beyond it.
        for bound in bounds.iter().copied().chain([u64::MAX]) {
            while let Some(bucket) =
                recorded.next_if(|bucket| histogram.lowest_equivalent(bucket.value_iterated_to()) <= bound)
            {
                let count = bucket.count_at_value();
                below += count;
                micros += histogram.median_equivalent(bucket.value_iterated_to()) as f64 * count as f64;
            }
            write!(self.out, "{name}_bucket")?;
            self.labels(labels)?;
            if bound == u64::MAX {
                writeln!(self.out, ",le=\"+Inf\"}} {below}")?;
            } else {
                writeln!(self.out, ",le=\"{}\"}} {below}", bound as f64 / 1e6)?;
            }
        }
        self.sample(&format!("{name}_sum"), labels, micros / 1e6)?;
        self.sample(&format!("{name}_count"), labels, below)
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl fmt::Display) -> fmt::Result {
        self.out.write_str(name)?;
        self.labels(labels)?;
        writeln!(self.out, "}} {value}")
    }

    /// Writes the labels, at least one, without the closing brace.
    fn labels(&mut self, labels: &[Label<'_>]) -> fmt::Result {
        let mut separator = '{';
        for (label, value) in labels {
            write!(self.out, "{separator}{label}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => self.out.write_str(r"\\")?,
                    '"' => self.out.write_str("\\\"")?,
                    '\n' => self.out.write_str(r"\n")?,
                    c => self.out.write_char(c)?,
                }
            }
            self.out.write_char('"')?;
            separator = ',';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
