use super::*;
use crate::{
    proto::{Decoder, Verb},
    verify::{Classifier, Verdict},
};

fn told(id: u64, domain: u32) -> Suspect {
    Suspect::Told { id, domain }
}

fn ids(suspects: impl IntoIterator<Item = Suspect>) -> Vec<u64> {
    let id = |suspect| match suspect {
        Suspect::Told { id, .. } => id,
        Suspect::Kept(kept) => kept.item.id,
    };
    suspects.into_iter().map(id).collect()
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

/// The last finding after so many answers with blame on us.
fn blame(standing: &mut Standing, domain: u32, times: u32, now: Instant) -> Finding {
    (0..times).map(|_| standing.refused(domain, &outcome(), || false, now)).last().unwrap()
}

#[test]
fn an_acceptance_clears_suspects_and_a_burst_takes_them_back() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    standing.suspect(0, 1, at(1), told(1, 1));
    standing.suspect(0, 1, at(3), told(2, 1));
    standing.accepted(9, 1, true, 5, at(4));
    assert!(standing.sure(0).is_empty(), "said by somebody else");
    standing.accepted(0, 2, true, 1, at(2));
    assert_eq!(ids(standing.sure(0)), [1]);
    assert!(standing.sure(0).is_empty(), "said after the last acceptance");
    assert_eq!(blame(&mut standing, 1, BLAMED - 1, now), Finding::None);
    standing.refused(1, &temporary(), || false, now);
    assert_eq!(blame(&mut standing, 5, BLAMED / 2, now), Finding::None);
    assert_eq!(blame(&mut standing, 1, BLAMED / 2, now), Finding::Lane);
    assert_eq!(ids(standing.take_suspects(None)), [2]);
    assert!(standing.blocked(now).is_some());
}

#[test]
fn an_acceptance_on_a_connection_proves_what_was_refused_on_it_before() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    standing.suspect(0, 1, at(1), told(1, 1));
    standing.suspect(0, 2, at(2), told(2, 1));
    standing.suspect(0, 1, at(3), told(3, 1));
    // Asked before the third answer came, yet answered after it.
    standing.accepted(0, 1, false, 1, at(2));
    standing.suspect(0, 1, at(4), told(4, 1));
    assert_eq!(ids(standing.sure(0)), [1, 3]);
    standing.accepted(0, 3, false, 1, at(9));
    assert!(standing.sure(0).is_empty(), "on another connection");
    assert!(standing.has_suspects(0) && !standing.has_suspects(1));
    assert!(standing.take_suspects_at(1).is_empty());
    assert_eq!(ids(standing.take_suspects_at(0)), [2, 4]);
    assert!(!standing.has_suspects(0));
}

#[test]
fn suspects_that_are_too_many_are_sure_the_oldest_first() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    let all = MAX_SUSPECTS as u64 + 2;
    (0..all).for_each(|id| standing.suspect(0, 1, now, told(id, 1)));
    assert_eq!(ids(standing.sure(0)), [0, 1]);
    assert!(standing.sure(0).is_empty());
    assert_eq!(standing.release().len(), MAX_SUSPECTS);
}

#[test]
fn that_recipients_were_judged_outlives_their_domains() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    (0..1_000).for_each(|domain| standing.accepted(0, 1, true, domain, now));
    standing.forget_domains();
    assert_eq!(standing.policy.judged.0.len(), 1);
    standing.forget_domains();
    assert!(standing.policy.judged.0.contains(&999) && standing.is_clear());
    standing.suspect(0, 1, now, told(1, 1));
    assert!(!standing.is_clear());
}

fn policy() -> Outcome {
    reply(550, "5.7.1 Message rejected due to content policy restrictions")
}

/// The last finding after so many refusals.
fn refuse(standing: &mut Standing, domain: u32, outcome: &Outcome, times: u32, others: bool) -> Finding {
    let now = Instant::now();
    (0..times).map(|_| standing.refused(domain, outcome, || others, now)).last().unwrap()
}

#[test]
fn a_pause_is_no_longer_than_is_given() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    let second = Duration::from_secs(1);
    standing.block_for(Some(second), &Outcome::harvest_defence(), now);
    assert_eq!(standing.until(), Some(now + second));
    standing.block_for(Some(second), &Outcome::harvest_defence(), now);
    assert_eq!(standing.until(), Some(now + second * 2), "the next is twice as long");
    standing.accepted(0, 1, true, 1, now + second * 2);
    standing.block_for(Some(ALONE.0 * 9), &Outcome::harvest_defence(), now);
    assert_eq!(standing.until(), Some(now + ALONE.0));
}

