//! Outcomes: the verdicts on replies, errors and DNS answers.

use std::{error::Error, sync::Arc, time::Duration};

use super::{
    Blame, Classifier, Retry, Stage, SubStatus, Subject, Unreachable, Verdict, record::shortened, reply_text,
};
use crate::{
    client::{ConnectError, SessionError},
    net::ErrorKind,
    pool::{CheckoutError, OpenError},
    proto::{AddressError, EnhancedCode, Reply, Verb},
};

/// Precedes the text of a reply whose lines carry different codes.
const MIXED_CODES: &str = "the lines of the reply carry different codes: ";
const HARVEST_DEFENCE: &str =
    "the server refuses a mailbox that it accepted before, as a defence against directory harvesting does";

/// A verdict, with the code and text of the reply or error behind it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) code: Option<u16>,
    pub(super) enhanced: Option<EnhancedCode>,
    /// At most [`MAX_TEXT`](super::MAX_TEXT) octets.
    pub(super) text: Option<Arc<str>>,
}

impl Outcome {
    /// Classifies a reply to `verb`. The classifier reads the whole text; the outcome stores its beginning. A reply
    /// whose lines carry different codes decides nothing, and its outcome has no code.
    pub(super) fn of_reply<B: AsRef<[u8]>>(classifier: &Classifier, verb: Verb, reply: &Reply<B>) -> Self {
        if reply.has_mixed_codes() {
            let text = format!("{MIXED_CODES}{reply}");
            let verdict = Verdict {
                sub_status: SubStatus::ProtocolError,
                blame: Some(Blame::Server),
                retry: Some(Retry::Later),
                subject: None,
            };
            return Self::without_reply(verdict, &text);
        }
        let (enhanced, text) = (reply.enhanced(), reply_text(reply));
        let verdict = classifier.classify(stage(verb), reply.code(), enhanced, &text).verdict;
        Self { verdict, code: Some(reply.code()), enhanced, text: Some(kept(&text)) }
    }

    /// Returns whether it comes from a positive reply (2xx).
    pub(super) fn is_positive(&self) -> bool {
        self.code.is_some_and(|code| code < 300)
    }

    /// Converts the error of a connection that the pool could not lend.
    pub(super) fn of_checkout_error(classifier: &Classifier, error: &CheckoutError) -> Self {
        let open = match error {
            CheckoutError::Connect { source, .. } | CheckoutError::CircuitOpen { source, .. } => &**source,
            _ => return Self::failure(SubStatus::FailedSmtpConnection, Blame::Network, error),
        };
        match open {
            OpenError::Connect(error) => Self::of_connect_error(classifier, error),
            OpenError::Timeout { .. } => Self::failure(SubStatus::TimeoutExceeded, Blame::Network, open),
            _ => Self::failure(SubStatus::FailedSmtpConnection, Blame::Network, open),
        }
    }

    /// Converts the error of a connection that could not be opened.
    fn of_connect_error(classifier: &Classifier, error: &ConnectError) -> Self {
        use SubStatus as S;
        match error {
            ConnectError::Refused { verb, reply } => Self::of_reply(classifier, *verb, reply),
            ConnectError::Session(error) => Self::of_session_error(error),
            ConnectError::Silent => Self::failure(S::TimeoutExceeded, Blame::Server, error),
            ConnectError::Dial(dial) if dial.kind() == ErrorKind::TimedOut => {
                Self::failure(S::TimeoutExceeded, Blame::Network, error)
            }
            ConnectError::Dial(_) | ConnectError::Transport(_) => {
                Self::failure(S::FailedSmtpConnection, Blame::Network, error)
            }
            ConnectError::Tls(_) => Self::failure(S::TlsFailed, Blame::Network, error),
            ConnectError::StartTls(_) | ConnectError::NoStartTls => {
                Self::failure(S::TlsFailed, Blame::Server, error)
            }
            ConnectError::Sasl(_) => Self::failure(S::Blocked, Blame::Us, error),
        }
    }

    /// Converts the error that broke a connection.
    pub(super) fn of_session_error(error: &SessionError) -> Self {
        use SubStatus as S;
        match error {
            SessionError::Timeout { .. } => Self::failure(S::TimeoutExceeded, Blame::Server, error),
            SessionError::Closed { .. } => Self::failure(S::FailedSmtpConnection, Blame::Server, error),
            SessionError::Io { .. } => Self::failure(S::FailedSmtpConnection, Blame::Network, error),
            SessionError::RuntimeEnded { .. } => Self::failure(S::FailedSmtpConnection, Blame::Us, error),
            SessionError::Injected => Self::failure(S::TlsFailed, Blame::Network, error),
            _ => Self::failure(S::ProtocolError, Blame::Server, error),
        }
    }

