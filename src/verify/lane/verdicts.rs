//! Applies what follows from each answer: a record, a further attempt, a question about the domain, or a pause of the
//! lane. `next` decides which of these it is.
//!
//! ```text
//! apply_answers ▶ apply_answer ─┬─ a limit of the transaction, connection or IPv6 ▶ asked again at once
//!                               ├─ control ▶ settle_control: confirms or voids refusals
//!                               └─ settle ─┬─ temporary ▶ delay: asked again after a pause
//!                                          ├─ random mailbox ▶ settle_domain: catch-all state of the domain
//!                                          └─ address ▶ settle_item ▶ apply_record
//!                                                         ├─ accepted ▶ waits for its domain ▶ record
//!                                                         └─ refused ▶ provisional verdict ▶ record
//! ```

use std::{mem, time::Duration, vec};

use tokio::time::Instant;

use super::{
    catch_all::{CatchAllState, probe_mailbox},
    mx_set::Accepted,
    next::{AddressFacts, Evidence, Next, ProbeNext, RecordNext, Repeat, after_limit, evidence},
    peer::{AnswerSource, Peer},
    question::{DelayedQuestion, Question, for_each_cohort},
    state::LaneInner,
    window::{Answer, AnswerContext, BatchEffect, MAX_WINDOWS_IN_FLIGHT, SentWindow},
};
use crate::verify::{
    Blame, CatchAll, Event, Record, Retry, Status, SubStatus,
    item::Item,
    outcome::Outcome,
    policy::{
        breaker::{BlockScope, HeldVerdict, ProvisionalVerdict},
        concurrency::WindowLatencies,
        harvest_defence::RefusalOrigin,
    },
    run::BATCH_SIZE,
    run_state::RetryOwner,
};

/// The share of temporary refusals in a batch of answers above which the batch counts as trouble.
const MAX_TEMPORARY_SHARE: f64 = 0.2;

/// Returns whether the outcome says nothing of the recipient, whose question is asked again without a pause.
fn is_immediate_retry(outcome: &Outcome) -> bool {
    use Retry as R;
    matches!(outcome.verdict.retry, Some(R::NextTransaction | R::NextConnection | R::OverIpv4))
}

impl LaneInner {
    /// Records answers that no fence has proved in the refusal rates, so that the next windows are not too large.
    ///
    /// A wrong reply changes only the size of later windows.
    pub(super) fn rate(&mut self, mx_set: usize, window: &mut SentWindow) {
        let mut rest = window.questions.as_slice();
        for Answer { outcome, count, .. } in &window.answers {
            let answered = rest.split_off(..*count).unwrap_or_default();
            if !is_immediate_retry(outcome) {
                let rates = &mut self.mx_sets[mx_set].rates;
                for_each_cohort(answered, |cohort, count| {
                    rates.record_unproven(cohort, !outcome.is_positive(), count);
                });
            }
        }
        window.rated = true;
    }

