//! The dialogue: which commands are legal now, which may be sent in a group, and which replies are owed.
//!
//! ```text
//!           220             EHLO 250            MAIL 250            RCPT 250            DATA 354
//! ┌─────────┐   ┌───────────┐        ┌─────────┐         ┌────────┐          ┌────────┐         ┌─────────┐
//! │ Banner  ├──▶│ Connected ├───────▶│  Ready  ├────────▶│  Mail  ├─────────▶│  Rcpt  ├────────▶│ Message │
//! └─────────┘   └───────────┘        └─────────┘         └────────┘          └────────┘         └────┬────┘
//!                     ▲ STARTTLS 220    ▲  ▲                 │ RSET 250         │ RSET 250           │ 250
//!                     └─────────────────┘  └─────────────────┴──────────────────┴────────────────────┘
//! ```
//!
//! Each command is owed one reply, and replies arrive in the order of commands. So a queue of commands shows what
//! each reply answers. A connection with owed replies must not be reused.
//!
//! While a group of commands is under way, there are two states. One is confirmed by replies. The other is reached if
//! every owed reply is positive. The second one decides which commands are legal.

use std::{collections::VecDeque, iter};

use thiserror::Error;

use super::{Reply, Verb, reply::MIXED_CODES};

/// The state of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The banner is owed (RFC 5321 3.1): nothing may be sent.
    Banner,
    /// The banner has arrived, or TLS has just begun: the client must greet.
    Connected,
    /// Between transactions.
    Ready,
    /// MAIL was accepted.
    Mail,
    /// At least one RCPT was accepted.
    Rcpt,
    /// 354 arrived: the message must follow.
    Message,
    /// STARTTLS was accepted: the TLS handshake must follow.
    Tls,
    /// 334 arrived: a response to the challenge must follow.
    Auth,
    /// The dialogue has ended: QUIT was answered, the banner refused the client, or 421 arrived.
    Closed,
}

/// A command out of order, or an unsolicited reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DialogueError {
    /// The command is not legal in this state.
    #[error("{verb} is out of sequence: the dialogue is at {state:?}")]
    Sequence {
        /// The command.
        verb: Verb,
        /// The state of the dialogue when the command arrives.
        state: State,
    },
    /// The command must wait for the reply to the previous one (RFC 2920 3.1).
    #[error("{verb} may not be sent before the reply to {after}")]
    Group {
        /// The command.
        verb: Verb,
        /// The command whose reply is owed.
        after: Verb,
    },
    /// A reply arrived although none is owed.
    #[error("an unsolicited reply, with code {0}")]
    Unsolicited(u16),
}

