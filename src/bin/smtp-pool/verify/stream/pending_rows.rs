//! The rows in flight, which hold everything but the address. Their memory is limited.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use smtp_pool::job::input::{Row, Rows};

/// The limit of the rows in flight, 64 MiB. Above it, no further row is read. One row has at most 4 MiB.
const CAPACITY_OCTETS: usize = 64 << 20;
/// Below this, reading resumes. The distance keeps it from stopping at each row.
const RESUME_OCTETS: usize = CAPACITY_OCTETS - CAPACITY_OCTETS / 8;
/// Octets of memory for each row, besides its own text.
const ROW_OVERHEAD_OCTETS: usize = 64;
/// Octets of memory for a record that waits for an earlier row. Most of them are the reply.
const RECORD_OCTETS: usize = 1_536;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct PendingRows {
    state: Mutex<PendingState>,
    /// Notified when there is room again, or when the rows are closed.
    changed: Condvar,
    /// Octets of memory for each row, besides its own text.
    each: usize,
}

#[derive(Debug, Default)]
struct PendingState {
    /// The rows, by their numbers.
    rows: HashMap<u64, PendingRow>,
    octets: usize,
    closed: bool,
}

/// What is needed to write the record of a row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingRow {
    /// The number of its list.
    pub(super) source: u32,
    /// The row as it is written in the list.
    pub(super) written: Vec<u8>,
    /// The address as given, if the verifier gets another text.
    pub(super) given: Option<Box<str>>,
}

impl PendingRow {
    fn octets(&self) -> usize {
        self.written.len() + self.given.as_ref().map_or(0, |given| given.len())
    }
}

/// Closes the rows when dropped. This ends the reading, which may wait for room.
pub(super) struct CloseOnDrop(Arc<PendingRows>);

impl PendingRows {
    /// Returns room for rows whose records are written as they come, or in the order of the rows.
    pub(super) fn new(keep_order: bool) -> Self {
        let each = if keep_order { ROW_OVERHEAD_OCTETS + RECORD_OCTETS } else { ROW_OVERHEAD_OCTETS };
        Self { state: Mutex::default(), changed: Condvar::new(), each }
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, and stores a row until its record is written. Returns false if the rows are closed.
    fn put(&self, number: u64, mut row: PendingRow) -> bool {
        let written = &mut row.written;
        // This row is only the address, which the verifier has.
        if written.is_empty() && row.given.is_none() && self.each == ROW_OVERHEAD_OCTETS {
            return true;
        }
        if written.capacity() > 2 * written.len().max(ROW_OVERHEAD_OCTETS) || written.len() > 4_096 {
            written.shrink_to_fit();
        }
        let mut state = self.lock();
        while state.octets >= CAPACITY_OCTETS && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.octets += self.each + row.octets();
        state.rows.insert(number, row);
        !state.closed
    }

    /// Removes a row.
    pub(super) fn take(&self, number: u64) -> PendingRow {
        let mut state = self.lock();
        let Some(row) = state.rows.remove(&number) else { return PendingRow::default() };
        let before = state.octets;
        state.octets -= self.each + row.octets();
        if before >= RESUME_OCTETS && state.octets < RESUME_OCTETS {
            self.changed.notify_one();
        }
        row
    }

    /// Returns a guard that closes the rows.
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

/// Returns the addresses of the rows, and stores the rest of each row until its record comes.
pub(super) fn addresses(
    rows: Rows,
    pending: Arc<PendingRows>,
) -> impl Iterator<Item = String> + Send + 'static {
    (0..).zip(rows).map_while(move |(number, row): (u64, Row)| {
        let Row { source, written, address, question, .. } = row;
        let (given, question) = match question {
            Some(question) => (Some(address.into()), question),
            None => (None, address),
        };
        pending.put(number, PendingRow { source, written, given }).then_some(question)
    })
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn row(source: u32, written: Vec<u8>) -> PendingRow {
        PendingRow { source, written, given: None }
    }

    #[test]
    fn rows_wait_for_room_and_come_back_whole() {
        let pending = Arc::new(PendingRows::new(false));
        let reader = {
            let pending = Arc::clone(&pending);
            thread::spawn(move || (0..200).all(|n| pending.put(n, row(7, vec![n as u8; 1 << 20]))))
        };
        for n in 0..200 {
            // Wait until the row is there.
            while !pending.lock().rows.contains_key(&n) {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(pending.lock().octets <= CAPACITY_OCTETS + (1 << 20) + ROW_OVERHEAD_OCTETS);
            assert_eq!(pending.take(n), row(7, vec![n as u8; 1 << 20]));
        }
        assert!(reader.join().unwrap());
        assert_eq!(pending.lock().octets, 0);
        assert_eq!(pending.take(0), PendingRow::default());
    }

    #[test]
    fn closing_ends_the_wait_for_room() {
        let pending = Arc::new(PendingRows::new(false));
        assert!(pending.put(0, row(0, vec![0; CAPACITY_OCTETS])));
        let reader = {
            let pending = Arc::clone(&pending);
            thread::spawn(move || pending.put(1, row(0, vec![0; 10])))
        };
        drop(pending.close_on_drop());
        assert!(!reader.join().unwrap());
    }

    #[test]
    fn a_record_counts_while_it_waits_for_earlier_rows() {
        let ordered = PendingRows::new(true);
        let rows = CAPACITY_OCTETS / (ROW_OVERHEAD_OCTETS + RECORD_OCTETS);
        assert!((0..rows as u64).all(|n| ordered.put(n, row(0, Vec::new()))));
        assert!(ordered.lock().octets > CAPACITY_OCTETS - 2_000);
        let plain = PendingRows::new(false);
        assert!((0..1_000).all(|n| plain.put(n, row(0, Vec::new()))));
        assert_eq!(plain.lock().octets, 0);
    }
}