    /// Applies a batch of `count` answers. `latencies` are the round trips of the windows that ended since the last
    /// batch.
    pub(super) fn apply_answers(
        &mut self,
        peer: &mut Peer,
        windows: vec::Drain<'_, SentWindow>,
        count: usize,
        latencies: WindowLatencies,
    ) -> BatchEffect {
        let (mut effect, mut back) = (BatchEffect::default(), Vec::new());
        let (mut temporary, mut now) = (0, None);
        self.event_batch.reserve(count.min(BATCH_SIZE));
        for mut window in windows {
            if window.alone {
                self.batch_done(peer.mx_set);
            }
            let mut questions = mem::take(&mut window.questions);
            let (mut rest, mut nth) = (questions.drain(..), 0);
            for Answer { outcome, at, count } in &window.answers {
                now = Some(*at);
                let trouble = outcome.verdict.retry == Some(Retry::Later)
                    && matches!(outcome.verdict.blame, Some(Blame::Us | Blame::Server));
                temporary += if trouble { *count } else { 0 };
                let answered = &rest.as_slice()[..*count];
                let rates = &mut self.mx_sets[peer.mx_set].rates;
                match window.rated {
                    _ if is_immediate_retry(outcome) => {}
                    true => answered.iter().for_each(|question| rates.record_unanswered(question.cohort())),
                    false => for_each_cohort(answered, |cohort, count| {
                        rates.record_answers(cohort, !outcome.is_positive(), count);
                    }),
                }
                for question in rest.by_ref().take(*count) {
                    let answer = AnswerContext {
                        outcome,
                        position: window.position(nth),
                        asked: window.asked,
                        at: *at,
                    };
                    back.extend(self.apply_answer(peer, question, answer, &mut effect));
                    nth += 1;
                    if self.event_batch.len() >= BATCH_SIZE {
                        self.flush();
                        self.event_batch.reserve(BATCH_SIZE);
                    }
                }
            }
            drop(rest);
            if peer.spare_buffers.len() < MAX_WINDOWS_IN_FLIGHT {
                peer.spare_buffers.push(questions);
            }
        }
        for question in back.into_iter().rev() {
            self.mx_sets[peer.mx_set].rates.record_unanswered(question.cohort());
            self.put_back(peer.mx_set, question);
        }
        if let Some(most) = effect.recipients {
            self.mx_sets[peer.mx_set].limit_recipients(most);
        }
        let confirmed = self.breaker.take_confirmed(peer.mx_set);
        confirmed.into_iter().for_each(|verdict| self.report(verdict));
        if let Some(now) = now {
            let clean = temporary as f64 <= MAX_TEMPORARY_SHARE * count as f64;
            self.controller.record_windows(latencies, clean, now);
            self.update_status(now);
        }
        self.flush();
        effect
    }

    /// Applies one answer. Returns the question if it is asked again at once.
    fn apply_answer(
        &mut self,
        peer: &mut Peer,
        question: Question,
        answer: AnswerContext<'_>,
        effect: &mut BatchEffect,
    ) -> Option<Question> {
        let AnswerContext { outcome, position, asked, at } = answer;
        self.answers += 1;
        let domain = question.domain();
        let retry = outcome.verdict.retry;
        // The first answer that meets the limit of the connection counts. Later ones in the batch repeat it.
        let repeats_limit = effect.stop && retry == Some(Retry::NextConnection);
        let ipv4 = retry == Some(Retry::OverIpv4)
            && self.mx_sets[peer.mx_set].use_ipv4(self.context.config.client.bind);
        let limit = after_limit(retry, position, peer.ipv6, ipv4);
        effect.add(limit);
        let question = match limit.repeat {
            Repeat::Always => return Some(question),
            Repeat::IfLossesAllow => match question.count_loss() {
                Ok(question) => return Some(question),
                Err(question) => question,
            },
            Repeat::Never => question,
        };
        if is_immediate_retry(outcome) {
            self.mx_sets[peer.mx_set].rates.record_answers(question.cohort(), !outcome.is_positive(), 1);
        }
        // IPv4 is not available, or was tried.
        let over_ipv6 = (retry == Some(Retry::OverIpv4)).then(|| outcome.without_ipv4());
        let outcome = over_ipv6.as_ref().unwrap_or(outcome);
        let answer = AnswerContext { outcome, ..answer };
        let control = matches!(question, Question::Control { .. });
        let random = matches!(question, Question::CatchAll { .. });
        if control {
            self.settle_control(peer, domain, answer, effect);
        } else {
            peer.set_origin(self.mx_sets[peer.mx_set].harvest.origin(&peer.harvest));
            self.settle(peer.source(), question, outcome, at);
        }
        match evidence(outcome.verdict, repeats_limit, control) {
            Evidence::Acceptance => self.record_acceptance(peer, domain, asked),
            Evidence::Refusal => {
                let scope = self.record_refusal(peer, domain, random, answer);
                effect.stop |= scope != BlockScope::None;
            }
            Evidence::None => {}
        }
        None
    }

