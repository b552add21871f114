//! Caches the last reply on a connection and its meaning, since servers give most recipients the same reply.

use std::{ops::Range, sync::Arc};

use memchr::memchr;

use crate::{
    proto::{Reply, Verb},
    verify::{
        Classifier,
        outcome::{Outcome, kept},
        reply_text,
    },
};

/// Replies up to this length are compared without their mailbox. The classifier may not see the end of longer ones.
const MAX_COMPARED_OCTETS: usize = 1024;
/// Longer replies are not cached. Otherwise each connection could hold one of up to 64 KiB.
const MAX_REMEMBERED_OCTETS: usize = 4096;

/// A reply and its meaning.
pub(super) struct ReplyCache {
    verb: Verb,
    /// The octets of the reply. Of a reply too long to cache, only the part that names a mailbox.
    words: Vec<u8>,
    /// The position of the mailbox between angle brackets, which the classifier ignores.
    mailbox: Option<Range<usize>>,
    outcome: Arc<Outcome>,
}

impl ReplyCache {
    /// Classifies and caches a reply to `verb`, about a mailbox if the reply answers RCPT.
    pub(super) fn new<B: AsRef<[u8]>>(
        classifier: &Classifier,
        verb: Verb,
        reply: &Reply<B>,
        mailbox: Option<&str>,
    ) -> Self {
        let words = reply.as_bytes();
        // The character set of other text is guessed from all its octets, so the mailbox may matter.
        let mailbox = mailbox.filter(|_| std::str::from_utf8(words).is_ok());
        let mailbox = mailbox.and_then(|mailbox| bracketed(words, mailbox));
        let outcome = Outcome::of_reply(classifier, verb, reply);
        let words = match words.len() <= MAX_REMEMBERED_OCTETS {
            true => words.into(),
            false => words[memchr(b'<', words).unwrap_or(0)..]
                .iter()
                .copied()
                .take(MAX_REMEMBERED_OCTETS)
                .collect(),
        };
        Self { verb, words, mailbox, outcome: outcome.into() }
    }

    /// Returns whether `reply` equals the cached one, or differs only in its mailbox. In the second case it replaces
    /// the cached one.
    pub(super) fn is_repeated<B: AsRef<[u8]>>(
        &mut self,
        verb: Verb,
        reply: &Reply<B>,
        mailbox: Option<&str>,
    ) -> bool {
        let words = reply.as_bytes();
        if self.verb == verb && *self.words == *words {
            return true;
        }
        let now = mailbox.and_then(|mailbox| bracketed(words, mailbox));
        let (Some(before), Some(now)) = (&self.mailbox, now) else { return false };
        // A reply with two codes has no text of its own that could be reused.
        let alike = self.verb == verb
            && self.outcome.code.is_some()
            && self.words[..before.start] == words[..now.start]
            && self.words[before.end..] == words[now.end..];
        if alike {
            words.clone_into(&mut self.words);
            self.mailbox = Some(now);
            let Outcome { verdict, code, enhanced, .. } = *self.outcome;
            self.outcome = Outcome { verdict, code, enhanced, text: Some(kept(&reply_text(reply))) }.into();
        }
        alike
    }

    pub(super) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    /// Returns the mailbox that the reply names between its first angle brackets, if any.
    #[inline]
    pub(super) fn named_mailbox(&self) -> Option<&[u8]> {
        let named = match &self.mailbox {
            Some(mailbox) => &self.words[mailbox.clone()],
            None => {
                let rest = &self.words[memchr(b'<', &self.words)? + 1..];
                &rest[..memchr(b'>', rest)?]
            }
        };
        memchr(b'@', named).map(|_| named)
    }
}

