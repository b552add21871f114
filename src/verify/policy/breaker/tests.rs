use super::*;
use crate::{
    proto::{Decoder, Verb},
    verify::{Classifier, Verdict},
};

fn reported(id: u64, domain: u32) -> ProvisionalVerdict {
    ProvisionalVerdict::Reported { run: 0, id, domain }
}

fn ids(verdicts: impl IntoIterator<Item = ProvisionalVerdict>) -> Vec<u64> {
    let id = |verdict| match verdict {
        ProvisionalVerdict::Reported { id, .. } => id,
        ProvisionalVerdict::Held(held) => held.item.id,
    };
    verdicts.into_iter().map(id).collect()
}

fn reply(code: u16, text: &str) -> Outcome {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(format!("{code} {text}\r\n").as_bytes());
    let reply = decoder.decode().unwrap().unwrap();
    Outcome::of_reply(Classifier::builtin(), Verb::Rcpt, &reply)
}

fn outcome() -> Outcome {
    reply(554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example.org")
}

fn temporary() -> Outcome {
    reply(451, "4.3.0 Temporary lookup failure")
}

/// Returns the last scope after so many answers with blame on us.
fn blame(breaker: &mut ProviderBreaker, domain: u32, times: u32, now: Instant) -> BlockScope {
    (0..times).map(|_| breaker.record_refusal(domain, &outcome(), || false, now)).last().unwrap()
}

#[test]
fn an_acceptance_confirms_provisional_verdicts_and_a_run_of_blame_takes_them() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    breaker.add_provisional(0, 1, at(1), reported(1, 1));
    breaker.add_provisional(0, 1, at(3), reported(2, 1));
    breaker.record_acceptance(9, 1, true, 5, at(4));
    assert!(breaker.take_confirmed(0).is_empty(), "the answer of another MX set");
    breaker.record_acceptance(0, 2, true, 1, at(2));
    assert_eq!(ids(breaker.take_confirmed(0)), [1]);
    assert!(breaker.take_confirmed(0).is_empty(), "answered after the last acceptance");
    assert_eq!(blame(&mut breaker, 1, MAX_REFUSALS_IN_A_ROW - 1, now), BlockScope::None);
    breaker.record_refusal(1, &temporary(), || false, now);
    assert_eq!(blame(&mut breaker, 5, MAX_REFUSALS_IN_A_ROW / 2, now), BlockScope::None);
    assert_eq!(blame(&mut breaker, 1, MAX_REFUSALS_IN_A_ROW / 2, now), BlockScope::Lane);
    assert_eq!(ids(breaker.take_provisional(None)), [2]);
    assert!(breaker.blocked(now).is_some());
}

#[test]
fn an_acceptance_on_a_connection_proves_what_was_refused_on_it_before() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    breaker.add_provisional(0, 1, at(1), reported(1, 1));
    breaker.add_provisional(0, 2, at(2), reported(2, 1));
    breaker.add_provisional(0, 1, at(3), reported(3, 1));
    // It was asked before the third answer came, and answered after it.
    breaker.record_acceptance(0, 1, false, 1, at(2));
    breaker.add_provisional(0, 1, at(4), reported(4, 1));
    assert_eq!(ids(breaker.take_confirmed(0)), [1, 3]);
    breaker.record_acceptance(0, 3, false, 1, at(9));
    assert!(breaker.take_confirmed(0).is_empty(), "on another connection");
    assert!(breaker.has_provisional(0) && !breaker.has_provisional(1));
    assert!(breaker.take_provisional_at(1).is_empty());
    assert_eq!(ids(breaker.take_provisional_at(0)), [2, 4]);
    assert!(!breaker.has_provisional(0));
}

#[test]
fn beyond_the_limit_the_oldest_provisional_verdicts_become_final() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    let all = MAX_PROVISIONAL as u64 + 2;
    (0..all).for_each(|id| breaker.add_provisional(0, 1, now, reported(id, 1)));
    assert_eq!(ids(breaker.take_confirmed(0)), [0, 1]);
    assert!(breaker.take_confirmed(0).is_empty());
    assert_eq!(breaker.take_all().len(), MAX_PROVISIONAL);
}

#[test]
fn answers_about_recipients_count_after_their_domains_are_forgotten() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    (0..1_000).for_each(|domain| breaker.record_acceptance(0, 1, true, domain, now));
    breaker.forget_domains();
    assert_eq!(breaker.policy.judged.0.len(), 1);
    breaker.forget_domains();
    assert!(breaker.policy.judged.0.contains(&999) && breaker.is_clear(now));
    breaker.add_provisional(0, 1, now, reported(1, 1));
    assert!(!breaker.is_clear(now));
}

fn policy() -> Outcome {
    reply(550, "5.7.1 Message rejected due to content policy restrictions")
}

/// Returns the last scope after so many refusals.
fn refuse(
    breaker: &mut ProviderBreaker,
    domain: u32,
    outcome: &Outcome,
    times: u32,
    others: bool,
) -> BlockScope {
    let now = Instant::now();
    (0..times).map(|_| breaker.record_refusal(domain, outcome, || others, now)).last().unwrap()
}

