//! Reads lines with their numbers, and can look ahead.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

use memchr::memchr2;

use super::LineEnd;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The longest line that is kept whole, 4 MiB, so that a file without line ends cannot fill the memory. A header of
/// 140,000 columns fits.
const MAX_LINE: usize = 4 << 20;

/// A line without its line end.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The line number, from 1.
    pub number: u64,
    /// The octets. They need not be UTF-8.
    pub octets: Vec<u8>,
    /// The line end. None at the end of the input.
    pub end: Option<LineEnd>,
    /// True if the line was longer than 4 MiB. The rest was dropped.
    pub cut: bool,
}

impl Line {
    /// Returns true if the line holds only white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.octets.trim_ascii().is_empty()
    }
}

/// Reads lines from any input.
#[derive(Debug)]
pub struct Lines<R = Box<dyn BufRead + Send>> {
    input: R,
    read: u64,
    ahead: VecDeque<Line>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the lines of `input`.
    pub fn new(input: R) -> Self {
        Self { input, read: 0, ahead: VecDeque::new() }
    }

    /// Returns the input.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Returns the next line. None at the end.
    ///
    /// # Errors
    /// Fails if the input cannot be read.
    #[expect(clippy::should_implement_trait, reason = "an error is no item")]
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    /// Skips blank lines. Returns the next line without consuming it.
    ///
    /// # Errors
    /// Fails if the input cannot be read.
    pub fn skip_blank(&mut self) -> io::Result<Option<&Line>> {
        while self.peek(0)?.is_some_and(Line::is_blank) {
            self.next()?;
        }
        self.peek(0)
    }

    /// Returns the next line that is not blank.
    ///
    /// # Errors
    /// Fails if the input cannot be read.
    pub fn next_filled(&mut self) -> io::Result<Option<Line>> {
        loop {
            match self.next()? {
                Some(line) if line.is_blank() => {}
                line => return Ok(line),
            }
        }
    }

    /// Returns the line that is `n` lines after the next one. Consumes nothing.
    ///
    /// # Errors
    /// Fails if the input cannot be read.
    pub fn peek(&mut self, n: usize) -> io::Result<Option<&Line>> {
        while self.ahead.len() <= n {
            match self.read()? {
                Some(line) => self.ahead.push_back(line),
                None => return Ok(None),
            }
        }
        Ok(self.ahead.get(n))
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line::default();
        let mut is_empty = true;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                break;
            }
            is_empty = false;
            let (end, len) = (memchr2(b'\n', b'\r', buffer), buffer.len());
            let part = &buffer[..end.unwrap_or(len)];
            let room = MAX_LINE - line.octets.len();
            line.cut |= part.len() > room;
            line.octets.extend_from_slice(&part[..part.len().min(room)]);
            let Some(end) = end else {
                self.input.consume(len);
                continue;
            };
            let is_lf = buffer[end] == b'\n';
            self.input.consume(end + 1);
            line.end = Some(match is_lf {
                true => LineEnd::Lf,
                false if self.takes_lf()? => LineEnd::CrLf,
                false => LineEnd::Cr,
            });
            break;
        }
        if is_empty {
            return Ok(None);
        }
        self.read += 1;
        line.number = self.read;
        if self.read == 1 && line.octets.starts_with(BOM) {
            line.octets.drain(..BOM.len());
        }
        Ok(Some(line))
    }

    /// Consumes LF if it is the next octet.
    fn takes_lf(&mut self) -> io::Result<bool> {
        loop {
            match self.input.fill_buf() {
                Ok([b'\n', ..]) => {
                    self.input.consume(1);
                    return Ok(true);
                }
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(octets: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
        let mut lines = Lines::new(io::Cursor::new(octets));
        std::iter::from_fn(move || lines.next().unwrap().map(|line| (line.number, line.octets, line.cut)))
            .collect()
    }

    #[test]
    fn line_ends_are_removed_also_if_they_differ() {
        let line = |number, text: &str| (number, text.as_bytes().to_vec(), false);
        assert_eq!(all(b"a\r\n\nb".to_vec()), [line(1, "a"), line(2, ""), line(3, "b")]);
        assert_eq!(all(b"a\rb\r\rc\r\n".to_vec()), [line(1, "a"), line(2, "b"), line(3, ""), line(4, "c")]);
        // The line end may stand at the end of a buffer.
        let input = io::BufReader::with_capacity(2, &b"a\r\nb\r\n"[..]);
        let mut lines = Lines::new(input);
        let ends = std::iter::from_fn(|| lines.next().unwrap().map(|line| line.end));
        assert_eq!(ends.collect::<Vec<_>>(), [Some(LineEnd::CrLf); 2]);
        assert_eq!(all(b"a\n".to_vec()), [line(1, "a")]);
        assert_eq!(all(vec![]), []);
    }

    #[test]
    fn an_endless_line_is_cut_and_skipped() {
        let found = all([vec![b'x'; 3 * MAX_LINE], b"\nb\n".to_vec()].concat());
        assert_eq!((found.len(), found[0].1.len(), found[0].2), (2, MAX_LINE, true));
        assert_eq!(found[1], (2, b"b".to_vec(), false));
        let whole = all([vec![b'x'; MAX_LINE], b"\nb\n".to_vec()].concat());
        assert_eq!((whole.len(), whole[0].1.len(), whole[0].2), (2, MAX_LINE, false));
    }

    #[test]
    fn blank_lines_are_skipped_and_not_kept() {
        let mut lines = Lines::new(io::Cursor::new(b"\n \r\n\na\n\nb".to_vec()));
        assert_eq!(lines.skip_blank().unwrap().map(|line| line.number), Some(4));
        assert_eq!(lines.ahead.len(), 1);
        assert_eq!(lines.next().unwrap().unwrap().octets, b"a");
        assert_eq!(lines.skip_blank().unwrap().map(|line| line.number), Some(6));
        assert_eq!(Lines::new(&b"\n\n"[..]).skip_blank().unwrap(), None);
    }

    #[test]
    fn peeking_consumes_nothing() {
        let mut lines = Lines::new(&b"a\nb\n"[..]);
        assert_eq!(lines.peek(1).unwrap().unwrap().octets, b"b");
        assert_eq!(lines.peek(2).unwrap(), None);
        assert_eq!(lines.next().unwrap().unwrap().octets, b"a");
    }
}
