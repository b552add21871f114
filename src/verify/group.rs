//! The addresses of one set of mail exchangers: those that wait, and what is known of their domains there.
//!
//! A lane has one group where it is that of a set of exchangers, and as many as sets where it is that of a provider.

use std::{collections::VecDeque, mem, sync::Arc};

use foldhash::HashMap;
use tokio::{sync::Notify, time::Instant};

use super::{
    Record, catch_all::Domain, engine::Item, mx::Exchangers, outcome::Outcome, question::Question,
    throttle::Rates,
};

/// An address that was accepted, and the record it will have once it is known what that is worth.
pub(super) type Accepted = (Item, Record);

/// See the [module](self).
pub(super) struct Group {
    pub(super) exchangers: Arc<Exchangers>,
    waiting: VecDeque<Question>,
    utf8_waiting: usize,
    pub(super) domains: HashMap<u32, Domain<Accepted>>,
    pub(super) rates: Rates,
    /// Recipients that the server takes in a transaction, as far as it has shown.
    pub(super) recipients: Option<u32>,
    /// Who answered last; what is known of domains is known by its answers.
    pub(super) answering: Option<Arc<str>>,
    /// Connections that ask.
    pub(super) live: u32,
    /// Connections on their way.
    pub(super) connecting: u32,
    /// Connections in a row that broke without an answer.
    pub(super) fruitless: u32,
    /// Connections in a row that broke after few answers.
    pub(super) poor: u32,
    /// Connections in a row that were closed with blame on us, and without an answer.
    pub(super) turned_away: u32,
    /// No way to the servers: until when, and why.
    pub(super) rest: Option<(Instant, Outcome)>,
    /// No new connection before this.
    pub(super) not_before: Option<Instant>,
    /// Whether it stands in the line of those that need a connection.
    pub(super) in_line: bool,
    /// Told when there may be something to ask.
    pub(super) wake: Arc<Notify>,
}

impl Group {
    pub(super) fn new(exchangers: Exchangers) -> Self {
        Self {
            exchangers: exchangers.into(),
            waiting: VecDeque::new(),
            utf8_waiting: 0,
            domains: HashMap::default(),
            rates: Rates::default(),
            recipients: None,
            answering: None,
            live: 0,
            connecting: 0,
            fruitless: 0,
            poor: 0,
            turned_away: 0,
            rest: None,
            not_before: None,
            in_line: false,
            wake: Arc::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn needs_smtputf8(&self) -> bool {
        self.utf8_waiting > 0
    }

    pub(super) fn push(&mut self, question: Question) {
        self.utf8_waiting += usize::from(question.mailbox().needs_smtputf8());
        self.waiting.push_back(question);
    }

    pub(super) fn push_front(&mut self, question: Question) {
        self.utf8_waiting += usize::from(question.mailbox().needs_smtputf8());
        self.waiting.push_front(question);
    }

    pub(super) fn pop(&mut self) -> Option<Question> {
        let question = self.waiting.pop_front()?;
        self.utf8_waiting -= usize::from(question.mailbox().needs_smtputf8());
        Some(question)
    }

    /// All that wait.
    pub(super) fn take(&mut self) -> VecDeque<Question> {
        self.utf8_waiting = 0;
        mem::take(&mut self.waiting)
    }

    /// How many of those that wait, at most `max`, may be asked while `left` rejections may come, and how many are to be
    /// reckoned with then.
    pub(super) fn affordable(&self, left: f32, max: u32) -> (u32, f32) {
        self.rates.affordable(left, self.waiting.iter().take(max as usize).map(Question::domain))
    }

    /// Why the exchangers are left alone, if they are.
    pub(super) fn resting(&self, now: Instant) -> Option<&Outcome> {
        self.rest.as_ref().filter(|(until, _)| now < *until).map(|(_, outcome)| outcome)
    }

    /// Takes note of who answers from now on, and gives those up whose domain was asked about elsewhere: what one
    /// exchanger refuses, another of the same domain may accept whatever it is, as backups do.
    pub(super) fn answers(&mut self, host: &Arc<str>) -> Vec<Accepted> {
        if self.answering.as_ref() == Some(host) {
            return Vec::new();
        }
        self.answering = Some(Arc::clone(host));
        self.waiting.retain(|question| matches!(question, Question::Item(_)));
        let known = mem::take(&mut self.domains).into_values();
        let asked = known.filter_map(|domain| match domain {
            Domain::Asked(accepted) => Some(accepted),
            Domain::Answered(_) => None,
        });
        asked.flatten().collect()
    }

    /// Whether it is being asked whether a domain accepts anything.
    pub(super) fn is_asked(&self, domain: u32) -> bool {
        matches!(self.domains.get(&domain), Some(Domain::Asked(_)))
    }

    /// The most preferred exchanger.
    pub(super) fn preferred(&self) -> Option<&Arc<str>> {
        self.exchangers.first().map(|exchanger| &exchanger.host)
    }
}
