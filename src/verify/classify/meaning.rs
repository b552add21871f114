//! The meaning of assertions, and which of several decides.
//!
//! | subject | meaning of its predicate |
//! |---|---|
//! | the recipient | not found, disabled: undeliverable; full: quota exceeded; refused: a policy |
//! | the recipient's domain | accepts no mail, disabled: undeliverable; not found, refused: other, as for relaying |
//! | the sender, the client, the connection | too many: rate limited; anything else: blocked |
//! | the transaction | too many: rate limited; the next transaction may pass |
//! | the server, another server | a temporary error; if the reply is permanent: other |
//! | a list, the content | a policy |
//!
//! The assertion with the lowest rank decides. Limits come first, then the client, then the sender, then everything
//! that may not concern the mailbox, and the mailbox last.

use super::{
    predicate::Predicate,
    sentence::{Assertion, Sentences, Who},
    verdict::{Retry, Stage, Verdict},
};
use crate::{
    proto::EnhancedCode,
    verify::{Blame, SubStatus, Subject},
};

/// The properties of a reply besides its text.
#[derive(Clone, Copy)]
pub(super) struct ReplyContext {
    pub(super) stage: Stage,
    pub(super) code: u16,
    pub(super) enhanced: Option<EnhancedCode>,
}

/// The verdict on a reply, and the predicate behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) predicate: Predicate,
}

/// Returns the verdict of the deciding assertion.
pub(super) fn decide(sentences: &Sentences, context: ReplyContext) -> Option<Decision> {
    let assertions: Vec<Assertion> =
        sentences.assertions().map(|assertion| context.at_stage(assertion)).collect();
    let found =
        assertions.iter().filter_map(|assertion| Some((*assertion, context.meaning(assertion, sentences)?)));
    let (assertion, meaning) = found.min_by_key(|(_, meaning)| meaning.rank)?;
    let mut verdict = Verdict::new(meaning.sub_status, context.stage, context.code);
    verdict.blame = meaning.blame.or(verdict.blame);
    verdict.retry = meaning.retry.or(verdict.retry);
    verdict.subject = meaning.subject.or(assertion.who.map(|who| who.subject)).or(verdict.subject);
    if context.code == 421 && verdict.retry == Some(Retry::NextTransaction) {
        verdict.retry = Some(Retry::NextConnection);
    }
    Some(Decision { verdict, predicate: assertion.predicate })
}

/// The meaning of one assertion, and its rank.
struct RankedMeaning {
    rank: u8,
    sub_status: SubStatus,
    blame: Option<Blame>,
    retry: Option<Retry>,
    /// The subject that is meant, if it differs from the named one.
    subject: Option<Subject>,
}

impl RankedMeaning {
    fn new(rank: u8, sub_status: SubStatus) -> Self {
        Self { rank, sub_status, blame: None, retry: None, subject: None }
    }

    fn blame(self, blame: Blame) -> Self {
        Self { blame: Some(blame), ..self }
    }

    fn retry(self, retry: Retry) -> Self {
        Self { retry: Some(retry), ..self }
    }

    fn of(self, subject: Subject) -> Self {
        Self { subject: Some(subject), ..self }
    }
}

/// The ranks of meanings. The lowest decides.
mod rank {
    pub(super) const TRANSACTION: u8 = 1;
    pub(super) const CLIENT: u8 = 2;
    pub(super) const RATE: u8 = 3;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const SENDER: u8 = 5;
    pub(super) const CONNECTION: u8 = 6;
    pub(super) const FULL: u8 = 7;
    pub(super) const RELAY: u8 = 8;
    pub(super) const CONTENT: u8 = 9;
    pub(super) const TEMPORARY: u8 = 10;
    pub(super) const POLICY: u8 = 11;
    pub(super) const SERVER: u8 = 12;
    pub(super) const DOUBTFUL: u8 = 13;
    pub(super) const DISABLED: u8 = 14;
    pub(super) const NOT_FOUND: u8 = 15;
    pub(super) const REJECTED: u8 = 16;
}