    /// Blocks the provider, whose servers accept no connection from us.
    pub(super) fn block_provider(&mut self, outcome: &Outcome, now: Instant) {
        self.breaker.block(outcome, now);
        self.apply_block(BlockScope::Lane, 0, outcome, now);
    }

    /// Replaces the provisional verdicts of the domain, or of the whole lane, by `outcome`.
    pub(super) fn apply_block(&mut self, scope: BlockScope, domain: u32, outcome: &Outcome, now: Instant) {
        let provisional = match scope {
            BlockScope::None => return,
            BlockScope::Domain => self.breaker.take_provisional(Some(domain)),
            BlockScope::Lane => self.breaker.take_provisional(None),
        };
        self.forget_recent();
        self.replace_provisional(provisional, outcome, now);
        if scope == BlockScope::Lane {
            self.controller.reset();
        }
    }

    /// Replaces a verdict by `outcome`.
    pub(super) fn replace_verdict(
        &mut self,
        mx_set: usize,
        mut item: Item,
        record: Record,
        outcome: &Outcome,
        now: Instant,
    ) {
        item.address = record.address;
        // The attempt whose answer is void.
        item.attempts -= u16::from(outcome.verdict.retry.is_some());
        let source =
            AnswerSource { mx_set, origin: RefusalOrigin::default(), host: record.mx_host, tls: record.tls };
        self.settle_unreached(&source, Question::Item(item), outcome, now);
    }

    /// Settles all questions to servers that are not asked now, with the reason as their outcome.
    pub(super) fn settle_unasked(&mut self, now: Instant) {
        let blocked = self.breaker.blocked(now).cloned();
        if blocked.is_none() && self.paused_until.is_none_or(|until| until <= now) {
            return;
        }
        for mx_set in 0..self.mx_sets.len() {
            if self.mx_sets[mx_set].queue.total() == 0 {
                continue;
            }
            let outcome = match (&blocked, self.mx_sets[mx_set].pause_reason(now)) {
                (Some(outcome), _) => outcome.clone(),
                (None, Some(outcome)) => outcome.clone(),
                (None, None) => continue,
            };
            let host = self.mx_sets[mx_set].preferred().cloned();
            let source = AnswerSource { mx_set, origin: RefusalOrigin::default(), host, tls: None };
            for question in self.take(mx_set) {
                self.settle_unreached(&source, question, &outcome, now);
            }
        }
    }

    /// Settles a question that could not be put to its server. It counts as an attempt if asking again may help.
    pub(super) fn settle_unreached(
        &mut self,
        source: &AnswerSource,
        question: Question,
        outcome: &Outcome,
        now: Instant,
    ) {
        match question {
            Question::Item(mut item) if outcome.verdict.retry.is_none() => {
                let mut record = self.record(&mut item, outcome, now);
                record.mx_host.clone_from(&source.host);
                self.context.done(&item, record, &mut self.event_batch);
            }
            question => self.settle(source, question, outcome, now),
        }
    }

    /// Returns a record without host and TLS version. Many records have the same time, and formatting it is the slowest
    /// part.
    fn record(&mut self, item: &mut Item, outcome: &Outcome, at: Instant) -> Record {
        if self.checked.0 != at {
            self.checked = (at, self.context.timestamp(at));
        }
        self.context.record(item, outcome, self.checked.1)
    }

