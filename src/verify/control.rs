//! Puts the controls of [`harvest`](super::harvest) into windows, and applies what they and other answers tell of verdicts
//! in doubt.

use tokio::time::Instant;

use super::{
    Event, Status,
    desk::State,
    draw::{Draw, Window},
    engine::Books,
    outcome::Outcome,
    question::Question,
    seat::Seat,
    settle::{Said, Settled},
    standing::{Finding, Kept, Suspect},
    throttle::Risk,
};

/// What a connection may ask next, as far as controls are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What waits.
    Free,
    /// The control that waits first, and nothing else.
    Alone,
    /// Nothing until the control has its answer.
    Wait,
    /// Nothing more: it was asked about a control already, and another one is due.
    Leave,
}

impl State {
    /// Puts a control before the questions that wait, if one is due. A connection that is `spent` has its own at its end.
    pub(super) fn next_turn(&mut self, seat: &Seat, spent: bool) -> Turn {
        let group = &mut self.groups[seat.group];
        if group.waits_for_control() {
            return Turn::Wait;
        }
        let alone = group.harvest.needs_control();
        let free = if alone { Turn::Alone } else { Turn::Free };
        if group.next_is_control() {
            if !seat.harvest.controlled {
                return free;
            }
            if alone || group.len() == 1 {
                return Turn::Leave;
            }
            // The next connection is asked, unless an acceptance comes first.
            group.harvest.withdraw();
            self.pop(seat.group);
            return Turn::Free;
        }
        if alone && seat.harvest.controlled {
            return Turn::Leave;
        }
        if alone || !spent && group.harvest.wants_control(&seat.harvest) {
            self.put_control(seat.group);
            return free;
        }
        Turn::Free
    }

    /// Returns a control for the end of the last window of a connection, if one is due there.
    pub(super) fn last_control(&mut self, seat: &mut Seat) -> Option<Question> {
        let harvest = &self.groups[seat.group].harvest;
        if harvest.wants_sample(&seat.harvest) { self.control_on(seat) } else { None }
    }

    /// Returns a window with a control alone in the place of `draw`, if nothing more is to be asked on the connection and
    /// a control is due.
    pub(super) fn closing_control(&mut self, seat: &mut Seat, draw: Draw, now: Instant) -> Draw {
        let group = &self.groups[seat.group];
        let due = group.harvest.wants_last_control(Some(&seat.harvest), group.is_empty());
        if !due || self.standing.blocked(now).is_some() || !self.take_pace(now) {
            return draw;
        }
        match self.control_on(seat) {
            Some(control) => {
                self.groups[seat.group].rates.ask(control.kin(), 1);
                let (questions, risk) = (vec![control], Risk::default());
                Draw::Window(Window { questions, risk, smtputf8: false, last: false, alone: false })
            }
            None => draw,
        }
    }

    fn control_on(&mut self, seat: &mut Seat) -> Option<Question> {
        let (domain, mailbox) = self.groups[seat.group].harvest.ask()?;
        seat.harvest.controlled = true;
        Some(Question::Control { domain, mailbox, losses: 0 })
    }

    /// Puts a control before the questions of a set of exchangers that is at rest, if refusals there are in doubt; true
    /// if it did.
    pub(super) fn control_at_rest(&mut self, group: usize, now: Instant) -> bool {
        let known = &self.groups[group];
        let due = known.harvest.wants_last_control(None, true)
            && self.standing.has_suspects(group)
            && known.resting(now).is_none()
            && self.standing.blocked(now).is_none();
        if due {
            self.put_control(group);
        }
        due
    }

    /// Tells whether a caller that keeps its own books waits for refusals that are in doubt.
    pub(super) fn holds_back(&self, group: usize) -> bool {
        self.context.books == Books::Theirs && self.standing.keeps(group)
    }

