//! The queue of callers that wait for a connection, in the order of arrival.
//!
//! A caller that was served stays in the queue until it takes its item, or leaves. Callers are served in order, so the
//! first `served` entries are the served ones.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
};

/// A queue for items `T`: a connection, or the error of opening one.
#[derive(Debug)]
pub(super) struct WaitQueue<T> {
    entries: VecDeque<Entry<T>>,
    /// How many entries at the front were served.
    served: usize,
    next_ticket: u64,
    /// Connections that are being opened for these callers. The lock of the queue guards the count.
    pub(super) connecting: usize,
}

/// A caller in the queue.
#[derive(Debug)]
struct Entry<T> {
    ticket: u64,
    state: EntryState<T>,
}

#[derive(Debug)]
enum EntryState<T> {
    /// The waker is there after the first poll.
    Waiting(Option<Waker>),
    Served(T),
}

/// How a caller left the queue.
#[derive(Debug)]
pub(super) enum Departure<T> {
    /// It was not served.
    Unserved,
    /// It was served, and did not take its item.
    Served(T),
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), served: 0, next_ticket: 0, connecting: 0 }
    }
}

impl<T> WaitQueue<T> {
    /// Joins at the end. Returns the ticket.
    pub(super) fn join(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.entries.push_back(Entry { ticket, state: EntryState::Waiting(None) });
        ticket
    }

    /// Returns how many callers were not served yet.
    pub(super) fn unserved(&self) -> usize {
        self.entries.len() - self.served
    }

    /// Serves `item` to the first caller that waits. The pool must wake the returned waker; None before the first poll.
    ///
    /// # Errors
    /// No caller waits: the item comes back.
    pub(super) fn serve(&mut self, item: T) -> Result<Option<Waker>, T> {
        let Some(entry) = self.entries.get_mut(self.served) else { return Err(item) };
        self.served += 1;
        match std::mem::replace(&mut entry.state, EntryState::Served(item)) {
            EntryState::Waiting(waker) => Ok(waker),
            // This cannot happen, since the first `served` entries are the served ones.
            EntryState::Served(_) => Ok(None),
        }
    }

    /// Takes the item of `ticket`, and removes the entry. Stores the waker if the caller was not served yet. Returns None
    /// for a ticket that is not in the queue.
    pub(super) fn poll(&mut self, ticket: u64, waker: &Waker) -> Poll<Option<T>> {
        let Some(at) = self.position(ticket) else { return Poll::Ready(None) };
        match &mut self.entries[at].state {
            EntryState::Waiting(Some(known)) if known.will_wake(waker) => return Poll::Pending,
            EntryState::Waiting(known) => {
                *known = Some(waker.clone());
                return Poll::Pending;
            }
            EntryState::Served(_) => {}
        }
        match self.leave(ticket) {
            Some(Departure::Served(item)) => Poll::Ready(Some(item)),
            _ => Poll::Ready(None),
        }
    }

    /// Leaves the queue. Returns `None` if `ticket` is not in it.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Departure<T>> {
        let at = self.position(ticket)?;
        Some(match self.entries.remove(at)?.state {
            EntryState::Waiting(_) => Departure::Unserved,
            EntryState::Served(item) => {
                self.served -= 1;
                Departure::Served(item)
            }
        })
    }

    /// Returns the position of a ticket. Tickets are in order, and never reused.
    fn position(&self, ticket: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[test]
    fn the_first_to_come_is_the_first_to_be_served() {
        let mut queue = WaitQueue::default();
        let [first, second, third] = [queue.join(), queue.join(), queue.join()];
        assert_eq!(queue.unserved(), 3);
        assert!(queue.serve('a').unwrap().is_none());
        assert!(queue.serve('b').unwrap().is_none());
        assert_eq!(queue.unserved(), 1);
        assert_eq!(queue.poll(second, Waker::noop()), Poll::Ready(Some('b')));
        assert_eq!(queue.poll(third, Waker::noop()), Poll::Pending);
        assert!(queue.serve('c').unwrap().is_some());
        assert_eq!(queue.poll(first, Waker::noop()), Poll::Ready(Some('a')));
        assert_eq!(queue.poll(third, Waker::noop()), Poll::Ready(Some('c')));
        assert_eq!(queue.poll(third, Waker::noop()), Poll::Ready(None));
        assert!(matches!(queue.serve('d'), Err('d')));
    }

    #[test]
    fn the_one_who_looked_last_is_woken() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let [first, second] = [(); 2].map(|()| Arc::new(Woken(AtomicUsize::new(0))));
        let mut queue = WaitQueue::default();
        let ticket = queue.join();
        for woken in [&first, &first, &second] {
            assert_eq!(queue.poll(ticket, &Arc::clone(woken).into()), Poll::Pending);
        }
        queue.serve('a').unwrap().unwrap().wake();
        assert_eq!([first, second].map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
    }

    #[test]
    fn who_leaves_is_passed_over_and_leaves_nothing_behind() {
        let mut queue = WaitQueue::default();
        let [first, second] = [queue.join(), queue.join()];
        assert!(matches!(queue.leave(first), Some(Departure::Unserved)));
        assert!(queue.serve('a').is_ok());
        assert!(matches!(queue.leave(second), Some(Departure::Served('a'))));
        assert!(queue.leave(second).is_none());
        assert_eq!(queue.unserved(), 0);
    }
}
