//! Counts how the connections of an MX set end, and decides from it when to reconnect, pause or give up.

use std::time::Duration;

use tokio::time::Instant;

/// After so many connections in a row without an answer, the MX set pauses.
const MAX_FRUITLESS_CONNECTIONS: u32 = 4;
/// After so many connections whose replies are out of step, the MX set pauses. Two connections that end normally cancel
/// one.
const MAX_OUT_OF_STEP_CONNECTIONS: u32 = 12;
/// A connection with fewer answers is unproductive: a pause follows before the next.
const MIN_USEFUL_ANSWERS: u64 = 5;
/// The pause is two to eight times this: a server that keeps closing gets at most two connections per second.
const RECONNECT_DELAY: Duration = Duration::from_millis(60);
/// After so many closes in a row without an answer and with blame on us, the provider counts as blocking us.
const MAX_BLAMED_CLOSES: u32 = 3;

/// How the connections of an MX set ended.
#[derive(Debug, Default)]
pub(super) struct ConnectionHealth {
    /// Connections in a row that broke without an answer.
    fruitless: u32,
    /// Connections in a row that broke after few answers.
    unproductive: u32,
    /// Connections in a row that the server closed without an answer and with blame on us.
    blamed_closes: u32,
    /// Two for each connection whose replies were out of step, less one for each that ended normally.
    out_of_step: u32,
    /// Connections that the server has accepted at once since the last failure.
    proven_connections: u32,
    /// The earliest time for a new connection.
    not_before: Option<Instant>,
}

/// A connection that broke, or that the server closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostConnection {
    /// The answers on it.
    pub(super) answers: u64,
    /// Whether the server stopped answering.
    pub(super) timed_out: bool,
    /// Whether a batch broke that had broken a connection before, so that nothing new is known of the server.
    pub(super) known_batch: bool,
    /// Whether the close blames us.
    pub(super) blamed: bool,
}

/// What follows from a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossEffect {
    /// The next connection may be opened, perhaps after a delay.
    Reconnect,
    /// The MX set pauses.
    Pause,
    /// The provider blocks us.
    Block,
}

impl ConnectionHealth {
    /// Records that a connection was opened, so that `live` are open.
    pub(super) fn record_opened(&mut self, live: u32) {
        self.proven_connections = self.proven_connections.max(live);
    }

    /// Records that the server refused a connection beside `live` others.
    pub(super) fn record_refused(&mut self, live: u32) {
        self.proven_connections = live;
    }

    /// Records that no connection could be opened.
    pub(super) fn record_unreachable(&mut self) {
        (self.fruitless, self.out_of_step, self.proven_connections) = (0, 0, 0);
    }

    /// Records that a connection ended normally.
    pub(super) fn record_good_end(&mut self) {
        (self.fruitless, self.unproductive, self.blamed_closes) = (0, 0, 0);
        self.out_of_step = self.out_of_step.saturating_sub(1);
    }

    /// Records that the replies of a connection were out of step.
    pub(super) fn record_out_of_step(&mut self) {
        self.out_of_step += 2;
    }

    /// Records a lost connection, and returns what follows.
    pub(super) fn record_lost(&mut self, lost: LostConnection, now: Instant) -> LossEffect {
        let LostConnection { answers, timed_out, known_batch, blamed } = lost;
        self.unproductive = if answers < MIN_USEFUL_ANSWERS { self.unproductive + 1 } else { 0 };
        self.fruitless = match answers {
            0 => self.fruitless + u32::from(timed_out || !known_batch),
            _ => 0,
        };
        // A limit of the connection blames us too. It is no block as long as connections get answers.
        self.blamed_closes = if answers == 0 && blamed { self.blamed_closes + 1 } else { 0 };
        if self.unproductive > 0 {
            self.proven_connections = 0;
            self.not_before = Some(now + RECONNECT_DELAY.saturating_mul(1 << self.unproductive.min(3)));
        }
        if self.blamed_closes >= MAX_BLAMED_CLOSES {
            LossEffect::Block
        } else if self.fruitless >= MAX_FRUITLESS_CONNECTIONS
            || self.out_of_step >= 2 * MAX_OUT_OF_STEP_CONNECTIONS
        {
            LossEffect::Pause
        } else {
            LossEffect::Reconnect
        }
    }

