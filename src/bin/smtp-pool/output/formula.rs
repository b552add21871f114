//! Cells of CSV that a spreadsheet runs, and how it is kept from that: by `'` in front, as OWASP has it for CSV
//! injection.
//!
//! A cell is run if it begins with `=`, `+`, `-` or `@`, in their wide forms too, or with these behind what an import
//! passes over: white space, a byte order mark, control characters, quotes. A spreadsheet that is set to `;` or tab
//! splits cells in the middle, so what follows those and line ends counts as a beginning as well.
//!
//! A `'` that stands before such a sign already gets another one. So there is one way back: to take one away.

use std::borrow::Cow;

use crate::escape::is_hidden;

/// What happens to the cells that the list has brought: the address, what is made of it, and the other columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListCells {
    /// They are written as they are: lists come from the user.
    #[default]
    Unchanged,
    /// They are escaped like those of servers.
    Escaped,
}

impl ListCells {
    pub(super) fn apply(self, cell: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Unchanged => cell.into(),
            Self::Escaped => escaped(cell),
        }
    }
}

/// Returns the cell with `'` in front of each part that a spreadsheet would run.
pub(super) fn escaped(cell: &[u8]) -> Cow<'_, [u8]> {
    // Nearly all cells: one part, which is no formula. Without an early end, so that the compiler takes many octets at
    // once.
    if cell.iter().fold(true, |one, octet| one & (*octet >= b' ') & (*octet != b';')) && !is_run(cell) {
        return cell.into();
    }
    let (mut escaped, mut copied, mut start) = (Vec::new(), 0, 0);
    loop {
        let part = &cell[start..];
        if is_run(part) || (start == 0 && begins_with_blank_line(part)) {
            escaped.extend_from_slice(&cell[copied..start]);
            escaped.push(b'\'');
            copied = start;
        }
        match part.iter().position(is_separator) {
            Some(at) => start += at + 1,
            None => break,
        }
    }
    if escaped.is_empty() {
        return cell.into();
    }
    escaped.extend_from_slice(&cell[copied..]);
    escaped.into()
}

/// A separator of some spreadsheet, but for the comma, which the writer of CSV quotes.
fn is_separator(octet: &u8) -> bool {
    matches!(octet, b';' | b'\t' | b'\r' | b'\n')
}

/// Whether a sign begins the part, or what is passed over and then a sign. What lies behind a separator is a part of its
/// own, so that no octet is looked at twice.
fn is_run(part: &[u8]) -> bool {
    let mut rest = part;
    while let Some(c) = first(rest) {
        if matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '﹦' | '﹢' | '﹣' | '﹫')
        {
            return true;
        }
        let passed_over = c.is_whitespace() || is_hidden(c) || matches!(c, '\'' | '"');
        if !passed_over || is_separator(&rest[0]) {
            return false;
        }
        rest = &rest[c.len_utf8()..];
    }
    false
}

/// Tab and line ends: some spreadsheets take what follows for the beginning, and OWASP names them with the signs.
fn begins_with_blank_line(cell: &[u8]) -> bool {
    let quotes = cell.iter().take_while(|octet| **octet == b'\'').count();
    matches!(cell.get(quotes), Some(b'\t' | b'\r' | b'\n'))
}

/// The first character; none at the end, or where it is not UTF-8.
fn first(octets: &[u8]) -> Option<char> {
    if let Some(octet) = octets.first().filter(|octet| octet.is_ascii()) {
        return Some(char::from(*octet));
    }
    let head = &octets[..octets.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(cell: &str) -> String {
        String::from_utf8(escaped(cell.as_bytes()).into_owned()).unwrap()
    }

    /// The way back, as docs/output.md has it.
    fn restored(cell: &str) -> String {
        let mut text = String::new();
        let mut start = 0;
        loop {
            let part = &cell[start..];
            let end = part.find([';', '\t', '\r', '\n']).map(|at| at + 1);
            let own = &part[..end.unwrap_or(part.len())];
            let is_escaped =
                is_run(own.as_bytes()) || (start == 0 && begins_with_blank_line(part.as_bytes()));
            text.push_str(own.strip_prefix('\'').filter(|_| is_escaped).unwrap_or(own));
            match end {
                Some(end) => start += end,
                None => return text,
            }
        }
    }

    #[test]
    fn signs_at_the_beginning_are_escaped() {
        for cell in [
            "=1",
            "+1",
            "-1",
            "@a",
            "\t1",
            "\r1",
            "\n1",
            "＝1",
            "－1",
            " =1",
            "\u{a0}\u{feff}\u{200b}=1",
            "'=1",
            "\"=1",
            "\0=1",
            "=",
            "''\t",
        ] {
            assert_eq!(shown(cell), format!("'{cell}"));
        }
        assert_eq!(shown("a;=1"), "a;'=1");
        assert_eq!(shown("a\t -1\r\n+1"), "a\t' -1\r\n'+1");
        assert_eq!(shown("=1;=1"), "'=1;'=1");
        for cell in ["", "a=1", "5-1", "550 x", "'a'", " a", "a, =1", "a; b", "a\r\nb", "é=", "1;2"] {
            assert_eq!(shown(cell), cell);
        }
        assert_eq!(&*escaped(b"\xff=1"), b"\xff=1");
        assert_eq!(&*escaped(b"\xff;=1"), b"\xff;'=1");
    }

    #[test]
    fn a_long_cell_takes_linear_time() {
        for cell in ["\t", " ", ";", "=;", "'", "\r\n "] {
            let cell = cell.repeat(500_000);
            let started = std::time::Instant::now();
            assert!(escaped(cell.as_bytes()).len() >= cell.len());
            assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        }
    }

    proptest! {
        #[test]
        fn nothing_is_run_and_there_is_a_way_back(cell in "[=+\\-@＝'\" ;\t\r\n\u{feff}a,é]{0,12}") {
            let shown = shown(&cell);
            for part in shown.split([';', '\t', '\r', '\n']) {
                let blank = |c: char| c.is_whitespace() || is_hidden(c) || c == '"';
                prop_assert!(!part.trim_start_matches(blank).starts_with(['=', '+', '-', '@', '＝']), "{part:?} of {shown:?}");
            }
            prop_assert!(!shown.starts_with(['\t', '\r', '\n']));
            prop_assert_eq!(restored(&shown), cell);
        }
    }
}