#[test]
fn nothing_but_refusals_by_policy_or_of_the_sender_block_the_provider() {
    for outcome in [policy(), reply(550, "That recipient does not accept bounces")] {
        let mut standing = Standing::default();
        assert_eq!(refuse(&mut standing, 1, &outcome, BLAMED - 1, false), Finding::None);
        assert_eq!(refuse(&mut standing, 1, &outcome, 1, false), Finding::Lane, "{outcome:?}");
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert_eq!(refuse(&mut standing, 1, &outcome, BLAMED - 1, false), Finding::None);
        standing.accepted(0, 1, true, 1, now);
        assert_eq!(refuse(&mut standing, 1, &outcome, BLAMED, false), Finding::None, "beside an acceptance");
    }
}

#[test]
fn other_domains_are_asked_although_one_refuses_by_policy() {
    let mut standing = Standing::default();
    assert_eq!(refuse(&mut standing, 1, &policy(), BLAMED, true), Finding::Domain);
    assert!(standing.refuses(1).is_some() && standing.verdict().is_none());
    assert_eq!(refuse(&mut standing, 2, &policy(), BLAMED, true), Finding::Lane, "nothing else was said");

    let (mut standing, now) = (Standing::default(), Instant::now());
    standing.accepted(0, 1, true, 9, now);
    for domain in 1..4 {
        let finding = refuse(&mut standing, domain, &policy(), 200, false);
        assert!(standing.refuses(domain).is_some(), "{finding:?}");
        standing.accepted(0, 1, true, 9, now);
    }
    assert!(standing.verdict().is_none());
}

#[test]
fn policies_that_concern_some_recipients_stop_nothing() {
    let mut random = fastrand::Rng::with_seed(3);
    for share in [0.1, 0.5, 0.8] {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for _ in 0..20_000 {
            if random.f64() < share {
                assert_eq!(standing.refused(1, &policy(), || false, now), Finding::None, "{share}");
            } else {
                standing.accepted(0, 1, true, 1, now);
            }
        }
    }
}

#[test]
fn refusals_that_say_nothing_of_us_block_nobody() {
    let mut standing = Standing::default();
    let verdict = Verdict {
        sub_status: SubStatus::PolicyRejected,
        blame: Some(Blame::Policy),
        retry: None,
        subject: Some(Subject::Connection),
    };
    let tls = Outcome { verdict, ..reply(530, "5.7.0 Must issue a STARTTLS command first") };
    for outcome in [reply(450, "4.7.1 Policy rejection, try again later"), temporary(), tls] {
        assert_eq!(refuse(&mut standing, 1, &outcome, 100, false), Finding::None, "{outcome:?}");
    }
}

#[test]
fn one_domain_of_many_is_blocked_alone_and_a_second_one_means_all() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    standing.accepted(0, 1, true, 1, now);
    standing.suspect(0, 1, now, told(7, 2));
    standing.suspect(0, 1, now, told(8, 1));
    assert_eq!(blame(&mut standing, 2, BLAMED, now), Finding::Domain);
    assert!(standing.refuses(2).is_some() && standing.refuses(1).is_none());
    assert_eq!(ids(standing.take_suspects(Some(2))), [7]);
    assert_eq!(blame(&mut standing, 3, BLAMED, now), Finding::Lane);
    assert_eq!(ids(standing.take_suspects(None)), [8]);
}

#[test]
fn after_a_while_one_refusal_more_is_enough_and_the_while_grows() {
    let (mut standing, now) = (Standing::default(), Instant::now());
    blame(&mut standing, 1, BLAMED, now);
    let later = now + ALONE.0;
    assert!(standing.blocked(later).is_none() && standing.is_on_probation(later));
    assert_eq!(blame(&mut standing, 1, 1, later), Finding::Lane);
    assert!(standing.blocked(later + ALONE.0).is_some());
    let again = later + 2 * ALONE.0;
    assert!(standing.is_on_probation(again));
    standing.accepted(0, 1, true, 1, later);
    assert!(standing.is_on_probation(again), "said before");
    standing.accepted(0, 1, true, 1, again);
    assert!(!standing.is_on_probation(again) && standing.verdict().is_none());
}
