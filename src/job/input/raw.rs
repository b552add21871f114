//! Copies the lines of a list octet by octet, as they lie in the file behind its compression.

use std::{
    fmt,
    io::{self, Cursor, Read},
    path::Path,
};

use memchr::memchr2;

use super::{
    Dialect, InputFormat,
    limits::BUFFER,
    open::{self, Consumed, Content},
};
use crate::job::{
    digest::Digest,
    error::{JobError, Result},
};

/// Copies the lines of a list, each with its line end, its encoding and everything that a reader takes off.
///
/// It counts lines as [`Lines`](super::Lines) does, so that [`Row::line`](super::Row::line) names the first line of a
/// row. LF, CR LF and CR end a line. Its memory does not depend on the length of a line.
///
/// ```
/// use smtp_pool::job::input::{Dialect, RawLines};
/// # let dir = tempfile::tempdir()?;
/// # let list = dir.path().join("list.csv");
/// std::fs::write(&list, "\u{feff}email\r\nann@example.com\r\n")?;
/// let mut lines = RawLines::open(&list, &Dialect::default())?;
/// let mut header = Vec::new();
/// assert!(lines.copy_line(&mut |octets| header.extend_from_slice(octets))?);
/// assert_eq!(header, "\u{feff}email\r\n".as_bytes());
/// assert_eq!(lines.line(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RawLines {
    input: Box<dyn Read + Send>,
    unit: CodeUnit,
    /// Octets that were read. Those before `at` were passed on.
    buffer: Vec<u8>,
    at: usize,
    line: u64,
    is_ended: bool,
}

/// The octets of a code unit: 1, 2 or 4, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodeUnit {
    len: usize,
    is_big: bool,
}

impl CodeUnit {
    /// Returns the code unit of an encoding. All but UTF-16 and UTF-32 write line ends in one octet.
    fn of(encoding: &str) -> Self {
        let len = match encoding {
            "UTF-16LE" | "UTF-16BE" => 2,
            "UTF-32LE" | "UTF-32BE" => 4,
            _ => 1,
        };
        Self { len, is_big: encoding.ends_with("BE") }
    }

    /// Returns whether the unit is this ASCII character.
    fn is(self, unit: &[u8], character: u8) -> bool {
        let at = if self.is_big { self.len - 1 } else { 0 };
        unit.len() == self.len
            && unit.iter().enumerate().all(|(n, octet)| *octet == if n == at { character } else { 0 })
    }

    /// Returns the place of the first LF or CR in whole units.
    fn line_end(self, octets: &[u8]) -> Option<usize> {
        if self.len == 1 {
            return memchr2(b'\n', b'\r', octets);
        }
        let is_end = |unit: &[u8]| self.is(unit, b'\n') || self.is(unit, b'\r');
        octets.chunks_exact(self.len).position(is_end).map(|at| at * self.len)
    }
}

impl fmt::Debug for RawLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLines").field("line", &self.line).finish_non_exhaustive()
    }
}

impl RawLines {
    /// Opens a list, compressed or not, that is written as the dialect says.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if its rows are no lines, as in a workbook or a JSON array.
    pub fn open(list: &Path, dialect: &Dialect) -> Result<Self> {
        let no_lines = || {
            JobError::hinted(
                format_args!("{}: its rows are no lines, so they cannot be copied", dialect.format),
                "save it as CSV, or write the records with job export",
            )
        };
        match dialect.format {
            InputFormat::Text | InputFormat::Csv | InputFormat::Jsonl => {}
            _ => return Err(no_lines()),
        }
        match open::file(list, &Consumed::default(), &Digest::default())?.content {
            Content::Text(head, rest) => {
                Ok(Self::new(Box::new(Cursor::new(head.octets).chain(rest)), &dialect.encoding))
            }
            Content::Workbook(..) => Err(no_lines()),
        }
    }

    fn new(input: Box<dyn Read + Send>, encoding: &str) -> Self {
        let unit = CodeUnit::of(encoding);
        Self { input, unit, buffer: Vec::new(), at: 0, line: 1, is_ended: false }
    }