impl ReplyContext {
    fn is_permanent(self) -> bool {
        self.code >= 500 && self.enhanced.is_none_or(|code| code.class != 4)
    }

    /// Returns subject and detail of the enhanced code.
    fn detail(self) -> Option<(u16, u16)> {
        self.enhanced.map(|code| (code.subject, code.detail))
    }

    /// Corrects the subject of an assertion before RCPT, when the client has not named the recipient. A mailbox is then
    /// the sender's, and a domain or a refusal is the client's.
    fn at_stage(self, assertion: Assertion) -> Assertion {
        use Predicate as P;
        use Subject as W;
        let Assertion { predicate, who, .. } = assertion;
        let subject = who.map(|who| who.subject);
        let refuses = predicate.refuses() && predicate != P::Spam;
        let own = match self.stage {
            Stage::Mail => W::Sender,
            Stage::Banner | Stage::Ehlo | Stage::Auth => W::Client,
            Stage::StartTls => W::Connection,
            Stage::Rcpt | Stage::Data | Stage::Unknown => {
                // A server that closes the connection for a policy refuses the client, not the recipient.
                let client = (self.code == 421 && refuses && who.is_none()).then_some(W::Client);
                return Assertion { who: client.map(Who::new).or(who), ..assertion };
            }
        };
        let greeting = matches!(self.stage, Stage::Banner | Stage::Ehlo) && self.is_permanent();
        let is_own = match subject {
            Some(W::Recipient | W::RecipientDomain) => true,
            Some(W::Server) | None if greeting => {
                refuses || matches!(predicate, P::Unavailable | P::Temporary | P::TakesNoMail | P::Disabled)
            }
            None => refuses || predicate == P::NotFound,
            _ => false,
        };
        Assertion { who: if is_own { Some(Who::new(own)) } else { who }, ..assertion }
    }

