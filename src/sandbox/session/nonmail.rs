//! Exim's limit of commands that are not mail (`smtp_accept_max_nonmail`).

use crate::proto::Verb;

/// Commands of one connection that are not mail.
#[derive(Debug)]
pub(super) struct Nonmail {
    limit: Option<u32>,
    count: u32,
    /// The next RSET is not counted.
    free_rset: bool,
    /// The next EHLO or HELO is not counted.
    free_greeting: bool,
    /// The next AUTH is not counted.
    free_auth: bool,
}

impl Nonmail {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self { limit, count: 0, free_rset: true, free_greeting: true, free_auth: true }
    }

    /// Counts the command; whether it exceeds the limit.
    pub(super) fn is_too_many(&mut self, verb: Verb) -> bool {
        let free = match verb {
            Verb::Rset => &mut self.free_rset,
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => &mut self.free_greeting,
            Verb::Auth => &mut self.free_auth,
            Verb::Noop | Verb::Vrfy => &mut false,
            _ => return false,
        };
        if !std::mem::take(free) {
            self.count = self.count.saturating_add(1);
        }
        self.limit.is_some_and(|limit| self.count > limit)
    }

    /// TLS is on: another greeting is due, and another AUTH.
    pub(super) fn secured(&mut self) {
        (self.free_greeting, self.free_auth) = (true, true);
    }

    /// A message is complete: one RSET and one greeting before the next are not counted.
    pub(super) fn message(&mut self) {
        (self.free_rset, self.free_greeting) = (true, true);
    }
}
