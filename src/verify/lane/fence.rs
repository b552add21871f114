//! Proves that the replies of a connection are in step with its commands.
//!
//! SMTP replies are matched to commands by order alone. One extra reply gives each later recipient the answer of
//! another. A *fence* is a reply that neither MAIL nor RCPT can get. If it arrives in its place, the replies before it
//! are in step:
//!
//! | reply | why it is a fence | cost |
//! |---|---|---|
//! | to a further EHLO: the capabilities again | no other command gets them | some servers limit EHLO: at most [`GREETINGS`] per connection |
//! | to a further EHLO: 500 to 504, unless MAIL or RCPT got such a code | OpenSMTPD answers 503 | the same |
//! | to QUIT: 221 | no other command gets it | the connection |
//! | to RSET, with a text that another fence has shown to belong to RSET only | Postfix, Exim, Sendmail and Exchange have a text of their own for it | none: RSET ends every transaction |
//! | to RCPT, if it names the recipient | the reply itself names its recipient | none |
//!
//! This file knows what the replies to RSET and to a further EHLO prove. `pipeline` checks QUIT, and `window` the names.
//! A fence proves all answers before it, and `pipeline` commits these to the lane. If a reply is out of step, the
//! connection ends, and questions without proof are asked again on another one.
//!
//! The text of the RSET reply is learnt on each connection, since several machines may answer at one address.

use std::{hash::BuildHasher, mem};

use foldhash::fast::FixedState;

use crate::{client::SessionError, proto::DialogueError};

/// Greetings per connection after the first. Most connections need one, and a second one only if the texts of RSET vary.
/// Sendmail delays its replies from the third EHLO on, and Exim accepts few commands that are not mail.
pub(super) const GREETINGS: u8 = 3;
/// Commands other than mail that Exim accepts on a connection (`smtp_accept_max_nonmail`), among them RSET and a second
/// EHLO. At the next, Exim closes the connection. Tools that read its log may then block the client.
const EXIM_NONMAIL: u8 = 10;
/// Exim's reply to the command that exceeds its limit, before it closes.
pub(super) const TOO_MANY_COMMANDS: u16 = 554;
/// Different replies to MAIL and RCPT that are remembered until the RSET reply is known.
const MAX_SEEN_REPLIES: usize = 128;

/// What is known of the RSET reply.
#[derive(Debug, Default, PartialEq, Eq)]
enum ResetReply {
    /// No RSET was answered yet.
    #[default]
    Unknown,
    /// RSET was answered with this text, but no fence has confirmed it.
    Likely(Box<[u8]>),
    /// A fence has confirmed that RSET, and no other command, gets this text.
    Known(Box<[u8]>),
    /// Other commands get the same text, or the text varies.
    Ambiguous,
}

/// What is known of the replies of one connection that can serve as fences.
#[derive(Debug)]
pub(super) struct Fence {
    /// The text of the RSET reply.
    reset: ResetReply,
    /// Hashes of the replies to MAIL and RCPT, until the RSET reply is known.
    seen: Vec<u64>,
    /// Whether MAIL or RCPT got a code from 500 to 504.
    seen_misunderstood: bool,
    /// How many further greetings the connection may get.
    greetings: u8,
}