    fn meaning(self, assertion: &Assertion, sentences: &Sentences) -> Option<RankedMeaning> {
        use Predicate as P;
        use SubStatus as S;
        use Subject as W;
        let who = assertion.who.map(|who| who.subject);
        Some(match (assertion.predicate, who) {
            (P::TooMany | P::Full, Some(W::Transaction)) => {
                RankedMeaning::new(rank::TRANSACTION, S::RateLimited)
                    .blame(Blame::Server)
                    .retry(Retry::NextTransaction)
            }
            (P::TooMany, Some(W::Recipient)) => {
                RankedMeaning::new(rank::RATE, S::RateLimited).blame(Blame::Recipient)
            }
            (P::TooMany, Some(W::Server | W::RemoteServer)) => {
                RankedMeaning::new(rank::RATE, S::RateLimited).blame(Blame::Server)
            }
            (P::TooMany, _) | (P::Full, Some(W::Client | W::Sender | W::Connection)) => {
                RankedMeaning::new(rank::RATE, S::RateLimited)
            }
            (P::Required, Some(W::Client | W::Sender)) => RankedMeaning::new(rank::CONNECTION, S::Blocked),
            (P::Required, _) => RankedMeaning::new(rank::CONNECTION, S::PolicyRejected).of(W::Connection),
            (P::Temporary, Some(W::Sender)) if self.is_permanent() => {
                RankedMeaning::new(rank::SENDER, S::Blocked)
            }
            (P::Temporary, Some(W::Client)) if self.is_permanent() && !self.stage.knows_recipient() => {
                RankedMeaning::new(rank::REFUSED, S::Blocked)
            }
            (P::Temporary, Some(W::Client | W::Content) | None) => self.server_failure().of(W::Server),
            (P::Temporary, _) => self.server_failure(),
            (P::Listed, Some(W::Content)) if assertion.gap == Some(0) && !assertion.crossed => {
                RankedMeaning::new(rank::CONTENT, S::PolicyRejected)
            }
            (P::Listed, Some(W::Recipient)) if assertion.who.is_some_and(|who| !who.someone) => {
                RankedMeaning::new(rank::POLICY, S::PolicyRejected)
            }
            (P::Listed, Some(W::Sender)) => RankedMeaning::new(rank::CLIENT, S::Blocked),
            (P::Listed, _) => RankedMeaning::new(rank::CLIENT, S::Blocked).of(W::Client),
            // "Connection refused: too many connections from your IP" is a limit.
            (P::Denied | P::Rejected | P::Unavailable, Some(W::Client)) => {
                RankedMeaning::new(rank::REFUSED, S::Blocked)
            }
            (_, Some(W::Client)) => RankedMeaning::new(rank::CLIENT, S::Blocked),
            (_, Some(W::Sender)) => RankedMeaning::new(rank::SENDER, S::Blocked),
            (P::Spam, _) => RankedMeaning::new(rank::CONTENT, S::PolicyRejected).of(W::Content),
            (P::Full, Some(W::Server | W::RemoteServer | W::RecipientDomain)) => {
                RankedMeaning { rank: rank::FULL, ..self.server_failure() }
            }
            (P::Full, Some(W::Content)) => RankedMeaning::new(rank::CONTENT, S::Other),
            (P::Full, Some(W::List)) => RankedMeaning::new(rank::FULL, S::Other),
            (P::Full, None) if !self.stage.knows_recipient() => {
                RankedMeaning { rank: rank::FULL, ..self.server_failure().of(W::Server) }
            }
            // 4.3.1: the disk of the server.
            (P::Full, None) if matches!(self.detail(), Some((3, _))) => {
                RankedMeaning { rank: rank::FULL, ..self.server_failure().of(W::Server) }
            }
            // Not "maximum number of users reached", unless the code says it.
            (P::Full, Some(_)) if assertion.gap.is_none_or(|gap| gap > 1) && !self.says_full() => {
                self.doubtful(assertion)
            }
            (P::Full, _) => RankedMeaning::new(rank::FULL, S::MailboxQuotaExceeded).of(W::Recipient),
            (P::Disabled | P::Unavailable | P::TakesNoMail, Some(W::Connection)) => self.server_failure(),
            (_, Some(W::Connection)) => RankedMeaning::new(rank::CONNECTION, S::Blocked),
            (P::TakesNoMail, Some(W::Server)) if matches!(self.code, 521 | 556) && !assertion.restricted => {
                RankedMeaning::new(rank::DISABLED, S::DoesNotAcceptMail)
            }
            (P::Denied | P::Blocked | P::Rejected, Some(W::Server | W::RemoteServer)) => {
                RankedMeaning::new(rank::POLICY, S::PolicyRejected)
            }
            (_, Some(W::Server | W::RemoteServer)) => self.server_failure(),
            (P::Disabled | P::TakesNoMail, Some(W::RecipientDomain)) => match self.is_certain(assertion) {
                true => RankedMeaning::new(rank::DISABLED, S::DoesNotAcceptMail),
                false => self.doubtful(assertion),
            },
            (P::Unavailable, Some(W::RecipientDomain)) => self.server_failure(),
            // A policy, in a text that contains a host name.
            (P::Denied | P::Blocked | P::Rejected, Some(W::RecipientDomain))
                if assertion.who.is_some_and(|who| who.someone) =>
            {
                RankedMeaning::new(rank::POLICY, S::PolicyRejected)
            }
            (_, Some(W::RecipientDomain)) => RankedMeaning::new(rank::RELAY, S::Other),
            (_, Some(W::List)) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (P::Denied | P::Blocked, Some(W::Content)) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (P::Rejected, Some(W::Content)) => RankedMeaning::new(rank::REJECTED, S::PolicyRejected),
            (_, Some(W::Content | W::Transaction)) => RankedMeaning::new(rank::CONTENT, S::Other),
            (P::Rejected, Some(W::Recipient)) if self.says_not_found() && sentences.is_bare() => {
                self.recipient(assertion, rank::NOT_FOUND, S::MailboxNotFound)
            }
            (P::Rejected, _) if !self.is_permanent() => return None,
            (P::Rejected, _) => RankedMeaning::new(rank::REJECTED, S::PolicyRejected),
            // A blocked "address" may be an IP address.
            (P::Blocked, Some(W::Recipient))
                if self.is_certain(assertion)
                    && !assertion.crossed
                    && assertion.who.is_some_and(|who| !who.someone) =>
            {
                self.recipient(assertion, rank::DISABLED, S::MailboxDisabled)
            }
            (P::Denied | P::Blocked, _) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (_, None) => return None,
            (P::NotFound, Some(W::Recipient)) => {
                self.recipient(assertion, rank::NOT_FOUND, S::MailboxNotFound)
            }
            (P::Disabled | P::TakesNoMail, Some(W::Recipient)) => {
                self.recipient(assertion, rank::DISABLED, S::MailboxDisabled)
            }
            // The words of RFC 5321 4.2.3 for 550. With x.2.1 and x.7.1 they mean something else.
            (P::Unavailable, Some(W::Recipient)) => match self.detail() {
                None | Some((0 | 1 | 5, _)) => self.recipient(assertion, rank::NOT_FOUND, S::MailboxNotFound),
                Some(_) => self.doubtful(assertion),
            },
        })
    }

