//! Postfix's error counters.

use crate::sandbox::{Delay, ErrorLimits};

/// Errors and junk commands of one connection.
#[derive(Debug)]
pub(super) struct Errors {
    limits: Option<ErrorLimits>,
    errors: u32,
    junk: u32,
    /// True once the delay of this command was returned.
    paused: bool,
}

impl Errors {
    pub(super) fn new(limits: Option<ErrorLimits>) -> Self {
        Self { limits, errors: 0, junk: 0, paused: false }
    }

    pub(super) fn increment(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    /// Counts a command that moves no mail. Returns true if it is over the limit, and so an error.
    pub(super) fn junk(&mut self) -> bool {
        self.junk = self.junk.saturating_add(1);
        self.limits.is_some_and(|limits| self.junk > limits.junk)
    }

    /// Resets the counters after an accepted message.
    pub(super) fn reset(&mut self) {
        (self.errors, self.junk) = (0, 0);
    }

    /// Returns the delay before the next command, once for each command.
    pub(super) fn pause(&mut self) -> Option<Delay> {
        let limits = self.limits.filter(|limits| self.errors >= limits.soft)?;
        self.paused = !self.paused;
        self.paused.then_some(limits.delay)
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.limits.is_some_and(|limits| self.errors >= limits.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_at_soft_closed_at_hard_reset_by_a_message() {
        let limits = ErrorLimits { soft: 2, hard: 3, junk: 1, ..ErrorLimits::default() };
        let mut errors = Errors::new(Some(limits));
        errors.increment();
        assert_eq!(errors.pause(), None);
        errors.increment();
        assert_eq!((errors.pause(), errors.pause()), (Some(limits.delay), None), "once for each command");
        assert_eq!((errors.junk(), errors.junk()), (false, true));
        errors.increment();
        assert!(errors.are_too_many());
        errors.reset();
        assert!(!errors.are_too_many() && errors.pause().is_none() && !errors.junk());
    }
}
