//! Connects one connection to its lane: takes windows from the lane, and returns answers and unanswered questions to
//! it.
//!
//! Answers go to `LaneInner::apply_answers`, unanswered questions to the front of the queue of their MX set.

use std::{mem, ops::RangeInclusive, sync::Arc, time::Duration, vec};

use tokio::time::Instant;

use super::{
    peer::{AnswerSource, Peer},
    question::Question,
    reply_cache::ReplyCache,
    state::Lane,
    watchdog::Watchdog,
    window::{BatchEffect, NextWindow, SentWindow},
};
use crate::{
    client::Connection,
    proto::{Reply, Verb},
    verify::{
        outcome::Outcome,
        policy::{
            concurrency::WindowLatencies, harvest_defence::RefusalOrigin, rejection_rate::RemainingBudget,
        },
    },
};

/// The access of one connection to its lane. Holds the server's data and the last reply of the connection.
pub(super) struct LaneHandle {
    pub(super) lane: Arc<Lane>,
    /// The server at the other end.
    pub(super) peer: Peer,
    /// Transactions so far on this connection.
    pub(super) transactions: u32,
    /// Whether the server refuses RSET as unknown.
    pub(super) refuses_rset: bool,
    /// The last reply and its meaning.
    last_reply: Option<ReplyCache>,
    /// Round trips of the windows answered since the last commit.
    pub(super) latencies: WindowLatencies,
    /// Counts answers to end the connection if the server is too slow.
    pub(super) watchdog: Arc<Watchdog>,
}

impl LaneHandle {
    /// Joins the lane with an open connection. Returns `None` while the lane asks another exchanger of the MX set.
    pub(super) fn join(
        lane: Arc<Lane>,
        mx_set: usize,
        connection: &Connection,
        watchdog: Arc<Watchdog>,
    ) -> Option<Self> {
        let host = Arc::clone(connection.host());
        let tls = connection.tls_info().map(|tls| tls.version);
        let (refuses_rset, harvest) = {
            let mut state = lane.lock();
            if !state.record_connected(mx_set, &host) {
                return None;
            }
            let known = &mut state.mx_sets[mx_set];
            let rejections = known.harvest.rejections(lane.limits.rejections);
            (known.refuses_rset(), known.harvest.record_connection(rejections))
        };
        let source = AnswerSource { mx_set, origin: RefusalOrigin::default(), host: Some(host), tls };
        watchdog.record_opened();
        Some(Self {
            lane,
            peer: Peer::new(source, connection, harvest),
            transactions: 0,
            refuses_rset,
            last_reply: None,
            latencies: WindowLatencies::default(),
            watchdog,
        })
    }

    /// Returns a handle without a connection.
    #[cfg(test)]
    pub(super) fn without_connection(lane: Arc<Lane>, mx_set: usize) -> Self {
        let watchdog = Watchdog::without_connection(Arc::clone(&lane), mx_set);
        Self {
            lane,
            peer: Peer::without_connection(mx_set),
            transactions: 0,
            refuses_rset: false,
            last_reply: None,
            latencies: WindowLatencies::default(),
            watchdog,
        }
    }

    /// Returns the next window within `sizes` and the budget. If the connection is `nearly_exhausted`, the window may
    /// be the last.
    pub(super) fn next_window(
        &mut self,
        budget: RemainingBudget,
        sizes: RangeInclusive<u32>,
        quiet: bool,
        nearly_exhausted: bool,
    ) -> NextWindow {
        let now = Instant::now();
        let mut state = self.lane.lock();
        let next_window = state.next_window(&mut self.peer, budget, sizes, quiet, nearly_exhausted, now);
        let over = match &next_window {
            NextWindow::Window(_) => false,
            NextWindow::Wait => budget.is_exhausted() || state.mx_sets[self.peer.mx_set].is_empty(),
            NextWindow::Close => true,
        };
        if quiet && over { state.closing_control(&mut self.peer, next_window, now) } else { next_window }
    }

    /// Waits at most `limit` for more questions, and returns whether there are any.
    pub(super) async fn has_more(&self, limit: Duration) -> bool {
        self.lane.has_more(self.peer.mx_set, Instant::now() + limit, false).await
    }

    /// Records that the server refuses RSET as unknown.
    pub(super) fn record_rset_refused(&mut self) {
        self.refuses_rset = true;
        self.lane.lock().mx_sets[self.peer.mx_set].record_rset_refused();
    }

    /// Commits the proved answers of `windows` to the lane.
    pub(super) fn settle(&mut self, windows: vec::Drain<'_, SentWindow>) -> BatchEffect {
        let count = windows.as_slice().iter().map(|window| window.answered).sum::<usize>();
        if count == 0 {
            return BatchEffect::default();
        }
        self.peer.answer_count += count as u64;
        let latencies = mem::take(&mut self.latencies);
        let mut state = self.lane.lock();
        let effect = state.apply_answers(&mut self.peer, windows, count, latencies);
        let wanted = effect.stop || state.may_open_more();
        drop(state);
        if wanted {
            self.lane.changed.notify_one();
        }
        effect
    }

