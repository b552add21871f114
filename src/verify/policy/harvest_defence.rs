//! Detects defences against directory harvesting: whether a server is honest when it says "no such user".
//!
//! After a few unknown recipients, some servers reply `550 5.1.1 User unknown` to every RCPT: on that connection, or to
//! our IP address for some time. The text is that of an honest refusal. Only a *control* shows the difference: an
//! address that the server accepted before is asked about again. If the server refuses it, the refusals since the last
//! acceptance are void.
//!
//! A control costs one recipient. Each connection has at most one, and it is asked:
//!
//! | when | because |
//! |---|---|
//! | the refusals since the last acceptance are an improbable run ([`CONTROL_RUN`]) | the server may refuse every recipient |
//! | at the end of a connection, if the run passes a lower threshold ([`LAST_CONTROL_RUN`]) | no acceptance will follow |
//! | at the end of a connection with many refusals, until enough such connections proved honest | the server may refuse every recipient after many refusals |
//! | before anything else, once a defence was detected | it may still be active |
//! | at the end of each connection from then on | it may become active again |
//!
//! A connection without a control, because no recipient had been accepted before its end, is not trusted either. A
//! sample of its refusals is asked again. If the sample does not prove the server honest, all others are asked again
//! too.
//!
//! This file has no I/O: `lane/control.rs` puts controls into windows.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::refusal_run::{RefusalRun, Threshold};
use crate::{
    proto::Mailbox,
    verify::{CatchAll, Status, outcome::Outcome},
};

/// The run of refusals that makes a control due while there is more to ask.
const CONTROL_RUN: Threshold = Threshold { probability: 1e-4, length: 8 };
/// The run of refusals that makes a control due at the end, where it costs a round trip. A defence begins with a true
/// refusal, so a single refusal is true.
const LAST_CONTROL_RUN: Threshold = Threshold { probability: 0.5, length: 2 };
/// Refusals of a server before a defence is expected.
const MIN_REFUSALS: u32 = 3;
/// Connections that must accept a recipient after their maximum of refusals, or more connections after fewer. From then
/// on, an acceptance on one connection proves the refusals on others.
const HONEST_CONNECTIONS: u32 = 5;
/// Mailboxes that are remembered, each of another domain. One of them is often of the domain in question.
const MAX_CONTROLS: usize = 8;
/// After so many acceptances, the latest mailbox replaces the one that is remembered for its domain.
const RENEWAL_ACCEPTANCES: u32 = 64;

/// The refusals on one connection, from the replies read so far, even those not committed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::verify) struct ConnectionRefusals {
    /// The number of the connection among those to its MX set.
    pub(in crate::verify) number: u32,
    refused: u32,
    /// The refusals since its last acceptance, on top of the history when it was opened.
    run: RefusalRun,
    /// The same, from committed replies only.
    settled: RefusalRun,
    /// The number of refusals that counts as many: half of the maximum.
    many: u32,
    /// Whether the connection had its control.
    pub(in crate::verify) controlled: bool,
    /// The refusals before its last acceptance.
    before: u32,
    /// Those of them that count for all connections.
    counted: u32,
}

impl ConnectionRefusals {
    /// Records `count` answers to RCPT, about recipients of the list or `random` ones.
    pub(in crate::verify) fn record_answers(&mut self, status: Status, count: usize, random: bool) {
        match status {
            Status::Deliverable => {
                self.run.record_acceptance();
                self.before = self.refused;
            }
            Status::Undeliverable => {
                self.refused = self.refused.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                if !random {
                    (0..count).for_each(|_| self.run.record_refusal());
                }
            }
            _ => {}
        }
    }
}

/// The connection of a refusal, and whether the refusal is doubtful.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::verify) struct RefusalOrigin {
    /// The number of the connection among those to its exchangers; 0 for none.
    pub(in crate::verify) connection: u32,
    /// Whether a control may follow without a further question.
    pub(in crate::verify) doubtful: bool,
}

/// Which of the unproved refusals were asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AskedAgain {
    #[default]
    None,
    /// A sample, when the number of proved refusals was this.
    Sample(u32),
    All,
}

