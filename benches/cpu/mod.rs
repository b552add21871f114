//! Measures the CPU time of the thread instead of wall time, so that other load does not change the result.

use std::time::Duration;

use cpu_time::ThreadTime;
use criterion::{
    Criterion,
    measurement::{Measurement, ValueFormatter, WallTime},
};

pub(crate) struct CpuTime;

/// Returns Criterion with CPU time.
pub(crate) fn criterion() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime).configure_from_args()
}

impl Measurement for CpuTime {
    type Intermediate = ThreadTime;
    type Value = Duration;

    fn start(&self) -> ThreadTime {
        ThreadTime::now()
    }

    fn end(&self, start: ThreadTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_secs_f64() * 1e9
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