    /// Settles a question with its outcome.
    pub(super) fn settle(
        &mut self,
        source: &AnswerSource,
        question: Question,
        outcome: &Outcome,
        at: Instant,
    ) {
        match question {
            Question::Item(item) => self.settle_item(source, item, outcome, at),
            Question::CatchAll { domain, probe, attempts, .. } => {
                let attempts = attempts + 1;
                let defended = self.mx_sets[source.mx_set].harvest.active_defence().is_some();
                let pause = self.probe_pause(source, domain, outcome, attempts);
                match ProbeNext::of(outcome.verdict.sub_status, pause, defended) {
                    // The addresses that wait for its answer go on waiting.
                    ProbeNext::RetryAfter(pause) => {
                        let question = Question::CatchAll { domain, probe, losses: 0, attempts };
                        self.delay(source.mx_set, question, at + pause);
                    }
                    ProbeNext::Answered(catch_all) => {
                        self.settle_domain(source, domain, probe.domain(), catch_all);
                    }
                }
            }
            Question::Control { .. } => self.mx_sets[source.mx_set].harvest.record_control_lost(),
        }
    }

    /// Asks a question again at `due`.
    fn delay(&mut self, mx_set: usize, question: Question, due: Instant) {
        self.delayed.push(DelayedQuestion { due, mx_set, question });
    }

    /// Returns the pause before a probe is asked again after `attempts`, or `None` if it is not asked again. Addresses
    /// whose runs do not wait for it are accepted.
    fn probe_pause(
        &mut self,
        source: &AnswerSource,
        domain: u32,
        outcome: &Outcome,
        attempts: u16,
    ) -> Option<Duration> {
        outcome.verdict.retry?;
        let accepted = self.mx_sets[source.mx_set].take_asked(domain)?;
        let (mut pause, mut waiting) = (None, Vec::new());
        for (item, record) in accepted {
            match self.event_batch.run(item.run).and_then(|run| run.pause(attempts)) {
                Some(of_run) => {
                    pause = pause.max(Some(of_run));
                    waiting.push((item, record));
                }
                None => self.accept(source.mx_set, &item, record, CatchAll::Inconclusive),
            }
        }
        // Without an address that waits, a later acceptance starts another test.
        if pause.is_some() {
            self.mx_sets[source.mx_set].await_probe(domain, waiting);
        }
        pause
    }

    /// Returns whether the probe of a domain waits for a further attempt, but the run of an address does not wait.
    fn cannot_wait_for_probe(&mut self, mx_set: usize, item: &Item) -> bool {
        let is_probe = |delayed: &DelayedQuestion| {
            let domain = delayed.question.domain();
            delayed.mx_set == mx_set
                && domain == item.domain
                && matches!(delayed.question, Question::CatchAll { .. })
        };
        self.mx_sets[mx_set].is_asked(item.domain)
            && self.event_batch.run(item.run).is_none_or(|run| run.options.schedule.is_empty())
            && self.delayed.iter().any(is_probe)
    }

    /// Settles an address.
    fn settle_item(&mut self, source: &AnswerSource, mut item: Item, outcome: &Outcome, at: Instant) {
        item.attempts = item.attempts.saturating_add(1);
        // There is none after a question that was withdrawn.
        let Some(next) = self.next_of(source, &item, outcome) else { return };
        match next {
            Next::RetryAfter(pause) => {
                item.losses = 0;
                item.record_start(self.context.timestamp(at));
                if let Some(run) = self.event_batch.run(item.run) {
                    run.release_permit(&mut item);
                }
                self.delay(source.mx_set, Question::Item(item), at + pause);
            }
            Next::Record(next) => {
                let mut record = self.record(&mut item, outcome, at);
                (record.mx_host, record.tls) = (source.host.clone(), source.tls);
                self.apply_record(next, source, item, record, at);
            }
        }
    }

