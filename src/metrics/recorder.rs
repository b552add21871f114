//! A histogram that many threads record into at once.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;

/// Enough for contention to be rare: a lock is held for some ten nanoseconds. More would cost memory, a histogram
/// up to a second having about 100 KiB, and make snapshots slower.
const MAX_SHARDS: usize = 8;

/// A day, in µs. Longer ones count as this long, which bounds the size of a histogram at some 220 KiB.
const MAX_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// One histogram, split into shards that are locked one by one.
///
/// A thread records into the shard it calls its own, and takes the next one if that is locked; only when every
/// shard is, which takes more threads than shards, does it yield and try again.
/// A snapshot holds one lock at a time, for as long as it takes to add that shard up: recorders pass by on the
/// other shards, of which there are at least two. In turn, the snapshot waits for a lock that is held for a single
/// record. So neither can block the other; nor is anything lost or counted twice, since each value lives in
/// exactly one shard and stays there.
pub(super) struct Recorder {
    shards: Box<[Shard]>,
}

/// Alone on its cache lines, which come in pairs on x86-64, lest shards slow each other down.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Option<Histogram<u64>>>);

impl Recorder {
    /// Allocates the shards; their histograms come with the first value.
    pub(super) fn new() -> Self {
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let shards = threads.next_power_of_two().clamp(2, MAX_SHARDS);
        Self { shards: (0..shards).map(|_| Shard::default()).collect() }
    }

    /// Records `count` values of `latency`, in whole microseconds.
    pub(super) fn record(&self, latency: Duration, count: u64) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(MAX_MICROS);
        let mut shard = self.own_shard();
        let resized = shard.get_or_insert_with(new_histogram).record_n(micros, count);
        debug_assert!(resized.is_ok(), "an auto-resizing histogram takes a value below its bound");
    }

    /// All that was recorded so far, `None` if nothing was.
    pub(super) fn total(&self) -> Option<Histogram<u64>> {
        let mut total: Option<Histogram<u64>> = None;
        for Shard(shard) in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut total, &*shard) {
                (_, None) => {}
                (None, Some(first)) => total = Some(first.clone()),
                (Some(total), Some(more)) => merge(total, more),
            }
        }
        total
    }

    /// The shard of this thread, or the next one that is free.
    fn own_shard(&self) -> MutexGuard<'_, Option<Histogram<u64>>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed));

        let own = THREAD.with(|number| *number);
        loop {
            for offset in 0..self.shards.len() {
                // The length is a power of two.
                let Shard(shard) = &self.shards[own.wrapping_add(offset) & (self.shards.len() - 1)];
                match shard.try_lock() {
                    Ok(guard) => return guard,
                    // The counts of a shard are valid whatever panicked.
                    Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            // More threads than shards, and the holders were suspended in the middle: let them go on.
            thread::yield_now();
        }
    }
}

/// Adds `more` to `total`.
pub(super) fn merge(total: &mut Histogram<u64>, more: &Histogram<u64>) {
    let added = total.add(more);
    debug_assert!(added.is_ok(), "an auto-resizing histogram takes any other of its kind");
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 is a valid number of significant digits")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Numbers that look random enough, by splitmix64.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        (1..).map(move |step: u64| {
            let mut z = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    #[test]
    fn quantiles_are_within_a_thousandth_of_the_truth() {
        let recorder = Recorder::new();
        // From 1 ms to 4 s, with a long tail.
        let mut micros: Vec<u64> = numbers(7).map(|n| 1_000 << (n % 12)).take(20_000).collect();
        for (value, noise) in micros.iter_mut().zip(numbers(8)) {
            *value += noise % *value;
            recorder.record(Duration::from_micros(*value), 1);
        }
        micros.sort_unstable();
        let total = recorder.total().unwrap();
        for quantile in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = (quantile * micros.len() as f64).ceil() as usize;
            let truth = micros[rank - 1] as f64;
            let found = total.value_at_quantile(quantile) as f64;
            assert!((found - truth).abs() <= truth / 1_000.0, "{quantile}: {found} for {truth}");
        }
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let recorder = Recorder::new();
        assert!(recorder.total().is_none());
        recorder.record(Duration::ZERO, 1);
        recorder.record(Duration::MAX, 2);
        let total = recorder.total().unwrap();
        assert_eq!((total.len(), total.min()), (3, 0));
        assert!(total.max() >= MAX_MICROS && total.max() <= MAX_MICROS + MAX_MICROS / 1_000);
    }

    #[test]
    fn a_held_shard_is_passed_by() {
        let recorder = Recorder::new();
        let held = recorder.own_shard();
        recorder.record(Duration::from_millis(1), 1);
        drop(held);
        assert_eq!(recorder.total().unwrap().len(), 1);
    }

    #[test]
    fn threads_lose_nothing_while_snapshots_are_taken() {
        const EACH: u64 = 50_000;
        let recorder = Recorder::new();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let snapshots = scope.spawn(|| {
                let (mut last, mut taken) = (0, 0);
                while !done.load(Ordering::Acquire) {
                    let count = recorder.total().map_or(0, |total| total.len());
                    assert!(count >= last, "{count} after {last}");
                    (last, taken) = (count, taken + 1);
                }
                taken
            });
            let recorders: Vec<_> = (0..4)
                .map(|seed| {
                    let recorder = &recorder;
                    scope.spawn(move || {
                        for number in numbers(seed).take(EACH as usize) {
                            recorder.record(Duration::from_micros(number % 1_000_000), 1);
                        }
                    })
                })
                .collect();
            for thread in recorders {
                thread.join().unwrap();
            }
            done.store(true, Ordering::Release);
            assert!(snapshots.join().unwrap() > 0, "not kept waiting until the end");
        });
        assert_eq!(recorder.total().unwrap().len(), 4 * EACH);
    }
}
