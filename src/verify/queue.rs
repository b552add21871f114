//! The addresses of one lane: those that wait, those that are to be asked again, and what is known of their domains.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use foldhash::HashMap;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Blame, CatchAll, Event, LaneStatus, Record, Retry, SubStatus,
    catch_all::{Domain, random_mailbox},
    engine::{Books, Context, Item},
    outcome::Outcome,
    probe::{Answer, Questions, Then},
    run::Lot,
    throttle::Rates,
};
use crate::{
    client::Connection,
    net::TlsVersion,
    proto::{Mailbox, Reply, Verb},
};

/// Refusals in a row with blame on us, after which nobody else is asked: the server has made itself clear.
const BLAMED: u32 = 10;
/// Records that travel together.
const TOGETHER: usize = 256;
/// How often a question may lose its connection, or be sent to another one, before that is its answer.
const LOSSES: u32 = 2;

/// One thing to ask a server.
pub(super) enum Question {
    /// An address of the list.
    Item(Item),
    /// Whether a domain accepts just any local part.
    CatchAll { domain: u32, probe: Mailbox, losses: u32, attempts: u32 },
}

/// A question to be asked again; the soonest is the greatest, as a heap wants it.
struct Later {
    due: Instant,
    question: Question,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

/// The work of a lane, and what has come of it.
pub(super) struct Queue {
    context: Arc<Context>,
    inbox: mpsc::UnboundedReceiver<Vec<Item>>,
    open: bool,
    waiting: VecDeque<Question>,
    utf8_waiting: usize,
    later: BinaryHeap<Later>,
    domains: HashMap<u32, Domain<(Item, Record)>>,
    rates: Rates,
    lot: Lot,
    /// The reply before, since servers say the same to most.
    last: Option<(Verb, Reply, Outcome)>,
    /// Of the connection at hand.
    mx_host: Option<Arc<str>>,
    tls: Option<&'static str>,
    smtputf8: bool,
    /// Who answered last; what is known of domains is known by its answers.
    answering: Option<Arc<str>>,
    /// Refusals in a row with blame on us, and the domain that they began with, unless there were several.
    blamed: (u32, Option<u32>),
    /// Answers so far, to tell whether a connection was of any use.
    pub(super) answers: u64,
    /// The server does not want us: what it said to the last address that was asked.
    pub(super) unwelcome: Option<Outcome>,
    /// Domains, of several at this server, that do not want us.
    unwelcome_at: HashMap<u32, Outcome>,
}

impl Queue {
    pub(super) fn new(context: Arc<Context>, inbox: mpsc::UnboundedReceiver<Vec<Item>>) -> Self {
        Self {
            context,
            inbox,
            open: true,
            waiting: VecDeque::new(),
            utf8_waiting: 0,
            later: BinaryHeap::new(),
            domains: HashMap::default(),
            rates: Rates::default(),
            lot: Lot::default(),
            last: None,
            mx_host: None,
            tls: None,
            smtputf8: false,
            answering: None,
            blamed: (0, None),
            answers: 0,
            unwelcome: None,
            unwelcome_at: HashMap::default(),
        }
    }

