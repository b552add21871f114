//! Exim's limit of commands that are not mail (`smtp_accept_max_nonmail`).

use crate::proto::Verb;

/// The number of non-mail commands of one connection.
#[derive(Debug)]
pub(super) struct Nonmail {
    limit: Option<u32>,
    count: u32,
    /// True if the next RSET is not counted.
    free_rset: bool,
    /// True if the next EHLO or HELO is not counted.
    free_greeting: bool,
    /// True if the next AUTH is not counted.
    free_auth: bool,
}

impl Nonmail {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self { limit, count: 0, free_rset: true, free_greeting: true, free_auth: true }
    }

    /// Counts the command. Returns true if it exceeds the limit.
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

    /// Allows another greeting and another AUTH after the TLS handshake.
    pub(super) fn secured(&mut self) {
        (self.free_greeting, self.free_auth) = (true, true);
    }

    /// Allows one RSET and one greeting after a complete message.
    pub(super) fn message(&mut self) {
        (self.free_rset, self.free_greeting) = (true, true);
    }
}
