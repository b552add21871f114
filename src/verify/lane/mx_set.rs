//! Holds what a lane knows of one set of mail exchangers: the questions that wait and the state of their domains.
//!
//! The lane of a provider has one MX set for each set of exchangers. Any other lane has exactly one.

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use foldhash::HashMap;
use tokio::{sync::Notify, time::Instant};

use super::{
    address_family::has_ipv4, catch_all::CatchAllState, connection_health::ConnectionHealth, lag::SharedLag,
    question::Question, queue::Queue,
};
use crate::verify::{
    CatchAll, Record, SubStatus,
    dns::resolver::Exchangers,
    item::Item,
    outcome::Outcome,
    policy::{
        harvest_defence::HarvestDetector,
        rejection_rate::{ExpectedRejections, RejectionRates, RemainingBudget},
    },
};

/// A failure to connect within this time counts as the same as the one before. The usual schedule has a pause of one
/// hour.
const SAME_FAILURE_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// Time for which an exchanger that could not be reached is tried last.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(120);

/// An accepted address and its record, which wait until it is known whether the domain is a catch-all.
pub(super) type Accepted = (Item, Record);

/// One set of mail exchangers in a lane.
///
/// The lane uses the parts that keep their own rules directly. All other fields change by methods.
pub(super) struct MxSet {
    pub(super) queue: Queue,
    pub(super) rates: RejectionRates,
    /// Detects whether the servers refuse existing mailboxes as unknown.
    pub(super) harvest: HarvestDetector,
    /// How the connections ended.
    pub(super) health: ConnectionHealth,
    exchangers: Arc<Exchangers>,
    domains: HashMap<u32, CatchAllState<Accepted>>,
    /// The most recipients that the server accepts in a transaction, as observed.
    max_recipients: Option<u32>,
    /// The most transactions that the server accepts on a connection, as observed.
    max_transactions: Option<u32>,
    /// Whether a second EHLO can serve as a fence: false once it failed to.
    proves_by_greeting: bool,
    /// Whether the server refuses RSET as unknown.
    refuses_rset: bool,
    /// Whether connections use IPv4 only, because the server refused IPv6.
    ipv4_only: bool,
    /// Whether QUIT is sent alone, because the server did not answer it correctly behind a last window.
    sends_quit_alone: bool,
    /// The exchanger that answered last. The state of the domains comes from its answers.
    answering: Option<Arc<str>>,
    /// Exchangers that could not be reached, and until when each is tried last.
    failures: HashMap<Arc<str>, Instant>,
    /// Connections that are open.
    live: u32,
    /// Connections that are being opened.
    connecting: u32,
    /// Until when the servers are not asked because they cannot be reached, and the reason.
    paused: Option<(Instant, Outcome)>,
    /// The time and the cause of the last failure to connect to any server.
    unreached: Option<(Instant, SubStatus)>,
    /// Whether it is in the queue of MX sets that need a connection.
    is_queued: bool,
    /// Notified when there may be a question to ask.
    wake: Arc<Notify>,
    /// The lag of the exchangers behind the least rate of answers.
    lag: SharedLag,
}