    /// Waits until there is something to ask; false when there will never be.
    ///
    /// Cancellation-safe: nothing is lost if it is dropped.
    pub(super) async fn wait(&mut self) -> bool {
        self.flush();
        loop {
            if self.waiting() > 0 {
                return true;
            }
            let due = self.later.peek().map(|later| later.due);
            tokio::select! {
                items = self.inbox.recv(), if self.open => match items {
                    Some(items) => self.take_in(items),
                    None => self.open = false,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                else => return false,
            }
        }
    }

    /// Takes note of the connection that answers from now on.
    pub(super) fn connected(&mut self, connection: &Connection) {
        self.mx_host = Some(Arc::clone(connection.host()));
        if self.answering != self.mx_host {
            self.answering.clone_from(&self.mx_host);
            self.forget_domains();
        }
        self.smtputf8 = connection.extensions().smtputf8;
        self.tls = connection.tls_info().map(|tls| match tls.version {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        });
    }

    /// What one exchanger refuses, another of the same domain may accept whatever it is, as backups do.
    fn forget_domains(&mut self) {
        let is_item = |question: &Question| matches!(question, Question::Item(_));
        self.waiting.retain(is_item);
        self.later.retain(|later| is_item(&later.question));
        for (_, known) in mem::take(&mut self.domains) {
            if let Domain::Asked(accepted) = known {
                self.settle_all(accepted, CatchAll::Inconclusive);
            }
        }
    }

    /// Takes note that no connection to `mx_host` could be opened: the outcome is that of all who wait.
    pub(super) fn fail(&mut self, mx_host: Option<&Arc<str>>, outcome: &Outcome) {
        (self.mx_host, self.tls) = (mx_host.cloned(), None);
        for question in mem::take(&mut self.waiting) {
            self.settle(question, outcome, Instant::now());
        }
        self.utf8_waiting = 0;
    }

    /// The server does not want us, and so nobody else is asked.
    pub(super) fn dismiss(&mut self, mx_host: Option<&Arc<str>>, outcome: &Outcome) {
        (self.mx_host, self.tls) = (mx_host.cloned(), None);
        let later = mem::take(&mut self.later).into_iter().map(|later| later.question);
        for question in mem::take(&mut self.waiting).into_iter().chain(later) {
            self.settle_unasked(question, outcome, Instant::now());
        }
        self.utf8_waiting = 0;
    }

    fn settle_unasked(&mut self, question: Question, outcome: &Outcome, at: Instant) {
        match question {
            Question::Item(mut item) => {
                let took = at.saturating_duration_since(item.started.unwrap_or(at));
                let mut record = self.context.record(&mut item, outcome, at, took);
                record.mx_host.clone_from(&self.mx_host);
                self.context.done(&item, record, &mut self.lot);
            }
            Question::CatchAll { domain, probe, .. } => self.settle_domain(domain, probe.domain(), outcome),
        }
    }

    /// Lays the loss of a connection on the question that was next, which may be what the server cannot bear.
    pub(super) fn blame_next(&mut self, outcome: &Outcome) {
        let Some(question) = self.pop() else { return };
        match question.lose() {
            Ok(question) => self.put_back(question),
            Err(question) => self.settle(question, outcome, Instant::now()),
        }
    }

    /// Questions that wait, those to be asked again later included.
    pub(super) fn len(&self) -> u64 {
        (self.waiting.len() + self.later.len()) as u64
    }

    /// Tells the caller of a change.
    pub(super) fn announce(&mut self, status: LaneStatus) {
        self.lot.events.push(Event::Lane(status));
    }

    /// Hands the records over.
    pub(super) fn flush(&mut self) {
        self.context.deliver(mem::take(&mut self.lot));
    }

    fn take_in(&mut self, items: Vec<Item>) {
        self.utf8_waiting += items.iter().filter(|item| item.mailbox.needs_smtputf8()).count();
        self.waiting.extend(items.into_iter().map(Question::Item));
    }

    fn put_back(&mut self, question: Question) {
        self.utf8_waiting += usize::from(question.mailbox().needs_smtputf8());
        self.waiting.push_front(question);
    }

    fn pop(&mut self) -> Option<Question> {
        let question = self.waiting.pop_front()?;
        self.utf8_waiting -= usize::from(question.mailbox().needs_smtputf8());
        Some(question)
    }

    fn settle(&mut self, question: Question, outcome: &Outcome, at: Instant) {
        match question {
            Question::Item(item) => self.settle_item(item, outcome, at),
            Question::CatchAll { domain, probe, attempts, .. } => {
                let attempts = attempts + 1;
                match self.pause(outcome, attempts) {
                    // A random mailbox is greylisted as others are; those who wait for its answer go on waiting.
                    Some(pause) => {
                        let question = Question::CatchAll { domain, probe, losses: 0, attempts };
                        self.later.push(Later { due: at + pause, question });
                    }
                    None => self.settle_domain(domain, probe.domain(), outcome),
                }
            }
        }
    }

    /// How long to wait before a question is asked again, after so many attempts; none if it is not.
    fn pause(&self, outcome: &Outcome, attempts: u32) -> Option<Duration> {
        outcome.verdict.retry.filter(|_| self.unwelcome.is_none())?;
        self.context.config.pause(attempts)
    }

    fn settle_item(&mut self, mut item: Item, outcome: &Outcome, at: Instant) {
        let started = *item.started.get_or_insert(at);
        item.attempts += 1;
        let pause = self.pause(outcome, item.attempts);
        if let Some(pause) = pause
            && self.context.books == Books::Ours
        {
            item.losses = 0;
            self.context.give_place_back(&mut item);
            self.later.push(Later { due: at + pause, question: Question::Item(item) });
            return;
        }
        let domain = item.domain;
        let took = at.saturating_duration_since(started);
        let mut record = self.context.record(&mut item, outcome, at, took);
        (record.mx_host, record.tls) = (self.mx_host.clone(), self.tls);
        if outcome.verdict.sub_status == SubStatus::Accepted {
            self.settle_accepted(item, record);
            return;
        }
        if let Some(Domain::Answered(catch_all)) = self.domains.get(&domain) {
            record.catch_all = *catch_all;
        }
        match pause {
            Some(after) => self.context.later(&item, record, after, &mut self.lot),
            None => self.context.done(&item, record, &mut self.lot),
        }
    }

    /// What acceptance is worth depends on whether the domain accepts just anything.
    fn settle_accepted(&mut self, item: Item, record: Record) {
        let known = match self.domains.get_mut(&item.domain) {
            _ if !self.context.config.catch_all => CatchAll::NotRun,
            Some(Domain::Answered(catch_all)) => *catch_all,
            Some(Domain::Asked(accepted)) => return accepted.push((item, record)),
            None => match self.context.known.get(item.mailbox.domain()) {
                Some(catch_all) => *catch_all,
                None => match random_mailbox(item.mailbox.domain()) {
                    Ok(probe) => {
                        let domain = item.domain;
                        self.domains.insert(domain, Domain::Asked(vec![(item, record)]));
                        let question = Question::CatchAll { domain, probe, losses: 0, attempts: 0 };
                        self.waiting.push_front(question);
                        return;
                    }
                    // The domain leaves no room for a local part: nobody can tell.
                    Err(_) => CatchAll::Inconclusive,
                },
            },
        };
        self.settle_all(vec![(item, record)], known);
    }

    fn settle_domain(&mut self, domain: u32, name: &str, outcome: &Outcome) {
        let catch_all = match outcome.verdict.sub_status {
            SubStatus::Accepted => CatchAll::Accepted,
            SubStatus::MailboxNotFound | SubStatus::MailboxDisabled => CatchAll::Refused,
            _ => CatchAll::Inconclusive,
        };
        if catch_all != CatchAll::Inconclusive && self.context.books == Books::Theirs {
            self.lot.events.push(Event::CatchAll { domain: name.into(), answer: catch_all });
        }
        if let Some(Domain::Asked(accepted)) = self.domains.insert(domain, Domain::Answered(catch_all)) {
            self.settle_all(accepted, catch_all);
        }
    }

    fn settle_all(&mut self, accepted: Vec<(Item, Record)>, catch_all: CatchAll) {
        for (item, record) in accepted {
            let record = self.context.accepted(record, catch_all);
            self.context.done(&item, record, &mut self.lot);
        }
    }

    /// What the reply means; looked up anew only where it differs from the one before.
    fn outcome(&mut self, verb: Verb, reply: &Reply) -> Outcome {
        match &self.last {
            Some((last_verb, last, outcome)) if *last_verb == verb && last == reply => outcome.clone(),
            _ => {
                let outcome = Outcome::of_reply(self.context.config.classifier(), verb, reply);
                // A copy, so that the read buffer does not live on for it.
                self.last = Some((verb, reply.detach(), outcome.clone()));
                outcome
            }
        }
    }
}

impl Question {
    /// Counts the loss of a connection; an error once there were too many.
    fn lose(mut self) -> Result<Self, Self> {
        let (Self::Item(Item { losses, .. }) | Self::CatchAll { losses, .. }) = &mut self;
        *losses += 1;
        if *losses < LOSSES { Ok(self) } else { Err(self) }
    }

