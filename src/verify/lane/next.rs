//! Decides what follows from an answer. Every function is pure: it reads facts and returns a value.
//!
//! `verdicts` and `control` collect the facts and apply the value to the lane.
//!
//! ```text
//! after_limit ─┬─ Repeat::Always, IfLossesAllow ▶ the question is asked again at once
//!              └─ Repeat::Never ─┬─ address ▶ Next
//!                                ├─ random mailbox ▶ ProbeNext
//!                                └─ control ▶ ControlResult
//! evidence ▶ what the answer shows about the server
//! ```

use std::time::Duration;

use super::catch_all::CatchAllState;
use crate::verify::{
    Blame, CatchAll, Retry, Status, SubStatus, Verdict, outcome::Outcome, run_state::RetryOwner,
};

/// Whether a question is asked again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The outcome decides what follows.
    Never,
    /// It is asked again, unless it has lost too many connections. This counts as one.
    IfLossesAllow,
    /// It is asked again.
    Always,
}

/// What follows from an answer that meets a limit of the transaction, of the connection or of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitEffect {
    pub(super) repeat: Repeat,
    /// Whether to ask nothing more on the connection.
    pub(super) stop: bool,
    /// The most recipients that the server accepts in a transaction, if the answer showed a limit.
    pub(super) recipients: Option<u32>,
}

/// Returns what follows from an answer to the recipient at `position` in its transaction. `ipv6` tells whether the
/// connection uses IPv6, and `ipv4` whether IPv4 can serve instead.
pub(super) fn after_limit(retry: Option<Retry>, position: u32, ipv6: bool, ipv4: bool) -> LimitEffect {
    match retry {
        // A server that refuses the first recipient as one too many contradicts itself, or means a limit other than
        // that of the transaction.
        Some(Retry::NextTransaction) => LimitEffect {
            repeat: if position > 0 { Repeat::Always } else { Repeat::IfLossesAllow },
            stop: false,
            recipients: Some(position.max(1)),
        },
        Some(Retry::NextConnection) => {
            LimitEffect { repeat: Repeat::IfLossesAllow, stop: true, recipients: None }
        }
        // A server that says the same over IPv4 contradicts itself.
        Some(Retry::OverIpv4) if ipv4 => LimitEffect {
            repeat: if ipv6 { Repeat::Always } else { Repeat::IfLossesAllow },
            stop: ipv6,
            recipients: None,
        },
        _ => LimitEffect { repeat: Repeat::Never, stop: false, recipients: None },
    }
}

/// What follows from the outcome of a question about an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The lane asks again after this pause.
    RetryAfter(Duration),
    /// The address gets a record.
    Record(RecordNext),
}

/// What follows for the record of an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RecordNext {
    /// It is final.
    Done,
    /// The caller gets it, and asks again after this pause.
    Retry(Duration),
    /// The address is accepted, and the result for its domain is known.
    Accept(CatchAll),
    /// The address is accepted. The record waits for the answer to the probe of the domain.
    AwaitProbe,
    /// The address is the first of its domain that is accepted. The record waits while the domain is probed.
    ProbeDomain,
    /// The server's refusals prove nothing. This outcome replaces the refusal.
    Replace(Outcome),
    /// The address is refused. Later answers confirm or void the verdict. If `held`, it is not reported before.
    Provisional { held: bool },
}

/// What the decision about an address depends on, besides its verdict.
pub(super) struct AddressFacts<'a, T> {
    /// The pause before the next attempt. `None` if there is no such attempt.
    pub(super) pause: Option<Duration>,
    pub(super) retry_owner: RetryOwner,
    /// Whether domains are tested for a catch-all.
    pub(super) tests_domains: bool,
    /// The state of the test of the domain, if it has begun.
    pub(super) domain: Option<&'a CatchAllState<T>>,
    /// The result of an earlier run for the domain, if it counts for this server.
    pub(super) earlier: Option<CatchAll>,
    /// The reason why refusals of the server prove nothing, if there is one.
    pub(super) distrust: Option<&'a Outcome>,
    /// Whether refusals of the server or of the connection are doubtful.
    pub(super) doubtful: bool,
}