    /// Asks again, on other connections, what nothing proved at a set of exchangers that is at rest, as far as it was not
    /// told; true if there was any.
    pub(super) fn ask_again_at_rest(&mut self, group: usize, now: Instant) -> bool {
        let known = &self.groups[group];
        let rests = known.resting(now).is_some() || self.standing.blocked(now).is_some();
        if rests || !self.standing.has_suspects(group) || !self.groups[group].harvest.asks_again() {
            return false;
        }
        let harvest = &self.groups[group].harvest;
        let suspects = self.standing.take_unproved(group, |refusals| harvest.doubts(refusals));
        let mut asked = false;
        for suspect in suspects.into_iter().rev() {
            if let Suspect::Kept(kept) = suspect {
                let Kept { mut item, record, .. } = *kept;
                item.address = record.address;
                item.attempts -= 1;
                self.put_back(group, Question::Item(item));
                asked = true;
            }
        }
        asked
    }

    fn put_control(&mut self, group: usize) {
        if let Some((domain, mailbox)) = self.groups[group].harvest.ask() {
            self.put_back(group, Question::Control { domain, mailbox, losses: 0 });
        }
    }

    /// Records that a recipient was accepted who was `asked` about at a time.
    pub(super) fn record_acceptance(&mut self, seat: &mut Seat, domain: u32, asked: Instant) {
        let harvest = &mut self.groups[seat.group].harvest;
        harvest.accepted(&mut seat.harvest, asked);
        let everywhere = harvest.trusts_connections();
        self.standing.accepted(seat.group, seat.harvest.number, everywhere, domain, asked);
    }

    /// Records a refusal of a recipient, or of a `random` one, and what follows from it for others.
    pub(super) fn record_refusal(
        &mut self,
        seat: &mut Seat,
        domain: u32,
        random: bool,
        said: Said<'_>,
    ) -> Finding {
        let Said { outcome, at, .. } = said;
        if outcome.verdict.status() == Status::Undeliverable {
            self.groups[seat.group].harvest.refused(&mut seat.harvest, domain, random);
        }
        let others = || self.groups.iter().any(|group| group.has_other_than(domain));
        let finding = self.standing.refused(domain, outcome, others, at);
        self.found(finding, domain, outcome, at);
        finding
    }

    /// Applies the answer to a control.
    pub(super) fn settle_control(
        &mut self,
        seat: &mut Seat,
        domain: u32,
        said: Said<'_>,
        settled: &mut Settled,
    ) {
        let Said { outcome, at, .. } = said;
        let harvest = &mut self.groups[seat.group].harvest;
        match outcome.verdict.status() {
            Status::Deliverable => {
                // The next connection has a control left for its own refusals.
                settled.stop |= harvest.defence().is_some();
                harvest.control_accepted();
            }
            // While it is known to lie, only an acceptance shows that it does not any more.
            status if status == Status::Undeliverable || harvest.defence().is_some() => {
                let defence = Outcome::harvest_defence();
                if harvest.control_refused(domain, &defence, at) {
                    self.standing.harvest_defences += 1;
                }
                if self.standing.blocked(at).is_none() {
                    let first = self.context.config.pause(1);
                    self.standing.block_for(first, &defence, at);
                    self.controller.reset();
                }
                let suspects = self.standing.take_suspects_at(seat.group);
                self.take_back(suspects, &defence, at);
                settled.stop = true;
            }
            _ => harvest.control_lost(),
        }
    }

    /// Puts `outcome` in the place of verdicts that are in doubt.
    pub(super) fn take_back(&mut self, suspects: Vec<Suspect>, outcome: &Outcome, now: Instant) {
        let (mut ids, mut kept) = (Vec::new(), Vec::new());
        for suspect in suspects {
            match suspect {
                Suspect::Told { id, .. } => ids.push(id),
                Suspect::Kept(suspect) => kept.push(suspect),
            }
        }
        // First, so that the caller does not think that everything is done.
        if !ids.is_empty() {
            self.lot.events.push(Event::Reopened { ids });
        }
        for Kept { group, item, record } in kept.into_iter().map(|kept| *kept) {
            self.void(group, item, record, outcome, now);
        }
    }

    /// Nothing more will cast doubt on what was kept back.
    pub(super) fn release(&mut self) {
        let sure = self.standing.release();
        sure.into_iter().for_each(|suspect| self.tell(suspect));
    }

    pub(super) fn tell(&mut self, suspect: Suspect) {
        if let Suspect::Kept(kept) = suspect {
            self.context.done(&kept.item, kept.record, &mut self.lot);
        }
    }
}