/// Returns the position of the mailbox, if the first angle brackets hold it and nothing else.
fn bracketed(words: &[u8], mailbox: &str) -> Option<Range<usize>> {
    let start = memchr(b'<', words)? + 1;
    let end = start + mailbox.len();
    let there = words.get(start..end)? == mailbox.as_bytes() && words.get(end) == Some(&b'>');
    // A quoted local part may hold brackets and spaces itself.
    let plain = !mailbox.starts_with('"');
    (there && plain && words.len() <= MAX_COMPARED_OCTETS).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::Decoder;

    fn reply(words: &str) -> Option<Reply> {
        octets(words.as_bytes())
    }

    fn octets(words: &[u8]) -> Option<Reply> {
        let mut decoder = Decoder::new();
        decoder.buffer().extend_from_slice(words);
        decoder.buffer().extend_from_slice(b"\r\n");
        decoder.decode().ok().flatten()
    }

    #[test]
    fn a_reply_that_differs_only_in_its_mailbox_is_not_classified_again() {
        let classifier = Classifier::builtin();
        let of = |mailbox: &str| reply(&format!("550 5.1.1 <{mailbox}>: User unknown")).unwrap();
        let mut cache = ReplyCache::new(classifier, Verb::Rcpt, &of("ann@a.test"), Some("ann@a.test"));
        assert!(cache.is_repeated(Verb::Rcpt, &of("full@spam.test"), Some("full@spam.test")));
        assert_eq!(**cache.outcome(), Outcome::of_reply(classifier, Verb::Rcpt, &of("full@spam.test")));
        assert!(
            !cache.is_repeated(Verb::Rcpt, &of("bob@a.test"), Some("eve@a.test")),
            "the mailbox of another"
        );
        assert!(!cache.is_repeated(Verb::Rcpt, &of("bob@a.test"), None));
        assert!(!cache.is_repeated(Verb::Mail, &of("bob@a.test"), Some("bob@a.test")));
        let other = reply("550 5.1.1 <bob@a.test>: Mailbox full").unwrap();
        assert!(!cache.is_repeated(Verb::Rcpt, &other, Some("bob@a.test")));
    }

    #[test]
    fn of_a_long_reply_only_the_mailbox_is_remembered() {
        let classifier = Classifier::builtin();
        let of = |lines: usize| {
            let line = format!("250-{}\r\n", "x".repeat(1_000));
            reply(&format!("{}250 Ok <ann@a.test>", line.repeat(lines))).unwrap()
        };
        for (lines, remembered) in [(1, true), (3, true), (60, false)] {
            let mut cache = ReplyCache::new(classifier, Verb::Rcpt, &of(lines), None);
            assert!(cache.words.len() <= MAX_REMEMBERED_OCTETS);
            assert_eq!(cache.named_mailbox(), Some(&b"ann@a.test"[..]), "{lines} lines");
            assert_eq!(cache.is_repeated(Verb::Rcpt, &of(lines), None), remembered, "{lines} lines");
        }
    }

    #[test]
    fn a_reply_that_is_not_utf_8_is_compared_octet_by_octet() {
        let classifier = Classifier::builtin();
        // "Recipient does not exist" in GBK.
        let of = |mailbox: &str| {
            let words = b"\xca\xd5\xbc\xfe\xc8\xcb\xb2\xbb\xb4\xe6\xd4\xda";
            octets(&[b"550 5.1.1 <", mailbox.as_bytes(), b"> ", words].concat()).unwrap()
        };
        let mut cache = ReplyCache::new(classifier, Verb::Rcpt, &of("ann@a.test"), Some("ann@a.test"));
        assert!(cache.is_repeated(Verb::Rcpt, &of("ann@a.test"), Some("ann@a.test")));
        assert!(
            !cache.is_repeated(Verb::Rcpt, &of("bob@a.test"), Some("bob@a.test")),
            "classified by itself"
        );
    }

    #[test]
    fn a_reply_with_two_codes_has_its_own_meaning_for_each_mailbox() {
        let classifier = Classifier::builtin();
        let of = |mailbox: &str| reply(&format!("550-<{mailbox}>\r\n250 ok")).unwrap();
        let mut cache = ReplyCache::new(classifier, Verb::Rcpt, &of("ann@a.test"), Some("ann@a.test"));
        if cache.is_repeated(Verb::Rcpt, &of("bob@a.test"), Some("bob@a.test")) {
            let alone = Outcome::of_reply(classifier, Verb::Rcpt, &of("bob@a.test"));
            assert_eq!(**cache.outcome(), alone);
        }
    }

    proptest! {
        /// A cached reply has the meaning that it has alone, for any text around any mailbox.
        #[test]
        fn a_cached_reply_has_the_meaning_that_it_has_alone(
            around in prop::collection::vec(
                prop_oneof![
                    Just("<"), Just(">"), Just("<ann@a.test>"), Just(" "), Just("user unknown"), Just("blocked"),
                    Just("full"), Just("@"), Just("5.7.1"), Just("192.0.2.1"), Just(":"), Just("http://"), Just("("),
                ],
                0..8
            ),
            at in 0..9usize,
            first in "[a-z.]{1,8}|spamhaus|\"a b\"|\"a>b\"|\"<5.7.1\"",
            second in "[a-z.]{1,64}|blocked|\"full mailbox\"|\"@<\"",
        ) {
            let classifier = Classifier::builtin();
            let of = |mailbox: &str| {
                let (before, after) = around.split_at(at.min(around.len()));
                reply(&format!("550 {}<{mailbox}>{}", before.concat(), after.concat()))
            };
            let [first, second] = [first, second].map(|local_part| format!("{local_part}@a.test"));
            if let (Some(one), Some(other)) = (of(&first), of(&second)) {
                let mut cache = ReplyCache::new(classifier, Verb::Rcpt, &one, Some(&first));
                if cache.is_repeated(Verb::Rcpt, &other, Some(&second)) {
                    prop_assert_eq!(&**cache.outcome(), &Outcome::of_reply(classifier, Verb::Rcpt, &other));
                }
            }
        }
    }
}