/// The error of a reply that cannot belong to its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl Fence {
    /// Returns the fence of a new connection. `may_greet` is false if a second greeting proved nothing at this server
    /// before.
    pub(super) fn new(may_greet: bool) -> Self {
        let greetings = if may_greet { GREETINGS } else { 0 };
        Self { reset: ResetReply::Unknown, seen: Vec::new(), seen_misunderstood: false, greetings }
    }

    /// Records a reply in the place of one to MAIL or RCPT.
    #[inline]
    pub(super) fn record_reply(&mut self, code: u16, words: &[u8]) -> Result<(), OutOfStep> {
        self.seen_misunderstood |= is_misunderstood(code);
        match &self.reset {
            ResetReply::Known(reset) if **reset == *words => return Err(OutOfStep),
            ResetReply::Known(_) | ResetReply::Ambiguous => return Ok(()),
            ResetReply::Unknown | ResetReply::Likely(_) => {}
        }
        let hash = hash(words);
        if self.seen.last() != Some(&hash) {
            self.seen.push(hash);
        }
        if self.seen.len() > MAX_SEEN_REPLIES {
            self.seen.sort_unstable();
            self.seen.dedup();
            if self.seen.len() > MAX_SEEN_REPLIES {
                self.make_ambiguous();
            }
        }
        Ok(())
    }

    /// Returns whether a reply in the place of one to RSET is a fence.
    #[inline]
    pub(super) fn is_known_reset(&self, words: &[u8]) -> bool {
        matches!(&self.reset, ResetReply::Known(reset) if **reset == *words)
    }

    /// Learns from a positive reply in the place of one to RSET. It must not be the known text: see
    /// [`is_known_reset`](Self::is_known_reset).
    pub(super) fn learn_reset(&mut self, words: &[u8]) {
        match &self.reset {
            ResetReply::Likely(reset) if **reset == *words => {}
            ResetReply::Unknown => self.reset = ResetReply::Likely(words.into()),
            _ => self.make_ambiguous(),
        }
    }

    /// Judges the reply to a further greeting, and returns whether it is a fence.
    ///
    /// It is one if it lists the same capabilities as the first (`repeats`), or refuses the command with 500 to 504. A
    /// fence confirms the likely text of RSET, and any other reply voids it.
    pub(super) fn judge_greeting(&mut self, code: u16, words: &[u8], repeats: bool) -> bool {
        // A greeting of one line may have the same text as any other reply.
        let seen = self.seen.contains(&hash(words));
        let proves = match repeats {
            true if is_of_several_lines(words) => true,
            // Replies are no longer remembered once the RSET reply is known or ambiguous.
            true => {
                matches!(self.reset, ResetReply::Unknown | ResetReply::Likely(_))
                    && !seen
                    && !self.is_likely_reset(words)
            }
            false => is_misunderstood(code) && !self.seen_misunderstood,
        };
        self.reset = match mem::take(&mut self.reset) {
            ResetReply::Likely(reset) if proves && !self.seen.contains(&hash(&reset)) => {
                ResetReply::Known(reset)
            }
            ResetReply::Likely(_) => ResetReply::Ambiguous,
            known => known,
        };
        if !matches!(self.reset, ResetReply::Unknown) {
            self.seen = Vec::new();
        }
        proves
    }

    /// Returns whether the connection may be greeted again.
    pub(super) fn may_greet(&self) -> bool {
        self.greetings > 0
    }

    /// Returns whether the connection got no greeting after the first, and may get all of them.
    pub(super) fn is_fresh(&self) -> bool {
        self.greetings == GREETINGS
    }

    /// Returns how many further greetings the connection may get. The limit of transactions for the next connection
    /// leaves room for them.
    pub(super) fn greetings(&self) -> u8 {
        self.greetings
    }

    /// Records that the connection is greeted again.
    pub(super) fn record_greeting(&mut self) {
        self.greetings = self.greetings.saturating_sub(1);
    }

    fn is_likely_reset(&self, words: &[u8]) -> bool {
        matches!(&self.reset, ResetReply::Likely(reset) if **reset == *words)
    }

    fn make_ambiguous(&mut self) {
        (self.reset, self.seen) = (ResetReply::Ambiguous, Vec::new());
    }
}

/// Returns the most transactions of a connection, if the banner tells. Each ends with RSET. The first EHLO and QUIT do not
/// count at Exim.
pub(super) fn banner_transactions(banner: &[u8]) -> Option<u32> {
    let is_exim = banner.split(|octet| octet.is_ascii_whitespace()).any(|word| word == b"Exim");
    is_exim.then_some(u32::from(EXIM_NONMAIL - GREETINGS))
}

/// Returns whether the code is from 500 to 504: a command that is unknown, not implemented or out of sequence
/// (RFC 5321 4.2.2).
fn is_misunderstood(code: u16) -> bool {
    (500..=504).contains(&code)
}

/// Returns the error for a reply with this code that cannot belong to its command.
pub(super) fn unsolicited(code: u16) -> SessionError {
    DialogueError::Unsolicited(code).into()
}

pub(super) fn is_of_several_lines(words: &[u8]) -> bool {
    words.get(3) == Some(&b'-')
}

