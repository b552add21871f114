//! Copies the lines of a list octet by octet, as they lie in the file behind its compression.

use std::{
    fmt,
    io::{self, BufRead},
    path::Path,
};

use memchr::memchr;

use super::open::{self, Consumed};
use crate::job::{digest::Digest, error::Result};

/// Copies the lines of a list, each with its line end, its encoding and everything that a reader takes off.
///
/// It counts lines as [`Lines`](super::Lines) does, so that [`Row::line`](super::Row::line) names the first line of a
/// row. Its memory does not depend on the length of a line.
///
/// ```
/// use smtp_pool::job::input::RawLines;
/// # let dir = tempfile::tempdir()?;
/// # let list = dir.path().join("list.csv");
/// std::fs::write(&list, "\u{feff}email\r\nann@example.com\r\n")?;
/// let mut lines = RawLines::open(&list)?;
/// let mut header = Vec::new();
/// assert!(lines.copy_line(&mut |octets| header.extend_from_slice(octets))?);
/// assert_eq!(header, "\u{feff}email\r\n".as_bytes());
/// assert_eq!(lines.line(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RawLines {
    input: Box<dyn BufRead + Send>,
    line: u64,
}

impl fmt::Debug for RawLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLines").field("line", &self.line).finish_non_exhaustive()
    }
}

impl RawLines {
    /// Opens a list, compressed or not.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if it is no text.
    pub fn open(list: &Path) -> Result<Self> {
        let (input, _) = open::file(list, &Consumed::default(), &Digest::default())?;
        Ok(Self { input, line: 1 })
    }

    /// Returns the number of the next line, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Passes the octets of the next line to `to`, with its line end, in pieces of up to 64 KiB. Returns false at the end
    /// of the list.
    ///
    /// # Errors
    /// Fails if the list cannot be read.
    pub fn copy_line(&mut self, to: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut found = false;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                self.line += u64::from(found);
                return Ok(found);
            }
            found = true;
            let end = memchr(b'\n', buffer).map(|at| at + 1);
            let len = end.unwrap_or(buffer.len());
            to(&buffer[..len]);
            self.input.consume(len);
            if end.is_some() {
                self.line += 1;
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;
    use crate::job::input::Lines;

    proptest! {
        #[test]
        fn lines_are_those_of_the_reader(text in "[ab\r\n\u{feff}]{0,20}", capacity in 1..5_usize) {
            let input = Box::new(BufReader::with_capacity(capacity, Cursor::new(text.clone().into_bytes())));
            let mut raw = RawLines { input, line: 1 };
            let mut lines = Lines::new(Cursor::new(text.clone().into_bytes()));
            let mut all = Vec::new();
            loop {
                let (number, mut octets) = (raw.line(), Vec::new());
                let found = raw.copy_line(&mut |piece| octets.extend_from_slice(piece)).unwrap();
                all.extend_from_slice(&octets);
                let line = lines.next().unwrap();
                prop_assert_eq!(line.is_some(), found);
                let Some(line) = line else { break };
                prop_assert_eq!(line.number, number);
                prop_assert!(String::from_utf8(octets).unwrap().contains(std::str::from_utf8(&line.octets).unwrap()));
            }
            prop_assert_eq!(all, text.into_bytes());
        }
    }
}
