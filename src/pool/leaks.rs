//! Who has which connection, and since when: on record only if somebody wants to know.

use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Holder;

/// The connections of one server that are lent.
#[derive(Debug, Default)]
pub(super) struct Loans(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    open: BTreeMap<u64, Loan>,
}

#[derive(Debug)]
struct Loan {
    since: Instant,
    taken_at: &'static Location<'static>,
    warned: bool,
}

impl Loans {
    /// Records that a connection was lent; returns the number of the loan.
    pub(super) fn record(&self, taken_at: &'static Location<'static>) -> u64 {
        let mut book = self.lock();
        let number = book.next;
        book.next += 1;
        book.open.insert(number, Loan { since: Instant::now(), taken_at, warned: false });
        number
    }

    /// Records that a connection was given back.
    pub(super) fn settle(&self, number: u64) {
        self.lock().open.remove(&number);
    }

    /// Returns who has a connection, the longest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        self.lock().open.values().map(Loan::holder).collect()
    }

    /// Returns those who have had a connection for longer than `limit`, each once.
    pub(super) fn overdue(&self, limit: Duration) -> Vec<Holder> {
        let mut book = self.lock();
        let overdue = book.open.values_mut().filter(|loan| !loan.warned && loan.since.elapsed() >= limit);
        overdue
            .map(|loan| {
                loan.warned = true;
                loan.holder()
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    fn holder(&self) -> Holder {
        Holder { taken_at: self.taken_at, held: self.since.elapsed() }
    }
}
