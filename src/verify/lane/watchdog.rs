//! Watches one connection: holds its permit, measures how long the host takes, and tells when the connection must end.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::{Instant, sleep};

use super::{lag::SharedLag, state::Lane};
use crate::verify::{permits::Permit, policy::deadlines::Deadlines};

/// The watchdog of one connection.
pub(super) struct Watchdog {
    lane: Arc<Lane>,
    mx_set: usize,
    deadlines: Deadlines,
    lag: SharedLag,
    permit: Permit,
    /// Answers so far. The opening of the connection counts as one.
    answers: AtomicU64,
    progress: Mutex<AnswerProgress>,
}

/// The progress of a connection at the last check.
struct AnswerProgress {
    /// Answers that were already subtracted from the lag.
    counted: u64,
    /// When the last of them was counted.
    at: Instant,
    open: bool,
    idle: bool,
}

impl Watchdog {
    /// Waits for a permit for a connection of an MX set. Returns `None` if by then there is nothing to ask.
    pub(super) async fn admit(lane: &Arc<Lane>, mx_set: usize) -> Option<Arc<Self>> {
        let lag = lane.lock().mx_sets[mx_set].lag().clone();
        let slow = lag.lock().is_slow(lane.context.deadlines.slow_after, Instant::now());
        let permit = lane.context.permits.acquire(slow).await;
        lane.lock().record_permit(mx_set).then(|| Arc::new(Self::new(Arc::clone(lane), mx_set, lag, permit)))
    }

    fn new(lane: Arc<Lane>, mx_set: usize, lag: SharedLag, permit: Permit) -> Self {
        let now = Instant::now();
        lag.lock().record_wait(now);
        let progress = AnswerProgress { counted: 0, at: now, open: false, idle: false };
        let (deadlines, answers) = (lane.context.deadlines, AtomicU64::new(0));
        Self { lane, mx_set, deadlines, lag, permit, answers, progress: Mutex::new(progress) }
    }

    /// Returns a watchdog without a connection, with a permit of its own.
    #[cfg(test)]
    pub(super) fn without_connection(lane: Arc<Lane>, mx_set: usize) -> Arc<Self> {
        use std::{pin::pin, task};
        let lag = SharedLag::new(Instant::now());
        let permits = crate::verify::permits::Permits::new(1, 1);
        let mut permit = pin!(permits.acquire(false));
        loop {
            let mut context = task::Context::from_waker(task::Waker::noop());
            if let task::Poll::Ready(permit) = permit.as_mut().poll(&mut context) {
                return Arc::new(Self::new(lane, mx_set, lag, permit));
            }
        }
    }

    /// Records that the connection is open.
    pub(super) fn record_opened(&self) {
        let now = Instant::now();
        let mut progress = self.progress();
        self.lag.lock().opens_slowly = now.duration_since(progress.at) >= self.deadlines.slow_after;
        progress.open = true;
        drop(progress);
        self.record_answers(1);
        self.count(now);
    }

    /// Records `answers`. Only the task of the connection calls it.
    #[inline]
    pub(super) fn record_answers(&self, answers: usize) {
        let before = self.answers.load(Ordering::Relaxed);
        self.answers.store(before + answers as u64, Ordering::Relaxed);
    }

    /// Records whether the connection has nothing to ask.
    pub(super) fn set_idle(&self, idle: bool) {
        let now = Instant::now();
        self.count(now);
        let mut progress = self.progress();
        (progress.at, progress.idle) = (now, idle);
        match idle {
            true => self.lag.lock().record_wait_over(now),
            false => self.lag.lock().record_wait(now),
        }
        drop(progress);
        self.permit.set_slow(false);
        self.permit.set_idle(idle);
    }

    /// Waits until the permit must be given back.
    pub(super) async fn asked_back(&self) {
        self.permit.asked_back().await;
    }