    /// Converts the reason why a domain has no server to ask.
    pub(super) fn of_unreachable(unreachable: &Unreachable) -> Self {
        use SubStatus as S;
        let (sub_status, blame, retry, text) = match unreachable {
            Unreachable::NullMx => (S::DoesNotAcceptMail, Blame::Recipient, None, "null MX"),
            Unreachable::NoDnsEntries => {
                (S::NoDnsEntries, Blame::Recipient, None, "no MX and no address records")
            }
            Unreachable::Unroutable => (
                S::UnroutableIpAddress,
                Blame::Network,
                None,
                "every address of the MX is private or reserved",
            ),
            Unreachable::Dns { timeout: true, reason } => {
                (S::TimeoutExceeded, Blame::Network, Some(Retry::Later), &**reason)
            }
            Unreachable::Dns { timeout: false, reason } => {
                (S::MailServerTemporaryError, Blame::Network, Some(Retry::Later), &**reason)
            }
        };
        Self::without_reply(Verdict { sub_status, blame: Some(blame), retry, subject: None }, text)
    }

    /// Returns the outcome for a host that was given up, because it takes longer than `per_answer` on average.
    pub(super) fn too_slow(per_answer: Duration) -> Self {
        let verdict = Verdict {
            sub_status: SubStatus::TimeoutExceeded,
            blame: Some(Blame::Server),
            retry: Some(Retry::Later),
            subject: None,
        };
        let text = format!("the host was given up: it takes more than {per_answer:?} per answer on average");
        Self::without_reply(verdict, &text)
    }

    /// Returns the outcome for an address without a verdict within the deadline of its call.
    pub(super) fn deadline_passed(deadline: Duration) -> Self {
        let verdict = Verdict {
            sub_status: SubStatus::TimeoutExceeded,
            blame: None,
            retry: Some(Retry::Later),
            subject: None,
        };
        Self::without_reply(verdict, &format!("no verdict within the deadline of the call, {deadline:?}"))
    }

    /// Converts a syntax error of an address.
    pub(super) fn of_syntax(error: AddressError) -> Self {
        let (sub_status, blame) = (SubStatus::FailedSyntaxCheck, Some(Blame::Recipient));
        let verdict = Verdict { sub_status, blame, retry: None, subject: None };
        Self::without_reply(verdict, &error.to_string())
    }

    /// Returns the outcome for an address that needs SMTPUTF8, at a server that does not offer it (RFC 6531 3.2).
    pub(super) fn no_smtputf8() -> Self {
        let (sub_status, blame) = (SubStatus::Other, Some(Blame::Server));
        let verdict = Verdict { sub_status, blame, retry: None, subject: None };
        Self::without_reply(verdict, "the server does not offer SMTPUTF8, which the address needs")
    }

    /// Adds to a refusal over IPv6 that no exchanger has an IPv4 address. It removes the retry.
    pub(super) fn without_ipv4(&self) -> Self {
        let text = self.text.as_deref().unwrap_or_default();
        let text = format!("{text} (the exchangers have no IPv4 address to try)");
        let verdict = Verdict { retry: None, ..self.verdict };
        Self { verdict, text: Some(kept(&text)), ..*self }
    }

    /// Returns the outcome for a server that refuses mailboxes which it accepted before.
    pub(super) fn harvest_defence() -> Self {
        let (sub_status, blame) = (SubStatus::Blocked, Some(Blame::Us));
        let verdict =
            Verdict { sub_status, blame, retry: Some(Retry::Later), subject: Some(Subject::Client) };
        Self::without_reply(verdict, HARVEST_DEFENCE)
    }

    /// Returns whether it is [`Self::harvest_defence`].
    pub(super) fn is_harvest_defence(&self) -> bool {
        self.code.is_none() && self.text.as_deref() == Some(HARVEST_DEFENCE)
    }

    /// Returns the outcome for an address that no server is asked about, because of
    /// [`probe`](super::VerifierConfig::probe).
    pub(super) fn not_asked() -> Self {
        let verdict = Verdict { sub_status: SubStatus::Other, blame: None, retry: None, subject: None };
        Self { verdict, code: None, enhanced: None, text: None }
    }

