//! Proof that the replies of a connection are in step with its commands.
//!
//! Replies are told apart by their order alone, so one reply too many gives every later recipient the answer of another.
//! A *fence* is a reply that no MAIL and no RCPT gets. Where it stands in its place, the replies before it do as well:
//!
//! | reply | why it is a fence | cost |
//! |---|---|---|
//! | to a second EHLO: the capabilities once more | no other command is answered so | counted by servers: at most [`GREETINGS`] a connection |
//! | to a second EHLO: 50x, where no MAIL and no RCPT got such a code | as above; qpsmtpd and OpenSMTPD answer 503 | as above |
//! | to QUIT: 221 | no other command is answered so | the connection |
//! | to RSET, in words that a fence has shown to be those for RSET and for nothing else | Postfix, Exim, Sendmail and Exchange have words of their own for it | none: RSET ends every transaction |
//! | to RCPT, where it names the recipient | the reply says itself whom it is about | none |
//!
//! The words for RSET are learnt anew on each connection, since several machines may answer at one address.

use std::{hash::BuildHasher, mem};

use foldhash::fast::FixedState;

use crate::{client::SessionError, proto::DialogueError};

/// How often a connection is greeted again. Sendmail delays its answers from the third EHLO on, Exim takes ten commands
/// that are not mail.
pub(super) const GREETINGS: u8 = 3;
/// Commands that are not mail and that Exim takes on a connection (`smtp_accept_max_nonmail`): RSET and a second EHLO are
/// such commands. At the next it closes, and what reads its log may block the client.
const EXIM_NONMAIL: u8 = 10;
/// Exim's reply to the command that exceeds its limit, before it closes.
pub(super) const TOO_MANY_COMMANDS: u16 = 554;
/// Different replies to MAIL and RCPT that are remembered until the words for RSET are known.
const MAX_HEARD: usize = 128;

/// What is known of the words for RSET.
#[derive(Debug, Default, PartialEq, Eq)]
enum ResetReply {
    /// Nothing yet.
    #[default]
    Unknown,
    /// RSET was answered so, as it seems.
    Likely(Box<[u8]>),
    /// A fence behind it has shown that RSET is answered so, and nothing else.
    Known(Box<[u8]>),
    /// Others are answered so as well, or it differs from time to time.
    Ambiguous,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Fence {
    reset: ResetReply,
    /// Hashes of the replies to MAIL and RCPT, while the words for RSET are not known.
    heard: Vec<u64>,
    /// MAIL or RCPT was answered by a code for commands that are not understood.
    heard_misunderstood: bool,
    greetings: u8,
}

/// A reply stands where it cannot belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl Fence {
    /// For a fresh connection, which may be greeted again unless that has proved nothing before.
    pub(super) fn new(may_greet: bool) -> Self {
        let greetings = if may_greet { GREETINGS } else { 0 };
        Self { reset: ResetReply::Unknown, heard: Vec::new(), heard_misunderstood: false, greetings }
    }

    /// Records a reply that stands in the place of one to MAIL or RCPT.
    #[inline]
    pub(super) fn record_reply(&mut self, code: u16, words: &[u8]) -> Result<(), OutOfStep> {
        self.heard_misunderstood |= is_misunderstood(code);
        match &self.reset {
            ResetReply::Known(reset) if **reset == *words => return Err(OutOfStep),
            ResetReply::Known(_) | ResetReply::Ambiguous => return Ok(()),
            ResetReply::Unknown | ResetReply::Likely(_) => {}
        }
        let hash = hash(words);
        if self.heard.last() != Some(&hash) {
            self.heard.push(hash);
        }
        if self.heard.len() > MAX_HEARD {
            self.heard.sort_unstable();
            self.heard.dedup();
            if self.heard.len() > MAX_HEARD {
                self.make_ambiguous();
            }
        }
        Ok(())
    }

    /// Whether a reply in the place of one to RSET is a fence.
    #[inline]
    pub(super) fn is_known_reset(&self, words: &[u8]) -> bool {
        matches!(&self.reset, ResetReply::Known(reset) if **reset == *words)
    }

    /// Records a positive reply in the place of one to RSET, which is no fence yet.
    pub(super) fn learn_reset(&mut self, words: &[u8]) {
        match &self.reset {
            ResetReply::Likely(reset) if **reset == *words => {}
            ResetReply::Unknown => self.reset = ResetReply::Likely(words.into()),
            _ => self.make_ambiguous(),
        }
    }

    /// Whether the reply to a second greeting is a fence: one that is the greeting's once more, or a refusal.
    pub(super) fn is_greeting(&mut self, code: u16, words: &[u8], repeats: bool) -> bool {
        // A greeting of one line may have the words of any other reply.
        let heard = self.heard.contains(&hash(words));
        let proves = match repeats {
            true if is_of_several_lines(words) => true,
            // Replies are no longer remembered once the words for RSET are known, or never will be.
            true => {
                matches!(self.reset, ResetReply::Unknown | ResetReply::Likely(_))
                    && !heard
                    && !self.is_reset_alike(words)
            }
            false => is_misunderstood(code) && !self.heard_misunderstood,
        };
        self.reset = match mem::take(&mut self.reset) {
            ResetReply::Likely(reset) if proves && !self.heard.contains(&hash(&reset)) => {
                ResetReply::Known(reset)
            }
            ResetReply::Likely(_) => ResetReply::Ambiguous,
            known => known,
        };
        if !matches!(self.reset, ResetReply::Unknown) {
            self.heard = Vec::new();
        }
        proves
    }

    /// Whether the connection may be greeted again.
    pub(super) fn may_greet(&self) -> bool {
        self.greetings > 0
    }