/// The answers of an MX set that show whether it is honest.
#[derive(Default)]
pub(in crate::verify) struct HarvestDetector {
    run: RefusalRun,
    refusals: u32,
    /// The domain of the last refusal.
    refused: Option<u32>,
    /// Accepted mailboxes, the latest first, each of another domain.
    controls: VecDeque<(u32, Mailbox)>,
    /// A mailbox of a domain that accepts, or may accept, every local part. It is used if there is no better one. Its
    /// refusal shows a defence as well, but its acceptance proves less.
    fallback: Option<(u32, Mailbox)>,
    acceptances: u32,
    /// Whether a control waits for its answer.
    asking: bool,
    /// Which of the unproved refusals were asked again.
    asked_again: AskedAgain,
    /// Whether the last control got an inconclusive answer, and no refusal came since.
    inconclusive: bool,
    /// The outcome that replaces refusals since a control was refused, and the time of that.
    defence: Option<(Outcome, Instant)>,
    /// How often a defence was detected.
    defences: u32,
    /// The refusals on connections with many of them that accepted a recipient later.
    honest: u32,
    /// The most refusals of a connection.
    rejections: u32,
    connections: u32,
}

impl HarvestDetector {
    /// Records a new connection with at most `rejections` refusals.
    pub(in crate::verify) fn record_connection(&mut self, rejections: u32) -> ConnectionRefusals {
        self.connections = self.connections.wrapping_add(1);
        let mut run = self.run;
        run.end_as_explained();
        self.rejections = rejections;
        let many = rejections.div_ceil(2).max(1);
        ConnectionRefusals {
            number: self.connections,
            run,
            settled: run,
            many,
            ..ConnectionRefusals::default()
        }
    }

    /// Resets what was learnt from another exchanger of the set.
    pub(in crate::verify) fn exchanger_changed(&mut self) {
        let Self { defence, defences, connections, .. } = std::mem::take(self);
        *self = Self { defence, defences, connections, ..Self::default() };
    }

    /// Returns the most refusals of a connection: half as many after each detected defence, since the server may count
    /// them.
    pub(in crate::verify) fn rejections(&self, limit: u32) -> u32 {
        (limit >> self.defences.min(31)).max(1)
    }

    /// Returns whether an acceptance on one connection proves refusals on others.
    pub(in crate::verify) fn trusts_connections(&self) -> bool {
        self.honest >= self.rejections.saturating_mul(HONEST_CONNECTIONS)
    }

    /// Records that a recipient was accepted whose window was sent at `asked`.
    pub(in crate::verify) fn record_acceptance(&mut self, on: &mut ConnectionRefusals, asked: Instant) {
        self.run.record_acceptance();
        on.settled.record_acceptance();
        if on.before >= on.many {
            self.honest = self.honest.saturating_add(on.before.saturating_sub(on.counted));
            on.counted = on.before;
        }
        if self.defence.as_ref().is_some_and(|(_, since)| *since < asked) {
            self.defence = None;
        }
    }

    /// Records that a recipient of the list, or a random one, was refused as unknown.
    pub(in crate::verify) fn record_refusal(
        &mut self,
        on: &mut ConnectionRefusals,
        domain: u32,
        random: bool,
    ) {
        self.refusals = self.refusals.saturating_add(1);
        if !random {
            self.run.record_refusal();
            on.settled.record_refusal();
            (self.refused, self.inconclusive) = (Some(domain), false);
        }
    }

    /// Remembers an accepted mailbox. `catch_all` tells whether its domain accepts every local part, if that is known.
    pub(in crate::verify) fn add_control(
        &mut self,
        domain: u32,
        mailbox: Mailbox<&str>,
        catch_all: Option<CatchAll>,
    ) {
        if mailbox.needs_smtputf8() || catch_all == Some(CatchAll::Inconclusive) {
            return;
        }
        if matches!(catch_all, None | Some(CatchAll::Accepted)) {
            self.fallback.get_or_insert_with(|| (domain, mailbox.shared()));
            return;
        }
        self.acceptances = self.acceptances.wrapping_add(1);
        let known = self.controls.iter().position(|(known, _)| *known == domain);
        if known.is_some() && !self.acceptances.is_multiple_of(RENEWAL_ACCEPTANCES) {
            return;
        }
        if let Some(known) = known {
            self.controls.remove(known);
        }
        self.controls.truncate(MAX_CONTROLS - 1);
        self.controls.push_front((domain, mailbox.shared()));
    }

    /// Returns whether a control is due on the connection.
    pub(in crate::verify) fn is_control_due(&self, on: &ConnectionRefusals) -> bool {
        !on.controlled
            && self.can_ask()
            && (self.run.is_improbable(CONTROL_RUN) || on.run.is_improbable(CONTROL_RUN))
    }

