//! A histogram that many threads record into without a lock.
//!
//! It has the buckets of an [`hdrhistogram`] with two significant digits, and is converted to one when it is read.
//! Its storage differs in two ways. The counts are atomic, so recording is one addition that waits for no other
//! thread. The first threads need not even an atomic one, since each has its own counts. Counts are allocated in
//! rows; a row holds the values between two powers of two. Values between 10 and 80 ms need four rows of 1 KiB, while
//! a resizing histogram has all eleven up to there. Lifetimes of about an hour need two rows in place of 26.

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use once_cell::race::OnceBox;

/// Two significant digits: values are stored within 1 %. Network latencies vary more from day to day. A third
/// digit would take eight times the memory.
const DIGITS: u8 = 2;

/// Buckets of a row: 128, half of the 256 that hdrhistogram has for two digits. 256 is the power of two above 2 ×
/// 100.
const COLUMNS: usize = 128;

/// The longest value, a day, in µs. Longer ones are recorded as this.
const MAX_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// One row for the values below 128, and one for each doubling up to a day.
const ROWS: usize = row(MAX_MICROS) + 1;

/// The number of threads with a shard of their own. More would cost memory, since each has its own rows.
const OWNED: usize = 8;
/// The number of shards that all other threads share.
const SHARED: usize = 4;
/// The number of shards.
const SHARDS: usize = OWNED + SHARED;

/// One histogram, split into shards. A thread adds to its own shard.
///
/// Threads beyond the eighth share shards, and then at worst contend for a cache line. A snapshot blocks no thread.
/// No value is lost or counted twice, since each value is in exactly one count and stays there.
#[derive(Default)]
pub(super) struct Recorder {
    shards: [OnceBox<Shard>; SHARDS],
}

/// The counts of one thread or of several. Rows are allocated when first used.
#[derive(Default)]
struct Shard {
    rows: [OnceBox<Row>; ROWS],
}

/// Aligned to its own cache lines, which come in pairs on x86-64, so that shards do not slow each other down.
#[repr(align(128))]
struct Row([AtomicU64; COLUMNS]);

impl Recorder {
    /// Records `count` values of `latency`, in whole microseconds. Waits for no other thread: if two threads allocate
    /// the same row at once, one drops its own.
    pub(super) fn record(&self, latency: Duration, count: u64) {
        let micros =
            latency.as_secs().saturating_mul(1_000_000).saturating_add(latency.subsec_micros().into());
        let micros = micros.min(MAX_MICROS);
        let row = row(micros);
        let column = (micros >> row.saturating_sub(1)) as usize % COLUMNS;
        let own = own_shard();
        let shard = self.shards[own].get_or_init(Box::default);
        let counted = &shard.rows[row].get_or_init(Row::new).0[column];
        if own < OWNED {
            // No other thread writes here, so load and store need not be one operation.
            counted.store(counted.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        } else {
            counted.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns everything recorded so far, `None` if nothing was.
    pub(super) fn total(&self) -> Option<Histogram<u64>> {
        let mut total = None;
        for shard in self.shards.iter().filter_map(OnceBox::get) {
            for (row, counts) in shard.rows.iter().enumerate() {
                let Some(Row(counts)) = counts.get() else { continue };
                for (column, count) in (0..).zip(counts) {
                    let count = count.load(Ordering::Relaxed);
                    let micros = if row == 0 { column } else { (COLUMNS as u64 + column) << (row - 1) };
                    add(&mut total, micros, count);
                }
            }
        }
        total
    }
}

impl Row {
    fn new() -> Box<Self> {
        Box::new(Self(array::from_fn(|_| AtomicU64::new(0))))
    }
}

/// Returns the row of a value: 0 below 128, 1 below 256, 2 below 512.
const fn row(micros: u64) -> usize {
    const BELOW: u32 = COLUMNS.ilog2();
    (u64::BITS - micros.leading_zeros()).saturating_sub(BELOW) as usize
}

/// Returns the shard of this thread. Each thread takes the next number when it first records. A number below
/// [`OWNED`] is used once.
fn own_shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static THREAD: Cell<usize> = const { Cell::new(usize::MAX) });

    THREAD.with(|thread| {
        if thread.get() == usize::MAX {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            thread.set(if number < OWNED { number } else { OWNED + number % SHARED });
        }
        // This lets the compiler omit the bounds check.
        thread.get().min(SHARDS - 1)
    })
}

/// Adds `count` values to `total`.
pub(super) fn add(total: &mut Option<Histogram<u64>>, micros: u64, count: u64) {
    if count > 0 {
        let added = total.get_or_insert_with(new_histogram).record_n(micros, count);
        debug_assert!(added.is_ok(), "an auto-resizing histogram takes a value below its bound");
    }
}

/// Adds `more` to `total`.
pub(super) fn merge(total: &mut Option<Histogram<u64>>, more: &Option<Histogram<u64>>) {
    match (&mut *total, more) {
        (_, None) => {}
        (None, Some(more)) => *total = Some(more.clone()),
        (Some(total), Some(more)) => {
            let added = total.add(more);
            debug_assert!(added.is_ok(), "an auto-resizing histogram takes any other of its kind");
        }
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("a valid number of significant digits")
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;

    /// Returns pseudo-random numbers, by splitmix64.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        (1..).map(move |step: u64| {
            let mut z = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    #[test]
    fn it_equals_an_hdrhistogram_of_the_same_values() {
        let (recorder, mut truth) = (Recorder::default(), new_histogram());
        // Every edge of a row, and any value of any size.
        let edges = (0..37).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let any = numbers(5).zip(numbers(6)).map(|(number, shift)| number >> (shift % 64)).take(20_000);
        for (micros, count) in edges.chain(any).map(|micros| micros.min(MAX_MICROS)).zip(1..) {
            recorder.record(Duration::from_micros(micros), count);
            truth.record_n(micros, count).unwrap();
        }
        assert_eq!(recorder.total(), Some(truth));
    }

    #[test]
    fn quantiles_are_within_a_hundredth_of_the_truth() {
        let recorder = Recorder::default();
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
            assert!((found - truth).abs() <= truth / 100.0, "{quantile}: {found} for {truth}");
        }
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let recorder = Recorder::default();
        assert!(recorder.total().is_none());
        recorder.record(Duration::ZERO, 1);
        recorder.record(Duration::MAX, 2);
        let total = recorder.total().unwrap();
        assert_eq!((total.len(), total.min()), (3, 0));
        assert!(total.max() >= MAX_MICROS && total.max() <= MAX_MICROS + MAX_MICROS / 100);
    }

    #[test]
    fn memory_is_for_the_values_that_came() {
        let recorder = Recorder::default();
        for micros in 10_000..80_000 {
            recorder.record(Duration::from_micros(micros), 1);
        }
        let shards: Vec<_> = recorder.shards.iter().filter_map(OnceBox::get).collect();
        assert_eq!(shards.len(), 1, "one thread");
        let rows = shards[0].rows.iter().filter_map(OnceBox::get).count();
        assert!(rows <= 4 && size_of::<Row>() == 1_024, "{rows} rows");
        assert!(size_of::<Shard>() <= 256 && size_of::<Recorder>() <= 96);
    }

    #[test]
    fn threads_lose_nothing_while_snapshots_are_taken() {
        const EACH: u64 = 50_000;
        let recorder = Recorder::default();
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
            let recorders: Vec<_> = (0..2 * SHARDS as u64)
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
        assert_eq!(recorder.total().unwrap().len(), 2 * SHARDS as u64 * EACH);
    }
}
