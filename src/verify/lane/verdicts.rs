//! Decides what follows from each answer: a record, a further attempt, a question about the domain, or a pause of the
//! lane.
//!
//! ```text
//! apply_answers ▶ apply_answer ─┬─ a limit of the transaction, connection or IPv6 ▶ asked again at once
//!                               ├─ control ▶ settle_control: confirms or voids refusals
//!                               └─ settle ─┬─ temporary ▶ asked again after a pause
//!                                          ├─ random mailbox ▶ settle_domain: catch-all state of the domain
//!                                          └─ address ▶ settle_item ─┬─ accepted ▶ waits for its domain ▶ record
//!                                                                    └─ refused ▶ provisional verdict ▶ record
//! ```

use std::{mem, time::Duration, vec};

use tokio::time::Instant;

use super::{
    catch_all::{CatchAllState, probe_mailbox},
    mx_set::Accepted,
    peer::{AnswerSource, Peer},
    question::{DelayedQuestion, Question},
    state::LaneInner,
    window::{Answer, AnswerContext, BatchEffect, MAX_WINDOWS_IN_FLIGHT, SentWindow},
};
use crate::verify::{
    Blame, CatchAll, Event, Record, Retry, Status, SubStatus,
    context::RetryOwner,
    item::Item,
    outcome::Outcome,
    policy::{
        breaker::{BlockScope, HeldVerdict, ProvisionalVerdict},
        concurrency::WindowLatencies,
        harvest_defence::RefusalOrigin,
    },
    run::BATCH_SIZE,
};

/// The share of temporary refusals in a batch of answers above which the batch counts as trouble.
const MAX_TEMPORARY_SHARE: f64 = 0.2;

/// Returns whether the outcome says nothing of the recipient, whose question is asked again without a pause.
fn is_immediate_retry(outcome: &Outcome) -> bool {
    use Retry as R;
    matches!(outcome.verdict.retry, Some(R::NextTransaction | R::NextConnection | R::OverIpv4))
}

impl LaneInner {
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
        self.event_batch.events.reserve(count.min(BATCH_SIZE));
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
                if !is_immediate_retry(outcome) {
                    let rates = &mut self.mx_sets[peer.mx_set].rates;
                    for alike in rest.as_slice()[..*count].chunk_by(|one, next| one.cohort() == next.cohort())
                    {
                        rates.record_answers(alike[0].cohort(), !outcome.is_positive(), alike.len() as u32);
                    }
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
                    if self.event_batch.events.len() >= BATCH_SIZE {
                        self.flush();
                        self.event_batch.events.reserve(BATCH_SIZE);
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
            let known = &mut self.mx_sets[peer.mx_set].recipients;
            *known = Some(known.map_or(most, |known| known.min(most)));
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
        // The first answer that meets the limit of the connection counts. Later ones in the batch repeat it.
        let repeats_limit = effect.stop && outcome.verdict.retry == Some(Retry::NextConnection);
        let question = match outcome.verdict.retry {
            Some(Retry::NextTransaction) => {
                let most = effect.recipients.unwrap_or(u32::MAX).min(position.max(1));
                effect.recipients = Some(most);
                if position > 0 {
                    return Some(question);
                }
                // The server refuses the first recipient as one too many. That is a contradiction, or a limit other
                // than that of the transaction.
                match question.count_loss() {
                    Ok(question) => return Some(question),
                    Err(question) => question,
                }
            }
            Some(Retry::NextConnection) => {
                effect.stop = true;
                match question.count_loss() {
                    Ok(question) => return Some(question),
                    Err(question) => question,
                }
            }
            Some(Retry::OverIpv4) if self.mx_sets[peer.mx_set].use_ipv4(self.context.config.client.bind) => {
                effect.stop |= peer.ipv6;
                match if peer.ipv6 { Ok(question) } else { question.count_loss() } {
                    Ok(question) => return Some(question),
                    // A server that says the same over IPv4 contradicts itself.
                    Err(question) => question,
                }
            }
            _ => question,
        };
        if is_immediate_retry(outcome) {
            self.mx_sets[peer.mx_set].rates.record_answers(question.cohort(), !outcome.is_positive(), 1);
        }
        // IPv4 is not available, or was tried.
        let over_ipv6 = (outcome.verdict.retry == Some(Retry::OverIpv4)).then(|| outcome.without_ipv4());
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
        let blamed = outcome.verdict.blame == Some(Blame::Us);
        if outcome.verdict.sub_status == SubStatus::Accepted {
            self.record_acceptance(peer, domain, asked);
        } else if !(repeats_limit && blamed || control && outcome.verdict.status() == Status::Undeliverable) {
            let scope = self.record_refusal(peer, domain, random, answer);
            effect.stop |= scope != BlockScope::None;
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
        item.attempts -= u32::from(outcome.verdict.retry.is_some());
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
                match self.pause(outcome, attempts) {
                    // A greylist delays a random mailbox as any other. The addresses that wait for its answer go on
                    // waiting.
                    Some(pause) => {
                        let question = Question::CatchAll { domain, probe, losses: 0, attempts };
                        self.delayed.push(DelayedQuestion {
                            due: at + pause,
                            mx_set: source.mx_set,
                            question,
                        });
                    }
                    None => self.settle_domain(source, domain, probe.domain(), outcome),
                }
            }
            Question::Control { .. } => self.mx_sets[source.mx_set].harvest.record_control_lost(),
        }
    }