    /// Returns the meaning of an assertion about the recipient. It counts only if it is certain. In a temporary reply
    /// it means a failure of the server.
    fn recipient(self, assertion: &Assertion, rank: u8, sub_status: SubStatus) -> RankedMeaning {
        match (self.is_permanent(), self.is_certain(assertion)) {
            (false, _) => self.server_failure(),
            (true, true) => RankedMeaning::new(rank, sub_status),
            (true, false) => self.doubtful(assertion),
        }
    }

    /// Returns the meaning of an uncertain assertion about the recipient or its domain.
    fn doubtful(self, assertion: &Assertion) -> RankedMeaning {
        let sub_status = if assertion.restricted { SubStatus::PolicyRejected } else { SubStatus::Other };
        RankedMeaning::new(rank::DOUBTFUL, sub_status)
    }

    /// Returns the meaning of a failure that does not concern the mailbox. It is temporary, or to be retried later.
    fn server_failure(self) -> RankedMeaning {
        match self.is_permanent() {
            true => RankedMeaning::new(rank::SERVER, SubStatus::Other).retry(Retry::Later),
            false => RankedMeaning::new(rank::TEMPORARY, SubStatus::MailServerTemporaryError),
        }
    }

    /// Returns whether a code says that the mailbox is full: RFC 3463 x.2.2, or RFC 5321's 552.
    fn says_full(self) -> bool {
        matches!(self.detail(), Some((2, 2))) || matches!(self.code, 552 | 522 | 422)
    }

    /// Returns whether the enhanced code says that the mailbox does not exist: RFC 3463 x.1.1 and similar.
    fn says_not_found(self) -> bool {
        matches!(self.detail(), Some((1, 0 | 1 | 6 | 10)))
    }

    /// Returns whether the assertion is about the recipient alone, without any restriction.
    fn is_certain(self, assertion: &Assertion) -> bool {
        let open_ended = matches!(assertion.predicate, Predicate::TakesNoMail | Predicate::Unavailable)
            || assertion.who.is_some_and(|who| who.subject == Subject::RecipientDomain);
        // A bounce may quote a reply to MAIL.
        let named = self.stage != Stage::Unknown
            || assertion.who.is_some_and(|who| !who.someone)
            || matches!(self.detail(), Some((1 | 2, _)));
        self.is_permanent()
            && self.stage.knows_recipient()
            && assertion.gap == Some(0)
            && named
            && !assertion.restricted
            && !(open_ended && assertion.goes_on)
    }
}
