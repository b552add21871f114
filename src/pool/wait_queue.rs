//! The line of those who wait for a connection: first come, first served.
//!
//! Whoever is served stays in line until they take what was put aside for them, or leave. The served are always the
//! first of the line, so that one number tells them from the others.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
};

/// A line for `T`s, some of which may be a bad end.
#[derive(Debug)]
pub(super) struct Line<T> {
    places: VecDeque<Place<T>>,
    served: usize,
    next_ticket: u64,
    /// Connections on their way for those who wait.
    pub(super) connecting: usize,
}

#[derive(Debug)]
struct Place<T> {
    ticket: u64,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    /// The waker is there once the waiter has been polled.
    Waiting(Option<Waker>),
    Served(T),
}

/// How somebody left the line.
#[derive(Debug)]
pub(super) enum Left<T> {
    /// Before being served.
    Unserved,
    /// Without taking what had been put aside.
    Served(T),
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { places: VecDeque::new(), served: 0, next_ticket: 0, connecting: 0 }
    }
}

impl<T> Line<T> {
    /// Goes to the end of the line.
    pub(super) fn join(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.places.push_back(Place { ticket, state: State::Waiting(None) });
        ticket
    }

    /// How many are waiting, those who need only take what is theirs not counted.
    pub(super) fn unserved(&self) -> usize {
        self.places.len() - self.served
    }

    /// Puts `item` aside for the first who waits; given back if nobody does.
    pub(super) fn serve(&mut self, item: T) -> Result<Option<Waker>, T> {
        let Some(place) = self.places.get_mut(self.served) else { return Err(item) };
        self.served += 1;
        match std::mem::replace(&mut place.state, State::Served(item)) {
            State::Waiting(waker) => Ok(waker),
            // Cannot be: the served are the first of the line.
            State::Served(_) => Ok(None),
        }
    }

    /// Takes what was put aside for `ticket`, which then leaves, or has it woken when something is.
    pub(super) fn poll(&mut self, ticket: u64, waker: &Waker) -> Poll<Option<T>> {
        let Some(at) = self.position(ticket) else { return Poll::Ready(None) };
        match &mut self.places[at].state {
            State::Waiting(Some(known)) if known.will_wake(waker) => return Poll::Pending,
            State::Waiting(known) => {
                *known = Some(waker.clone());
                return Poll::Pending;
            }
            State::Served(_) => {}
        }
        match self.leave(ticket) {
            Some(Left::Served(item)) => Poll::Ready(Some(item)),
            _ => Poll::Ready(None),
        }
    }

    /// Leaves the line; `None` if `ticket` is not in it.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Left<T>> {
        let at = self.position(ticket)?;
        Some(match self.places.remove(at)?.state {
            State::Waiting(_) => Left::Unserved,
            State::Served(item) => {
                self.served -= 1;
                Left::Served(item)
            }
        })
    }

    /// Tickets are given out in order and never reused.
    fn position(&self, ticket: u64) -> Option<usize> {
        self.places.binary_search_by_key(&ticket, |place| place.ticket).ok()
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
        let mut line = Line::default();
        let [first, second, third] = [line.join(), line.join(), line.join()];
        assert_eq!(line.unserved(), 3);
        assert!(line.serve('a').unwrap().is_none());
        assert!(line.serve('b').unwrap().is_none());
        assert_eq!(line.unserved(), 1);
        assert_eq!(line.poll(second, Waker::noop()), Poll::Ready(Some('b')));
        assert_eq!(line.poll(third, Waker::noop()), Poll::Pending);
        assert!(line.serve('c').unwrap().is_some());
        assert_eq!(line.poll(first, Waker::noop()), Poll::Ready(Some('a')));
        assert_eq!(line.poll(third, Waker::noop()), Poll::Ready(Some('c')));
        assert_eq!(line.poll(third, Waker::noop()), Poll::Ready(None));
        assert!(matches!(line.serve('d'), Err('d')));
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
        let mut line = Line::default();
        let ticket = line.join();
        for woken in [&first, &first, &second] {
            assert_eq!(line.poll(ticket, &Arc::clone(woken).into()), Poll::Pending);
        }
        line.serve('a').unwrap().unwrap().wake();
        assert_eq!([first, second].map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
    }

    #[test]
    fn who_leaves_is_passed_over_and_leaves_nothing_behind() {
        let mut line = Line::default();
        let [first, second] = [line.join(), line.join()];
        assert!(matches!(line.leave(first), Some(Left::Unserved)));
        assert!(line.serve('a').is_ok());
        assert!(matches!(line.leave(second), Some(Left::Served('a'))));
        assert!(line.leave(second).is_none());
        assert_eq!(line.unserved(), 0);
    }
}