    /// Returns the pause before a question is asked again after `attempts`, or `None` if it is not asked again.
    fn pause(&self, outcome: &Outcome, attempts: u32) -> Option<Duration> {
        outcome.verdict.retry?;
        self.context.config.pause(attempts)
    }

    fn settle_item(&mut self, source: &AnswerSource, mut item: Item, outcome: &Outcome, at: Instant) {
        item.attempts += 1;
        let pause = self.pause(outcome, item.attempts);
        if let Some(pause) = pause
            && self.context.retry_owner == RetryOwner::Engine
        {
            item.losses = 0;
            item.record_start(self.context.timestamp(at));
            self.context.release_permit(&mut item);
            self.delayed.push(DelayedQuestion {
                due: at + pause,
                mx_set: source.mx_set,
                question: Question::Item(item),
            });
            return;
        }
        let mut record = self.record(&mut item, outcome, at);
        (record.mx_host, record.tls) = (source.host.clone(), source.tls);
        if outcome.verdict.sub_status == SubStatus::Accepted {
            self.settle_accepted(source, item, record);
            return;
        }
        if let Some(CatchAllState::Answered(catch_all)) =
            self.mx_sets[source.mx_set].domains.get(&item.domain)
        {
            record.catch_all = *catch_all;
        }
        match pause {
            Some(after) => self.context.later(&item, record, after, &mut self.event_batch),
            None if record.status == Status::Undeliverable => {
                let detected = self.mx_sets[source.mx_set].harvest.active_defence();
                match self.breaker.distrust_reason(item.domain).or(detected).cloned() {
                    Some(outcome) => self.replace_verdict(source.mx_set, item, record, &outcome, at),
                    None => self.settle_refused(source, item, record, at),
                }
            }
            None => self.context.done(&item, record, &mut self.event_batch),
        }
    }

    /// Records a refusal as a provisional verdict: it is final once a later acceptance shows that the server is honest.
    fn settle_refused(&mut self, source: &AnswerSource, mut item: Item, record: Record, at: Instant) {
        let mx_set = source.mx_set;
        // After `Done` a caller may forget the address, and the attempts of a reopened address start at zero. So
        // doubtful verdicts are held back.
        let detected = self.mx_sets[mx_set].harvest.was_detected();
        let hold = self.context.retry_owner == RetryOwner::Engine || detected || source.origin.doubtful;
        let verdict = match hold {
            true => {
                self.context.release_permit(&mut item);
                ProvisionalVerdict::Held(Box::new(HeldVerdict { mx_set, item, record }))
            }
            false => {
                let verdict = ProvisionalVerdict::Reported { id: item.id, domain: item.domain };
                self.context.done(&item, record, &mut self.event_batch);
                verdict
            }
        };
        self.breaker.add_provisional(mx_set, source.origin.connection, at, verdict);
    }

    /// Settles an acceptance, whose verdict depends on whether the domain accepts every local part.
    fn settle_accepted(&mut self, source: &AnswerSource, item: Item, record: Record) {
        let mailbox = item.mailbox_of(&record.address);
        let mx_set = &mut self.mx_sets[source.mx_set];
        let has_earlier = !self.context.known.is_empty() && source.host.as_ref() == mx_set.preferred();
        let known = match mx_set.domains.get_mut(&item.domain) {
            _ if !self.context.config.catch_all => CatchAll::NotRun,
            Some(CatchAllState::Answered(catch_all)) => *catch_all,
            Some(CatchAllState::Asked(accepted)) => return accepted.push((item, record)),
            // Earlier runs have their results from the preferred exchanger, so they count for that one only.
            None if has_earlier && let Some(catch_all) = self.context.known.get(mailbox.domain()) => {
                *catch_all
            }
            None => match probe_mailbox(mailbox.domain()) {
                Ok(probe) => {
                    let domain = item.domain;
                    mx_set.harvest.add_control(domain, mailbox, None);
                    mx_set.domains.insert(domain, CatchAllState::Asked(vec![(item, record)]));
                    let question = Question::CatchAll { domain, probe, losses: 0, attempts: 0 };
                    self.put_back(source.mx_set, question);
                    return;
                }
                // The domain name is too long for a random local part, so the answer stays unknown.
                Err(_) => CatchAll::Inconclusive,
            },
        };
        self.accept(source.mx_set, &item, record, known);
    }

    fn settle_domain(&mut self, source: &AnswerSource, domain: u32, name: &str, outcome: &Outcome) {
        let detected = self.mx_sets[source.mx_set].harvest.active_defence().is_some();
        let catch_all = match outcome.verdict.sub_status {
            SubStatus::Accepted => CatchAll::Accepted,
            SubStatus::MailboxNotFound | SubStatus::MailboxDisabled if !detected => CatchAll::Refused,
            _ => CatchAll::Inconclusive,
        };
        let mx_set = &mut self.mx_sets[source.mx_set];
        // The question was dropped when another exchanger took over.
        if !mx_set.is_asked(domain) {
            return;
        }
        let preferred = source.host.as_ref() == mx_set.preferred();
        if let Some(CatchAllState::Asked(accepted)) =
            mx_set.domains.insert(domain, CatchAllState::Answered(catch_all))
        {
            self.accept_all(source.mx_set, accepted, catch_all);
        }
        if preferred && catch_all != CatchAll::Inconclusive && self.context.retry_owner == RetryOwner::Caller
        {
            self.event_batch.events.push(Event::CatchAll { domain: name.into(), answer: catch_all });
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
