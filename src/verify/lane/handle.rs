//! The handle of a connection to its lane: what the lane needs to know of the one that asks.

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

/// The handle of a connection to its lane.
pub(super) struct LaneHandle {
    pub(super) lane: Arc<Lane>,
    pub(super) peer: Peer,
    /// Transactions so far.
    pub(super) transactions: u32,
    /// Whether the server does not know RSET.
    pub(super) refuses_rset: bool,
    /// The reply before.
    last_reply: Option<ReplyCache>,
    /// Those answered since answers last counted.
    pub(super) latencies: WindowLatencies,
    pub(super) watchdog: Arc<Watchdog>,
}

impl LaneHandle {
    /// Joins the lane with a connection that answers from now on; none while another exchanger does.
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
            (known.refuses_rset, known.harvest.record_connection(rejections))
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

    /// A handle without a connection.
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

    /// The next window, of so many recipients, while so many rejections are left; if the connection is
    /// `nearly_exhausted`, perhaps its last.
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

    /// Waits for a while until there is more to ask, and tells whether there is.
    pub(super) async fn has_more(&self, patience: Duration) -> bool {
        self.lane.has_more(self.peer.mx_set, Instant::now() + patience).await
    }

    /// Records that the server does not know RSET.
    pub(super) fn record_rset_refused(&mut self) {
        self.refuses_rset = true;
        self.lane.lock().mx_sets[self.peer.mx_set].refuses_rset = true;
    }

    /// Lets answers count.
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

    /// Takes back what got no answer, in the order in which it was asked; `tested` tells that suspects were asked about,
    /// and no longer are.
    pub(super) fn take_back(&mut self, questions: Vec<Question>, tested: bool) {
        let mut state = self.lane.lock();
        if tested {
            state.tested(self.peer.mx_set);
        }
        for question in questions.into_iter().rev() {
            state.mx_sets[self.peer.mx_set].rates.record_unanswered(question.cohort());
            state.put_back(self.peer.mx_set, question);
        }
    }

    /// Records that the server takes no more transactions on a connection than there were on this one,
    /// less `spare`.
    pub(super) fn limit_transactions(&mut self, spare: u32) {
        let known = &mut self.lane.lock().mx_sets[self.peer.mx_set].transactions;
        let most = self.transactions.saturating_sub(spare).max(1);
        *known = Some(known.map_or(most, |known| known.min(most)));
    }

    /// The mailbox that the last reply names.
    pub(super) fn named_mailbox(&self) -> Option<&[u8]> {
        self.last_reply.as_ref()?.named_mailbox()
    }

    /// What the reply means, about a mailbox if it answers RCPT; looked up anew only where it is not like the one before.
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
