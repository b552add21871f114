//! Holds the state that the connections of a lane share: queues, limits and counts.
//!
//! A connection takes a window or returns a batch of answers under one lock, which is never held across an await.
//!
//! `verdicts` decides what an answer means. This file decides which connection asks which questions, and when.

use std::{
    collections::{BinaryHeap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{
    mx_set::MxSet,
    question::{DelayedQuestion, Question},
    queue::QuestionBatch,
    status::{Block, LaneState, PublishedStatus},
};
use crate::verify::{
    Event, ProviderLimits,
    context::Context,
    dns::resolver::Exchangers,
    item::Item,
    policy::{breaker::ProviderBreaker, concurrency::ConcurrencyController, rate_limit::RateLimiter},
    run_batches::RunBatches,
};

/// Waiting addresses per open connection from which another connection pays off.
const ADDRESSES_PER_EXTRA_CONNECTION: usize = 30;

/// What the connections of a lane share.
pub(in crate::verify) struct Lane {
    pub(super) context: Arc<Context>,
    /// The rule of the provider.
    pub(super) limits: ProviderLimits,
    state: Mutex<LaneInner>,
    /// Notified when the lane may have something to do.
    pub(in crate::verify) changed: Notify,
}

/// The state of a lane, under its lock.
pub(in crate::verify) struct LaneInner {
    pub(super) context: Arc<Context>,
    pub(super) mx_sets: Vec<MxSet>,
    /// MX sets that wait for a connection, the oldest first.
    connection_queue: VecDeque<usize>,
    /// Questions that are asked again after a pause.
    pub(super) delayed: BinaryHeap<DelayedQuestion>,
    /// The blocks of the provider, and the provisional verdicts.
    pub(super) breaker: ProviderBreaker,
    /// Questions of runs whose callers do not take their events, with their MX sets.
    pub(super) parked: Vec<(usize, Question)>,
    /// Events that are not delivered yet.
    pub(super) event_batch: RunBatches,
    /// Limits the number of connections.
    pub(super) controller: ConcurrencyController,
    /// Limits the recipients per time.
    pub(super) rate_limiter: RateLimiter,
    /// Connections that are open or being opened.
    connections: u32,
    /// Questions that wait in all MX sets.
    pub(super) waiting: usize,
    /// Until when some exchangers are not asked.
    pub(super) paused_until: Option<Instant>,
    /// The lag of a slow host, and until when the value counts.
    pub(super) slow: Option<(Instant, Duration)>,
    /// Answers so far.
    pub(super) answers: u64,
    /// Answers at the last update, the time of that update, and the answers per second before it.
    rate: (u64, Instant, f64),
    /// The time of the last record, as an instant and as a timestamp.
    pub(super) checked: (Instant, Timestamp),
    /// The router's permit, until the lane gets its first connection.
    pub(in crate::verify) opening_permit: Option<OwnedSemaphorePermit>,
    /// Whether the input of all runs has ended: only addresses whose domains are being resolved may follow.
    input_ended: bool,
    /// Whether connections wait for the next call nevertheless.
    lingers: bool,
    /// When the lane last got addresses.
    pub(super) used: Instant,
    /// Whether no more addresses will follow.
    ending: bool,
    /// The published status of the lane.
    pub(super) status: PublishedStatus,
    /// The number of connections that the engine knows of.
    published_connections: u32,
}

impl Lane {
    pub(in crate::verify) fn new(context: Arc<Context>, name: Arc<str>, limits: ProviderLimits) -> Self {
        let now = Instant::now();
        let state = LaneInner {
            context: Arc::clone(&context),
            mx_sets: Vec::new(),
            connection_queue: VecDeque::new(),
            delayed: BinaryHeap::new(),
            breaker: ProviderBreaker::default(),
            parked: Vec::new(),
            event_batch: RunBatches::new(Arc::clone(&context.runs)),
            controller: ConcurrencyController::new(limits.connections),
            rate_limiter: RateLimiter::new(&limits, now),
            connections: 0,
            waiting: 0,
            paused_until: None,
            slow: None,
            answers: 0,
            rate: (0, now, 0.0),
            checked: (now, context.timestamp(now)),
            opening_permit: None,
            input_ended: false,
            lingers: false,
            used: now,
            ending: false,
            status: PublishedStatus::new(name, &limits),
            published_connections: 0,
        };
        Self { context, limits, state: Mutex::new(state), changed: Notify::new() }
    }

    pub(in crate::verify) fn lock(&self) -> MutexGuard<'_, LaneInner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the MX set has a question that may be asked. Returns false at `until`, or if there will be none. An
    /// `idle` connection also waits for the question of a later call.
    pub(super) async fn has_more(&self, mx_set: usize, until: Instant, idle: bool) -> bool {
        let wake = self.lock().mx_sets[mx_set].waker();
        loop {
            let notified = wake.notified();
            {
                let mut state = self.lock();
                if state.may_ask(mx_set, Instant::now()) {
                    return true;
                }
                let over = state.input_ended && state.delayed.is_empty() && !(idle && state.lingers(mx_set));
                if state.has_surplus_connections() || over {
                    return false;
                }
            }
            if timeout_at(until, notified).await.is_err() {
                return self.lock().may_ask(mx_set, Instant::now());
            }
        }
    }
}

impl LaneInner {
    /// Adds a set of exchangers and returns its index.
    pub(in crate::verify) fn add(&mut self, exchangers: Exchangers) -> usize {
        // Most lanes have one MX set. A vector that grows by itself has room for four.
        if self.mx_sets.is_empty() {
            self.mx_sets.reserve_exact(1);
        }
        self.mx_sets.push(MxSet::new(exchangers));
        self.mx_sets.len() - 1
    }

    /// Adds addresses to the queue of an MX set.
    pub(in crate::verify) fn take_in(&mut self, mx_set: usize, items: impl ExactSizeIterator<Item = Item>) {
        self.used = Instant::now();
        self.mx_sets[mx_set].forget_old_lag();
        for item in items {
            if self.admits(&item) {
                self.waiting += 1;
                self.mx_sets[mx_set].queue.push(Question::Item(item));
            }
        }
        self.wake(mx_set);
    }

    /// Returns whether the run of an address goes on. Shows the lane to a run that uses it for the first time.
    #[inline]
    fn admits(&mut self, item: &Item) -> bool {
        if let Some(run) = self.event_batch.join(item.run) {
            run.statuses.add(&self.status);
            self.lingers |= run.options.is_call;
        }
        self.event_batch.run(item.run).is_some()
    }

    /// Takes the next question of an MX set.
    pub(super) fn pop(&mut self, mx_set: usize) -> Option<Question> {
        let question = self.mx_sets[mx_set].queue.pop()?;
        self.waiting -= 1;
        Some(question)
    }

    /// Takes all questions of an MX set.
    pub(super) fn take(&mut self, mx_set: usize) -> VecDeque<Question> {
        let questions = self.mx_sets[mx_set].queue.take();
        self.waiting -= questions.len();
        questions
    }

    /// Puts a question back at the front of the queue. Drops it if it is a control.
    pub(super) fn put_back(&mut self, mx_set: usize, question: Question) {
        match question {
            Question::Control { .. } => self.withdraw_control(mx_set),
            question => self.put_next(mx_set, question),
        }
    }

    /// Puts a question before those that wait, unless its run has ended.
    pub(super) fn put_next(&mut self, mx_set: usize, question: Question) {
        if self.is_withdrawn(&question) {
            return;
        }
        self.waiting += 1;
        self.mx_sets[mx_set].queue.push_front(question);
        self.wake(mx_set);
    }

    /// Puts bisected batches back at the front of the queue. Each is asked in a window of its own.
    pub(super) fn put_back_batches(
        &mut self,
        mx_set: usize,
        batches: impl IntoIterator<Item = QuestionBatch>,
    ) {
        let mut batches: Vec<_> = batches.into_iter().collect();
        for batch in &mut batches {
            batch.iter().for_each(|question| self.mx_sets[mx_set].rates.record_unanswered(question.cohort()));
            batch.retain(|question| !self.is_withdrawn(question));
            let before = batch.len();
            batch.retain(|question| !matches!(question, Question::Control { .. }));
            if batch.len() < before {
                self.withdraw_control(mx_set);
            }
            self.waiting += batch.len();
        }
        self.mx_sets[mx_set].queue.push_batches(batches.into_iter());
        self.wake(mx_set);
    }

    /// Records that the bisected batch is no longer in flight, so the next one may be asked.
    pub(super) fn batch_done(&mut self, mx_set: usize) {
        self.mx_sets[mx_set].queue.batch_done();
        self.wake(mx_set);
    }

    pub(super) fn wake(&mut self, mx_set: usize) {
        if self.mx_sets[mx_set].wake() {
            self.connection_queue.push_back(mx_set);
        }
    }

    /// Records that no more addresses will follow.
    pub(in crate::verify) fn end(&mut self) {
        self.ending = true;
        self.end_input();
    }

    /// Records that the input of all runs has ended, except for domains being resolved. Idle connections need not wait
    /// for those.
    pub(in crate::verify) fn end_input(&mut self) {
        (self.input_ended, self.lingers) = (true, false);
        self.mx_sets.iter().for_each(MxSet::wake_all);
    }

    /// Records that a run with open input has started.
    pub(in crate::verify) fn begin_input(&mut self) {
        self.input_ended = false;
    }

    /// Returns whether idle connections of an MX set wait for the next call. They do not while verdicts are held back
    /// until the last connection is closed.
    fn lingers(&self, mx_set: usize) -> bool {
        self.lingers && !self.ending && !self.breaker.has_provisional(mx_set)
    }

    /// Returns whether every question has its answer and no more will come.
    pub(super) fn is_done(&self) -> bool {
        self.ending && self.is_at_rest()
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.connections == 0 && self.waiting == 0 && self.delayed.is_empty() && self.parked.is_empty()
    }

    /// Tells the engine how many connections are open.
    pub(super) fn publish_connections(&mut self) {
        let before = mem::replace(&mut self.published_connections, self.connections);
        self.context.record_connections(self.connections, before);
    }

    /// Forgets what is known of domains. All domains get new numbers from here on.
    pub(in crate::verify) fn forget_domains(&mut self) {
        self.mx_sets.iter_mut().for_each(MxSet::forget_domains);
        self.breaker.forget_domains();
    }

    /// Returns whether there are more connections than the controller allows.
    pub(super) fn has_surplus_connections(&self) -> bool {
        self.connections > self.controller.connections(Instant::now())
    }

    /// Returns whether another connection may be opened for the questions that wait.
    pub(super) fn may_open_more(&self) -> bool {
        self.waiting > 0 && self.connections < self.controller.connections(Instant::now())
    }

    fn may_ask(&mut self, mx_set: usize, now: Instant) -> bool {
        let waiting = self.mx_sets[mx_set].len();
        let held = self.mx_sets[mx_set].waits_for_control();
        waiting > 0 && !held && !self.has_surplus_connections() && self.breaker.blocked(now).is_none() && {
            let min_window = self.min_window(waiting);
            self.rate_limiter.allowed(now) >= min_window
        }
    }

    /// Returns the recipients that the rate limit must allow at once for a round trip, with so many waiting.
    pub(super) fn min_window(&self, waiting: usize) -> u32 {
        u32::try_from(waiting).unwrap_or(u32::MAX).clamp(1, 10).min(self.rate_limiter.burst())
    }

    /// Chooses an MX set that needs a connection and may have one. Counts the connection as opening.
    pub(super) fn open_next(&mut self, now: Instant) -> Option<usize> {
        if self.connections >= self.controller.connections(now) || self.breaker.blocked(now).is_some() {
            return None;
        }
        for _ in 0..self.connection_queue.len() {
            let Some(mx_set) = self.connection_queue.pop_front() else { break };
            let known = &mut self.mx_sets[mx_set];
            known.set_queued(false);
            if known.is_empty() || known.connections() > 0 {
                continue;
            }
            let ready = known.health.is_ready(now);
            let min_window = self.min_window(self.mx_sets[mx_set].len());
            if ready && self.rate_limiter.allowed(now) >= min_window {
                return Some(self.count_opening(mx_set));
            }
            self.mx_sets[mx_set].set_queued(true);
            self.connection_queue.push_back(mx_set);
        }
        // Another connection pays off where more questions wait than the open ones can handle. It waits while one is
        // being opened beyond the number that the server has accepted before.
        let busy = |mx_set: &MxSet| {
            let open = mx_set.connections();
            let sure = !mx_set.is_connecting() || mx_set.health.has_proved_more_than(open);
            let ready = mx_set.health.is_ready(now);
            open > 0 && sure && ready && mx_set.len() > ADDRESSES_PER_EXTRA_CONNECTION * open as usize
        };
        let mx_set = self.mx_sets.iter().position(busy)?;
        (self.rate_limiter.allowed(now) >= self.min_window(ADDRESSES_PER_EXTRA_CONNECTION))
            .then(|| self.count_opening(mx_set))
    }

    fn count_opening(&mut self, mx_set: usize) -> usize {
        self.mx_sets[mx_set].record_opening();
        self.connections += 1;
        mx_set
    }

    /// Records that a connection is closed, or could not be opened.
    pub(super) fn closed(&mut self, mx_set: usize, was_live: bool) {
        self.mx_sets[mx_set].record_closed(was_live);
        self.connections = self.connections.saturating_sub(1);
        if !self.mx_sets[mx_set].is_empty() {
            self.wake(mx_set);
        }
    }

    /// Handles what is due: delayed questions, questions to servers that are not asked now, and provisional verdicts.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|later| later.due <= now) {
            let Some(DelayedQuestion { mx_set, question, .. }) = self.delayed.pop() else { break };
            // The exchanger that the question was for no longer answers.
            let obsolete = match &question {
                Question::CatchAll { domain, .. } => !self.mx_sets[mx_set].is_asked(*domain),
                Question::Item(_) | Question::Control { .. } => self.is_withdrawn(&question),
            };
            if !obsolete {
                self.waiting += 1;
                self.mx_sets[mx_set].forget_old_lag();
                self.mx_sets[mx_set].queue.push(question);
                self.wake(mx_set);
            }
        }
        self.settle_unasked(now);
        // Once a lane is at rest, no further answer can confirm or contradict a verdict.
        if self.connections == 0 && self.waiting == 0 {
            let mx_sets = 0..self.mx_sets.len();
            let due = mx_sets.fold(false, |due, mx_set| {
                due | (self.control_at_rest(mx_set, now) || self.ask_again_at_rest(mx_set, now))
            });
            if !due {
                self.report_provisional();
            }
        }
    }

    /// Returns the next time at which something is due without a notification.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let later = self.delayed.peek().map(|later| later.due);
        let waiting = self.mx_sets.iter().filter(|mx_set| !mx_set.is_empty());
        // A pause that is over must not hide one that is still to end.
        let paused = waiting.filter_map(|mx_set| mx_set.health.not_before()).filter(|&at| at > now).min();
        let rate = if self.waiting > 0 { self.rate_limiter.ready_at(10) } else { None };
        let free = if self.waiting > 0 { self.breaker.blocked_until() } else { None };
        [later, paused, rate, free].into_iter().flatten().filter(|&at| at > now).min()
    }

    /// Wakes idle connections, because the time to ask has come.
    pub(super) fn wake_idle(&mut self) {
        let idle = self.mx_sets.iter().filter(|mx_set| mx_set.live() > 0 && !mx_set.is_empty());
        idle.for_each(MxSet::wake_all);
    }

    /// Delivers the collected events.
    pub(super) fn flush(&mut self) {
        self.event_batch.deliver();
    }

    /// Updates the published status of the lane, and sends an event if it became blocked or unreachable, or no longer
    /// is.
    pub(super) fn update_status(&mut self, now: Instant) {
        let (harvest_defences, sender_refusals) =
            (self.breaker.harvest_defences, self.breaker.sender_refusals);
        let (before, at, mut rate) = self.rate;
        let passed = now.saturating_duration_since(at);
        if passed >= Duration::from_secs(1) {
            let current = (self.answers - before) as f64 / passed.as_secs_f64();
            rate = if before == 0 { current } else { rate * 0.7 + current * 0.3 };
            self.rate = (self.answers, now, rate);
        }
        let lag = self.slow.filter(|(until, _)| self.waiting > 0 && now < *until).map(|(_, lag)| lag);
        let lagging = |lag| LaneState::Slow { given_up_in: self.context.deadlines.given_up_after(lag, rate) };
        let state = match self.breaker.last_block() {
            Some(outcome) => LaneState::Blocked(Block::of(outcome)),
            None if self.paused_until.is_some_and(|until| now < until) => LaneState::Unreachable,
            None if self.waiting > 0 && self.rate_limiter.allowed(now) == 0 => LaneState::Limited,
            None => lag.map_or(LaneState::Open, lagging),
        };
        let mut status = self.status.status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_reported = |state: &LaneState| matches!(state, LaneState::Blocked(_) | LaneState::Unreachable);
        let changed = status.state != state && (is_reported(&status.state) || is_reported(&state));
        status.state = state;
        (status.harvest_defences, status.sender_refusals) = (harvest_defences, sender_refusals);
        (status.waiting, status.answered, status.rate) =
            ((self.waiting + self.delayed.len() + self.parked.len()) as u64, self.answers, rate);
        (status.connections, status.latency) = (self.connections, self.controller.latency);
        if changed {
            let status = Box::new(status.clone());
            self.event_batch.push_for_all(|run| (!run.options.is_call).then(|| Event::Lane(status.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::{
        client::Endpoint,
        verify::{
            lane::{
                handle::LaneHandle,
                testing::{self, item},
                window::NextWindow,
            },
            policy::{
                rejection_budget::Budget,
                rejection_rate::{Cohort, ExpectedRejections},
            },
        },
    };

    fn lane() -> Arc<Lane> {
        testing::lane().0
    }

    #[tokio::test]
    async fn a_question_that_needs_smtputf8_is_settled_at_once_without_it() {
        let (lane, mut event_batches) = testing::lane();
        let mut state = lane.lock();
        let mx_set = state.add(Vec::new());
        let mut handle = LaneHandle::without_connection(Arc::clone(&lane), mx_set);
        state.connections = 1;
        state.take_in(mx_set, [item("jürgen@example.com")].into_iter());
        let budget = Budget::new(&lane.limits, None, None).remaining(ExpectedRejections::default());
        assert!(matches!(
            state.next_window(&mut handle.peer, budget, 1..=100, true, false, Instant::now()),
            NextWindow::Wait
        ));
        assert_eq!(event_batches.try_recv().map(|event_batch| event_batch.events.len()), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_of_questions_wakes_all_idle_connections() {
        let lane = lane();
        let (mx_set, until) = (lane.lock().add(Vec::new()), Instant::now() + Duration::from_secs(1));
        let mut idle = JoinSet::new();
        for _ in 0..4 {
            let (mut handle, lane) =
                (LaneHandle::without_connection(Arc::clone(&lane), mx_set), Arc::clone(&lane));
            idle.spawn(async move {
                let more = lane.has_more(mx_set, until, false).await;
                let budget = Budget::new(&lane.limits, None, None).remaining(ExpectedRejections::default());
                more && matches!(handle.next_window(budget, 1..=100, true, false), NextWindow::Window(_))
            });
        }
        tokio::task::yield_now().await;
        {
            let mut state = lane.lock();
            state.connections = 1;
            state.mx_sets[mx_set].set_live(4);
            let unknown = (0..100).map(|n| item(&format!("ann{n}@example.com")));
            state.take_in(mx_set, unknown.collect::<Vec<_>>().into_iter());
        }
        assert_eq!(idle.join_all().await, [true; 4]);
        assert!(Instant::now() < until, "no connection waited until its limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_nearly_exhausted_connection_wakes_the_next() {
        let lane = lane();
        let (mx_set, until) = (lane.lock().add(Vec::new()), Instant::now() + Duration::from_secs(1));
        let limits = ProviderLimits { rejections: 1, ..lane.limits };
        let nearly_exhausted = {
            let (mut handle, lane) =
                (LaneHandle::without_connection(Arc::clone(&lane), mx_set), Arc::clone(&lane));
            (handle.peer.answer_count, handle.peer.pipelining) = (1, false);
            tokio::spawn(async move {
                let more = lane.has_more(mx_set, until, false).await;
                let budget = Budget::new(&limits, None, None).remaining(ExpectedRejections::default());
                more && matches!(handle.next_window(budget, 1..=100, true, true), NextWindow::Close)
            })
        };
        tokio::task::yield_now().await;
        let next = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.has_more(mx_set, until, false).await }
        });
        tokio::task::yield_now().await;
        {
            let mut state = lane.lock();
            state.connections = 1;
            state.mx_sets[mx_set].set_live(2);
            state.take_in(mx_set, ["ann@example.com", "bob@example.com"].map(item).into_iter());
        }
        assert!(nearly_exhausted.await.unwrap() && next.await.unwrap());
        assert!(Instant::now() < until, "no connection waited until its limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_surplus_connection_closes_and_the_others_ask() {
        let lane = lane();
        let (mx_set, until) = (lane.lock().add(Vec::new()), Instant::now() + Duration::from_secs(1));
        let mut idle = JoinSet::new();
        for _ in 0..3 {
            let lane = Arc::clone(&lane);
            idle.spawn(async move { lane.has_more(mx_set, until, false).await });
        }
        tokio::task::yield_now().await;
        {
            let mut state = lane.lock();
            state.connections = 2;
            state.mx_sets[mx_set].set_live(3);
            state.take_in(mx_set, [item("ann@example.com")].into_iter());
        }
        assert!(!idle.join_next().await.unwrap().unwrap(), "the surplus connection closes");
        tokio::task::yield_now().await;
        assert!(idle.try_join_next().is_none(), "it counts until it is closed");
        lane.lock().closed(mx_set, true);
        assert!(idle.join_next().await.unwrap().unwrap());
        assert!(Instant::now() < until, "no connection waited until its limit");
    }

    #[tokio::test]
    async fn questions_that_cannot_be_asked_take_no_place_in_a_window() {
        let lane = lane();
        let mut state = lane.lock();
        let mx_set = state.add(Vec::new());
        let mut handle = LaneHandle::without_connection(Arc::clone(&lane), mx_set);
        state.connections = 1;
        let of = |address: &str, domain| Item { domain, ..item(address) };
        // The first domain has few refusals. Nothing is known of the second.
        state.mx_sets[mx_set].rates.record_answers(Cohort::new(1, 0), false, 200);
        let known = (0..3_000).map(|n| match n % 20 {
            0 => of(&format!("ann{n}@example.com"), 1),
            _ => of(&format!("jürgen{n}@example.com"), 1),
        });
        let unknown = (0..200).map(|n| of(&format!("ann{n}@example.net"), 2));
        state.take_in(mx_set, known.chain(unknown).collect::<Vec<_>>().into_iter());
        let budget = Budget::new(&lane.limits, None, None).remaining(ExpectedRejections::default());
        let mut next_window =
            |sizes| match state.next_window(&mut handle.peer, budget, sizes, true, false, Instant::now()) {
                NextWindow::Window(window) => window.questions.len(),
                _ => 0,
            };
        assert_eq!(next_window(50..=100), 100);
        assert!(
            (50..70).contains(&next_window(50..=100)),
            "the rest of the first domain and some of the second"
        );
        assert_eq!(next_window(50..=100), 0, "the second domain alone makes too small a window");
        assert_eq!(next_window(1..=100), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_pause_to_end_is_due_beside_ended_pauses_and_live_connections() {
        let (lane, now) = (lane(), Instant::now());
        let mut state = lane.lock();
        let mx_sets = ["mx1", "mx2", "mx3"].map(|host| {
            let mx_set = state.add(vec![Endpoint { host: host.into(), addrs: Vec::new() }]);
            state.take_in(mx_set, [item("ann@example.com")].into_iter());
            mx_set
        });
        assert_eq!(state.next_due(now), None);
        let soon = now + Duration::from_millis(480);
        state.mx_sets[mx_sets[0]].health.delay_until(now - Duration::from_millis(1));
        state.mx_sets[mx_sets[1]].health.delay_until(soon);
        state.mx_sets[mx_sets[1]].set_live(1);
        assert_eq!(state.next_due(now), Some(soon));
        state.mx_sets[mx_sets[2]].health.delay_until(now + Duration::from_millis(120));
        assert_eq!(state.next_due(now), Some(now + Duration::from_millis(120)));
        // No question waits for it.
        state.take(mx_sets[2]);
        assert_eq!(state.next_due(now), Some(soon));
    }

    #[tokio::test]
    async fn no_two_exchangers_of_an_mx_set_are_asked_at_once() {
        let lane = lane();
        let mut state = lane.lock();
        let ends = ["mx1", "mx2"].map(|host| Endpoint { host: host.into(), addrs: Vec::new() });
        let mx_set = state.add(ends.to_vec());
        let [first, backup] = ["mx1", "mx2"].map(Arc::from);
        // Two connections were being opened at once, and the backup was slower.
        assert!(state.record_connected(mx_set, &first));
        assert!(!state.record_connected(mx_set, &backup));
        assert!(state.record_connected(mx_set, &first));
        assert_eq!((state.mx_sets[mx_set].live(), state.mx_sets[mx_set].asked_host()), (2, Some(&first)));
        // The backup may take over.
        state.mx_sets[mx_set].set_live(0);
        assert!(state.record_connected(mx_set, &backup));
    }
}