impl Next {
    /// Decides what follows for an address with this verdict.
    pub(super) fn of_address<T>(verdict: Verdict, facts: &AddressFacts<'_, T>) -> Self {
        match facts.pause {
            Some(pause) if facts.retry_owner == RetryOwner::Engine => Self::RetryAfter(pause),
            pause => Self::Record(RecordNext::of(verdict, pause, facts)),
        }
    }
}

impl RecordNext {
    fn of<T>(verdict: Verdict, pause: Option<Duration>, facts: &AddressFacts<'_, T>) -> Self {
        match (verdict.status(), pause, facts.distrust) {
            _ if verdict.sub_status == SubStatus::Accepted => Self::of_acceptance(facts),
            (_, Some(pause), _) => Self::Retry(pause),
            (Status::Undeliverable, None, Some(reason)) => Self::Replace(reason.clone()),
            // After `Done` a caller may forget the address, and the attempts of a reopened address start at zero. So
            // doubtful verdicts are held back.
            (Status::Undeliverable, None, None) => {
                Self::Provisional { held: facts.retry_owner == RetryOwner::Engine || facts.doubtful }
            }
            (_, None, _) => Self::Done,
        }
    }

    fn of_acceptance<T>(facts: &AddressFacts<'_, T>) -> Self {
        match (facts.domain, facts.earlier) {
            _ if !facts.tests_domains => Self::Accept(CatchAll::NotRun),
            (Some(CatchAllState::Answered(catch_all)), _) => Self::Accept(*catch_all),
            (Some(CatchAllState::Asked(_)), _) => Self::AwaitProbe,
            (None, Some(catch_all)) => Self::Accept(catch_all),
            (None, None) => Self::ProbeDomain,
        }
    }
}

/// What follows from the outcome of a probe with a random mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeNext {
    /// The probe is asked again after this pause. A greylist delays a random mailbox as any other.
    RetryAfter(Duration),
    /// The domain has its result.
    Answered(CatchAll),
}

impl ProbeNext {
    /// Decides what follows for a domain. `defended` tells whether the server refuses existing mailboxes.
    pub(super) fn of(sub_status: SubStatus, pause: Option<Duration>, defended: bool) -> Self {
        match (pause, sub_status) {
            (Some(pause), _) => Self::RetryAfter(pause),
            (None, SubStatus::Accepted) => Self::Answered(CatchAll::Accepted),
            (None, SubStatus::MailboxNotFound | SubStatus::MailboxDisabled) if !defended => {
                Self::Answered(CatchAll::Refused)
            }
            (None, _) => Self::Answered(CatchAll::Inconclusive),
        }
    }
}

/// What the answer to a control shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlResult {
    /// The server is honest.
    Accepted,
    /// The server refuses a mailbox that it accepted before.
    Refused,
    /// The answer shows neither.
    Lost,
}

impl ControlResult {
    /// Decides what the answer to a control shows. `defended` tells whether the server refuses existing mailboxes.
    pub(super) fn of(status: Status, defended: bool) -> Self {
        match status {
            Status::Deliverable => Self::Accepted,
            Status::Undeliverable => Self::Refused,
            // While the server is known to refuse existing mailboxes, only an acceptance shows that it no longer does.
            _ if defended => Self::Refused,
            _ => Self::Lost,
        }
    }
}

/// What an answer shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Acceptance,
    Refusal,
    None,
}

