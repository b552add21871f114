//! The addresses of one set of mail exchangers: those that wait, and what is known of their domains there.
//!
//! A lane has one MX set where it is that of a set of exchangers, and as many as there are where it is that of a provider.

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use foldhash::HashMap;
use tokio::{sync::Notify, time::Instant};

use super::{
    address_family::has_ipv4, catch_all::CatchAllState, lag::SharedLag, question::Question, queue::Queue,
};
use crate::verify::{
    Record, SubStatus,
    dns::resolver::Exchangers,
    item::Item,
    outcome::Outcome,
    policy::{
        harvest_defence::HarvestDetector,
        rejection_rate::{ExpectedRejections, RejectionRates, RemainingBudget},
    },
};

/// Within this time a failure to connect is the same trouble as the one before; the usual schedule has an hour's pause.
const SAME_FAILURE_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// For how long an exchanger that could not be reached is tried last.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(120);

/// An address that was accepted, and the record it will have once it is known what that is worth.
pub(super) type Accepted = (Item, Record);

/// See the [module](self).
pub(super) struct MxSet {
    pub(super) exchangers: Arc<Exchangers>,
    pub(super) queue: Queue,
    pub(super) domains: HashMap<u32, CatchAllState<Accepted>>,
    pub(super) rates: RejectionRates,
    /// Whether its refusals are true.
    pub(super) harvest: HarvestDetector,
    /// Recipients that the server takes in a transaction, as far as it has shown.
    pub(super) recipients: Option<u32>,
    /// Transactions that the server takes on a connection, as far as it has shown.
    pub(super) transactions: Option<u32>,
    /// Whether a second EHLO has not failed to prove that replies are in step.
    pub(super) proves_by_greeting: bool,
    /// Whether the server does not know RSET.
    pub(super) refuses_rset: bool,
    /// Two for each connection whose replies were out of step, less one for each that ended as it should.
    pub(super) out_of_step: u32,
    /// Whether it is asked over IPv4 alone: it refused IPv6.
    pub(super) ipv4_only: bool,
    /// Whether QUIT is sent by itself: behind a last window it was not answered as it should be.
    pub(super) sends_quit_alone: bool,
    /// Who answered last; what is known of domains is known by its answers.
    pub(super) answering: Option<Arc<str>>,
    /// Exchangers that could not be reached, and until when that is remembered.
    failures: HashMap<Arc<str>, Instant>,
    /// Connections that ask.
    pub(super) live: u32,
    /// Connections on their way.
    pub(super) connecting: u32,
    /// Connections that the server has borne at once, since it last made trouble.
    pub(super) proven_connections: u32,
    /// Connections in a row that broke without an answer.
    pub(super) fruitless: u32,
    /// Connections in a row that broke after few answers.
    pub(super) unproductive: u32,
    /// Connections in a row that were closed with blame on us, and without an answer.
    pub(super) blamed_closes: u32,
    /// No way to the servers: until when, and why.
    pub(super) paused: Option<(Instant, Outcome)>,
    /// When no server could be connected to the last time, and what became of it.
    unreached: Option<(Instant, SubStatus)>,
    /// No new connection before this.
    pub(super) not_before: Option<Instant>,
    /// Whether it stands in the line of those that need a connection.
    pub(super) is_queued: bool,
    /// Told when there may be something to ask.
    pub(super) wake: Arc<Notify>,
    /// How far the exchangers lag behind the floor.
    pub(super) lag: SharedLag,
}

