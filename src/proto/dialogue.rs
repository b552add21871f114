//! The dialogue: which command is legal now, which may ride in a group, and which replies are owed.
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
//! Every command that is sent owes a reply, and replies come in the order of commands; so a count and a queue tell
//! what each reply answers. A connection with replies owed is in the middle of something, and must not be reused.
//! With a group of commands on its way there are two states: the one that replies have confirmed, and the one that
//! is reached if every reply is the hoped-for one; legality is judged by the second.

use std::{collections::VecDeque, iter};

use thiserror::Error;

use super::{Reply, Verb, reply::MIXED_CODES};

/// Where a dialogue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The server has yet to speak (RFC 5321 3.1): nothing may be sent.
    Banner,
    /// Greeted by the server, or freshly inside TLS: only a greeting is of use.
    Connected,
    /// Between transactions.
    Ready,
    /// MAIL was accepted.
    Mail,
    /// At least one RCPT was accepted.
    Rcpt,
    /// 354 was received: the message must follow.
    Message,
    /// STARTTLS was accepted: the TLS handshake must follow.
    Tls,
    /// 334 was received: an answer to the challenge must follow.
    Auth,
    /// Over: QUIT was answered, the banner refused us, or 421 was received.
    Closed,
}

/// A command out of order, or a reply to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DialogueError {
    /// The command is not legal in this state.
    #[error("{verb} is out of sequence: the dialogue is at {state:?}")]
    Sequence {
        /// The command.
        verb: Verb,
        /// Where the dialogue would be when the command arrives.
        state: State,
    },
    /// The command has to wait for the reply to the one before it (RFC 2920 3.1).
    #[error("{verb} may not be sent before the reply to {after}")]
    Group {
        /// The command.
        verb: Verb,
        /// The command whose reply is owed.
        after: Verb,
    },
    /// A reply, and none is owed.
    #[error("an unsolicited reply, with code {0}")]
    Unsolicited(u16),
}

/// The state of one SMTP dialogue, on the client's side.
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
    confirmed: State,
    hoped: State,
    owed: VecDeque<Verb>,
    pipelining: bool,
    /// Greeted by LHLO: the message is answered once per recipient.
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
    /// A connection just opened: the banner is owed.
    #[must_use]
    pub fn new() -> Self {
        Self::at(State::Banner, VecDeque::from([Verb::Connect]))
    }

    fn at(state: State, owed: VecDeque<Verb>) -> Self {
        Self { confirmed: state, hoped: state, owed, pipelining: false, lmtp: false, accepted: 0 }
    }

    /// Says whether the server offers PIPELINING (RFC 2920); without it each command waits for its reply.
    pub fn set_pipelining(&mut self, offered: bool) {
        self.pipelining = offered;
    }

    /// Records that `verb` is sent; [`Verb::Message`] when the final dot is.
    ///
    /// It owes one reply; after LHLO, [`Verb::Message`] and [`Verb::BdatLast`] owe one for each recipient that was
    /// accepted, in their order (RFC 2033 4.2), so that BDAT LAST cannot go before the replies to RCPT are there.
    ///
    /// # Errors
    /// The command is not legal now, or not yet; nothing is noted then, and it must not be sent.
    pub fn send(&mut self, verb: Verb) -> Result<(), DialogueError> {
        let state = self.hoped;
        if let Some(&after) = self.owed.back()
            && (!self.pipelining || !may_be_followed(after) || (self.lmtp && verb == Verb::BdatLast))
        {
            return Err(DialogueError::Group { verb, after });
        }
        if !is_legal(verb, state) {
            return Err(DialogueError::Sequence { verb, state });
        }
        self.hoped = on_success(verb, state);
        let each = self.lmtp && matches!(verb, Verb::Message | Verb::BdatLast);
        let replies = if each { self.accepted.max(1) } else { 1 };
        self.owed.extend(iter::repeat_n(verb, replies));
        Ok(())
    }

    /// Takes the next reply, and tells what it answers. One whose lines carry different codes
    /// ([`Reply::has_mixed_codes`]) accepts nothing: it leads to no state in which more may be sent than before, but
    /// for RCPT and RSET behind MAIL.
    ///
    /// # Errors
    /// Nothing was asked. A 421 that nobody asked for is legal at any time (RFC 5321 3.8) and closes the dialogue
    /// all the same.
    pub fn receive<B: AsRef<[u8]>>(&mut self, reply: &Reply<B>) -> Result<Verb, DialogueError> {
        let Some(verb) = self.owed.pop_front() else {
            self.confirmed = State::Closed;
            self.hoped = State::Closed;
            return Err(DialogueError::Unsolicited(reply.code()));
        };
        self.confirmed = match (verb, reply.agreed_code()) {
            (_, 421) => State::Closed,
            _ if self.confirmed == State::Closed => State::Closed,
            // What the server does with what comes next is not known.
            (Verb::StartTls | Verb::Auth | Verb::AuthResponse | Verb::Data | Verb::Quit, MIXED_CODES..) => {
                State::Closed
            }
            // Nor how many replies to the message there will be.
            (Verb::Rcpt, MIXED_CODES..) if self.lmtp => State::Closed,
            // There may be a transaction now, which is to be reset.
            (Verb::Mail, MIXED_CODES..) if self.confirmed == State::Ready => State::Mail,
            (Verb::Auth | Verb::AuthResponse, 334) => State::Auth,
            (Verb::Auth | Verb::AuthResponse, _) => State::Ready,
            (Verb::Data, 354) => State::Message,
            (Verb::Data, _) => self.confirmed,
            // Once the message is there, the transaction is over either way (RFC 5321 4.1.1.4).
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
            self.hoped = self.confirmed;
        }
        Ok(verb)
    }

    /// Records that the TLS handshake is done: all that was learnt before it is forgotten (RFC 3207 4.2).
    pub fn secured(&mut self) {
        *self = Self::at(State::Connected, VecDeque::new());
    }

    /// Where the dialogue stands by the replies received.
    #[must_use]
    pub fn state(&self) -> State {
        self.confirmed
    }

    /// Replies owed by the server.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The command whose reply is due next.
    #[must_use]
    pub fn due(&self) -> Option<Verb> {
        self.owed.front().copied()
    }

    /// Between transactions with nothing owed: the one state in which a connection may be lent again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.confirmed == State::Ready && self.owed.is_empty()
    }

    /// Gives memory back, for a connection that goes idle.
    #[inline]
    pub fn shrink(&mut self) {
        if self.owed.capacity() > 0 {
            self.owed.shrink_to_fit();
        }
    }
}

/// RFC 2920 3.1: these may stand in the middle of a group; all others end one. BDAT by RFC 3030 4.2; what follows
/// the final dot of a message begins a new group.
fn may_be_followed(verb: Verb) -> bool {
    matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Rset | Verb::Message | Verb::Bdat | Verb::BdatLast)
}

/// RFC 5321 4.1.4: the order of commands.
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

/// Where a command leads if the server says yes.
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
