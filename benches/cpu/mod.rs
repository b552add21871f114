//! CPU time of the thread in place of the time that passes, so that a busy machine measures what an idle one does.

use std::{hint::black_box, time::Duration};

use cpu_time::ThreadTime;
use criterion::{
    Criterion,
    measurement::{Measurement, ValueFormatter, WallTime},
};

pub(crate) struct CpuTime;

/// What each of some ways to do the same takes, in ns, and in how many times the first: medians of rounds in which all go
/// by turns, so that what slows the machine down for a while slows all of them down.
#[allow(dead_code, reason = "not every benchmark compares by turns")]
pub(crate) fn by_turns(times: u32, ways: &mut [&mut dyn FnMut()]) -> Vec<(f64, f64)> {
    const ROUNDS: usize = 201;
    let turn = |way: &mut dyn FnMut()| {
        let start = ThreadTime::now();
        (0..times).for_each(|_| way());
        black_box(start.elapsed()).as_secs_f64() * 1e9 / f64::from(times)
    };
    let rounds: Vec<Vec<f64>> =
        (0..ROUNDS).map(|_| ways.iter_mut().map(|way| turn(&mut **way)).collect()).collect();
    let median = |of: &dyn Fn(&[f64]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    (0..ways.len()).map(|n| (median(&|round| round[n]), median(&|round| round[n] / round[0]))).collect()
}

/// Criterion, by CPU time.
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
