//! Passes items from an iterator that may block to a task that may not. The task takes everything read so far as soon
//! as there is one item. A slow pipe is therefore answered line by line, and a fast file moves in batches.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Items that the thread reads ahead. Threads wake once per fill, so with this many the wake-ups cost little beside the
/// reading.
const AHEAD: usize = 4096;
/// Octets that the thread reads ahead. The last item may exceed them by any length.
const AHEAD_OCTETS: usize = 1 << 20;

/// The data that the reading thread and the task share.
#[derive(Debug, Default)]
struct SharedInput {
    state: Mutex<InputState>,
    /// Notified when there is an item to take, or the input has ended.
    filled: Notify,
    /// Notified when there is room for more, or the receiver was dropped.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct InputState {
    items: Vec<String>,
    octets: usize,
    ended: bool,
    abandoned: bool,
}

impl SharedInput {
    fn lock(&self) -> MutexGuard<'_, InputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the task. Dropping it ends the reading.
#[derive(Debug)]
pub(super) struct InputReceiver(Arc<SharedInput>);

/// The end of the thread. Dropping it ends the input, also when the iterator panics.
#[derive(Debug)]
pub(super) struct InputReader(Arc<SharedInput>);

/// Returns both ends of a new channel.
pub(super) fn input_channel() -> (InputReader, InputReceiver) {
    let shared = Arc::new(SharedInput::default());
    (InputReader(Arc::clone(&shared)), InputReceiver(shared))
}

impl InputReader {
    /// Reads until the iterator ends or the receiver is dropped. Blocks the thread.
    pub(super) fn read(self, items: impl Iterator<Item = String>) {
        for item in items {
            let mut state = self.0.lock();
            while (state.items.len() >= AHEAD || state.octets >= AHEAD_OCTETS) && !state.abandoned {
                state = self.0.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.abandoned {
                return;
            }
            state.octets += item.len();
            state.items.push(item);
            let first = state.items.len() == 1;
            drop(state);
            if first {
                self.0.filled.notify_one();
            }
        }
    }
}

impl Drop for InputReader {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.filled.notify_one();
    }
}

impl InputReceiver {
    /// Returns all items that were read since the last call, at least one. Returns `None` once the input has ended.
    ///
    /// Cancellation-safe.
    pub(super) async fn take(&mut self) -> Option<Vec<String>> {
        loop {
            {
                let mut state = self.0.lock();
                if !state.items.is_empty() {
                    let room = Vec::with_capacity(state.items.len());
                    let items = mem::replace(&mut state.items, room);
                    state.octets = 0;
                    self.0.emptied.notify_one();
                    return Some(items);
                }
                if state.ended {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }
}

impl Drop for InputReceiver {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.emptied.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[tokio::test]
    async fn no_item_is_lost_and_the_order_is_kept() {
        let (reader, mut input_channel) = input_channel();
        let thread = thread::spawn(move || reader.read((0..50_000).map(|n| n.to_string())));
        let mut next = 0;
        while let Some(items) = input_channel.take().await {
            assert!(items.len() <= AHEAD);
            for item in items {
                assert_eq!(item, next.to_string());
                next += 1;
            }
        }
        assert_eq!(next, 50_000);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn long_items_are_read_ahead_by_their_octets() {
        let (reader, mut input_channel) = input_channel();
        let thread = thread::spawn(move || reader.read((0..20).map(|_| "x".repeat(AHEAD_OCTETS / 4 + 1))));
        let mut items = 0;
        while let Some(taken) = input_channel.take().await {
            assert!(taken.len() <= 4, "{} items", taken.len());
            items += taken.len();
        }
        assert_eq!(items, 20);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn an_item_arrives_before_the_next_one_is_read() {
        let (reader, mut input_channel) = input_channel();
        let (feed, fed) = mpsc::channel();
        let thread = thread::spawn(move || reader.read(fed.into_iter()));
        for n in 0..3 {
            feed.send(n.to_string()).unwrap();
            assert_eq!(input_channel.take().await, Some(vec![n.to_string()]));
        }
        drop(feed);
        assert_eq!(input_channel.take().await, None);
        thread.join().unwrap();
    }

    #[test]
    fn reading_ends_when_the_receiver_is_dropped() {
        let (reader, input_channel) = input_channel();
        let thread = thread::spawn(move || reader.read((0..).map(|n: u64| n.to_string())));
        drop(input_channel);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn an_iterator_that_panics_ends_the_input() {
        let (reader, mut input_channel) = input_channel();
        let thread = thread::spawn(move || reader.read(std::iter::once_with(|| panic!("on purpose"))));
        assert_eq!(input_channel.take().await, None);
        assert!(thread.join().is_err());
    }
}
