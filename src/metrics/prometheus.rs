//! A snapshot as Prometheus reads it: the text exposition format, version 0.0.4.
//!
//! The encoder is our own, since the crates for it expose live metrics of their own kinds, and what there is to be
//! exposed here is a snapshot of HDR histograms, whose buckets are summed up to those of Prometheus.

use std::fmt::{self, Write as _};

use hdrhistogram::Histogram;

use super::{BreakerState, HealthResult, Operation, PoolState, ServerSnapshot, Sizes, Snapshot};

/// The bounds of what is waited for, in µs: from a socket on the same machine to the ten minutes that RFC 5321 4.5.3.2
/// has a client wait for the reply to a message.
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

/// The bounds of lifetimes, in µs: from a second to a day.
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

/// A [`Snapshot`] in the text exposition format of Prometheus, by [`Snapshot::prometheus`].
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
    /// The media type to serve it as.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

impl Snapshot {
    /// This in the text exposition format of Prometheus.
    ///
    /// The [table of metrics](super#metrics) tells what there is. The bucket of a histogram holds what is within 1 %
    /// of its bound as well, and the sum is as close. What belongs to no server has an empty label `server`, which is
    /// the same to Prometheus as none.
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

/// Family by family, and server by server within each, as the format asks for.
struct Exposition<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    snapshot: &'a Snapshot,
}

impl<'a> Exposition<'a, '_> {
    fn pools(&mut self) -> fmt::Result {
        let name = "smtp_pool_connections";
        self.family(name, "gauge", "Connections by what they do, and callers waiting for one.")?;
        for (server, sizes) in self.sizes() {
            for state in PoolState::ALL {
                self.sample(name, &[("server", server), ("state", state.as_str())], sizes.of(state))?;
            }
        }
        let name = "smtp_pool_max_connections";
        self.family(name, "gauge", "Connections that there may be.")?;
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
        self.family(name, "counter", "Connections that did not become ready for use, by what failed.")?;
        self.by_value(name, "kind", |server| &server.connection_errors)?;
        let name = "smtp_tls_handshakes_total";
        self.family(name, "counter", "TLS handshakes that were completed, in full or resumed.")?;
        self.by_value(name, "kind", |server| &server.tls_handshakes)?;
        let name = "smtp_connections_closed_total";
        self.family(name, "counter", "Connections that ended, by why.")?;
        self.by_value(name, "reason", |server| &server.connections_closed)?;
        let name = "smtp_connection_lifetime_seconds";
        self.family(name, "histogram", "How long the connections existed that ended.")?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.lifetime.as_ref(), &LIFETIMES)?;
        }
        Ok(())
    }

    fn checkouts(&mut self) -> fmt::Result {
        let name = "smtp_checkout_wait_seconds";
        self.family(
            name,
            "histogram",
            "How long callers waited for a connection, those included who did not.",
        )?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.checkout_wait.as_ref(), &WAITS)?;
        }
        let name = "smtp_checkout_errors_total";
        self.family(name, "counter", "Callers who were given no connection, by why.")?;
        self.by_value(name, "kind", |server| &server.checkout_errors)
    }

    fn operations(&mut self) -> fmt::Result {
        let name = "smtp_operation_duration_seconds";
        self.family(name, "histogram", "How long an operation took to its answer.")?;
        for (server, seen) in [("", &self.snapshot.unattributed)].into_iter().chain(self.servers()) {
            for operation in Operation::ALL {
                let labels = [("server", server), ("operation", operation.as_str())];
                self.histogram(name, &labels, seen.operations[operation as usize].as_ref(), &WAITS)?;
            }
        }
        let name = "smtp_operation_errors_total";
        self.family(name, "counter", "Operations that were not answered, by what happened instead.")?;
        for (server, seen) in self.servers() {
            for ((operation, kind), count) in &seen.operation_errors {
                let labels = [("server", server), ("operation", operation.as_str()), ("kind", kind)];
                self.sample(name, &labels, count)?;
            }
        }
        let name = "smtp_retries_total";
        self.family(name, "counter", "Commands sent once more because a connection had gone stale.")?;
        self.count(name, |server| server.retries)
    }

    fn health(&mut self) -> fmt::Result {
        let name = "smtp_health_check_results_total";
        self.family(name, "counter", "Looks at the health of a server, by what they found.")?;
        self.by_value(name, "result", |server| {
            HealthResult::ALL.map(|result| (result.as_str(), server.health_checks(result)))
        })?;
        let name = "smtp_health_check_duration_seconds";
        self.family(name, "histogram", "How long a look at the health of a server took.")?;
        for (server, seen) in self.servers() {
            self.histogram(name, &[("server", server)], seen.health_took.as_ref(), &WAITS)?;
        }
        let name = "smtp_health_check_last_timestamp_seconds";
        self.family(name, "gauge", "When the health of a server was last looked at, in seconds since 1970.")?;
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

    /// One sample a server.
    fn count(&mut self, name: &str, count: impl Fn(&ServerSnapshot) -> u64) -> fmt::Result {
        for (server, seen) in self.servers() {
            self.sample(name, &[("server", server)], count(seen))?;
        }
        Ok(())
    }

    /// A sample a server and value of `label`.
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
        // A duration of an exact millisecond is not above that bound, although its bucket goes beyond.
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

    /// The labels, of which there is one at least, without the closing brace.
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