    /// Whether a fence was asked for already.
    pub(super) fn is_fresh(&self) -> bool {
        self.greetings == GREETINGS
    }

    /// How often the connection may still be greeted again. Another connection may need all of these.
    pub(super) fn greetings(&self) -> u8 {
        self.greetings
    }

    /// Records that the connection is greeted again.
    pub(super) fn record_greeting(&mut self) {
        self.greetings = self.greetings.saturating_sub(1);
    }

    fn is_reset_alike(&self, words: &[u8]) -> bool {
        matches!(&self.reset, ResetReply::Likely(reset) if **reset == *words)
    }

    fn make_ambiguous(&mut self) {
        (self.reset, self.heard) = (ResetReply::Ambiguous, Vec::new());
    }
}

/// The transactions that a server takes on a connection, where its banner tells. Each ends by RSET.
pub(super) fn transactions_by(banner: &[u8]) -> Option<u32> {
    let is_exim = banner.split(|octet| octet.is_ascii_whitespace()).any(|word| word == b"Exim");
    is_exim.then_some(u32::from(EXIM_NONMAIL - GREETINGS))
}

/// Whether the code is one for commands that are not understood or not implemented, or are out of sequence (RFC 5321 4.2.2).
fn is_misunderstood(code: u16) -> bool {
    (500..=504).contains(&code)
}

/// The end of a connection by a reply, with this code, that stands where it cannot belong.
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

    /// A first window with the replies given, and a fence behind it.
    fn after(mail: &[u8], rcpt: &[u8], reset: &[u8]) -> Fence {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, mail), Ok(()));
        assert_eq!(fence.record_reply(250, rcpt), Ok(()));
        assert!(!is_reset(&mut fence, reset), "nothing is known of it");
        fence.record_greeting();
        assert!(fence.is_greeting(250, EHLO, true));
        fence
    }

    #[test]
    fn words_for_reset_alone_are_a_fence_once_a_greeting_has_shown_them() {
        let mut fence = after(MAIL, RCPT, RSET);
        assert_eq!(fence.record_reply(250, RCPT), Ok(()));
        assert!(is_reset(&mut fence, RSET));
        // A surplus reply shifts: the answer to RSET comes in the place of MAIL's, and RCPT's in that of RSET.
        assert_eq!(fence.record_reply(250, RSET), Err(OutOfStep));
        assert!(!is_reset(&mut fence, RCPT));
        assert!(!is_reset(&mut fence, RSET), "what differs from time to time tells nothing");
    }

    #[test]
    fn words_that_others_get_too_are_none() {
        for (mail, rcpt) in [(RSET, RCPT), (MAIL, RSET)] {
            assert!(!is_reset(&mut after(mail, rcpt, RSET), RSET));
        }
        // Later on as well: then it is known that something is wrong.
        let mut fence = after(MAIL, RCPT, RSET);
        assert_eq!(fence.record_reply(250, RSET), Err(OutOfStep));
    }

    #[test]
    fn words_are_learnt_from_several_resets_only_if_all_are_alike() {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RSET) && !is_reset(&mut fence, b"250 2.0.0 Flushed\r\n"));
        assert!(fence.is_greeting(250, EHLO, true), "the greeting is a fence all the same");
        assert!(!is_reset(&mut fence, RSET));
    }

    #[test]
    fn a_shifted_reply_is_no_greeting_and_spoils_what_was_learnt() {
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RCPT));
        assert!(!fence.is_greeting(250, RSET, false));
        assert!(!is_reset(&mut fence, RCPT));
    }

    #[test]
    fn a_refused_greeting_is_a_fence_unless_recipients_are_refused_alike() {
        let refused = b"503 5.5.1 Duplicate HELO/EHLO\r\n";
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, RSET));
        assert!(fence.is_greeting(503, refused, false));
        assert!(is_reset(&mut fence, RSET));
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(503, b"503 5.5.1 need MAIL\r\n"), Ok(()));
        assert!(!fence.is_greeting(503, refused, false));
        assert!(!Fence::new(true).is_greeting(550, b"550 5.1.1 no\r\n", false));
    }

    #[test]
    fn a_greeting_of_one_line_proves_only_what_no_other_reply_says() {
        let ok = b"250 OK\r\n";
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, MAIL), Ok(()));
        assert!(!is_reset(&mut fence, ok));
        assert!(!fence.is_greeting(250, ok, true), "said to RSET as well");
        let mut fence = Fence::new(true);
        assert_eq!(fence.record_reply(250, ok), Ok(()));
        assert!(!fence.is_greeting(250, ok, true), "said to MAIL as well");
        assert!(Fence::new(true).is_greeting(250, b"250 mx\r\n", true));
    }

    #[test]
    fn memory_is_bounded() {
        let mut fence = Fence::new(true);
        for n in 0..10_000 {
            assert_eq!(fence.record_reply(550, format!("550 <user{n}> unknown").as_bytes()), Ok(()));
        }
        assert!(fence.heard.len() <= MAX_HEARD);
        assert!(!is_reset(&mut fence, RSET));
        assert!(fence.is_greeting(250, EHLO, true));
        assert!(!is_reset(&mut fence, RSET), "too many others to be sure");
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
    fn exim_tells_by_its_banner_how_much_it_takes() {
        let exim = b"220-cp.example ESMTP Exim 4.98 #2 Tue, 01 Dec 2026 05:14:07 +0000\r\n220 We log.\r\n";
        assert_eq!(transactions_by(exim), Some(7));
        assert_eq!(transactions_by(b"220 eximious.example ESMTP Postfix\r\n"), None);
        assert_eq!(transactions_by(b"220\r\n"), None);
    }
}