    /// Returns the number of the next line, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Returns whether a character of ASCII is one octet.
    #[must_use]
    pub fn has_single_octets(&self) -> bool {
        self.unit.len == 1
    }

    /// Passes the octets of the next line to `to`, with its line end, in pieces of up to 64 KiB. Returns false at the end
    /// of the list.
    ///
    /// # Errors
    /// Fails if the list cannot be read.
    pub fn copy_line(&mut self, to: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut found = false;
        loop {
            let octets = &self.buffer[self.at..];
            let end = self.unit.line_end(octets);
            let len = match end {
                // LF may follow CR.
                Some(at) if self.unit.is(&octets[at..at + self.unit.len], b'\r') => {
                    let next = at + self.unit.len;
                    match octets.get(next..next + self.unit.len) {
                        Some(unit) if self.unit.is(unit, b'\n') => next + self.unit.len,
                        None if !self.is_ended => {
                            found |= self.pass(at, to);
                            self.fill()?;
                            continue;
                        }
                        _ => next,
                    }
                }
                Some(at) => at + self.unit.len,
                None if self.is_ended => octets.len(),
                None => {
                    found |= self.pass(octets.len() - octets.len() % self.unit.len, to);
                    self.fill()?;
                    continue;
                }
            };
            found |= self.pass(len, to);
            self.line += u64::from(found);
            return Ok(found);
        }
    }

    /// Passes octets on. Returns whether there are any.
    fn pass(&mut self, len: usize, to: &mut dyn FnMut(&[u8])) -> bool {
        if len > 0 {
            to(&self.buffer[self.at..self.at + len]);
            self.at += len;
        }
        len > 0
    }

    /// Reads more octets behind those that were not passed on.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let read = self.input.by_ref().take(BUFFER as u64).read_to_end(&mut self.buffer)?;
        self.is_ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::input::Lines;

    /// Gives one octet at a time.
    struct Slowly(Cursor<Vec<u8>>);

    impl Read for Slowly {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    fn encoded(text: &str, encoding: &str) -> Vec<u8> {
        let is_big = encoding.ends_with("BE");
        match CodeUnit::of(encoding).len {
            1 => text.as_bytes().to_vec(),
            2 => text
                .encode_utf16()
                .flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect(),
            _ => text
                .chars()
                .map(u32::from)
                .flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_reader(
            text in "[ab\u{a0d}\u{d0a}\r\n\u{feff}]{0,20}",
            encoding in prop::sample::select(vec!["UTF-8", "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"]),
        ) {
            let octets = encoded(&text, encoding);
            let mut raw = RawLines::new(Box::new(Slowly(Cursor::new(octets.clone()))), encoding);
            let mut lines = Lines::new(Cursor::new(text.into_bytes()));
            let mut all = Vec::new();
            loop {
                let (number, mut copied) = (raw.line(), Vec::new());
                let found = raw.copy_line(&mut |piece| copied.extend_from_slice(piece)).unwrap();
                all.extend_from_slice(&copied);
                let line = lines.next().unwrap();
                prop_assert_eq!(line.is_some(), found);
                let Some(line) = line else { break };
                prop_assert_eq!(line.number, number);
                let content = encoded(std::str::from_utf8(&line.octets).unwrap(), encoding);
                prop_assert!(content.is_empty() || copied.windows(content.len()).any(|part| part == content));
            }
            prop_assert_eq!(all, octets);
        }
    }

    #[test]
    fn a_long_line_is_passed_in_pieces() {
        let line = vec![b'x'; 10 * BUFFER];
        let mut raw = RawLines::new(Box::new(Cursor::new(line)), "UTF-8");
        let (mut total, mut longest) = (0, 0);
        assert!(
            raw.copy_line(&mut |piece| (total, longest) = (total + piece.len(), longest.max(piece.len())))
                .unwrap()
        );
        assert!(total == 10 * BUFFER && longest <= BUFFER);
        assert!(!raw.copy_line(&mut |_| ()).unwrap());
    }
}