    /// Waits until the connection must end: other connections need its permit more, or its host is given up.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn expired(&self) {
        loop {
            tokio::select! {
                () = self.permit.asked_back() => {
                    tracing::debug!(mx_set = self.mx_set, "closed: other connections need the permit of this slow one");
                    return;
                }
                () = sleep(self.deadlines.slow_after / 2) => {}
            }
            if self.is_expired(Instant::now()) {
                return;
            }
        }
    }

    /// Checks the lag of the host, and returns whether the connection must end.
    fn is_expired(&self, now: Instant) -> bool {
        self.count(now);
        let stalled = {
            let progress = self.progress();
            let stalled = now.duration_since(progress.at) >= self.deadlines.slow_after;
            if stalled && !progress.open {
                self.lag.lock().opens_slowly = true;
            }
            stalled
        };
        let lag = self.lag.lock().at(now);
        let slow = stalled || lag >= self.deadlines.slow_after;
        self.permit.set_slow(slow);
        let mut state = self.lane.lock();
        if state.mx_sets[self.mx_set].pause_reason(now).is_some() {
            // Another connection gave the host up.
            return true;
        }
        if lag >= self.deadlines.lag {
            state.give_up_slow_host(self.mx_set, now);
            return true;
        }
        if lag >= self.deadlines.slow_after {
            state.record_lag(lag, now);
        }
        false
    }

    /// Subtracts the new answers from the lag.
    fn count(&self, now: Instant) {
        let mut progress = self.progress();
        let answers = self.answers.load(Ordering::Relaxed);
        let more = answers - progress.counted;
        if more > 0 {
            (progress.counted, progress.at) = (answers, now);
            self.lag.lock().record_answers(more, self.deadlines.per_answer, now);
        }
    }

    fn progress(&self) -> MutexGuard<'_, AnswerProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let now = Instant::now();
        self.count(now);
        if !self.progress().idle {
            self.lag.lock().record_wait_over(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::mpsc::UnboundedReceiver,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::verify::{
        Event, LaneState, SubStatus,
        lane::testing::{item, lane_with},
        outcome::Outcome,
        run_state::{EventBatch, RetryOwner},
    };

    /// Returns a lane with one address to ask about and one connection at a time.
    fn lane() -> (Arc<Lane>, UnboundedReceiver<EventBatch>) {
        let (lane, event_batches) = lane_with(RetryOwner::Caller, |config| {
            (config.max_connections, config.schedule) = (1, Vec::new())
        });
        lane.lock().add(Vec::new());
        lane.lock().take_in(0, [item("ann@example.com")].into_iter());
        (lane, event_batches)
    }

    fn is_slow(lane: &Lane) -> bool {
        let state = lane.lock();
        let lag = state.mx_sets[0].lag().lock();
        lag.is_slow(lane.context.deadlines.slow_after, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_answers_nothing_is_given_up_and_its_addresses_get_the_reason() {
        let (lane, mut event_batches) = lane();
        let watchdog = Watchdog::admit(&lane, 0).await.unwrap();
        let began = Instant::now();
        watchdog.expired().await;
        let took = began.elapsed();
        let limit = lane.context.deadlines.lag;
        assert!((limit..limit + lane.context.deadlines.slow_after).contains(&took), "{took:?}");
        let events = event_batches.try_recv().unwrap().events;
        let [Event::Done { record, .. }, ..] = &events[..] else { panic!("{events:#?}") };
        assert_eq!(record.sub_status, SubStatus::TimeoutExceeded);
        // The MX set is paused, and questions that come back get the same answer.
        assert!(lane.lock().mx_sets[0].pause_reason(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_above_the_floor_is_never_given_up_and_one_below_is() {
        for (pause, given_up) in [(5, false), (8, true)] {
            let (lane, _events) = lane();
            let watchdog = Watchdog::admit(&lane, 0).await.unwrap();
            watchdog.record_opened();
            let answers = async {
                loop {
                    sleep(Duration::from_secs(pause)).await;
                    watchdog.record_answers(1);
                }
            };
            let hour = Duration::from_secs(3_600);
            let expired = timeout(hour, async {
                tokio::select! {
                    () = watchdog.expired() => {}
                    () = answers => {}
                }
            });
            assert_eq!(expired.await.is_ok(), given_up, "{pause} s for an answer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_does_not_count_as_lag() {
        let (lane, _events) = lane();
        let watchdog = Watchdog::admit(&lane, 0).await.unwrap();
        watchdog.record_opened();
        watchdog.set_idle(true);
        sleep(Duration::from_secs(3_600)).await;
        watchdog.set_idle(false);
        assert!(!is_slow(&lane));
        assert!(timeout(Duration::from_secs(100), watchdog.expired()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_slow_to_open_is_expected_to_be_slow_again() {
        let (lane, _events) = lane();
        for (takes, slow) in [(1, false), (20, true), (1, false)] {
            let watchdog = Watchdog::admit(&lane, 0).await.unwrap();
            sleep(Duration::from_secs(takes)).await;
            watchdog.record_opened();
            watchdog.record_answers(100);
            drop(watchdog);
            assert_eq!(is_slow(&lane), slow, "{takes} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_names_a_slow_host_and_when_it_is_given_up() {
        let (lane, _events) = lane();
        let watchdog = Watchdog::admit(&lane, 0).await.unwrap();
        assert!(timeout(Duration::from_secs(30), watchdog.expired()).await.is_err());
        let lanes = lane.context.runs.get(0).unwrap().statuses.snapshot();
        let LaneState::Slow { given_up_in: Some(left) } = lanes[0].state else { panic!("{lanes:#?}") };
        assert!((85..=95).contains(&left.as_secs()), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_is_opened_for_a_question_settled_while_it_waited_for_a_permit() {
        let (lane, _events) = lane();
        let first = Watchdog::admit(&lane, 0).await.unwrap();
        let second = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { Watchdog::admit(&lane, 0).await.is_some() }
        });
        tokio::task::yield_now().await;
        lane.lock().pause_mx_set(0, None, &Outcome::too_slow(Duration::ZERO), Instant::now());
        drop(first);
        assert!(!second.await.unwrap());
    }
}