    /// Returns whether a control is due because there is no more to ask on the connection, or on any (`at_rest`).
    pub(in crate::verify) fn is_last_control_due(
        &self,
        on: Option<&ConnectionRefusals>,
        at_rest: bool,
    ) -> bool {
        let refusals = self.refusals.max(on.map_or(0, |on| on.refused));
        let due = |run: &RefusalRun| self.is_due(run, refusals);
        let tail = on.is_some_and(|on| (at_rest || !self.trusts_connections()) && due(&on.run));
        let may = on.is_none_or(|on| !on.controlled) && !self.inconclusive && self.can_ask();
        may && (tail || at_rest && due(&self.run))
    }

    fn is_due(&self, run: &RefusalRun, refusals: u32) -> bool {
        match self.was_detected() {
            true => run.len() > 0,
            false => refusals >= MIN_REFUSALS && run.is_improbable(LAST_CONTROL_RUN),
        }
    }

    /// Returns the origin of the next answer of a connection, in case that it is a refusal.
    pub(in crate::verify) fn origin(&self, on: &ConnectionRefusals) -> RefusalOrigin {
        let refusals = self.refusals.saturating_add(1);
        let doubtful = [self.run, on.settled].into_iter().any(|mut run| {
            run.record_refusal();
            self.is_due(&run, refusals)
        });
        // Before the first acceptance there is no control, and afterwards it may be too late for one.
        let doubtful = doubtful || refusals >= MIN_REFUSALS && !self.run.has_acceptances();
        RefusalOrigin { connection: on.number, doubtful }
    }

    /// Returns how many of the unproved refusals to ask again: samples, as long as each proves more refusals, until the
    /// others are proved too. If a sample proves none, all are asked again, once.
    pub(in crate::verify) fn ask_again(&mut self) -> usize {
        if self.asked_again == AskedAgain::All || !self.has_control() || self.trusts_connections() {
            return 0;
        }
        if matches!(self.asked_again, AskedAgain::Sample(honest) if self.honest <= honest) {
            self.asked_again = AskedAgain::All;
            return usize::MAX;
        }
        self.asked_again = AskedAgain::Sample(self.honest);
        // Twice the number needed: a connection beside one that waits for its control has none, and proves nothing.
        let enough = self.rejections.saturating_mul(2 * HONEST_CONNECTIONS);
        usize::try_from(enough).unwrap_or(usize::MAX)
    }

    /// Returns whether so many refusals at the end of a connection are an improbable run.
    pub(in crate::verify) fn is_improbable(&self, refusals: usize) -> bool {
        let mut run = self.run;
        run.end_as_explained();
        (0..refusals).for_each(|_| run.record_refusal());
        self.refusals >= MIN_REFUSALS && run.is_improbable(LAST_CONTROL_RUN)
    }

    /// Returns whether a control is due in the last window of the connection.
    pub(in crate::verify) fn is_sample_due(&self, on: &ConnectionRefusals) -> bool {
        let unknown = !self.trusts_connections() && on.refused >= on.many;
        (unknown || self.was_detected()) && !on.controlled && self.can_ask()
    }

    fn has_control(&self) -> bool {
        !self.controls.is_empty() || self.fallback.is_some()
    }

    fn can_ask(&self) -> bool {
        !self.asking && self.has_control()
    }

    /// Returns whether a control must be asked before anything else.
    pub(in crate::verify) fn needs_control(&self) -> bool {
        self.defence.is_some() && (self.asking || self.has_control())
    }

    /// Takes a mailbox for a control: of the domain of the last refusal if possible, or else the latest.
    pub(in crate::verify) fn take_control(&mut self) -> Option<(u32, Mailbox)> {
        let at = self.controls.iter().position(|(domain, _)| Some(*domain) == self.refused).unwrap_or(0);
        let control = self.controls.get(at).or(self.fallback.as_ref()).cloned()?;
        self.asking = true;
        Some(control)
    }

    /// Returns whether a control waits for its answer.
    pub(in crate::verify) fn is_control_pending(&self) -> bool {
        self.asking
    }

    /// Records that a control was accepted. The caller records it as an acceptance too.
    pub(in crate::verify) fn record_control_accepted(&mut self) {
        self.asking = false;
    }

