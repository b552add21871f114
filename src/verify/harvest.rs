//! Whether a server tells the truth when it says "no such user": defences against directory harvesting.
//!
//! After a few recipients that do not exist, some servers say `550 5.1.1 User unknown` to everybody: on that connection,
//! or to our IP address for some time. Their words are those of an honest refusal. Only a *control* tells: an address
//! that the server accepted before is asked about again. If it does not exist any more, the refusals since the last
//! acceptance are void.
//!
//! A control costs one recipient. There is at most one on a connection, and it is asked:
//!
//! | when | because |
//! |---|---|
//! | the refusals since the last acceptance are an improbable run ([`RUN`]) | the server may refuse all of us |
//! | no more is to be asked on the connection, and they are no probable run ([`LAST_RUN`]) | no acceptance will follow |
//! | at the end of a connection that had many refusals, until three such connections were honest | the server may refuse everybody on connections with many refusals |
//! | before anything else, after the server was found to lie | it may still do so |
//!
//! This file has no I/O: `control` puts the questions into windows.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{
    outcome::Outcome,
    refusal_run::{RefusalRun, Threshold},
};
use crate::proto::Mailbox;

/// A run that is worth a control while there is more to ask.
const RUN: Threshold = Threshold { probability: 1e-4, length: 8 };
/// A run that is worth a control, and a round trip for it, once there is no more to ask. A defence begins with a true
/// refusal, so one refusal alone is true.
const LAST_RUN: Threshold = Threshold { probability: 0.5, length: 2 };
/// Refusals by a server before a defence is to be expected.
const FEW: u32 = 3;
/// Connections that accept a recipient after many refusals, before refusals of all connections are taken together.
const HONEST_CONNECTIONS: u32 = 3;
/// Mailboxes that are remembered, each of another domain: enough for one to be of the domain that is asked about.
const MAX_CONTROLS: usize = 8;
/// So many acceptances later, the last one replaces the mailbox that is remembered for its domain.
const RENEWAL: u32 = 64;

/// What a connection needs to know of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnConnection {
    /// Its number among those to its exchangers.
    pub(super) number: u32,
    refused: u32,
    /// Its own refusals since its last acceptance, after the history that there was when it was opened.
    run: RefusalRun,
    /// Refusals that are many: half of those that it may have.
    many: u32,
    /// Whether it was asked about a control.
    pub(super) controlled: bool,
    /// Whether it accepted a recipient after many refusals.
    honest: bool,
}

/// What is known of a set of exchangers.
#[derive(Default)]
pub(super) struct Harvest {
    run: RefusalRun,
    refusals: u32,
    /// The domain of the last refusal.
    refused: Option<u32>,
    /// Mailboxes that were accepted, the latest first, each of another domain.
    controls: VecDeque<(u32, Mailbox)>,
    acceptances: u32,
    /// Whether a control waits for its answer.
    asking: bool,
    /// Whether the last control got an answer that tells nothing, and no refusal came since.
    inconclusive: bool,
    /// What refusals amount to, since a control was refused.
    defence: Option<(Outcome, Instant)>,
    /// How often that happened.
    defences: u32,
    honest_connections: u32,
    connections: u32,
}

impl Harvest {
    /// Records a connection that may have so many `rejections`.
    pub(super) fn connected(&mut self, rejections: u32) -> OnConnection {
        self.connections = self.connections.wrapping_add(1);
        let mut run = self.run;
        run.explained();
        let many = rejections.div_ceil(2).max(1);
        OnConnection { number: self.connections, run, many, ..OnConnection::default() }
    }

    /// Forgets what was learnt from another exchanger of the set.
    pub(super) fn exchanger_changed(&mut self) {
        let Self { defence, defences, connections, .. } = std::mem::take(self);
        *self = Self { defence, defences, connections, ..Self::default() };
    }

    /// Returns how many refusals a connection may have: half as many after each defence, which may count them.
    pub(super) fn rejections(&self, limit: u32) -> u32 {
        (limit >> self.defences.min(31)).max(1)
    }

    /// Tells whether an acceptance on one connection proves what was refused on another.
    pub(super) fn trusts_connections(&self) -> bool {
        self.honest_connections >= HONEST_CONNECTIONS
    }