fn hash(words: &[u8]) -> u64 {
    FixedState::default().hash_one(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"250 2.1.0 Ok\r\n";
    const RCPT: &[u8] = b"250 2.1.5 Ok\r\n";
    const RSET: &[u8] = b"250 2.0.0 Ok\r\n";
    const EHLO: &[u8] = b"250-mx\r\n250 PIPELINING\r\n";

    fn is_reset(fence: &mut Fence, words: &[u8]) -> bool {
        let known = fence.is_known_reset(words);
        if !known {
            fence.learn_reset(words);
        }
        known
    }

    /// Returns a fence after a first window with the replies given and a second greeting.
    fn after(mail: &[u8], rcpt: &[u8], reset: &[u8]) -> Fence {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, mail), Ok(()));
        assert_eq!(fence.record_reply(250, rcpt), Ok(()));
        assert!(!is_reset(&mut fence, reset), "nothing is known of it");
        fence.record_greeting();
        assert!(fence.judge_greeting(250, EHLO, true));
        fence
    }

    #[test]
    fn the_reply_to_reset_is_a_fence_once_a_greeting_has_confirmed_it() {
        let mut fence = after(MAIL, RCPT, RSET);
        assert_eq!(fence.record_reply(250, RCPT), Ok(()));
        assert!(is_reset(&mut fence, RSET));
        // An extra reply shifts the others: RSET's reply takes the place of MAIL's, and RCPT's that of RSET's.
        assert_eq!(fence.record_reply(250, RSET), Err(OutOfStep));
        assert!(!is_reset(&mut fence, RCPT));
        assert!(!is_reset(&mut fence, RSET), "a text that varies is no fence");
    }

    #[test]
    fn a_reply_that_other_commands_get_too_is_no_fence() {
        for (mail, rcpt) in [(RSET, RCPT), (MAIL, RSET)] {
            assert!(!is_reset(&mut after(mail, rcpt, RSET), RSET));
        }
        // If this happens later, the replies are out of step.
        let mut fence = after(MAIL, RCPT, RSET);
        assert_eq!(fence.record_reply(250, RSET), Err(OutOfStep));
    }

    #[test]
    fn the_reply_to_reset_is_learnt_only_if_all_are_equal() {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RSET) && !is_reset(&mut fence, b"250 2.0.0 Flushed\r\n"));
        assert!(fence.judge_greeting(250, EHLO, true), "the greeting is still a fence");
        assert!(!is_reset(&mut fence, RSET));
    }

    #[test]
    fn a_shifted_reply_is_no_greeting_and_voids_the_reset_reply() {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RCPT));
        assert!(!fence.judge_greeting(250, RSET, false));
        assert!(!is_reset(&mut fence, RCPT));
    }

    #[test]
    fn a_refused_greeting_is_a_fence_unless_recipients_got_such_a_code() {
        let refused = b"503 5.5.1 Duplicate HELO/EHLO\r\n";
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RSET));
        assert!(fence.judge_greeting(503, refused, false));
        assert!(is_reset(&mut fence, RSET));
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(503, b"503 5.5.1 need MAIL\r\n"), Ok(()));
        assert!(!fence.judge_greeting(503, refused, false));
        assert!(!Fence::new(true).judge_greeting(550, b"550 5.1.1 no\r\n", false));
    }

    #[test]
    fn a_greeting_of_one_line_is_a_fence_only_if_no_other_reply_equals_it() {
        let ok = b"250 OK\r\n";
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, ok));
        assert!(!fence.judge_greeting(250, ok, true), "RSET got it as well");
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, ok), Ok(()));
        assert!(!fence.judge_greeting(250, ok, true), "MAIL got it as well");
        assert!(Fence::new(true).judge_greeting(250, b"250 mx\r\n", true));
    }

    #[test]
    fn memory_is_bounded() {
        let mut fence = Fence::new(true);
        for n in 0..10_000 {
            assert_eq!(fence.record_reply(550, format!("550 <user{n}> unknown").as_bytes()), Ok(()));
        }
        assert!(fence.seen.len() <= MAX_SEEN_REPLIES);
        assert!(!is_reset(&mut fence, RSET));
        assert!(fence.judge_greeting(250, EHLO, true));
        assert!(!is_reset(&mut fence, RSET), "too many other replies");
    }

    #[test]
    fn a_connection_is_greeted_again_three_times() {
        let mut fence = Fence::new(true);
        assert!(fence.is_fresh());
        (0..GREETINGS).for_each(|_| fence.record_greeting());
        assert!(!fence.may_greet() && !fence.is_fresh());
        assert!(!Fence::new(false).may_greet());
    }

    #[test]
    fn the_banner_of_exim_limits_the_transactions() {
        let exim = b"220-cp.example ESMTP Exim 4.98 #2 Tue, 01 Dec 2026 05:14:07 +0000\r\n220 We log.\r\n";
        assert_eq!(banner_transactions(exim), Some(7));
        assert_eq!(banner_transactions(b"220 eximious.example ESMTP Postfix\r\n"), None);
        assert_eq!(banner_transactions(b"220\r\n"), None);
    }
}