    /// Collects the facts about an address that was asked `item.attempts` times, and decides what follows. Returns `None`
    /// if its run has ended.
    fn next_of(&mut self, source: &AnswerSource, item: &Item, outcome: &Outcome) -> Option<Next> {
        let run = self.event_batch.run(item.run)?;
        let mx_set = &self.mx_sets[source.mx_set];
        let domain = mx_set.catch_all(item.domain);
        let accepted = outcome.verdict.sub_status == SubStatus::Accepted;
        // Earlier runs have their results from the preferred exchanger, so they count for that one only.
        let has_earlier = accepted && domain.is_none() && source.host.as_ref() == mx_set.preferred();
        let earlier = if has_earlier { run.known(item.mailbox().domain()) } else { None };
        let refused = outcome.verdict.status() == Status::Undeliverable;
        let distrust = || self.breaker.distrust_reason(item.domain).or(mx_set.harvest.active_defence());
        let facts = AddressFacts {
            pause: outcome.verdict.retry.and_then(|_| run.pause(item.attempts)),
            retry_owner: run.options.retry_owner,
            tests_domains: self.context.config.catch_all,
            domain,
            earlier,
            distrust: if refused { distrust() } else { None },
            doubtful: mx_set.harvest.was_detected() || source.origin.doubtful,
        };
        let next = Next::of_address(outcome.verdict, &facts);
        if let Some(catch_all) = earlier {
            self.mx_sets[source.mx_set].record_earlier(item.domain, catch_all);
        }
        Some(next)
    }

    /// Applies what follows for the record of an address.
    fn apply_record(
        &mut self,
        next: RecordNext,
        source: &AnswerSource,
        item: Item,
        mut record: Record,
        at: Instant,
    ) {
        let mx_set = source.mx_set;
        if record.sub_status != SubStatus::Accepted
            && let Some(CatchAllState::Answered(catch_all)) = self.mx_sets[mx_set].catch_all(item.domain)
        {
            record.catch_all = *catch_all;
        }
        match next {
            RecordNext::Done => self.context.done(&item, record, &mut self.event_batch),
            RecordNext::Retry(after) => self.context.later(&item, record, after, &mut self.event_batch),
            RecordNext::Accept(catch_all) => self.accept(mx_set, &item, record, catch_all),
            RecordNext::AwaitProbe if self.cannot_wait_for_probe(mx_set, &item) => {
                self.accept(mx_set, &item, record, CatchAll::Inconclusive);
            }
            RecordNext::AwaitProbe => match self.mx_sets[mx_set].awaiting_probe(item.domain) {
                Some(accepted) => accepted.push((item, record)),
                None => self.probe_domain(mx_set, item, record),
            },
            RecordNext::ProbeDomain => self.probe_domain(mx_set, item, record),
            RecordNext::Replace(outcome) => self.replace_verdict(mx_set, item, record, &outcome, at),
            RecordNext::Provisional { held } => self.add_provisional(source, item, record, held, at),
        }
    }

    /// Adds a refusal as a provisional verdict: it is final once a later acceptance shows that the server is honest.
    fn add_provisional(
        &mut self,
        source: &AnswerSource,
        mut item: Item,
        record: Record,
        held: bool,
        at: Instant,
    ) {
        let mx_set = source.mx_set;
        let Some(run) = self.event_batch.run(item.run) else { return };
        let verdict = match held {
            true => {
                run.release_permit(&mut item);
                ProvisionalVerdict::Held(Box::new(HeldVerdict { mx_set, item, record }))
            }
            false => {
                // The run goes on until the verdict is final.
                run.add_open(1);
                let verdict =
                    ProvisionalVerdict::Reported { run: item.run, id: item.id, domain: item.domain };
                self.context.done(&item, record, &mut self.event_batch);
                verdict
            }
        };
        self.breaker.add_provisional(mx_set, source.origin.connection, at, verdict);
    }

    /// Asks whether the domain of an accepted address is a catch-all. The record waits for the answer.
    fn probe_domain(&mut self, mx_set: usize, item: Item, record: Record) {
        let (mailbox, domain) = (item.mailbox_of(&record.address), item.domain);
        // A domain name can be too long for a random local part. Then the result stays unknown.
        let Ok(probe) = probe_mailbox(mailbox.domain()) else {
            return self.accept(mx_set, &item, record, CatchAll::Inconclusive);
        };
        let known = &mut self.mx_sets[mx_set];
        known.harvest.add_control(domain, mailbox, None);
        known.begin_probe((item, record));
        self.put_back(mx_set, Question::CatchAll { domain, probe, losses: 0, attempts: 0 });
    }