    /// Records that a control was refused as unknown. Returns true if no defence was active.
    pub(in crate::verify) fn record_control_refused(
        &mut self,
        domain: u32,
        outcome: &Outcome,
        at: Instant,
    ) -> bool {
        self.asking = false;
        self.run.forget();
        self.honest = 0;
        // The mailbox may be deleted. The next control uses another one, if there is one.
        let known = self.controls.iter().position(|(known, _)| *known == domain);
        if let Some(control) = known.and_then(|at| self.controls.remove(at)) {
            self.controls.push_back(control);
        }
        self.refused = None;
        let first = self.defence.is_none();
        self.defences = self.defences.saturating_add(u32::from(first));
        self.defence = Some((outcome.clone(), at));
        first
    }

    /// Records that a control got no conclusive answer.
    pub(in crate::verify) fn record_control_lost(&mut self) {
        (self.asking, self.inconclusive) = (false, true);
    }

    /// Records that a control was not asked.
    pub(in crate::verify) fn withdraw_control(&mut self) {
        self.asking = false;
    }

    /// Returns the outcome that replaces refusals while a defence is active.
    pub(in crate::verify) fn active_defence(&self) -> Option<&Outcome> {
        self.defence.as_ref().map(|(outcome, _)| outcome)
    }

    /// Returns whether a defence was ever detected.
    pub(in crate::verify) fn was_detected(&self) -> bool {
        self.defences > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: u32 = 9;

    fn harvest() -> (HarvestDetector, ConnectionRefusals) {
        let mut harvest = HarvestDetector::default();
        let on = harvest.record_connection(LIMIT);
        (harvest, on)
    }

    fn mailbox(domain: u32) -> Mailbox {
        Mailbox::parse(&format!("ann@d{domain}.example.com")).unwrap()
    }

    fn accept(harvest: &mut HarvestDetector, on: &mut ConnectionRefusals, count: u32) {
        on.record_answers(Status::Deliverable, 1, false);
        (0..count).for_each(|_| harvest.record_acceptance(on, Instant::now()));
        harvest.add_control(1, mailbox(1).borrowed(), Some(CatchAll::Refused));
    }

    fn refuse(harvest: &mut HarvestDetector, on: &mut ConnectionRefusals, count: u32) {
        on.record_answers(Status::Undeliverable, count as usize, false);
        (0..count).for_each(|_| harvest.record_refusal(on, 1, false));
    }

    #[test]
    fn an_improbable_run_asks_one_control_on_a_connection() {
        let (mut harvest, mut on) = harvest();
        accept(&mut harvest, &mut on, 50);
        refuse(&mut harvest, &mut on, 7);
        assert!(!harvest.is_control_due(&on));
        refuse(&mut harvest, &mut on, 1);
        assert!(harvest.is_control_due(&on));
        assert_eq!(harvest.take_control(), Some((1, mailbox(1))));
        assert!(!harvest.is_control_due(&on), "it is being asked");
        harvest.record_control_lost();
        on.controlled = true;
        assert!(!harvest.is_control_due(&on), "one per connection");
        let mut next = harvest.record_connection(LIMIT);
        assert!(harvest.is_control_due(&next));
        harvest.take_control();
        harvest.record_control_accepted();
        harvest.record_acceptance(&mut next, Instant::now());
        assert!(!harvest.is_control_due(&next), "the run is over");
    }

    #[test]
    fn random_mailboxes_are_no_run() {
        let (mut harvest, mut on) = harvest();
        accept(&mut harvest, &mut on, 50);
        on.record_answers(Status::Undeliverable, 20, true);
        (0..20).for_each(|_| harvest.record_refusal(&mut on, 1, true));
        assert!(!harvest.is_control_due(&on) && !harvest.is_last_control_due(Some(&on), true));
    }

    #[test]
    fn without_an_acceptance_there_is_no_control() {
        let (mut harvest, mut on) = harvest();
        refuse(&mut harvest, &mut on, 100);
        assert!(!harvest.is_control_due(&on) && !harvest.is_sample_due(&on));
        assert!(!harvest.is_last_control_due(Some(&on), true));
        assert_eq!(harvest.take_control(), None);
    }

    #[test]
    fn two_refusals_in_a_run_make_a_control_due_at_the_end() {
        let (mut harvest, mut on) = harvest();
        refuse(&mut harvest, &mut on, 1);
        accept(&mut harvest, &mut on, 5);
        refuse(&mut harvest, &mut on, 1);
        assert!(!harvest.is_last_control_due(Some(&on), true), "a defence begins with one true refusal");
        refuse(&mut harvest, &mut on, 1);
        assert!(harvest.is_last_control_due(Some(&on), true) && harvest.is_last_control_due(None, true));
        // Another connection proves nothing about this one.
        let mut other = harvest.record_connection(LIMIT);
        harvest.record_acceptance(&mut other, Instant::now());
        assert!(harvest.is_last_control_due(Some(&on), false) && !harvest.is_last_control_due(None, true));
    }

    #[test]
    fn connections_that_accept_after_their_refusals_come_to_be_trusted() {
        let (mut harvest, mut on) = harvest();
        accept(&mut harvest, &mut on, 1);
        for _ in 0..HONEST_CONNECTIONS {
            on = harvest.record_connection(LIMIT);
            refuse(&mut harvest, &mut on, LIMIT / 2);
            assert!(!harvest.is_sample_due(&on), "few refusals");
            refuse(&mut harvest, &mut on, LIMIT - LIMIT / 2);
            assert!(harvest.is_sample_due(&on) && !harvest.trusts_connections());
            accept(&mut harvest, &mut on, 1);
        }
        assert!(harvest.trusts_connections() && !harvest.is_sample_due(&on));
        refuse(&mut harvest, &mut on, 3);
        assert!(!harvest.is_last_control_due(Some(&on), false), "the next connection proves it");
    }

    #[test]
    fn a_detection_lasts_until_an_acceptance_that_was_asked_later() {
        let (mut harvest, mut on) = harvest();
        let (now, defence) = (Instant::now(), Outcome::harvest_defence());
        let later = |seconds| now + Duration::from_secs(seconds);
        accept(&mut harvest, &mut on, 20);
        harvest.add_control(2, mailbox(2).borrowed(), Some(CatchAll::NotRun));
        refuse(&mut harvest, &mut on, 10);
        assert_eq!(harvest.take_control(), Some((1, mailbox(1))), "of the domain that refuses");
        assert!(harvest.record_control_refused(1, &defence, later(5)));
        assert!(harvest.needs_control() && harvest.was_detected() && harvest.active_defence().is_some());
        assert_eq!((harvest.rejections(LIMIT), harvest.rejections(1)), (LIMIT / 2, 1));
        harvest.record_acceptance(&mut on, later(4));
        assert!(harvest.needs_control(), "asked before the defence");
        assert_eq!(harvest.take_control(), Some((2, mailbox(2))), "the other may be deleted");
        assert!(!harvest.record_control_refused(2, &defence, later(8)), "the same defence");
        assert_eq!(harvest.take_control(), Some((1, mailbox(1))));
        harvest.record_control_accepted();
        harvest.record_acceptance(&mut on, later(9));
        assert!(!harvest.needs_control() && harvest.was_detected());
    }

    #[test]
    fn another_exchanger_starts_without_history() {
        let (mut harvest, mut on) = harvest();
        accept(&mut harvest, &mut on, 50);
        refuse(&mut harvest, &mut on, 8);
        harvest.exchanger_changed();
        assert_eq!(harvest.take_control(), None);
        assert_eq!(harvest.record_connection(LIMIT).number, 2);
    }

    #[test]
    fn samples_are_asked_again_as_long_as_they_prove_more() {
        let (mut harvest, mut on) = harvest();
        assert_eq!(harvest.ask_again(), 0, "without a control");
        accept(&mut harvest, &mut on, 1);
        let sample = 2 * (LIMIT * HONEST_CONNECTIONS) as usize;
        for _ in 0..HONEST_CONNECTIONS {
            assert_eq!(harvest.ask_again(), sample);
            on = harvest.record_connection(LIMIT);
            refuse(&mut harvest, &mut on, LIMIT);
            accept(&mut harvest, &mut on, 1);
        }
        assert_eq!(harvest.ask_again(), 0, "the connections prove the others");
        harvest.honest = 0;
        harvest.asked_again = AskedAgain::Sample(0);
        assert_eq!((harvest.ask_again(), harvest.ask_again()), (usize::MAX, 0), "all of them, once");
    }

    #[test]
    fn a_domain_that_accepts_anything_is_the_last_choice() {
        let mut harvest = HarvestDetector::default();
        harvest.add_control(7, mailbox(7).borrowed(), None);
        harvest.add_control(8, mailbox(8).borrowed(), Some(CatchAll::Accepted));
        assert_eq!(harvest.take_control(), Some((7, mailbox(7))));
        (0..20).for_each(|domain| {
            harvest.add_control(domain, mailbox(domain).borrowed(), Some(CatchAll::Refused))
        });
        assert_eq!(harvest.take_control(), Some((19, mailbox(19))), "the latest");
        assert_eq!(harvest.controls.len(), MAX_CONTROLS);
    }
}