    /// Returns the earliest time for a new connection, which may be in the past.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Returns whether a new connection may be opened at `now`.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Returns whether the server has accepted more connections at once than are `open`.
    pub(super) fn has_proved_more_than(&self, open: u32) -> bool {
        open < self.proven_connections
    }

    /// Sets the earliest time for a new connection.
    #[cfg(test)]
    pub(super) fn delay_until(&mut self, at: Instant) {
        self.not_before = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: LostConnection =
        LostConnection { answers: 0, timed_out: false, known_batch: false, blamed: false };

    fn effects(health: &mut ConnectionHealth, lost: LostConnection, count: usize) -> Vec<LossEffect> {
        (0..count).map(|_| health.record_lost(lost, Instant::now())).collect()
    }

    #[test]
    fn four_connections_without_an_answer_pause_the_mx_set_unless_a_known_batch_broke_them() {
        use LossEffect::{Pause, Reconnect};
        let known_batch = LostConnection { known_batch: true, ..BROKEN };
        let silent = LostConnection { timed_out: true, ..known_batch };
        for (lost, last) in [(BROKEN, Pause), (silent, Pause), (known_batch, Reconnect)] {
            let found = effects(&mut ConnectionHealth::default(), lost, 4);
            assert_eq!(found, [Reconnect, Reconnect, Reconnect, last], "{lost:?}");
        }
        let mut health = ConnectionHealth::default();
        effects(&mut health, BROKEN, 3);
        effects(&mut health, LostConnection { answers: 1, ..BROKEN }, 1);
        assert_eq!(effects(&mut health, BROKEN, 1), [Reconnect], "an answer starts the count again");
        effects(&mut health, BROKEN, 2);
        health.record_good_end();
        assert_eq!(effects(&mut health, BROKEN, 1), [Reconnect], "so does a normal end");
    }

    #[test]
    fn three_closes_with_blame_and_without_an_answer_are_a_block() {
        let blamed = LostConnection { blamed: true, ..BROKEN };
        let mut health = ConnectionHealth::default();
        effects(&mut health, blamed, 2);
        effects(&mut health, LostConnection { answers: 1, ..blamed }, 1);
        assert_eq!(effects(&mut health, blamed, 3).last(), Some(&LossEffect::Block));
        assert_eq!(health.blamed_closes, 3, "the answer started the count again");
    }

    #[test]
    fn replies_out_of_step_pause_the_mx_set_after_twelve_connections() {
        let answered = LostConnection { answers: 100, ..BROKEN };
        let mut health = ConnectionHealth::default();
        (0..12).for_each(|_| health.record_out_of_step());
        health.record_good_end();
        assert_eq!(effects(&mut health, answered, 1), [LossEffect::Reconnect]);
        health.record_out_of_step();
        assert_eq!(effects(&mut health, answered, 1), [LossEffect::Pause]);
        health.record_unreachable();
        assert_eq!(effects(&mut health, answered, 1), [LossEffect::Reconnect], "the pause resets it");
    }

    #[test]
    fn the_delay_doubles_up_to_eight_times_and_a_useful_connection_adds_none() {
        let (mut health, now) = (ConnectionHealth::default(), Instant::now());
        for times in [2, 4, 8, 8] {
            health.record_lost(BROKEN, now);
            let at = now + RECONNECT_DELAY * times;
            assert_eq!(health.not_before(), Some(at));
            assert!(!health.is_ready(now) && health.is_ready(at));
        }
        let later = now + Duration::from_secs(1);
        health.record_lost(LostConnection { answers: MIN_USEFUL_ANSWERS, ..BROKEN }, later);
        assert!(health.is_ready(later));
    }

    #[test]
    fn as_many_connections_are_proved_as_were_open_since_the_last_failure() {
        let mut health = ConnectionHealth::default();
        (1..=3).for_each(|live| health.record_opened(live));
        health.record_opened(1);
        assert!(health.has_proved_more_than(2) && !health.has_proved_more_than(3));
        health.record_lost(LostConnection { answers: MIN_USEFUL_ANSWERS, ..BROKEN }, Instant::now());
        assert!(health.has_proved_more_than(2), "a useful connection is no failure");
        health.record_refused(2);
        assert!(health.has_proved_more_than(1) && !health.has_proved_more_than(2));
        health.record_lost(BROKEN, Instant::now());
        assert!(!health.has_proved_more_than(0));
    }
}
