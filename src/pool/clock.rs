//! The clock of a pool: milliseconds since the pool was made, as of the last tick.
//!
//! The maintenance ticks every second. A checkout uses the time of the last tick, if that is recent. It finds out by
//! the coarse wall clock of the system, which costs a few nanoseconds and no system call. Where the tick is late, the
//! checkout ticks itself. So a frozen process, a suspended machine or a busy runtime cannot make a connection look
//! younger than it is.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The time between two ticks of the maintenance.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// The age in milliseconds from which a tick is late.
const LATE: u64 = 1_500;

/// A jump of the wall clock in milliseconds that counts as time: the steady clock may have stood still.
const JUMP: u64 = 1_000;

/// Thirty years. A longer wait counts as this one, which can be added to the time of now many times over.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    epoch: Instant,
    /// The time of the last tick.
    ticked: AtomicU64,
    /// The wall clock at the last tick.
    ticked_wall: AtomicU64,
    last: Mutex<Tick>,
}

/// What the clocks said at a tick, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Tick {
    now: u64,
    steady: u64,
    wall: u64,
}

impl Tick {
    /// Returns the next tick. The wall clock may be set forward or back; the steady clock may stand still while the
    /// machine does. Too much time costs a NOOP, and too little may cost a command, so the longer one counts.
    fn next(self, steady: u64, wall: u64) -> Self {
        let (by_steady, by_wall) = (steady.saturating_sub(self.steady), wall.saturating_sub(self.wall));
        let passed = if by_wall > by_steady.saturating_add(JUMP) { by_wall } else { by_steady };
        Self { now: self.now.saturating_add(passed), steady, wall }
    }
}

impl Clock {
    pub(super) fn new() -> Self {
        let last = Tick { now: 0, steady: system::steady(), wall: system::wall() };
        let (ticked, ticked_wall) = (AtomicU64::new(last.now), AtomicU64::new(last.wall));
        Self { epoch: Instant::now(), ticked, ticked_wall, last: Mutex::new(last) }
    }

    /// Returns the time, at most [`LATE`] behind.
    pub(super) fn now(&self) -> u64 {
        // A wall clock that was set back wraps around to a large number: that tick is late as well.
        if system::wall().wrapping_sub(self.ticked_wall.load(Ordering::Relaxed)) > LATE {
            return self.tick();
        }
        self.ticked()
    }

    /// Returns the time of the last tick.
    pub(super) fn ticked(&self) -> u64 {
        self.ticked.load(Ordering::Relaxed)
    }

    /// Sets the clock, and returns the time.
    #[cold]
    pub(super) fn tick(&self) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.next(system::steady(), system::wall());
        // A test may advance the clock of the runtime.
        last.now = last.now.max(millis(self.epoch.elapsed()));
        self.ticked.store(last.now, Ordering::Relaxed);
        self.ticked_wall.store(last.wall, Ordering::Relaxed);
        last.now
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The clocks of the system, in milliseconds since any time.
#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// Returns the wall clock as of the last timer interrupt. It is read without a system call.
    pub(super) fn wall() -> u64 {
        millis(clock_gettime(ClockId::RealtimeCoarse))
    }

    /// Returns a clock that nobody sets, and that goes on while the machine is suspended.
    pub(super) fn steady() -> u64 {
        millis(clock_gettime(ClockId::Boottime))
    }

    fn millis(time: Timespec) -> u64 {
        (time.tv_sec as u64).wrapping_mul(1_000).wrapping_add(time.tv_nsec as u64 / 1_000_000)
    }
}

/// The clocks of the system, in milliseconds since any time.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::{
        sync::LazyLock,
        time::{Instant, SystemTime, UNIX_EPOCH},
    };

    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// Returns the wall clock.
    pub(super) fn wall() -> u64 {
        super::millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Returns a clock that nobody sets.
    pub(super) fn steady() -> u64 {
        super::millis(EPOCH.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn forever_outlasts_any_process_and_can_be_reckoned_with() {
        assert!(MAX_WAIT > Duration::from_secs(20 * 365 * 86_400));
        assert!(Instant::now().checked_add(64 * MAX_WAIT).is_some());
    }

    #[test]
    fn neither_a_pause_nor_a_changed_wall_clock_makes_time_stand_still() {
        let (hour, second) = (3_600_000_i64, 1_000);
        let last = Tick { now: 7, steady: 3_600_000, wall: 360_000_000 };
        for (what, steady, wall, passed) in [
            ("a second", second, second, second),
            ("a coarse wall clock", second, second + 9, second),
            ("suspended, and the steady clock stood still", 0, hour, hour),
            ("suspended, and it went on", hour, hour, hour),
            ("set back", second, -hour, second),
            ("set back by as much as was slept", hour, 0, hour),
            ("set forward", second, hour, hour),
        ] {
            let next =
                last.next(last.steady.wrapping_add_signed(steady), last.wall.wrapping_add_signed(wall));
            assert_eq!(next.now, 7 + passed as u64, "{what}");
        }
    }

    #[test]
    fn a_late_tick_is_noticed_without_the_maintenance() {
        let clock = Clock::new();
        thread::sleep(Duration::from_millis(50));
        assert_eq!((clock.now(), clock.ticked()), (0, 0), "the tick is recent");
        // As if the last tick were older, and as if the wall clock had been set back since.
        for behind in [LATE + 1, 0u64.wrapping_sub(60_000)] {
            let wall = clock.ticked_wall.load(Ordering::Relaxed).wrapping_sub(behind);
            clock.ticked_wall.store(wall, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
            let before = clock.ticked();
            assert!(clock.now() > before, "{behind}");
        }
    }
}