impl MxSet {
    pub(super) fn new(exchangers: Exchangers) -> Self {
        Self {
            queue: Queue::default(),
            rates: RejectionRates::default(),
            harvest: HarvestDetector::default(),
            health: ConnectionHealth::default(),
            exchangers: exchangers.into(),
            domains: HashMap::default(),
            max_recipients: None,
            max_transactions: None,
            proves_by_greeting: true,
            refuses_rset: false,
            ipv4_only: false,
            sends_quit_alone: false,
            answering: None,
            failures: HashMap::default(),
            live: 0,
            connecting: 0,
            paused: None,
            unreached: None,
            is_queued: false,
            wake: Arc::default(),
            lag: SharedLag::new(Instant::now()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn needs_smtputf8(&self) -> bool {
        self.queue.needs_smtputf8()
    }

    /// Returns whether the next question tests a domain for a catch-all.
    pub(super) fn next_is_catch_all(&self) -> bool {
        matches!(self.queue.next().next(), Some(Question::CatchAll { .. }))
    }

    /// Returns whether the next question is a control.
    pub(super) fn next_is_control(&self) -> bool {
        matches!(self.queue.next().next(), Some(Question::Control { .. }))
    }

    /// Returns whether nothing may be asked until a control has its answer.
    pub(super) fn waits_for_control(&self) -> bool {
        self.harvest.needs_control() && self.harvest.is_control_pending()
    }

    /// Returns whether a question about another domain waits.
    pub(super) fn has_other_domain(&self, domain: u32) -> bool {
        self.queue.next().any(|question| question.domain() != domain)
    }

    /// Returns the expected rejections of the largest window that the budget allows, of at most `max` of the next
    /// questions.
    pub(super) fn max_window(&self, budget: RemainingBudget, max: u32) -> ExpectedRejections {
        self.rates.max_window(budget, self.queue.next().take(max as usize).map(Question::cohort))
    }

    /// Returns the state of the catch-all test of the domain, if it has begun.
    pub(super) fn catch_all(&self, domain: u32) -> Option<&CatchAllState<Accepted>> {
        self.domains.get(&domain)
    }

    /// Records that the domain is probed. The accepted address waits for the result.
    pub(super) fn begin_probe(&mut self, accepted: Accepted) {
        self.domains.insert(accepted.0.domain, CatchAllState::Asked(vec![accepted]));
    }

    /// Returns the accepted addresses that wait for the probe of the domain. `None` if the domain is not being probed.
    pub(super) fn awaiting_probe(&mut self, domain: u32) -> Option<&mut Vec<Accepted>> {
        match self.domains.get_mut(&domain)? {
            CatchAllState::Asked(accepted) => Some(accepted),
            CatchAllState::Answered(_) => None,
        }
    }

    /// Records that these accepted addresses wait for the probe of the domain.
    pub(super) fn await_probe(&mut self, domain: u32, accepted: Vec<Accepted>) {
        self.domains.insert(domain, CatchAllState::Asked(accepted));
    }

    /// Records the result of an earlier run for a domain that was not probed.
    pub(super) fn record_earlier(&mut self, domain: u32, catch_all: CatchAll) {
        self.domains.entry(domain).or_insert(CatchAllState::Answered(catch_all));
    }

    /// Records the result for the domain, and returns the addresses that waited for it. Returns `None` if no question
    /// about the domain is open.
    pub(super) fn record_catch_all(&mut self, domain: u32, catch_all: CatchAll) -> Option<Vec<Accepted>> {
        let accepted = mem::take(self.awaiting_probe(domain)?);
        self.domains.insert(domain, CatchAllState::Answered(catch_all));
        Some(accepted)
    }

    /// Does not ask the exchangers before `until`, for this reason.
    pub(super) fn pause(&mut self, until: Instant, reason: Outcome) {
        self.paused = Some((until, reason));
    }

    /// Returns the reason for which the exchangers are not asked now, if they are not.
    pub(super) fn pause_reason(&self, now: Instant) -> Option<&Outcome> {
        self.paused.as_ref().filter(|(until, _)| now < *until).map(|(_, outcome)| outcome)
    }

    /// Records the exchanger that answers from now on, and returns the accepted addresses whose domains another
    /// exchanger was asked about.
    ///
    /// One exchanger may refuse a recipient that another exchanger of the domain accepts: backups often accept every
    /// recipient. So the state of the domains does not carry over.
    fn set_answering(&mut self, host: &Arc<str>) -> Vec<Accepted> {
        self.failures.remove(host);
        if self.answering.as_ref() == Some(host) {
            return Vec::new();
        }
        self.answering = Some(Arc::clone(host));
        self.harvest.exchanger_changed();
        self.queue.retain(|question| matches!(question, Question::Item(_)));
        let known = mem::take(&mut self.domains).into_values();
        let asked = known.filter_map(|domain| match domain {
            CatchAllState::Asked(accepted) => Some(accepted),
            CatchAllState::Answered(_) => None,
        });
        asked.flatten().collect()
    }

    /// Returns whether any domain waits for the answer to its catch-all question.
    pub(super) fn asks_catch_all(&self) -> bool {
        self.domains.values().any(|domain| matches!(domain, CatchAllState::Asked(_)))
    }

    /// Drops the questions of a run, and those about domains that no other run waits for. Returns how many.
    pub(super) fn withdraw(&mut self, run: u32) -> usize {
        self.domains.retain(|_, domain| match domain {
            CatchAllState::Asked(accepted) => {
                accepted.retain(|(item, _)| item.run != run);
                !accepted.is_empty()
            }
            CatchAllState::Answered(_) => true,
        });
        let (before, domains) = (self.queue.total(), &self.domains);
        self.queue.retain(|question| match question {
            Question::Item(item) => item.run != run,
            Question::CatchAll { domain, .. } => {
                matches!(domains.get(domain), Some(CatchAllState::Asked(_)))
            }
            Question::Control { .. } => true,
        });
        before - self.queue.total()
    }

    /// Takes the accepted addresses that wait for the answer to the catch-all question of a domain. Forgets that it was
    /// asked.
    pub(super) fn take_asked(&mut self, domain: u32) -> Option<Vec<Accepted>> {
        match self.domains.remove(&domain)? {
            CatchAllState::Asked(accepted) => Some(accepted),
            answered @ CatchAllState::Answered(_) => {
                self.domains.insert(domain, answered);
                None
            }
        }
    }

    /// Forgets the state of all domains, except those whose catch-all question has no answer yet.
    pub(super) fn forget_domains(&mut self) {
        self.domains.retain(|_, domain| matches!(domain, CatchAllState::Asked(_)));
        self.rates.forget_domains();
    }

    /// Returns whether the domain waits for the answer to its catch-all question.
    pub(super) fn is_asked(&self, domain: u32) -> bool {
        matches!(self.domains.get(&domain), Some(CatchAllState::Asked(_)))
    }

    /// Returns the most recipients of a transaction and the most transactions of a connection that the server accepts,
    /// as observed.
    pub(super) fn observed_limits(&self) -> (Option<u32>, Option<u32>) {
        (self.max_recipients, self.max_transactions)
    }

    /// Records that the server accepts at most `most` recipients in a transaction.
    pub(super) fn limit_recipients(&mut self, most: u32) {
        self.max_recipients = Some(self.max_recipients.map_or(most, |known| known.min(most)));
    }

    /// Records that the server accepts at most `most` transactions on a connection.
    pub(super) fn limit_transactions(&mut self, most: u32) {
        self.max_transactions = Some(self.max_transactions.map_or(most, |known| known.min(most)));
    }

    /// Returns whether a second EHLO can serve as a fence.
    pub(super) fn proves_by_greeting(&self) -> bool {
        self.proves_by_greeting
    }

    /// Records that the server did not answer a second EHLO as a fence.
    pub(super) fn record_greeting_failed(&mut self) {
        self.proves_by_greeting = false;
    }

    /// Returns whether the server refuses RSET as unknown.
    pub(super) fn refuses_rset(&self) -> bool {
        self.refuses_rset
    }

    /// Records that the server refuses RSET as unknown.
    pub(super) fn record_rset_refused(&mut self) {
        self.refuses_rset = true;
    }

    /// Returns whether QUIT is sent alone.
    pub(super) fn sends_quit_alone(&self) -> bool {
        self.sends_quit_alone
    }

    /// Records that the server did not answer QUIT correctly behind a last window.
    pub(super) fn record_quit_failed(&mut self) {
        self.sends_quit_alone = true;
    }

    /// Returns whether connections use IPv4 only.
    pub(super) fn is_ipv4_only(&self) -> bool {
        self.ipv4_only
    }

    /// Uses IPv4 only from now on. Returns false if that is impossible, as from an IPv6 address in `bind`.
    pub(super) fn use_ipv4(&mut self, bind: Option<IpAddr>) -> bool {
        self.ipv4_only |= has_ipv4(&self.exchangers, bind);
        self.ipv4_only
    }

    /// Returns the exchangers, the most preferred first.
    pub(super) fn exchangers(&self) -> &Arc<Exchangers> {
        &self.exchangers
    }

    /// Returns the exchanger that answered last, or else the most preferred one.
    pub(super) fn asked_host(&self) -> Option<&Arc<str>> {
        self.answering.as_ref().or_else(|| self.preferred())
    }

    /// Returns the order in which to try the exchangers: by preference, but those that failed lately come last.
    ///
    /// While one exchanger answers, no other is asked at the same time, since backups often accept every recipient.
    pub(super) fn exchanger_order(&self, now: Instant) -> Vec<usize> {
        let only = self.answering.as_ref().filter(|_| self.live > 0);
        let hosts = self.exchangers.iter().map(|exchanger| &exchanger.host).enumerate();
        let mut order: Vec<_> = hosts.filter(|(_, host)| only.is_none_or(|only| only == *host)).collect();
        order.sort_by_key(|(_, host)| self.failures.get(*host).is_some_and(|until| now < *until));
        order.into_iter().map(|(at, _)| at).collect()
    }

    /// Returns the connections that are open.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Returns the connections that are open or being opened.
    pub(super) fn connections(&self) -> u32 {
        self.live + self.connecting
    }

    /// Returns whether a connection is being opened.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting > 0
    }

    /// Records that a connection is being opened.
    pub(super) fn record_opening(&mut self) {
        self.connecting += 1;
    }

    /// Records that a connection to `host` is open. Returns `None` if another exchanger is being asked, beside which
    /// this one must not be used. Returns the accepted addresses as [`set_answering`](Self::set_answering) does.
    pub(super) fn record_connected(&mut self, host: &Arc<str>) -> Option<Vec<Accepted>> {
        if self.live > 0 && self.answering.as_ref() != Some(host) {
            return None;
        }
        self.connecting = self.connecting.saturating_sub(1);
        self.live += 1;
        self.health.record_opened(self.live);
        (self.paused, self.unreached) = (None, None);
        Some(self.set_answering(host))
    }

    /// Records that a connection is closed, or could not be opened.
    pub(super) fn record_closed(&mut self, was_live: bool) {
        match was_live {
            true => self.live = self.live.saturating_sub(1),
            false => self.connecting = self.connecting.saturating_sub(1),
        }
    }

    /// Sets the number of open connections.
    #[cfg(test)]
    pub(super) fn set_live(&mut self, live: u32) {
        self.live = live;
    }

    /// Wakes an idle connection. Returns true if the MX set has none and has to join the queue of those that need a
    /// connection.
    #[must_use]
    pub(super) fn wake(&mut self) -> bool {
        if self.live > 0 {
            self.wake_one();
            return false;
        }
        self.connecting == 0 && !mem::replace(&mut self.is_queued, true)
    }

    /// Records whether it is in the queue of MX sets that need a connection.
    pub(super) fn set_queued(&mut self, is_queued: bool) {
        self.is_queued = is_queued;
    }

    /// Wakes one idle connection.
    pub(super) fn wake_one(&self) {
        self.wake.notify_one();
    }

    /// Wakes all idle connections.
    pub(super) fn wake_all(&self) {
        self.wake.notify_waiters();
    }

    /// Returns what wakes an idle connection.
    pub(super) fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Returns the lag of the exchangers behind the least rate of answers.
    pub(super) fn lag(&self) -> &SharedLag {
        &self.lag
    }

    /// Forgets the lag before new questions arrive at an idle MX set. An old lag says nothing of the present.
    pub(super) fn forget_old_lag(&mut self) {
        if self.is_empty() && self.connections() == 0 {
            self.lag.lock().reset(Instant::now());
        }
    }

    /// Records that no exchanger could be connected to.
    pub(super) fn record_not_reached(&mut self, sub_status: SubStatus, now: Instant) {
        self.unreached = Some((now, sub_status));
    }

    /// Returns whether the last attempt to connect failed in the same way, so that the failure is no accident.
    pub(super) fn failed_the_same(&self, sub_status: SubStatus, now: Instant) -> bool {
        self.unreached.is_some_and(|(at, before)| before == sub_status && now < at + SAME_FAILURE_WITHIN)
    }

    /// Records that an exchanger could not be reached.
    pub(super) fn record_failure(&mut self, host: &Arc<str>, now: Instant) {
        self.failures.insert(Arc::clone(host), now + FAILURE_REMEMBERED);
    }

    /// Returns the most preferred exchanger.
    pub(super) fn preferred(&self) -> Option<&Arc<str>> {
        self.exchangers.first().map(|exchanger| &exchanger.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Endpoint;

    #[test]
    fn only_the_same_recent_failure_counts_as_the_same() {
        let (mut mx_set, now) = (MxSet::new(Vec::new()), Instant::now());
        let (timeout, refused) = (SubStatus::TimeoutExceeded, SubStatus::FailedSmtpConnection);
        assert!(!mx_set.failed_the_same(timeout, now));
        mx_set.record_not_reached(timeout, now);
        assert!(mx_set.failed_the_same(timeout, now + Duration::from_secs(3600)));
        assert!(!mx_set.failed_the_same(refused, now), "another failure");
        assert!(!mx_set.failed_the_same(timeout, now + SAME_FAILURE_WITHIN), "long ago");
        assert!(mx_set.record_connected(&"mx1".into()).is_some());
        assert!(!mx_set.failed_the_same(timeout, now), "it was reached in between");
    }

    #[test]
    fn a_failed_exchanger_is_tried_last_and_no_backup_is_tried_beside_one_that_answers() {
        let exchanger = |host: &str| Endpoint { host: host.into(), addrs: Vec::new() };
        let mut mx_set = MxSet::new(vec![exchanger("mx1"), exchanger("mx2"), exchanger("mx3")]);
        let now = Instant::now();
        assert_eq!(mx_set.exchanger_order(now), [0, 1, 2]);
        mx_set.record_failure(&"mx1".into(), now);
        assert_eq!(mx_set.exchanger_order(now), [1, 2, 0]);
        assert_eq!(mx_set.exchanger_order(now + FAILURE_REMEMBERED), [0, 1, 2]);
        mx_set.set_answering(&"mx2".into());
        mx_set.set_live(1);
        assert_eq!(mx_set.exchanger_order(now), [1]);
        mx_set.set_live(0);
        mx_set.set_answering(&"mx1".into());
        assert_eq!(mx_set.exchanger_order(now), [0, 1, 2], "the preferred exchanger is back");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_lag_of_an_idle_host_is_forgotten() {
        let minute = Duration::from_secs(60);
        let mut mx_set = MxSet::new(Vec::new());
        mx_set.lag.lock().record_wait(Instant::now());
        mx_set.set_live(1);
        tokio::time::advance(minute).await;
        mx_set.forget_old_lag();
        assert_eq!(mx_set.lag.lock().at(Instant::now()), minute);
        mx_set.set_live(0);
        mx_set.lag.lock().record_wait_over(Instant::now());
        mx_set.forget_old_lag();
        assert_eq!(mx_set.lag.lock().at(Instant::now()), Duration::ZERO);
    }
}