    /// Returns unanswered questions to the lane in the order in which they were asked. `batch_done` tells that a
    /// bisected batch was among them, so the next batch may be asked.
    pub(super) fn take_back(&mut self, questions: Vec<Question>, batch_done: bool) {
        let mut state = self.lane.lock();
        if batch_done {
            state.batch_done(self.peer.mx_set);
        }
        for question in questions.into_iter().rev() {
            state.mx_sets[self.peer.mx_set].rates.record_unanswered(question.cohort());
            state.put_back(self.peer.mx_set, question);
        }
    }

    /// Records that the server accepts at most as many transactions on a connection as this one had, less `spare`.
    pub(super) fn limit_transactions(&mut self, spare: u32) {
        let most = self.transactions.saturating_sub(spare).max(1);
        self.lane.lock().mx_sets[self.peer.mx_set].limit_transactions(most);
    }

    /// Returns whether the server takes QUIT in the same write as a window.
    pub(super) fn takes_quit_behind(&self) -> bool {
        self.peer.pipelining && !self.lane.lock().mx_sets[self.peer.mx_set].sends_quit_alone()
    }

    /// Returns the mailbox that the last reply names.
    pub(super) fn named_mailbox(&self) -> Option<&[u8]> {
        self.last_reply.as_ref()?.named_mailbox()
    }

    /// Returns the meaning of a reply to `verb`, about a mailbox if the reply answers RCPT. Classifies the reply only
    /// if it differs from the last one.
    pub(super) fn outcome<B: AsRef<[u8]>>(
        &mut self,
        verb: Verb,
        reply: &Reply<B>,
        mailbox: Option<&str>,
    ) -> &Arc<Outcome> {
        if !self.last_reply.as_mut().is_some_and(|last| last.is_repeated(verb, reply, mailbox)) {
            self.last_reply = None;
        }
        let new = || ReplyCache::new(self.lane.context.config.classifier(), verb, reply, mailbox);
        self.last_reply.get_or_insert_with(new).outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::lane::testing::{item, lane, reply};

    fn handle() -> LaneHandle {
        let lane = lane().0;
        let mx_set = lane.lock().add(Vec::new());
        LaneHandle::without_connection(lane, mx_set)
    }

    #[tokio::test]
    async fn unanswered_questions_return_to_the_front_in_their_order() {
        let mut handle = handle();
        handle.lane.lock().take_in(0, [item("eve@example.com")].into_iter());
        let back = ["ann", "bob"].map(|name| Question::Item(item(&format!("{name}@example.com"))));
        handle.take_back(back.into(), false);
        let mut state = handle.lane.lock();
        assert_eq!(state.waiting, 3);
        let next: Vec<_> =
            std::iter::from_fn(|| state.pop(0)).map(|next| next.mailbox().to_string()).collect();
        assert_eq!(next, ["ann@example.com", "bob@example.com", "eve@example.com"]);
    }

    #[tokio::test]
    async fn a_bisected_batch_that_returns_lets_the_next_one_be_asked() {
        for (batch_done, next) in [(false, false), (true, true)] {
            let mut handle = handle();
            let batches =
                ["ann", "bob"].map(|name| vec![Question::Item(item(&format!("{name}@example.com")))]);
            let mut taken = Vec::new();
            {
                let mut state = handle.lane.lock();
                state.put_back_batches(0, batches);
                state.mx_sets[0].queue.take_batch(1, &mut taken);
                assert!(!state.mx_sets[0].queue.is_batch_next());
            }
            handle.take_back(Vec::new(), batch_done);
            assert_eq!(handle.lane.lock().mx_sets[0].queue.is_batch_next(), next);
        }
    }

    #[tokio::test]
    async fn the_limit_of_transactions_only_falls_and_is_at_least_one() {
        let mut handle = handle();
        let limit = |handle: &LaneHandle| handle.lane.lock().mx_sets[0].observed_limits().1;
        for (transactions, spare, wanted) in [(5, 0, 5), (9, 0, 5), (5, 2, 3), (1, 4, 1), (7, 0, 1)] {
            handle.transactions = transactions;
            handle.limit_transactions(spare);
            assert_eq!(limit(&handle), Some(wanted), "{transactions} less {spare}");
        }
    }

    #[tokio::test]
    async fn only_the_same_reply_to_the_same_command_has_the_same_outcome() {
        let mut handle = handle();
        let mut outcome = |verb, lines| Arc::clone(handle.outcome(verb, &reply(lines), None));
        let first = outcome(Verb::Rcpt, "550 5.1.1 User unknown");
        assert!(Arc::ptr_eq(&first, &outcome(Verb::Rcpt, "550 5.1.1 User unknown")));
        assert!(!Arc::ptr_eq(&first, &outcome(Verb::Mail, "550 5.1.1 User unknown")));
        let other = outcome(Verb::Rcpt, "250 2.1.5 Ok");
        assert!(other.is_positive() && !first.is_positive());
    }
}
