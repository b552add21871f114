//! What the rows under way hold besides the address, in no more than so many octets of memory.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use smtp_pool::job::input::{Row, Rows};

/// Octets of the rows under way, 64 MiB: while there are more, no further row is read. One row has 4 MiB at the most.
const CAPACITY_OCTETS: usize = 64 << 20;
/// The reading goes on below this, so that it does not stop and go with every row.
const RESUME_OCTETS: usize = CAPACITY_OCTETS - CAPACITY_OCTETS / 8;
/// Octets that a row takes beside its own.
const ROW_OVERHEAD_OCTETS: usize = 64;
/// Octets that its record may take while it waits for its turn, where there are turns: most of them are those of the
/// reply.
const RECORD_OCTETS: usize = 1_536;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct PendingRows {
    state: Mutex<PendingState>,
    /// Told when there is room again, or nobody takes any more.
    changed: Condvar,
    /// Octets of each row beside those that were written.
    each: usize,
}

#[derive(Debug, Default)]
struct PendingState {
    /// By number: the source, and the row as it was written.
    rows: HashMap<u64, (u32, Vec<u8>)>,
    octets: usize,
    closed: bool,
}

/// Ends the reading when dropped, which may wait for room.
pub(super) struct CloseOnDrop(Arc<PendingRows>);

impl PendingRows {
    /// Room for rows whose records are written as they come, or in their order.
    pub(super) fn new(keep_order: bool) -> Self {
        let each = if keep_order { ROW_OVERHEAD_OCTETS + RECORD_OCTETS } else { ROW_OVERHEAD_OCTETS };
        Self { state: Mutex::default(), changed: Condvar::new(), each }
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a row aside until its record is written, and waits for room before. False if nobody takes any more.
    fn put(&self, number: u64, source: u32, mut written: Vec<u8>) -> bool {
        // Such a row is the address, which the verifier has.
        if written.is_empty() && self.each == ROW_OVERHEAD_OCTETS {
            return true;
        }
        if written.capacity() > 2 * written.len().max(ROW_OVERHEAD_OCTETS) || written.len() > 4_096 {
            written.shrink_to_fit();
        }
        let mut state = self.lock();
        while state.octets >= CAPACITY_OCTETS && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.octets += self.each + written.len();
        state.rows.insert(number, (source, written));
        !state.closed
    }

    /// The source and the row of a number, as it was written.
    pub(super) fn take(&self, number: u64) -> (u32, Vec<u8>) {
        let mut state = self.lock();
        let Some((source, written)) = state.rows.remove(&number) else { return Default::default() };
        let before = state.octets;
        state.octets -= self.each + written.len();
        if before >= RESUME_OCTETS && state.octets < RESUME_OCTETS {
            self.changed.notify_one();
        }
        (source, written)
    }

    /// To be dropped when nothing is taken any more.
    pub(super) fn close_on_drop(self: &Arc<Self>) -> CloseOnDrop {
        CloseOnDrop(Arc::clone(self))
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

/// The addresses of the rows; the rest of each is put aside until its record comes.
pub(super) fn addresses(
    rows: Rows,
    pending: Arc<PendingRows>,
) -> impl Iterator<Item = String> + Send + 'static {
    (0..).zip(rows).map_while(move |(number, row): (u64, Row)| {
        pending.put(number, row.source, row.written).then_some(row.address)
    })
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn rows_wait_for_room_and_come_back_whole() {
        let pending = Arc::new(PendingRows::new(false));
        let reader = {
            let pending = Arc::clone(&pending);
            thread::spawn(move || (0..200).all(|n| pending.put(n, 7, vec![n as u8; 1 << 20])))
        };
        for n in 0..200 {
            // Until it is there.
            while !pending.lock().rows.contains_key(&n) {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(pending.lock().octets <= CAPACITY_OCTETS + (1 << 20) + ROW_OVERHEAD_OCTETS);
            assert_eq!(pending.take(n), (7, vec![n as u8; 1 << 20]));
        }
        assert!(reader.join().unwrap());
        assert_eq!(pending.lock().octets, 0);
        assert_eq!(pending.take(0), (0, Vec::new()));
    }

    #[test]
    fn whoever_waits_for_room_is_told_that_nobody_takes_any_more() {
        let pending = Arc::new(PendingRows::new(false));
        assert!(pending.put(0, 0, vec![0; CAPACITY_OCTETS]));
        let reader = {
            let pending = Arc::clone(&pending);
            thread::spawn(move || pending.put(1, 0, vec![0; 10]))
        };
        drop(pending.close_on_drop());
        assert!(!reader.join().unwrap());
    }

    #[test]
    fn a_record_counts_while_it_waits_for_its_turn() {
        let ordered = PendingRows::new(true);
        let rows = CAPACITY_OCTETS / (ROW_OVERHEAD_OCTETS + RECORD_OCTETS);
        assert!((0..rows as u64).all(|n| ordered.put(n, 0, Vec::new())));
        assert!(ordered.lock().octets > CAPACITY_OCTETS - 2_000);
        let plain = PendingRows::new(false);
        assert!((0..1_000).all(|n| plain.put(n, 0, Vec::new())));
        assert_eq!(plain.lock().octets, 0);
    }
}