    fn mailbox(&self) -> &Mailbox {
        match self {
            Self::Item(item) => &item.mailbox,
            Self::CatchAll { probe, .. } => probe,
        }
    }

    fn domain(&self) -> u32 {
        match self {
            Self::Item(item) => item.domain,
            Self::CatchAll { domain, .. } => *domain,
        }
    }
}

impl Questions for Queue {
    type Question = Question;

    fn mailbox<'a>(&self, question: &'a Question) -> &'a Mailbox {
        question.mailbox()
    }

    fn waiting(&mut self) -> usize {
        while let Ok(items) = self.inbox.try_recv() {
            self.take_in(items);
        }
        while let Some(later) = self.later.peek()
            && later.due <= Instant::now()
            && let Some(Later { question, .. }) = self.later.pop()
        {
            self.utf8_waiting += usize::from(question.mailbox().needs_smtputf8());
            self.waiting.push_back(question);
        }
        self.waiting.len()
    }

    fn affordable(&self, left: f32, max: u32) -> (u32, f32) {
        self.rates.affordable(left, self.waiting.iter().take(max as usize).map(Question::domain))
    }

    fn needs_smtputf8(&self) -> bool {
        self.utf8_waiting > 0
    }

    fn next(&mut self, now: Instant) -> Option<Question> {
        loop {
            let mut question = self.pop()?;
            if let Question::Item(item) = &mut question {
                item.started.get_or_insert(now);
            }
            if self.smtputf8 || !question.mailbox().needs_smtputf8() {
                self.rates.ask(question.domain());
                return Some(question);
            }
            self.settle(question, &Outcome::no_smtputf8(), now);
        }
    }

