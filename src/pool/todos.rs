//! What is to be done when there is a task to do it.

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

    /// Adds one, and wakes the maintenance.
    pub(super) fn push(&self, todo: T) {
        self.queue.push(todo);
        self.notify.notify_one();
    }

    /// Takes the oldest.
    pub(super) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }
}
