//! A queue of work for the maintenance.

use std::sync::Arc;

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;

/// A queue that wakes the maintenance.
pub(super) struct Todos<T> {
    queue: SegQueue<T>,
    notify: Arc<Notify>,
}

impl<T> Todos<T> {
    pub(super) fn new(notify: Arc<Notify>) -> Self {
        Self { queue: SegQueue::new(), notify }
    }

    /// Adds an item, and wakes the maintenance.
    pub(super) fn push(&self, todo: T) {
        self.queue.push(todo);
        self.notify.notify_one();
    }

    /// Takes the oldest item.
    pub(super) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }
}