#[test]
fn the_first_block_is_no_longer_than_given() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    let second = Duration::from_secs(1);
    breaker.block_for(Some(second), &Outcome::harvest_defence(), now);
    assert_eq!(breaker.blocked_until(), Some(now + second));
    breaker.block_for(Some(second), &Outcome::harvest_defence(), now);
    assert_eq!(breaker.blocked_until(), Some(now + second * 2), "the next is twice as long");
    breaker.record_acceptance(0, 1, true, 1, now + second * 2);
    breaker.block_for(Some(BLOCK_DURATION.0 * 9), &Outcome::harvest_defence(), now);
    assert_eq!(breaker.blocked_until(), Some(now + BLOCK_DURATION.0));
}

#[test]
fn nothing_but_refusals_by_policy_or_of_the_sender_block_the_provider() {
    for outcome in [policy(), reply(550, "That recipient does not accept bounces")] {
        let mut breaker = ProviderBreaker::default();
        assert_eq!(refuse(&mut breaker, 1, &outcome, MAX_REFUSALS_IN_A_ROW - 1, false), BlockScope::None);
        assert_eq!(refuse(&mut breaker, 1, &outcome, 1, false), BlockScope::Lane, "{outcome:?}");
        let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
        assert_eq!(refuse(&mut breaker, 1, &outcome, MAX_REFUSALS_IN_A_ROW - 1, false), BlockScope::None);
        breaker.record_acceptance(0, 1, true, 1, now);
        assert_eq!(
            refuse(&mut breaker, 1, &outcome, MAX_REFUSALS_IN_A_ROW, false),
            BlockScope::None,
            "beside an acceptance"
        );
    }
}

#[test]
fn other_domains_are_asked_although_one_refuses_by_policy() {
    let mut breaker = ProviderBreaker::default();
    assert_eq!(refuse(&mut breaker, 1, &policy(), MAX_REFUSALS_IN_A_ROW, true), BlockScope::Domain);
    assert!(breaker.domain_block(1).is_some() && breaker.last_block().is_none());
    assert_eq!(
        refuse(&mut breaker, 2, &policy(), MAX_REFUSALS_IN_A_ROW, true),
        BlockScope::Lane,
        "nothing else was said"
    );

    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    breaker.record_acceptance(0, 1, true, 9, now);
    for domain in 1..4 {
        let scope = refuse(&mut breaker, domain, &policy(), 200, false);
        assert!(breaker.domain_block(domain).is_some(), "{scope:?}");
        breaker.record_acceptance(0, 1, true, 9, now);
    }
    assert!(breaker.last_block().is_none());
}

#[test]
fn policies_that_concern_some_recipients_stop_nothing() {
    let mut random = fastrand::Rng::with_seed(3);
    for share in [0.1, 0.5, 0.8] {
        let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
        for _ in 0..20_000 {
            if random.f64() < share {
                assert_eq!(breaker.record_refusal(1, &policy(), || false, now), BlockScope::None, "{share}");
            } else {
                breaker.record_acceptance(0, 1, true, 1, now);
            }
        }
    }
}

#[test]
fn temporary_and_tls_refusals_block_nothing() {
    let mut breaker = ProviderBreaker::default();
    let verdict = Verdict {
        sub_status: SubStatus::PolicyRejected,
        blame: Some(Blame::Policy),
        retry: None,
        subject: Some(Subject::Connection),
    };
    let tls = Outcome { verdict, ..reply(530, "5.7.0 Must issue a STARTTLS command first") };
    for outcome in [reply(450, "4.7.1 Policy rejection, try again later"), temporary(), tls] {
        assert_eq!(refuse(&mut breaker, 1, &outcome, 100, false), BlockScope::None, "{outcome:?}");
    }
}

#[test]
fn one_domain_of_many_is_blocked_alone_and_a_second_blocks_the_lane() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    breaker.record_acceptance(0, 1, true, 1, now);
    breaker.add_provisional(0, 1, now, reported(7, 2));
    breaker.add_provisional(0, 1, now, reported(8, 1));
    assert_eq!(blame(&mut breaker, 2, MAX_REFUSALS_IN_A_ROW, now), BlockScope::Domain);
    assert!(breaker.domain_block(2).is_some() && breaker.domain_block(1).is_none());
    assert_eq!(ids(breaker.take_provisional(Some(2))), [7]);
    assert_eq!(blame(&mut breaker, 3, MAX_REFUSALS_IN_A_ROW, now), BlockScope::Lane);
    assert_eq!(ids(breaker.take_provisional(None)), [8]);
}

#[test]
fn after_a_block_one_more_refusal_blocks_for_longer() {
    let (mut breaker, now) = (ProviderBreaker::default(), Instant::now());
    blame(&mut breaker, 1, MAX_REFUSALS_IN_A_ROW, now);
    let later = now + BLOCK_DURATION.0;
    assert!(breaker.blocked(later).is_none() && breaker.is_on_probation(later));
    assert_eq!(blame(&mut breaker, 1, 1, later), BlockScope::Lane);
    assert!(breaker.blocked(later + BLOCK_DURATION.0).is_some());
    let again = later + 2 * BLOCK_DURATION.0;
    assert!(breaker.is_on_probation(again));
    breaker.record_acceptance(0, 1, true, 1, later);
    assert!(breaker.is_on_probation(again), "asked before the block");
    breaker.record_acceptance(0, 1, true, 1, again);
    assert!(!breaker.is_on_probation(again) && breaker.last_block().is_none());
}