    /// Records that a recipient was accepted who was `asked` about at a time.
    pub(super) fn accepted(&mut self, on: &mut OnConnection, asked: Instant) {
        self.run.accepted();
        on.run.accepted();
        self.honest(on);
        if self.defence.as_ref().is_some_and(|(_, since)| *since < asked) {
            self.defence = None;
        }
    }

    fn honest(&mut self, on: &mut OnConnection) {
        if on.refused >= on.many && !on.honest {
            on.honest = true;
            self.honest_connections = self.honest_connections.saturating_add(1);
        }
    }

    /// Records that a recipient of the list, or a random one, does not exist.
    pub(super) fn refused(&mut self, on: &mut OnConnection, domain: u32, random: bool) {
        on.refused = on.refused.saturating_add(1);
        self.refusals = self.refusals.saturating_add(1);
        if !random {
            self.run.refused();
            on.run.refused();
            (self.refused, self.inconclusive) = (Some(domain), false);
        }
    }

    /// Remembers a mailbox that was accepted, at a domain that does not accept any local part.
    pub(super) fn remember(&mut self, domain: u32, mailbox: Mailbox<&str>) {
        self.acceptances = self.acceptances.wrapping_add(1);
        let known = self.controls.iter().position(|(known, _)| *known == domain);
        if mailbox.needs_smtputf8() || (known.is_some() && !self.acceptances.is_multiple_of(RENEWAL)) {
            return;
        }
        if let Some(known) = known {
            self.controls.remove(known);
        }
        self.controls.truncate(MAX_CONTROLS - 1);
        self.controls.push_front((domain, mailbox.shared()));
    }

    /// Tells whether a control is due on the connection.
    pub(super) fn wants_control(&self, on: &OnConnection) -> bool {
        !on.controlled && self.can_ask() && self.run.is_improbable(RUN)
    }

    /// Tells whether a control is due because there is no more to ask: on the connection, if there is one, or at all.
    pub(super) fn wants_last_control(&self, on: Option<&OnConnection>) -> bool {
        let due = |run: &RefusalRun| match self.has_lied() {
            true => run.len() > 0,
            false => self.refusals >= FEW && run.is_improbable(LAST_RUN),
        };
        let tail = on.is_some_and(|on| !self.trusts_connections() && due(&on.run));
        let may = on.is_none_or(|on| !on.controlled) && !self.inconclusive && self.can_ask();
        may && (tail || due(&self.run))
    }

    /// Tells whether a control is due in the last window of the connection.
    pub(super) fn wants_sample(&self, on: &OnConnection) -> bool {
        !self.trusts_connections() && !on.honest && !on.controlled && on.refused >= on.many && self.can_ask()
    }

    fn can_ask(&self) -> bool {
        !self.asking && !self.controls.is_empty()
    }

    /// Tells whether a control has to be asked before anything else.
    pub(super) fn needs_control(&self) -> bool {
        self.defence.is_some() && (self.asking || !self.controls.is_empty())
    }

    /// Returns a mailbox to ask about: of the domain of the last refusal, if there is one, or else the latest.
    pub(super) fn ask(&mut self) -> Option<(u32, Mailbox)> {
        let at = self.controls.iter().position(|(domain, _)| Some(*domain) == self.refused).unwrap_or(0);
        let control = self.controls.get(at).cloned()?;
        self.asking = true;
        Some(control)
    }

    /// Tells whether a control waits for its answer.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// Records that a control was accepted, which is to be recorded as any acceptance too.
    pub(super) fn control_accepted(&mut self) {
        self.asking = false;
    }

    /// Records that a control was refused as one that does not exist; true if the server was honest until now.
    pub(super) fn control_refused(&mut self, domain: u32, outcome: &Outcome, at: Instant) -> bool {
        self.asking = false;
        self.run.forget();
        self.honest_connections = 0;
        // The mailbox may be gone for good: another is asked about the next time, if there is one.
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

    /// Records that a control got no answer that tells anything.
    pub(super) fn control_lost(&mut self) {
        (self.asking, self.inconclusive) = (false, true);
    }

    /// Takes a control back that was not asked.
    pub(super) fn withdraw(&mut self) {
        self.asking = false;
    }

    /// Returns what a refusal amounts to while the server is known to lie.
    pub(super) fn defence(&self) -> Option<&Outcome> {
        self.defence.as_ref().map(|(outcome, _)| outcome)
    }

    /// Tells whether the server was ever found to lie.
    pub(super) fn has_lied(&self) -> bool {
        self.defences > 0
    }
}
