//! What it means that something is said of somebody, and which of several assertions decides.
//!
//! | said of | means |
//! |---|---|
//! | the recipient | not found, disabled: undeliverable; full; refused: a policy |
//! | the recipient's domain | takes no mail, disabled: undeliverable; not found, refused: other, as for relaying |
//! | the sender, the client, the connection | whatever is said: blocked; too many: rate limited |
//! | the transaction | too many: rate limited, the next transaction may pass |
//! | the server, another server | a temporary error; other if the reply is permanent |
//! | a list, the content | a policy |
//!
//! The assertion with the lowest rank decides: limits, then us, then the sender, then all that may have nothing to do
//! with the mailbox, and the mailbox last.

use super::{
    predicate::Predicate,
    sentence::{Assertion, Sentences, Who},
    verdict::{Retry, Stage, Verdict},
};
use crate::{
    proto::EnhancedCode,
    verify::{Blame, SubStatus, Subject},
};

/// What is known of a reply beside its words.
#[derive(Clone, Copy)]
pub(super) struct ReplyContext {
    pub(super) stage: Stage,
    pub(super) code: u16,
    pub(super) enhanced: Option<EnhancedCode>,
}

/// What a reply says, and of whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) predicate: Predicate,
}

/// The assertion that decides.
pub(super) fn decide(sentences: &Sentences, context: ReplyContext) -> Option<Decision> {
    let said: Vec<Assertion> = sentences.assertions().map(|said| context.at_stage(said)).collect();
    let found = said.iter().filter_map(|said| Some((*said, context.meaning(said, sentences)?)));
    let (said, meaning) = found.min_by_key(|(_, meaning)| meaning.rank)?;
    let mut verdict = Verdict::new(meaning.sub_status, context.stage, context.code);
    verdict.blame = meaning.blame.or(verdict.blame);
    verdict.retry = meaning.retry.or(verdict.retry);
    verdict.subject = meaning.subject.or(said.who.map(|who| who.subject)).or(verdict.subject);
    if context.code == 421 && verdict.retry == Some(Retry::NextTransaction) {
        verdict.retry = Some(Retry::NextConnection);
    }
    Some(Decision { verdict, predicate: said.predicate })
}

/// What one assertion means.
struct RankedMeaning {
    rank: u8,
    sub_status: SubStatus,
    blame: Option<Blame>,
    retry: Option<Retry>,
    /// Who is meant, whoever is named.
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

/// The ranks of meanings, the first to decide first.
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

    /// Subject and detail of the enhanced code.
    fn detail(self) -> Option<(u16, u16)> {
        self.enhanced.map(|code| (code.subject, code.detail))
    }

    /// Before RCPT nobody has named the recipient: a mailbox is the sender's, and a domain or a refusal is ours.
    fn at_stage(self, said: Assertion) -> Assertion {
        use Predicate as P;
        use Subject as W;
        let Assertion { predicate, who, .. } = said;
        let subject = who.map(|who| who.subject);
        let refuses = predicate.refuses() && predicate != P::Spam;
        let us = match self.stage {
            Stage::Mail => W::Sender,
            Stage::Banner | Stage::Ehlo | Stage::Auth => W::Client,
            Stage::StartTls => W::Connection,
            Stage::Rcpt | Stage::Data | Stage::Unknown => {
                // Who is cut off for a policy is refused himself, not what he asked for.
                let us = (self.code == 421 && refuses && who.is_none()).then_some(W::Client);
                return Assertion { who: us.map(Who::new).or(who), ..said };
            }
        };
        let greeting = matches!(self.stage, Stage::Banner | Stage::Ehlo) && self.is_permanent();
        let ours = match subject {
            Some(W::Recipient | W::RecipientDomain) => true,
            Some(W::Server) | None if greeting => {
                refuses || matches!(predicate, P::Unavailable | P::Temporary | P::TakesNoMail | P::Disabled)
            }
            None => refuses || predicate == P::NotFound,
            _ => false,
        };
        Assertion { who: if ours { Some(Who::new(us)) } else { who }, ..said }
    }

