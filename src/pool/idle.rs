//! Idle connections: a lock-free queue, first in first out.
//!
//! The connection at the bottom of a stack would be idle until its server closes it. In a queue, each one is used.

use std::sync::OnceLock;

use crossbeam_queue::ArrayQueue;

/// An [`ArrayQueue`] that can grow: a second one behind the first, and so on. Nothing moves, so nothing is locked.
#[derive(Debug)]
pub(super) struct Idle<T> {
    queue: ArrayQueue<T>,
    more: OnceLock<Box<Self>>,
}

impl<T> Idle<T> {
    /// Returns a queue with room for `capacity`, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { queue: ArrayQueue::new(capacity.max(1)), more: OnceLock::new() }
    }

    /// Makes room for `capacity` in total; it never shrinks.
    pub(super) fn grow(&self, capacity: usize) {
        let lacking = capacity.saturating_sub(self.queue.capacity());
        if lacking > 0 {
            self.more.get_or_init(|| Box::new(Self::new(lacking))).grow(lacking);
        }
    }

    /// Adds one at the end. Returns it if there is no room.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        self.queue.push(item).or_else(|item| match self.more.get() {
            Some(more) => more.push(item),
            None => Err(item),
        })
    }

    /// Takes the oldest one.
    pub(super) fn pop(&self) -> Option<T> {
        self.queue.pop().or_else(|| self.more.get()?.pop())
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.more.get().map_or(0, |more| more.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Idle;

    #[test]
    fn grows_without_losing_or_refusing_anything() {
        let idle = Idle::new(2);
        (0..2).for_each(|n| idle.push(n).unwrap());
        assert_eq!(idle.push(9), Err(9));
        idle.grow(5);
        idle.grow(4);
        idle.grow(6);
        (2..6).for_each(|n| idle.push(n).unwrap());
        assert_eq!(idle.push(9), Err(9));
        assert_eq!(idle.len(), 6);
        assert_eq!(std::iter::from_fn(|| idle.pop()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!((idle.pop(), idle.len()), (None, 0));
    }
}