    fn answer(&mut self, question: Question, answer: &Answer) -> Then<Question> {
        self.answers += 1;
        let domain = question.domain();
        let outcome = self.outcome(answer.verb, &answer.reply);
        let question = match outcome.verdict.retry {
            Some(Retry::NextTransaction) if answer.position > 0 => {
                return Then::SmallerTransactions(question);
            }
            // The first one too many: a contradiction, or a limit that is not of the transaction.
            Some(Retry::NextTransaction) => match question.lose() {
                Ok(question) => return Then::SmallerTransactions(question),
                Err(question) => question,
            },
            Some(Retry::NextConnection) => match question.lose() {
                Ok(question) => return Then::Reconnect(question),
                Err(question) => question,
            },
            _ => question,
        };
        self.rates.note(domain, !answer.reply.is_positive());
        self.settle(question, &outcome, answer.at);
        if self.lot.events.len() >= TOGETHER {
            self.flush();
        }
        if outcome.verdict.blame != Some(Blame::Us) {
            self.blamed = (0, None);
            return Then::Continue;
        }
        let several = self.blamed.0 > 0 && self.blamed.1 != Some(domain);
        self.blamed = (self.blamed.0 + 1, (!several).then_some(domain));
        if self.blamed.0 < BLAMED {
            return Then::Continue;
        }
        // One domain of many may have its own rules, or be the only one that was asked about lately.
        if several || !self.unwelcome_at.is_empty() || self.domains.is_empty() {
            self.unwelcome = Some(outcome);
        } else {
            self.unwelcome_at.insert(domain, outcome);
            self.blamed = (0, None);
        }
        Then::Stop
    }

    fn settled(&mut self) {
        self.flush();
    }

    fn take_back(&mut self, question: Question) {
        self.rates.take_back(question.domain());
        self.put_back(question);
    }
}
