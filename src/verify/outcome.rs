//! From what happened to what is said: replies, errors and DNS answers become outcomes, outcomes become records.

use std::{error::Error, sync::Arc};

use super::{Blame, Classifier, Retry, Stage, SubStatus, Unreachable, Verdict};
use crate::{
    client::{ConnectError, SessionError},
    net::ErrorKind,
    pool::{CheckoutError, OpenError},
    proto::{AddressError, EnhancedCode, Reply, Verb},
};

/// A verdict, and the words it rests on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) code: Option<u16>,
    pub(super) enhanced: Option<EnhancedCode>,
    pub(super) text: Option<Arc<str>>,
}

impl Outcome {
    /// What a reply to `verb` says.
    pub(super) fn of_reply<B: AsRef<[u8]>>(classifier: &Classifier, verb: Verb, reply: &Reply<B>) -> Self {
        let (enhanced, text) = (reply.enhanced(), reply.text());
        let verdict = classifier.classify(stage(verb), reply.code(), enhanced, &text).verdict;
        Self { verdict, code: Some(reply.code()), enhanced, text: Some(text.into()) }
    }

    /// Whether it is a reply that says yes.
    pub(super) fn is_positive(&self) -> bool {
        self.code.is_some_and(|code| code < 300)
    }

    /// Why there is no connection.
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

    /// Why no connection could be opened.
    fn of_connect_error(classifier: &Classifier, error: &ConnectError) -> Self {
        use SubStatus as S;
        match error {
            ConnectError::Refused { verb, reply } => Self::of_reply(classifier, *verb, reply),
            ConnectError::Session(error) => Self::of_session_error(error),
            ConnectError::Dial(dial) if dial.kind() == ErrorKind::TimedOut => {
                Self::failure(S::TimeoutExceeded, Blame::Network, error)
            }
            ConnectError::Dial(_) => Self::failure(S::FailedSmtpConnection, Blame::Network, error),
            ConnectError::Tls(_) => Self::failure(S::TlsFailed, Blame::Network, error),
            ConnectError::StartTls(_) | ConnectError::NoStartTls => {
                Self::failure(S::TlsFailed, Blame::Server, error)
            }
            ConnectError::Sasl(_) => Self::failure(S::Blocked, Blame::Us, error),
        }
    }

    /// Why a connection broke.
    pub(super) fn of_session_error(error: &SessionError) -> Self {
        use SubStatus as S;
        match error {
            SessionError::Timeout { .. } => Self::failure(S::TimeoutExceeded, Blame::Server, error),
            SessionError::Closed { .. } => Self::failure(S::FailedSmtpConnection, Blame::Server, error),
            SessionError::Io { .. } => Self::failure(S::FailedSmtpConnection, Blame::Network, error),
            SessionError::Injected => Self::failure(S::TlsFailed, Blame::Network, error),
            _ => Self::failure(S::ProtocolError, Blame::Server, error),
        }
    }

    /// Why there is nobody to ask.
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
        Self::without_reply(Verdict { sub_status, blame: Some(blame), retry }, text)
    }

    /// Why the address is not one.
    pub(super) fn of_syntax(error: AddressError) -> Self {
        let verdict =
            Verdict { sub_status: SubStatus::FailedSyntaxCheck, blame: Some(Blame::Recipient), retry: None };
        Self::without_reply(verdict, &error.to_string())
    }

    /// A mailbox that only SMTPUTF8 can name, at a server that does not offer it (RFC 6531 3.2).
    pub(super) fn no_smtputf8() -> Self {
        let verdict = Verdict { sub_status: SubStatus::Other, blame: Some(Blame::Server), retry: None };
        Self::without_reply(verdict, "the server does not offer SMTPUTF8, which the address needs")
    }

    /// Nothing was asked, as was wished.
    pub(super) fn not_asked() -> Self {
        let verdict = Verdict { sub_status: SubStatus::Other, blame: None, retry: None };
        Self { verdict, code: None, enhanced: None, text: None }
    }

    fn without_reply(verdict: Verdict, text: &str) -> Self {
        Self { verdict, code: None, enhanced: None, text: Some(text.into()) }
    }

    /// An error with all its causes, since none of them prints the next.
    fn failure(sub_status: SubStatus, blame: Blame, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::without_reply(Verdict { sub_status, blame: Some(blame), retry: Some(Retry::Later) }, &text)
    }
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