/// The state of one SMTP dialogue, on the client side.
///
/// ```
/// use smtp_pool::proto::{Dialogue, Reply, Verb};
/// let mut dialogue = Dialogue::new();
/// dialogue.receive(&Reply::parse(b"220 mx.example.com")?)?;
/// dialogue.send(Verb::Ehlo)?;
/// assert!(dialogue.send(Verb::Mail).is_err()); // EHLO ends a group
/// assert_eq!(dialogue.receive(&Reply::parse(b"250 PIPELINING")?)?, Verb::Ehlo);
/// assert!(dialogue.is_idle());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// The state that the received replies confirm.
    confirmed: State,
    /// The state after all owed replies, if each is positive.
    expected: State,
    /// The commands without a reply, in order.
    owed: VecDeque<Verb>,
    pipelining: bool,
    /// Greeted by LHLO: the message is answered once for each recipient.
    lmtp: bool,
    /// Recipients accepted in this transaction.
    accepted: usize,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialogue {
    /// Creates the dialogue of a new connection. The banner is owed.
    #[must_use]
    pub fn new() -> Self {
        Self::at(State::Banner, VecDeque::from([Verb::Connect]))
    }

    fn at(state: State, owed: VecDeque<Verb>) -> Self {
        Self { confirmed: state, expected: state, owed, pipelining: false, lmtp: false, accepted: 0 }
    }

    /// Sets whether the server offers PIPELINING (RFC 2920). Without it, each command waits for its reply.
    pub fn set_pipelining(&mut self, offered: bool) {
        self.pipelining = offered;
    }

    /// Records that `verb` is sent. Use [`Verb::Message`] when the final dot is sent.
    ///
    /// Each command is owed one reply. After LHLO, [`Verb::Message`] and [`Verb::BdatLast`] are owed one for each
    /// accepted recipient, in their order (RFC 2033 4.2). So BDAT LAST must wait for the replies to RCPT.
    ///
    /// # Errors
    /// Fails if the command is not legal in this state, or not yet. Nothing is recorded then, and it must not be
    /// sent.
    pub fn send(&mut self, verb: Verb) -> Result<(), DialogueError> {
        let state = self.expected;
        if let Some(&after) = self.owed.back()
            && (!self.pipelining || !may_be_followed(after) || (self.lmtp && verb == Verb::BdatLast))
        {
            return Err(DialogueError::Group { verb, after });
        }
        if !is_legal(verb, state) {
            return Err(DialogueError::Sequence { verb, state });
        }
        self.expected = on_success(verb, state);
        let each = self.lmtp && matches!(verb, Verb::Message | Verb::BdatLast);
        let replies = if each { self.accepted.max(1) } else { 1 };
        self.owed.extend(iter::repeat_n(verb, replies));
        Ok(())
    }

    /// Records the next reply, and returns the command that it answers. A reply with different codes
    /// ([`Reply::has_mixed_codes`]) accepts nothing. It allows no further commands, except RCPT and RSET after MAIL.
    ///
    /// # Errors
    /// Fails if no reply is owed. An unsolicited 421 is legal at any time (RFC 5321 3.8). It also fails, and closes
    /// the dialogue.
    pub fn receive<B: AsRef<[u8]>>(&mut self, reply: &Reply<B>) -> Result<Verb, DialogueError> {
        let Some(verb) = self.owed.pop_front() else {
            self.confirmed = State::Closed;
            self.expected = State::Closed;
            return Err(DialogueError::Unsolicited(reply.code()));
        };
        self.confirmed = match (verb, reply.agreed_code()) {
            (_, 421) => State::Closed,
            _ if self.confirmed == State::Closed => State::Closed,
            // It is unknown how the server treats the next octets.
            (Verb::StartTls | Verb::Auth | Verb::AuthResponse | Verb::Data | Verb::Quit, MIXED_CODES..) => {
                State::Closed
            }
            // It is unknown how many replies to the message will arrive.
            (Verb::Rcpt, MIXED_CODES..) if self.lmtp => State::Closed,
            // A transaction may exist now, which must be reset.
            (Verb::Mail, MIXED_CODES..) if self.confirmed == State::Ready => State::Mail,
            (Verb::Auth | Verb::AuthResponse, 334) => State::Auth,
            (Verb::Auth | Verb::AuthResponse, _) => State::Ready,
            (Verb::Data, 354) => State::Message,
            (Verb::Data, _) => self.confirmed,
            // After the message, the transaction ends whether it was accepted or not (RFC 5321 4.1.1.4).
            (Verb::Message | Verb::BdatLast, _) => State::Ready,
            (Verb::Connect, code) if code != 220 => State::Closed,
            (verb, 200..=299) => on_success(verb, self.confirmed),
            _ => self.confirmed,
        };
        match (verb, reply.is_positive()) {
            (Verb::Rcpt, true) => self.accepted += 1,
            (Verb::Ehlo | Verb::Helo | Verb::Lhlo, true) => {
                (self.lmtp, self.accepted) = (verb == Verb::Lhlo, 0);
            }
            (Verb::Mail | Verb::Rset, true) | (Verb::Message | Verb::BdatLast, _) => self.accepted = 0,
            _ => {}
        }
        if self.owed.is_empty() || self.confirmed == State::Closed {
            self.expected = self.confirmed;
        }
        Ok(verb)
    }

    /// Records that the TLS handshake is done. Everything learnt before it is dropped (RFC 3207 4.2).
    pub fn secured(&mut self) {
        *self = Self::at(State::Connected, VecDeque::new());
    }

    /// Returns the state that the received replies confirm.
    #[must_use]
    pub fn state(&self) -> State {
        self.confirmed
    }

    /// Returns the number of replies that the server owes.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Returns the command that the next reply answers.
    #[must_use]
    pub fn due(&self) -> Option<Verb> {
        self.owed.front().copied()
    }

    /// Returns true between transactions with no reply owed. Only then may a connection be lent again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.confirmed == State::Ready && self.owed.is_empty()
    }

    /// Frees unused memory, for a connection that becomes idle.
    #[inline]
    pub fn shrink(&mut self) {
        if self.owed.capacity() > 0 {
            self.owed.shrink_to_fit();
        }
    }
}

/// Returns true if the command may be followed by another in the same group (RFC 2920 3.1; BDAT: RFC 3030 4.2). The
/// final dot of a message begins a new group.
fn may_be_followed(verb: Verb) -> bool {
    matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Rset | Verb::Message | Verb::Bdat | Verb::BdatLast)
}

/// Returns true if the command is legal in this state (RFC 5321 4.1.4).
fn is_legal(verb: Verb, state: State) -> bool {
    match state {
        State::Banner | State::Tls | State::Closed => false,
        State::Message => verb == Verb::Message,
        State::Auth => verb == Verb::AuthResponse,
        State::Connected | State::Ready | State::Mail | State::Rcpt => match verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Quit => true,
            Verb::StartTls | Verb::Auth | Verb::Mail => state == State::Ready,
            Verb::Rcpt => matches!(state, State::Mail | State::Rcpt),
            Verb::Data | Verb::Bdat | Verb::BdatLast => state == State::Rcpt,
            Verb::Connect | Verb::Message | Verb::AuthResponse => false,
        },
    }
}

/// Returns the state after a positive reply to a command.
fn on_success(verb: Verb, state: State) -> State {
    match verb {
        Verb::Connect => State::Connected,
        Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::Message | Verb::BdatLast => State::Ready,
        Verb::Auth | Verb::AuthResponse => State::Ready,
        Verb::Rset if state == State::Connected => State::Connected,
        Verb::Rset => State::Ready,
        Verb::StartTls => State::Tls,
        Verb::Mail => State::Mail,
        Verb::Rcpt => State::Rcpt,
        Verb::Data => State::Message,
        Verb::Bdat | Verb::Noop | Verb::Vrfy => state,
        Verb::Quit => State::Closed,
    }
}

#[cfg(test)]
mod tests;
