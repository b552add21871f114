//! Standard input, which can tell whether more comes soon.

use std::{
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use super::limits::BUFFER;

/// A function that returns true if no octets come within a time.
pub(super) type PauseCheck = Box<dyn Fn(Duration) -> bool + Send>;

/// Reads an input in a thread of its own.
pub(super) struct SlowInput {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    arrived: Arc<Arrived>,
    piece: io::Cursor<Vec<u8>>,
}

/// The number of pieces that were read, and not taken.
#[derive(Default)]
struct Arrived {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Arrived {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }
}

impl SlowInput {
    pub(super) fn new(mut input: impl Read + Send + 'static) -> Self {
        // The thread is at most one piece ahead, besides the piece that it reads.
        let (sender, receiver) = mpsc::sync_channel(1);
        let arrived = Arc::new(Arrived::default());
        let counter = Arc::clone(&arrived);
        thread::spawn(move || {
            loop {
                let mut piece = vec![0; BUFFER];
                let read = match input.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let is_last = !matches!(read, Ok(1..));
                let piece = read.map(|len| {
                    piece.truncate(len);
                    piece
                });
                counter.add();
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        Self { receiver, arrived, piece: io::Cursor::default() }
    }

    /// Returns a function that returns true if nothing comes within a time. An end of the input counts as an arrival.
    pub(super) fn pause(&self) -> PauseCheck {
        let arrived = Arc::clone(&self.arrived);
        Box::new(move |limit| {
            let count = arrived.count.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = arrived.changed.wait_timeout_while(count, limit, |count| *count == 0);
            waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
        })
    }
}

impl Read for SlowInput {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(out)?;
        if read > 0 || out.is_empty() {
            return Ok(read);
        }
        // After the end, the thread is gone.
        let Ok(piece) = self.receiver.recv() else { return Ok(0) };
        let mut count = self.arrived.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        drop(count);
        self.piece = io::Cursor::new(piece?);
        self.piece.read(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_noticed_and_nothing_is_lost() {
        let (sender, receiver) = mpsc::channel::<&[u8]>();
        struct Pieces(mpsc::Receiver<&'static [u8]>);
        impl Read for Pieces {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                self.0.recv().map_or(Ok(0), |mut piece| piece.read(out))
            }
        }
        let mut input = SlowInput::new(Pieces(receiver));
        let pause = input.pause();
        assert!(pause(Duration::from_millis(1)));
        sender.send(b"ann").unwrap();
        assert!(!pause(Duration::from_secs(60)));
        let mut out = [0; 2];
        assert_eq!((input.read(&mut out).unwrap(), &out), (2, b"an"));
        assert_eq!(input.read(&mut out).unwrap(), 1);
        assert!(pause(Duration::from_millis(1)));
        drop(sender);
        assert!(!pause(Duration::from_secs(60)));
        assert_eq!([input.read(&mut out).unwrap(), input.read(&mut out).unwrap()], [0, 0]);
    }
}