impl MxSet {
    pub(super) fn new(exchangers: Exchangers) -> Self {
        Self {
            exchangers: exchangers.into(),
            queue: Queue::default(),
            domains: HashMap::default(),
            rates: RejectionRates::default(),
            harvest: HarvestDetector::default(),
            recipients: None,
            transactions: None,
            proves_by_greeting: true,
            refuses_rset: false,
            out_of_step: 0,
            ipv4_only: false,
            sends_quit_alone: false,
            answering: None,
            failures: HashMap::default(),
            live: 0,
            connecting: 0,
            proven_connections: 0,
            fruitless: 0,
            unproductive: 0,
            blamed_closes: 0,
            paused: None,
            unreached: None,
            not_before: None,
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

    /// Whether the next question is not about an address of the list.
    pub(super) fn next_is_catch_all(&self) -> bool {
        matches!(self.queue.next().next(), Some(Question::CatchAll { .. }))
    }

    /// Tells whether the next question is a control.
    pub(super) fn next_is_control(&self) -> bool {
        matches!(self.queue.next().next(), Some(Question::Control { .. }))
    }

    /// Tells whether nothing may be asked until a control has its answer.
    pub(super) fn waits_for_control(&self) -> bool {
        self.harvest.needs_control() && self.harvest.is_control_pending()
    }

    /// Tells whether anybody of another domain waits.
    pub(super) fn has_other_domain(&self, domain: u32) -> bool {
        self.queue.next().any(|question| question.domain() != domain)
    }

    /// The risk of as many of those that wait, at most `max`, as may be asked while so many rejections are left.
    pub(super) fn max_window(&self, budget: RemainingBudget, max: u32) -> ExpectedRejections {
        self.rates.max_window(budget, self.queue.next().take(max as usize).map(Question::cohort))
    }

    /// Why the exchangers are left alone, if they are.
    pub(super) fn pause_reason(&self, now: Instant) -> Option<&Outcome> {
        self.paused.as_ref().filter(|(until, _)| now < *until).map(|(_, outcome)| outcome)
    }

    /// Records who answers from now on, and gives those up whose domain was asked about elsewhere: what one
    /// exchanger refuses, another of the same domain may accept whatever it is, as backups do.
    pub(super) fn set_answering(&mut self, host: &Arc<str>) -> Vec<Accepted> {
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

    /// Whether it is being asked whether any domain accepts anything.
    pub(super) fn asks_catch_all(&self) -> bool {
        self.domains.values().any(|domain| matches!(domain, CatchAllState::Asked(_)))
    }

    /// Forgets what is known of domains, but for those that are being asked about.
    pub(super) fn forget_domains(&mut self) {
        self.domains.retain(|_, domain| matches!(domain, CatchAllState::Asked(_)));
        self.rates.forget_domains();
    }

    /// Whether it is being asked whether a domain accepts anything.
    pub(super) fn is_asked(&self, domain: u32) -> bool {
        matches!(self.domains.get(&domain), Some(CatchAllState::Asked(_)))
    }

    /// Asks over IPv4 alone from now on; false if there is no way, as from the local address `bind`.
    pub(super) fn use_ipv4(&mut self, bind: Option<IpAddr>) -> bool {
        self.ipv4_only |= has_ipv4(&self.exchangers, bind);
        self.ipv4_only
    }

    /// In which order to try the exchangers: by preference, those last that failed a while ago. Where one of them answers,
    /// no other is asked beside it, since backups often accept anything.
    pub(super) fn exchanger_order(&self, now: Instant) -> Vec<usize> {
        let only = self.answering.as_ref().filter(|_| self.live > 0);
        let hosts = self.exchangers.iter().map(|exchanger| &exchanger.host).enumerate();
        let mut order: Vec<_> = hosts.filter(|(_, host)| only.is_none_or(|only| only == *host)).collect();
        order.sort_by_key(|(_, host)| self.failures.get(*host).is_some_and(|until| now < *until));
        order.into_iter().map(|(at, _)| at).collect()
    }

    /// Forgets how far the exchangers lag, before something to ask comes in while there is nothing: what was long ago says
    /// nothing of now.
    pub(super) fn forget_old_lag(&mut self) {
        if self.is_empty() && self.live + self.connecting == 0 {
            self.lag.lock().reset(Instant::now());
        }
    }

    /// Records a connection that is open.
    pub(super) fn record_reached(&mut self) {
        (self.paused, self.unreached) = (None, None);
    }

    /// Records that no exchanger could be connected to.
    pub(super) fn record_not_reached(&mut self, sub_status: SubStatus, now: Instant) {
        self.unreached = Some((now, sub_status));
    }

    /// Whether the same became of it the time before: then it is no accident.
    pub(super) fn failed_the_same(&self, sub_status: SubStatus, now: Instant) -> bool {
        self.unreached.is_some_and(|(at, before)| before == sub_status && now < at + SAME_FAILURE_WITHIN)
    }

    /// Records that an exchanger could not be reached.
    pub(super) fn record_failure(&mut self, host: &Arc<str>, now: Instant) {
        self.failures.insert(Arc::clone(host), now + FAILURE_REMEMBERED);
    }

    /// The most preferred exchanger.
    pub(super) fn preferred(&self) -> Option<&Arc<str>> {
        self.exchangers.first().map(|exchanger| &exchanger.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Endpoint;

    #[test]
    fn only_the_same_failure_not_long_ago_is_no_accident() {
        let (mut mx_set, now) = (MxSet::new(Vec::new()), Instant::now());
        let (timeout, refused) = (SubStatus::TimeoutExceeded, SubStatus::FailedSmtpConnection);
        assert!(!mx_set.failed_the_same(timeout, now));
        mx_set.record_not_reached(timeout, now);
        assert!(mx_set.failed_the_same(timeout, now + Duration::from_secs(3600)));
        assert!(!mx_set.failed_the_same(refused, now), "another trouble");
        assert!(!mx_set.failed_the_same(timeout, now + SAME_FAILURE_WITHIN), "long ago");
        mx_set.record_reached();
        assert!(!mx_set.failed_the_same(timeout, now), "it was well between");
    }

    #[test]
    fn an_exchanger_that_failed_is_tried_last_for_a_while_and_a_backup_never_beside_one_that_answers() {
        let exchanger = |host: &str| Endpoint { host: host.into(), addrs: Vec::new() };
        let mut mx_set = MxSet::new(vec![exchanger("mx1"), exchanger("mx2"), exchanger("mx3")]);
        let now = Instant::now();
        assert_eq!(mx_set.exchanger_order(now), [0, 1, 2]);
        mx_set.record_failure(&"mx1".into(), now);
        assert_eq!(mx_set.exchanger_order(now), [1, 2, 0]);
        assert_eq!(mx_set.exchanger_order(now + FAILURE_REMEMBERED), [0, 1, 2]);
        mx_set.set_answering(&"mx2".into());
        mx_set.live = 1;
        assert_eq!(mx_set.exchanger_order(now), [1]);
        mx_set.live = 0;
        mx_set.set_answering(&"mx1".into());
        assert_eq!(mx_set.exchanger_order(now), [0, 1, 2], "it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn the_lag_of_a_host_with_nothing_to_ask_is_forgotten_and_that_of_one_at_work_is_not() {
        let minute = Duration::from_secs(60);
        let mut mx_set = MxSet::new(Vec::new());
        mx_set.lag.lock().record_wait(Instant::now());
        mx_set.live = 1;
        tokio::time::advance(minute).await;
        mx_set.forget_old_lag();
        assert_eq!(mx_set.lag.lock().at(Instant::now()), minute);
        mx_set.live = 0;
        mx_set.lag.lock().record_wait_over(Instant::now());
        mx_set.forget_old_lag();
        assert_eq!(mx_set.lag.lock().at(Instant::now()), Duration::ZERO);
    }
}
