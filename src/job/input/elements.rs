//! Reads the elements of a JSON array one by one, in constant memory.

use std::io::{self, BufRead};

use super::limits::MAX_OBJECT;

/// An element of an array, or a line of JSON Lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The number of its first line, from 1.
    pub(super) number: u64,
    pub(super) octets: Vec<u8>,
    /// True if its end was dropped.
    pub(super) cut: bool,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first `[`.
    Before,
    /// Within the array, before an element or its end.
    Inside,
    /// After the array. Another one may follow.
    Behind,
}

/// Reads the elements of an array, or of several arrays one after the other.
pub(super) struct Elements<R> {
    input: R,
    place: Place,
    line: u64,
    /// True after CR, whose LF is no line of its own.
    after_cr: bool,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, place: Place::Before, line: 1, after_cr: false }
    }

    /// Returns the next element.
    ///
    /// # Errors
    /// Fails if the array does not end, or if something other than an array stands behind it.
    pub(super) fn next(&mut self) -> io::Result<Option<Element>> {
        loop {
            let Some(octet) = self.peek_filled()? else {
                return match self.place {
                    Place::Inside => {
                        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the JSON array does not end"))
                    }
                    Place::Before | Place::Behind => Ok(None),
                };
            };
            match (self.place, octet) {
                (Place::Before | Place::Behind, b'[') => {
                    self.take();
                    self.place = Place::Inside;
                }
                (Place::Before | Place::Behind, _) => {
                    let message = format!("line {}: text outside of the JSON array", self.line);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                (Place::Inside, b']') => {
                    self.take();
                    self.place = Place::Behind;
                }
                (Place::Inside, b',') => self.take(),
                (Place::Inside, _) => return self.element().map(Some),
            }
        }
    }

    /// Reads an element until the `,` or `]` behind it.
    fn element(&mut self) -> io::Result<Element> {
        let mut element = Element { number: self.line, octets: Vec::new(), cut: false };
        let (mut depth, mut in_string, mut escaped) = (0_u64, false, false);
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the JSON array does not end"));
            }
            let mut ended = false;
            let mut len = 0;
            for &octet in buffer {
                match octet {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    // A string has no line ends, so its quote is not closed.
                    b'\n' | b'\r' if in_string => in_string = false,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b',' | b']' if depth == 0 => {
                        ended = true;
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                self.line += u64::from(octet == b'\r' || octet == b'\n' && !self.after_cr);
                self.after_cr = octet == b'\r';
                len += 1;
            }
            let room = (MAX_OBJECT + 1).saturating_sub(element.octets.len());
            element.cut |= len > room;
            element.octets.extend_from_slice(&buffer[..len.min(room)]);
            self.input.consume(len);
            if ended {
                element.octets.truncate(element.octets.trim_ascii_end().len());
                return Ok(element);
            }
        }
    }

    /// Skips white space, and returns the next octet without consuming it.
    fn peek_filled(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Some(&octet) = fill(&mut self.input)?.first() else { return Ok(None) };
            if !octet.is_ascii_whitespace() {
                return Ok(Some(octet));
            }
            self.take_octet(octet);
        }
    }

    fn take(&mut self) {
        self.take_octet(b' ');
    }

    fn take_octet(&mut self, octet: u8) {
        self.line += u64::from(octet == b'\r' || octet == b'\n' && !self.after_cr);
        self.after_cr = octet == b'\r';
        self.input.consume(1);
    }
}

fn fill(input: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // The borrow of the match would last for the whole loop.
            Ok(_) => return input.fill_buf(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the elements with their lines, and whether the array ended as it must.
    fn all(text: &str, buffer: usize) -> (Vec<(u64, String)>, bool) {
        let mut elements = Elements::new(io::BufReader::with_capacity(buffer, text.as_bytes()));
        let mut found = Vec::new();
        loop {
            match elements.next() {
                Ok(Some(element)) => found.push((element.number, String::from_utf8(element.octets).unwrap())),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[test]
    fn elements_are_read_in_any_pieces() {
        let element = |line, text: &str| (line, text.to_owned());
        for buffer in [1, 2, 3, 1_000] {
            let text = "[ {\"a\": \"],[\\\"\"},\r\n[1,[2]] , \"x\",\n\n3\n]\n[4]";
            let found = [
                element(1, "{\"a\": \"],[\\\"\"}"),
                element(2, "[1,[2]]"),
                element(2, "\"x\""),
                element(4, "3"),
                element(6, "4"),
            ];
            assert_eq!(all(text, buffer), (found.to_vec(), true), "{buffer}");
            assert_eq!(all("[]", buffer), (vec![], true));
            assert_eq!(all("[1,", buffer), (vec![element(1, "1")], false));
            assert_eq!(all("[1,{\"a", buffer), (vec![element(1, "1")], false));
            assert_eq!(all("[1] x", buffer), (vec![element(1, "1")], false));
            // An open string costs one element.
            assert_eq!(all("[\"a\n,\"b\"]", buffer), (vec![element(1, "\"a"), element(2, "\"b\"")], true));
        }
    }

    #[test]
    fn an_endless_element_is_cut() {
        let text = format!("[\"{}\",2]", "x".repeat(3 << 20));
        let mut elements = Elements::new(text.as_bytes());
        let first = elements.next().unwrap().unwrap();
        assert!(first.cut && first.octets.len() == MAX_OBJECT + 1);
        assert_eq!(elements.next().unwrap().unwrap().octets, b"2");
    }
}