    fn without_reply(verdict: Verdict, text: &str) -> Self {
        Self { verdict, code: None, enhanced: None, text: Some(kept(text)) }
    }

    /// Returns the outcome of an error. The text lists the error and all its causes, because no error prints its cause.
    fn failure(sub_status: SubStatus, blame: Blame, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        let (blame, retry) = (Some(blame), Some(Retry::Later));
        Self::without_reply(Verdict { sub_status, blame, retry, subject: None }, &text)
    }
}

/// Returns the part of a text that a record stores.
pub(super) fn kept(text: &str) -> Arc<str> {
    shortened(text).into()
}

fn stage(verb: Verb) -> Stage {
    match verb {
        Verb::Connect => Stage::Banner,
        Verb::Ehlo | Verb::Helo | Verb::Lhlo => Stage::Ehlo,
        Verb::StartTls => Stage::StartTls,
        Verb::Auth | Verb::AuthResponse => Stage::Auth,
        Verb::Mail => Stage::Mail,
        Verb::Rcpt => Stage::Rcpt,
        Verb::Data | Verb::Message | Verb::Bdat | Verb::BdatLast => Stage::Data,
        Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Quit => Stage::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::Decoder, verify::MAX_TEXT};

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
    fn a_reply_that_is_not_utf_8_is_decoded() {
        let classifier = Classifier::builtin();
        // "Recipient does not exist" in GBK.
        let of = |mailbox: &str| {
            let words = b"\xca\xd5\xbc\xfe\xc8\xcb\xb2\xbb\xb4\xe6\xd4\xda";
            octets(&[b"550 5.1.1 <", mailbox.as_bytes(), b"> ", words].concat()).unwrap()
        };
        let outcome = Outcome::of_reply(classifier, Verb::Rcpt, &of("ann@a.test"));
        assert_eq!(outcome.verdict.sub_status, SubStatus::MailboxNotFound);
        assert_eq!(outcome.text.as_deref(), Some("<ann@a.test> 收件人不存在"));
    }

    #[test]
    fn a_reply_with_mixed_codes_decides_nothing() {
        let classifier = Classifier::builtin();
        for words in [
            "250-2.1.5 ok\r\n550 5.1.1 User unknown",
            "550-5.1.1 User unknown\r\n250 ok",
            "550-5.1.1 <ann@a.test>: User unknown\r\n551 5.1.1 <ann@a.test>: User unknown",
            "250-ok\r\n251 ok",
        ] {
            for verb in [Verb::Rcpt, Verb::Mail, Verb::Connect, Verb::Ehlo] {
                let outcome = Outcome::of_reply(classifier, verb, &reply(words).unwrap());
                let Verdict { sub_status, blame, retry, .. } = outcome.verdict;
                let wanted = (SubStatus::ProtocolError, Some(Blame::Server), Some(Retry::Later));
                assert_eq!((sub_status, blame, retry), wanted, "{words}");
                assert!(!outcome.is_positive() && outcome.code.is_none());
                let text = outcome.text.unwrap();
                assert!(text.starts_with("the lines of the reply carry different codes: "), "{text}");
            }
        }
    }

    #[test]
    fn a_long_reply_is_classified_whole_and_stored_in_part() {
        let classifier = Classifier::builtin();
        let line = "See http://example.com/help. ".repeat(40);
        let long = reply(&format!("550-{line}\r\n550-{line}\r\n550 5.1.1 User unknown")).unwrap();
        let outcome = Outcome::of_reply(classifier, Verb::Rcpt, &long);
        assert_eq!((outcome.verdict.sub_status, outcome.code), (SubStatus::MailboxNotFound, Some(550)));
        assert_eq!(outcome.text.unwrap().len(), MAX_TEXT);
        let mixed = reply(&format!("550-{line}\r\n550-{line}\r\n250 Ok")).unwrap();
        let outcome = Outcome::of_reply(classifier, Verb::Rcpt, &mixed);
        assert_eq!((outcome.verdict.sub_status, outcome.code), (SubStatus::ProtocolError, None));
        assert_eq!(outcome.text.unwrap().len(), MAX_TEXT);
        let ipv6 = Outcome::of_reply(classifier, Verb::Rcpt, &long).without_ipv4();
        assert!(ipv6.text.unwrap().len() <= MAX_TEXT);
        let unreachable = Unreachable::Dns { timeout: false, reason: "x".repeat(70_000).into() };
        assert_eq!(Outcome::of_unreachable(&unreachable).text.unwrap().len(), MAX_TEXT);
    }
}
