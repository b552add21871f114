//! Prints every metric once, as Prometheus scrapes it: `cargo run --example exposition | promtool check metrics`.

use std::{error::Error, io::Write, sync::Arc, time::Duration};

use smtp_pool::metrics::{BreakerState, Gauges, HealthResult, Metrics, Operation, Sizes};

/// Sizes of a pool that does not exist. A real pool registers itself.
pub(crate) struct Pool;

impl Gauges for Pool {
    fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        (sizes.idle, sizes.active, sizes.connecting, sizes.waiting, sizes.max) = (3, 5, 1, 2, 10);
        sizes
    }
}

/// Returns metrics with a sample in each family, for each value of a label that is known in advance.
pub(crate) fn everything(pool: &Arc<dyn Gauges>) -> Metrics {
    let ms = Duration::from_millis;
    let metrics = Metrics::new();
    metrics.record(Operation::Dns, ms(3));
    // The second name is hostile: a caller may pass any text.
    for (name, pace) in [("mx.example.com", 1), ("back\\slash, \"quote\" and\nline", 40)] {
        let server = metrics.server(name);
        server.watch(Arc::downgrade(pool));
        for (step, operation) in (1..).zip(Operation::ALL) {
            server.record_many(operation, ms(step * pace), 100);
            server.operation_failed(operation, "timed_out");
        }
        for _ in 0..9 {
            server.connection_opened();
            server.connection_closed(ms(600_000 * pace), "idle_timeout");
        }
        server.connection_failed("refused");
        server.tls_handshake(false);
        server.tls_handshake(true);
        server.checkout(ms(7 * pace));
        server.checkout_failed("timed_out");
        server.retry();
        for state in BreakerState::ALL {
            server.breaker(state);
        }
        for result in HealthResult::ALL {
            server.health_check(result, ms(5 * pace));
        }
    }
    metrics
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool: Arc<dyn Gauges> = Arc::new(Pool);
    let snapshot = everything(&pool).snapshot();
    write!(std::io::stdout(), "{}", snapshot.prometheus())?;
    Ok(())
}
