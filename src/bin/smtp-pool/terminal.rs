//! Standard output and standard error, for everything but records. No value can end a line or control the terminal.

use std::{
    fmt,
    io::{self, Write},
};

use serde::Serialize;

use crate::{escape::Escaped, json};

/// Standard output or standard error, for everything but records. Each call writes its lines in one piece.
#[derive(Debug)]
pub(crate) struct Terminal<W>(W);

impl Terminal<io::Stdout> {
    /// Returns standard output.
    pub(crate) fn out() -> Self {
        Self::new(io::stdout())
    }

    /// Returns standard output that gathers what is written until it is flushed.
    pub(crate) fn buffered(self) -> Terminal<io::BufWriter<io::Stdout>> {
        Terminal::new(io::BufWriter::new(self.0))
    }
}

impl Terminal<io::Stderr> {
    /// Returns standard error.
    pub(crate) fn err() -> Self {
        Self::new(io::stderr())
    }
}

impl<W: Write> Terminal<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }

    /// Writes one line. Its values are escaped.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        self.0.write_all(format!("{}\n", Escaped(line)).as_bytes())
    }

    /// Writes text of several lines, such as tables. The caller escapes foreign values in it with [`Escaped`].
    pub(crate) fn lines(&mut self, text: impl fmt::Display) -> io::Result<()> {
        let text = text.to_string();
        let lines: String = text.lines().map(|line| format!("{}\n", Escaped(line))).collect();
        self.0.write_all(lines.as_bytes())
    }

    /// Writes a built-in file unchanged.
    pub(crate) fn built_in(&mut self, text: &'static str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    /// Writes one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = json::to_vec(value)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_one_piece() {
        struct Pieces(Vec<Vec<u8>>);
        impl Write for Pieces {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.0.push(octets.to_vec());
                Ok(octets.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut terminal = Terminal::new(Pieces(vec![]));
        terminal.line(format_args!("{}-{}", "a\nb", 1)).unwrap();
        terminal.lines("one\u{1b}\n\ntwo").unwrap();
        terminal.json(&"a\u{9b}\n").unwrap();
        let wanted: [&[u8]; 3] = [b"a\\nb-1\n", b"one\\x1b\n\ntwo\n", b"\"a\\u009b\\n\"\n"];
        assert_eq!(terminal.0.0, wanted);
    }
}