    fn meaning(self, said: &Assertion, sentences: &Sentences) -> Option<RankedMeaning> {
        use Predicate as P;
        use SubStatus as S;
        use Subject as W;
        let who = said.who.map(|who| who.subject);
        Some(match (said.predicate, who) {
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
            (P::Temporary, Some(W::Client | W::Content) | None) => self.trouble().of(W::Server),
            (P::Temporary, _) => self.trouble(),
            (P::Listed, Some(W::Content)) if said.gap == Some(0) && !said.crossed => {
                RankedMeaning::new(rank::CONTENT, S::PolicyRejected)
            }
            (P::Listed, Some(W::Recipient)) if said.who.is_some_and(|who| !who.someone) => {
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
                RankedMeaning { rank: rank::FULL, ..self.trouble() }
            }
            (P::Full, Some(W::Content)) => RankedMeaning::new(rank::CONTENT, S::Other),
            (P::Full, Some(W::List)) => RankedMeaning::new(rank::FULL, S::Other),
            (P::Full, None) if !self.stage.knows_recipient() => {
                RankedMeaning { rank: rank::FULL, ..self.trouble().of(W::Server) }
            }
            // 4.3.1: the disk of the server.
            (P::Full, None) if matches!(self.detail(), Some((3, _))) => {
                RankedMeaning { rank: rank::FULL, ..self.trouble().of(W::Server) }
            }
            // Not "maximum number of users reached", unless the code says it.
            (P::Full, Some(_)) if said.gap.is_none_or(|gap| gap > 1) && !self.says_full() => {
                self.doubtful(said)
            }
            (P::Full, _) => RankedMeaning::new(rank::FULL, S::MailboxQuotaExceeded).of(W::Recipient),
            (P::Disabled | P::Unavailable | P::TakesNoMail, Some(W::Connection)) => self.trouble(),
            (_, Some(W::Connection)) => RankedMeaning::new(rank::CONNECTION, S::Blocked),
            (P::TakesNoMail, Some(W::Server)) if matches!(self.code, 521 | 556) && !said.restricted => {
                RankedMeaning::new(rank::DISABLED, S::DoesNotAcceptMail)
            }
            (P::Denied | P::Blocked | P::Rejected, Some(W::Server | W::RemoteServer)) => {
                RankedMeaning::new(rank::POLICY, S::PolicyRejected)
            }
            (_, Some(W::Server | W::RemoteServer)) => self.trouble(),
            (P::Disabled | P::TakesNoMail, Some(W::RecipientDomain)) => match self.is_certain(said) {
                true => RankedMeaning::new(rank::DISABLED, S::DoesNotAcceptMail),
                false => self.doubtful(said),
            },
            (P::Unavailable, Some(W::RecipientDomain)) => self.trouble(),
            // A policy in a text that has some host name in it.
            (P::Denied | P::Blocked | P::Rejected, Some(W::RecipientDomain))
                if said.who.is_some_and(|who| who.someone) =>
            {
                RankedMeaning::new(rank::POLICY, S::PolicyRejected)
            }
            (_, Some(W::RecipientDomain)) => RankedMeaning::new(rank::RELAY, S::Other),
            (_, Some(W::List)) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (P::Denied | P::Blocked, Some(W::Content)) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (P::Rejected, Some(W::Content)) => RankedMeaning::new(rank::REJECTED, S::PolicyRejected),
            (_, Some(W::Content | W::Transaction)) => RankedMeaning::new(rank::CONTENT, S::Other),
            (P::Rejected, Some(W::Recipient)) if self.says_not_found() && sentences.is_bare() => {
                self.recipient(said, rank::NOT_FOUND, S::MailboxNotFound)
            }
            (P::Rejected, _) if !self.is_permanent() => return None,
            (P::Rejected, _) => RankedMeaning::new(rank::REJECTED, S::PolicyRejected),
            // An address may be blocked that is an IP address.
            (P::Blocked, Some(W::Recipient))
                if self.is_certain(said) && !said.crossed && said.who.is_some_and(|who| !who.someone) =>
            {
                self.recipient(said, rank::DISABLED, S::MailboxDisabled)
            }
            (P::Denied | P::Blocked, _) => RankedMeaning::new(rank::POLICY, S::PolicyRejected),
            (_, None) => return None,
            (P::NotFound, Some(W::Recipient)) => self.recipient(said, rank::NOT_FOUND, S::MailboxNotFound),
            (P::Disabled | P::TakesNoMail, Some(W::Recipient)) => {
                self.recipient(said, rank::DISABLED, S::MailboxDisabled)
            }
            // The words of RFC 5321 4.2.3 for 550; x.2.1 and x.7.1 say that they mean something else.
            (P::Unavailable, Some(W::Recipient)) => match self.detail() {
                None | Some((0 | 1 | 5, _)) => self.recipient(said, rank::NOT_FOUND, S::MailboxNotFound),
                Some(_) => self.doubtful(said),
            },
        })
    }

    /// What is said of the recipient for certain; of a temporary reply it is none of its doing.
    fn recipient(self, said: &Assertion, rank: u8, sub_status: SubStatus) -> RankedMeaning {
        match (self.is_permanent(), self.is_certain(said)) {
            (false, _) => self.trouble(),
            (true, true) => RankedMeaning::new(rank, sub_status),
            (true, false) => self.doubtful(said),
        }
    }

    /// The recipient or its domain is spoken of, and it is not certain what is said.
    fn doubtful(self, said: &Assertion) -> RankedMeaning {
        let sub_status = if said.restricted { SubStatus::PolicyRejected } else { SubStatus::Other };
        RankedMeaning::new(rank::DOUBTFUL, sub_status)
    }

    /// Something fails that is not the mailbox: temporary, or to be asked again later.
    fn trouble(self) -> RankedMeaning {
        match self.is_permanent() {
            true => RankedMeaning::new(rank::SERVER, SubStatus::Other).retry(Retry::Later),
            false => RankedMeaning::new(rank::TEMPORARY, SubStatus::MailServerTemporaryError),
        }
    }

    /// RFC 3463 x.2.2, or RFC 5321's 552.
    fn says_full(self) -> bool {
        matches!(self.detail(), Some((2, 2))) || matches!(self.code, 552 | 522 | 422)
    }

    /// RFC 3463 x.1.1 and its relatives: no such mailbox.
    fn says_not_found(self) -> bool {
        matches!(self.detail(), Some((1, 0 | 1 | 6 | 10)))
    }

    /// Whether the recipient, and nobody else, is spoken of, without any restriction.
    fn is_certain(self, said: &Assertion) -> bool {
        let open_ended = matches!(said.predicate, Predicate::TakesNoMail | Predicate::Unavailable)
            || said.who.is_some_and(|who| who.subject == Subject::RecipientDomain);
        // A bounce may quote the answer to MAIL.
        let named = self.stage != Stage::Unknown
            || said.who.is_some_and(|who| !who.someone)
            || matches!(self.detail(), Some((1 | 2, _)));
        self.is_permanent()
            && self.stage.knows_recipient()
            && said.gap == Some(0)
            && named
            && !said.restricted
            && !(open_ended && said.goes_on)
    }
}
