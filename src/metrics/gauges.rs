//! The current sizes of pools, read on demand.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// The state of a connection or a caller of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PoolState {
    /// Connections in the pool, ready for a caller.
    Idle,
    /// Connections that a caller holds.
    Active,
    /// Connections being opened.
    Connecting,
    /// Callers that wait for a connection.
    Waiting,
}

impl PoolState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Active, Self::Connecting, Self::Waiting];

    /// Returns the name in snake case, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
        }
    }
}

/// The state of a circuit breaker, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BreakerState {
    /// Connecting is allowed.
    #[default]
    Closed,
    /// One connection is tried, and its result decides.
    HalfOpen,
    /// No connection is opened until a delay has passed.
    Open,
}

impl BreakerState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// Returns the name in snake case, for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The current size of a pool, or of several pools of one server. `Display` writes one line.
///
/// ```
/// use smtp_pool::metrics::Sizes;
/// let mut sizes = Sizes::default();
/// (sizes.active, sizes.idle, sizes.max) = (5, 3, 10);
/// assert_eq!(sizes.to_string(), "active=5 idle=3 connecting=0 waiting=0 max=10 breaker=closed");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Connections in the pool, ready for a caller.
    pub idle: usize,
    /// Connections that a caller holds.
    pub active: usize,
    /// Connections being opened.
    pub connecting: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// The most connections allowed.
    pub max: usize,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
}

impl Sizes {
    /// Returns the number of connections or callers in `state`.
    #[must_use]
    pub fn of(&self, state: PoolState) -> usize {
        match state {
            PoolState::Idle => self.idle,
            PoolState::Active => self.active,
            PoolState::Connecting => self.connecting,
            PoolState::Waiting => self.waiting,
        }
    }

    /// Adds the sizes of `other`. The worse breaker state remains.
    pub fn merge(&mut self, other: &Self) {
        let Self { idle, active, connecting, waiting, max, breaker } = self;
        *idle += other.idle;
        *active += other.active;
        *connecting += other.connecting;
        *waiting += other.waiting;
        // A pool without a bound has the largest number.
        *max = max.saturating_add(other.max);
        *breaker = (*breaker).max(other.breaker);
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idle, active, connecting, waiting, max, breaker } = self;
        let breaker = breaker.as_str();
        write!(
            f,
            "active={active} idle={idle} connecting={connecting} waiting={waiting} max={max} breaker={breaker}"
        )
    }
}

/// A source of pool sizes that never blocks.
///
/// It is read when a [snapshot](super::Metrics::snapshot) is taken, so that a pool need not report each checkout.
pub trait Gauges: Send + Sync {
    /// Returns the current sizes.
    fn sizes(&self) -> Sizes;
}

/// The pools of a server.
#[derive(Default)]
pub(super) struct GaugeSources(Mutex<Vec<Weak<dyn Gauges>>>);

impl GaugeSources {
    pub(super) fn add(&self, source: Weak<dyn Gauges>) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A weak reference keeps the memory of what it refers to. The others at least double what there is room for, so that
        // few are looked at for each that is added.
        if sources.len() == sources.capacity() {
            sources.retain(|source| source.strong_count() > 0);
            let live = sources.len();
            sources.reserve(live + 1);
        }
        sources.push(source);
    }

    /// Returns the sum of all pools, `None` if there are none.
    pub(super) fn sizes(&self) -> Option<Sizes> {
        // Dropped after the lock: this may be the last reference to a pool, and its drop may run other code.
        let mut held: Vec<Arc<dyn Gauges>> = Vec::new();
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total: Option<Sizes> = None;
        sources.retain(|source| {
            let Some(source) = source.upgrade() else { return false };
            total.get_or_insert_default().merge(&source.sizes());
            held.push(source);
            true
        });
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pool(Sizes);

    impl Gauges for Pool {
        fn sizes(&self) -> Sizes {
            self.0
        }
    }

    #[test]
    fn pools_of_a_server_add_up_and_counters_outlive_them() {
        let watch = GaugeSources::default();
        assert_eq!(watch.sizes(), None);
        let sizes = Sizes { idle: 1, active: 2, connecting: 3, waiting: 4, max: 5, ..Sizes::default() };
        let one = Arc::new(Pool(sizes));
        let other = Arc::new(Pool(Sizes { max: usize::MAX, breaker: BreakerState::HalfOpen, ..sizes }));
        for pool in [&one, &other] {
            let weak: Weak<Pool> = Arc::downgrade(pool);
            watch.add(weak);
        }
        let breaker = BreakerState::HalfOpen;
        let both = Sizes { idle: 2, active: 4, connecting: 6, waiting: 8, max: usize::MAX, breaker };
        assert_eq!(watch.sizes(), Some(both));
        drop(other);
        assert_eq!(watch.sizes(), Some(sizes));
        drop(one);
        assert_eq!(watch.sizes(), None);
        assert_eq!(watch.sizes(), None);
    }

    #[test]
    fn pools_that_are_gone_are_forgotten_without_a_snapshot() {
        let watch = GaugeSources::default();
        let add = |_: usize| {
            let pool = Arc::new(Pool(Sizes { max: 1, ..Sizes::default() }));
            let weak: Weak<Pool> = Arc::downgrade(&pool);
            watch.add(weak);
            pool
        };
        let kept: Vec<_> =
            (0_usize..10_000).filter_map(|n| Some(add(n)).filter(|_| n.is_multiple_of(100))).collect();
        let known = watch.0.lock().unwrap().len();
        assert!(known < 400, "{known} are remembered");
        assert_eq!(watch.sizes().map(|sizes| sizes.max), Some(kept.len()));
    }

    #[test]
    fn the_worst_breaker_counts() {
        assert!(BreakerState::Open > BreakerState::HalfOpen && BreakerState::HalfOpen > BreakerState::Closed);
        let mut sizes = Sizes { breaker: BreakerState::Open, ..Sizes::default() };
        sizes.merge(&Sizes::default());
        assert_eq!(sizes.breaker, BreakerState::Open);
    }
}