    /// Records the result for a domain. The addresses that wait for it get their verdicts.
    fn settle_domain(&mut self, source: &AnswerSource, domain: u32, name: &str, catch_all: CatchAll) {
        let mx_set = &mut self.mx_sets[source.mx_set];
        // There is none if the question was dropped when another exchanger took over.
        let Some(accepted) = mx_set.record_catch_all(domain, catch_all) else { return };
        let preferred = source.host.as_ref() == mx_set.preferred();
        self.accept_all(source.mx_set, accepted, catch_all);
        if preferred && catch_all != CatchAll::Inconclusive {
            let event = || Event::CatchAll { domain: name.into(), answer: catch_all };
            self.event_batch.push_for_all(|run| (run.options.retry_owner == RetryOwner::Caller).then(event));
        }
    }

    pub(super) fn accept_all(&mut self, mx_set: usize, accepted: Vec<Accepted>, catch_all: CatchAll) {
        accepted.into_iter().for_each(|(item, record)| self.accept(mx_set, &item, record, catch_all));
    }

    fn accept(&mut self, mx_set: usize, item: &Item, mut record: Record, catch_all: CatchAll) {
        let mailbox = item.mailbox_of(&record.address);
        self.mx_sets[mx_set].harvest.add_control(item.domain, mailbox, Some(catch_all));
        self.context.apply_catch_all(&mut record, catch_all);
        self.context.done(item, record, &mut self.event_batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Endpoint,
        verify::lane::{
            state::Lane,
            testing::{events, item, lane, lane_with, outcome, source},
        },
    };

    const ACCEPTED: &str = "250 2.1.5 Ok";
    const UNKNOWN: &str = "550 5.1.1 User unknown";
    const GREYLISTED: &str = "450 4.2.0 Greylisted, please try again later";

    /// Adds an MX set with the exchanger `mx1`.
    fn mx_set(lane: &Lane) -> usize {
        lane.lock().add(vec![Endpoint { host: "mx1".into(), addrs: Vec::new() }])
    }

    #[tokio::test]
    async fn accepted_addresses_wait_for_one_probe_and_get_its_result() {
        for (answer, wanted) in [(UNKNOWN, CatchAll::Refused), (ACCEPTED, CatchAll::Accepted)] {
            let (lane, mut event_batches) = lane();
            let (source, now) = (source(mx_set(&lane), "mx1"), Instant::now());
            let mut state = lane.lock();
            for address in ["ann@example.com", "bob@example.com"] {
                state.settle(&source, Question::Item(item(address)), &outcome(ACCEPTED), now);
            }
            state.flush();
            assert_eq!((events(&mut event_batches).len(), state.waiting), (0, 1), "they wait for one probe");
            let probe = state.pop(0).unwrap();
            assert!(matches!(probe, Question::CatchAll { .. }));
            state.settle(&source, probe, &outcome(answer), now);
            state.flush();
            let (mut records, mut results) = (Vec::new(), Vec::new());
            for event in events(&mut event_batches) {
                match event {
                    Event::Done { record, .. } => records.push((record.address, record.catch_all)),
                    Event::CatchAll { domain, answer } => results.push((domain, answer)),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(records, ["ann@example.com", "bob@example.com"].map(|all| (all.to_owned(), wanted)));
            assert_eq!(results, [("example.com".into(), wanted)]);
        }
    }

    #[tokio::test]
    async fn the_result_of_a_backup_is_not_stored_for_later_runs() {
        let (lane, mut event_batches) = lane();
        let (source, now) = (source(mx_set(&lane), "mx2"), Instant::now());
        let mut state = lane.lock();
        state.settle(&source, Question::Item(item("ann@example.com")), &outcome(ACCEPTED), now);
        let probe = state.pop(0).unwrap();
        state.settle(&source, probe, &outcome(ACCEPTED), now);
        state.flush();
        let events = events(&mut event_batches);
        assert!(matches!(&events[..], [Event::Done { .. }]), "{events:?}");
    }

    #[tokio::test]
    async fn the_owner_of_retries_decides_where_a_greylisted_address_waits() {
        let pause = Duration::from_secs(300);
        for retry_owner in [RetryOwner::Engine, RetryOwner::Caller] {
            let (lane, mut event_batches) = lane_with(retry_owner, |config| config.schedule = vec![pause]);
            let (source, now) = (source(mx_set(&lane), "mx1"), Instant::now());
            let mut state = lane.lock();
            let ann = Item { losses: 1, ..item("ann@example.com") };
            state.settle(&source, Question::Item(ann), &outcome(GREYLISTED), now);
            state.flush();
            let delayed = state.delayed.pop().map(|delayed| match delayed.question {
                Question::Item(item) => (delayed.due, item.attempts, item.losses),
                _ => panic!("no item"),
            });
            let events = events(&mut event_batches);
            match retry_owner {
                RetryOwner::Engine => {
                    assert_eq!((delayed, events.len()), (Some((now + pause, 1, 0)), 0));
                }
                RetryOwner::Caller => {
                    let [Event::Later { record, after, .. }] = &events[..] else { panic!("{events:?}") };
                    assert_eq!((delayed, record.attempts, *after), (None, 1, pause));
                }
            }
        }
    }

    #[tokio::test]
    async fn recipients_beyond_the_limit_of_a_transaction_return_in_their_order() {
        let (lane, mut event_batches) = lane_with(RetryOwner::Caller, |config| config.catch_all = false);
        let (mx_set, now) = (mx_set(&lane), Instant::now());
        let mut peer = Peer::without_connection(mx_set);
        let names = ["ann", "bob", "cleo", "dora"].map(|name| format!("{name}@example.com"));
        let questions = names.iter().map(|name| Question::Item(item(name))).collect();
        let mut window = SentWindow::new(questions, Default::default(), false);
        window.answer(&outcome(ACCEPTED).into(), 2, now);
        let mut limit = outcome("452 4.5.3 Too many recipients");
        limit.verdict.retry = Some(Retry::NextTransaction);
        window.answer(&limit.into(), 2, now);
        let mut state = lane.lock();
        let effect = state.apply_answers(&mut peer, vec![window].drain(..), 4, WindowLatencies::default());
        assert_eq!((effect.recipients, effect.stop), (Some(2), false));
        assert_eq!(state.mx_sets[mx_set].observed_limits(), (Some(2), None));
        let back = [state.pop(mx_set), state.pop(mx_set), state.pop(mx_set)];
        let back = back.map(|question| question.map(|question| question.mailbox().to_string()));
        assert_eq!(back, [Some(names[2].clone()), Some(names[3].clone()), None]);
        assert_eq!(events(&mut event_batches).len(), 2);
    }

    #[tokio::test]
    async fn a_block_voids_held_refusals_and_their_attempt_does_not_count() {
        let schedule = vec![Duration::from_secs(300)];
        let (lane, mut event_batches) = lane_with(RetryOwner::Engine, |config| config.schedule = schedule);
        let (source, now) = (source(mx_set(&lane), "mx1"), Instant::now());
        let mut state = lane.lock();
        state.settle(&source, Question::Item(item("ann@example.com")), &outcome(UNKNOWN), now);
        assert!(state.delayed.is_empty() && state.event_batch.is_empty(), "the refusal is held");
        state.block_provider(&outcome("450 4.7.1 Your IP address is blocked"), now);
        state.flush();
        let Some(DelayedQuestion { question: Question::Item(item), .. }) = state.delayed.pop() else {
            panic!("the address is not asked again: {:?}", events(&mut event_batches))
        };
        assert_eq!((item.address.as_str(), item.attempts), ("ann@example.com", 1), "the block is the first");
    }
}