/// Returns what an answer shows about the server. `repeats_limit` tells whether an earlier answer of the batch met the
/// same limit of the connection, and `control` whether a control got the answer.
pub(super) fn evidence(verdict: Verdict, repeats_limit: bool, control: bool) -> Evidence {
    let counted = repeats_limit && verdict.blame == Some(Blame::Us)
        || control && verdict.status() == Status::Undeliverable;
    match verdict.sub_status {
        SubStatus::Accepted => Evidence::Acceptance,
        _ if counted => Evidence::None,
        _ => Evidence::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn verdict(sub_status: SubStatus) -> Verdict {
        Verdict { sub_status, blame: None, retry: None, subject: None }
    }

    fn facts() -> AddressFacts<'static, ()> {
        AddressFacts {
            pause: None,
            retry_owner: RetryOwner::Caller,
            tests_domains: true,
            domain: None,
            earlier: None,
            distrust: None,
            doubtful: false,
        }
    }

    #[test]
    fn an_answer_that_meets_a_limit_is_asked_again_at_once() {
        use Repeat::{Always, IfLossesAllow, Never};
        let of = |retry, position, ipv6, ipv4| {
            let LimitEffect { repeat, stop, recipients } = after_limit(retry, position, ipv6, ipv4);
            (repeat, stop, recipients)
        };
        for ipv6 in [false, true] {
            let transaction = Some(Retry::NextTransaction);
            assert_eq!(of(transaction, 7, ipv6, true), (Always, false, Some(7)));
            assert_eq!(of(transaction, 0, ipv6, true), (IfLossesAllow, false, Some(1)), "a contradiction");
            assert_eq!(of(Some(Retry::NextConnection), 7, ipv6, true), (IfLossesAllow, true, None));
            assert_eq!(of(Some(Retry::OverIpv4), 7, ipv6, false), (Never, false, None), "no IPv4");
            assert_eq!(of(Some(Retry::Later), 7, ipv6, true), (Never, false, None));
            assert_eq!(of(None, 7, ipv6, true), (Never, false, None));
        }
        assert_eq!(of(Some(Retry::OverIpv4), 7, true, true), (Always, true, None));
        assert_eq!(of(Some(Retry::OverIpv4), 7, false, true), (IfLossesAllow, false, None), "IPv4 already");
    }

    #[test]
    fn a_temporary_refusal_is_asked_again_by_the_owner_of_retries() {
        let greylisted = verdict(SubStatus::Greylisted);
        let next = |pause, retry_owner| {
            Next::of_address(greylisted, &AddressFacts { pause, retry_owner, ..facts() })
        };
        assert_eq!(next(Some(MINUTE), RetryOwner::Engine), Next::RetryAfter(MINUTE));
        assert_eq!(next(Some(MINUTE), RetryOwner::Caller), Next::Record(RecordNext::Retry(MINUTE)));
        assert_eq!(next(None, RetryOwner::Engine), Next::Record(RecordNext::Done));
        assert_eq!(next(None, RetryOwner::Caller), Next::Record(RecordNext::Done));
    }

    #[test]
    fn an_acceptance_waits_until_its_domain_has_a_result() {
        let next = |facts: &AddressFacts<'_, ()>| Next::of_address(verdict(SubStatus::Accepted), facts);
        assert_eq!(next(&facts()), Next::Record(RecordNext::ProbeDomain));
        assert_eq!(
            next(&AddressFacts { tests_domains: false, ..facts() }),
            Next::Record(RecordNext::Accept(CatchAll::NotRun)),
            "no test is wanted"
        );
        let earlier = Some(CatchAll::Refused);
        assert_eq!(
            next(&AddressFacts { earlier, ..facts() }),
            Next::Record(RecordNext::Accept(CatchAll::Refused))
        );
        let asked = CatchAllState::Asked(Vec::new());
        let domain = Some(&asked);
        assert_eq!(next(&AddressFacts { domain, ..facts() }), Next::Record(RecordNext::AwaitProbe));
        assert_eq!(next(&AddressFacts { domain, earlier, ..facts() }), Next::Record(RecordNext::AwaitProbe));
        let answered = CatchAllState::Answered(CatchAll::Accepted);
        let domain = Some(&answered);
        assert_eq!(
            next(&AddressFacts { domain, earlier, ..facts() }),
            Next::Record(RecordNext::Accept(CatchAll::Accepted)),
            "this run counts, not an earlier one"
        );
        // A doubt about refusals does not concern an acceptance.
        let defence = Outcome::harvest_defence();
        let doubted = AddressFacts { distrust: Some(&defence), doubtful: true, ..facts() };
        assert_eq!(next(&doubted), Next::Record(RecordNext::ProbeDomain));
    }

    #[test]
    fn a_refusal_is_provisional_or_replaced() {
        let next =
            |facts: &AddressFacts<'_, ()>| Next::of_address(verdict(SubStatus::MailboxNotFound), facts);
        assert_eq!(next(&facts()), Next::Record(RecordNext::Provisional { held: false }));
        assert_eq!(
            next(&AddressFacts { doubtful: true, ..facts() }),
            Next::Record(RecordNext::Provisional { held: true })
        );
        let retry_owner = RetryOwner::Engine;
        assert_eq!(
            next(&AddressFacts { retry_owner, ..facts() }),
            Next::Record(RecordNext::Provisional { held: true })
        );
        let defence = Outcome::harvest_defence();
        let distrust = Some(&defence);
        for retry_owner in [RetryOwner::Engine, RetryOwner::Caller] {
            let facts = AddressFacts { distrust, retry_owner, ..facts() };
            assert_eq!(next(&facts), Next::Record(RecordNext::Replace(defence.clone())));
        }
        // Distrust replaces refusals of the mailbox only.
        let blocked = Next::of_address(verdict(SubStatus::Blocked), &AddressFacts { distrust, ..facts() });
        assert_eq!(blocked, Next::Record(RecordNext::Done));
    }

    #[test]
    fn only_a_refusal_of_the_random_mailbox_shows_that_a_domain_is_no_catch_all() {
        use SubStatus as S;
        let of = |sub_status, defended| ProbeNext::of(sub_status, None, defended);
        assert_eq!(of(S::Accepted, false), ProbeNext::Answered(CatchAll::Accepted));
        assert_eq!(of(S::Accepted, true), ProbeNext::Answered(CatchAll::Accepted));
        for sub_status in [S::MailboxNotFound, S::MailboxDisabled] {
            assert_eq!(of(sub_status, false), ProbeNext::Answered(CatchAll::Refused));
            assert_eq!(of(sub_status, true), ProbeNext::Answered(CatchAll::Inconclusive), "a defence");
        }
        for sub_status in [S::Blocked, S::TimeoutExceeded, S::DoesNotAcceptMail, S::MailboxQuotaExceeded] {
            assert_eq!(of(sub_status, false), ProbeNext::Answered(CatchAll::Inconclusive));
        }
        assert_eq!(ProbeNext::of(S::Greylisted, Some(MINUTE), false), ProbeNext::RetryAfter(MINUTE));
    }

    #[test]
    fn after_a_detection_only_an_acceptance_clears_the_server() {
        let all = [Status::Deliverable, Status::Undeliverable, Status::Risky, Status::Unknown];
        use ControlResult::{Accepted, Lost, Refused};
        assert_eq!(all.map(|status| ControlResult::of(status, false)), [Accepted, Refused, Lost, Lost]);
        assert_eq!(all.map(|status| ControlResult::of(status, true)), [Accepted, Refused, Refused, Refused]);
    }

    #[test]
    fn a_limit_of_the_connection_counts_once_and_the_refusal_of_a_control_never() {
        let accepted = verdict(SubStatus::Accepted);
        let refused = verdict(SubStatus::MailboxNotFound);
        let blamed = Verdict { blame: Some(Blame::Us), ..verdict(SubStatus::RateLimited) };
        let server = Verdict { blame: Some(Blame::Server), ..blamed };
        for (verdict, repeats_limit, control, wanted) in [
            (accepted, false, false, Evidence::Acceptance),
            (accepted, false, true, Evidence::Acceptance),
            (refused, false, false, Evidence::Refusal),
            (refused, false, true, Evidence::None),
            (refused, true, false, Evidence::Refusal),
            (blamed, false, false, Evidence::Refusal),
            (blamed, false, true, Evidence::Refusal),
            (blamed, true, false, Evidence::None),
            (server, true, false, Evidence::Refusal),
        ] {
            let found = evidence(verdict, repeats_limit, control);
            assert_eq!(found, wanted, "{verdict:?}, repeats {repeats_limit}, control {control}");
        }
    }
}
