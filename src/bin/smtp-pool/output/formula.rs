//! Escapes cells of CSV that a spreadsheet would run, with `'` in front. OWASP recommends this against CSV injection.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@` or their wide forms. An import may skip white space, a
//! byte order mark, control characters and quotes in front of them.
//!
//! A spreadsheet may also split cells at `;` or tab. So the text behind these, and behind line ends, counts as a
//! beginning, too.
//!
//! If such a sign already has a `'` in front, it gets a second one. So removing one `'` restores the text.

use std::borrow::Cow;

use crate::escape::is_hidden;

/// How to write cells from the list: the address, values made of it, and the other columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListCells {
    /// Unchanged, because lists come from the user.
    #[default]
    Unchanged,
    /// Escaped, like cells with text from servers.
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
    // Nearly all cells are one part, which is no formula. There is no early end, so that the compiler vectorizes the
    // loop.
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

/// Returns whether some spreadsheet splits cells at this octet. The comma is missing, because the CSV writer quotes it.
fn is_separator(octet: &u8) -> bool {
    matches!(octet, b';' | b'\t' | b'\r' | b'\n')
}

/// Returns whether a spreadsheet would run the part: it begins with a sign, perhaps behind skipped characters. The part
/// ends at the next separator, so that no octet is read twice.
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

/// Returns whether the cell begins with a tab or a line end. Some spreadsheets skip it, and OWASP escapes it.
fn begins_with_blank_line(cell: &[u8]) -> bool {
    let quotes = cell.iter().take_while(|octet| **octet == b'\'').count();
    matches!(cell.get(quotes), Some(b'\t' | b'\r' | b'\n'))
}

/// Returns the first character, or `None` at the end, or if it is not UTF-8.
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

    /// Restores the cell as docs/output.md describes it.
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
        fn no_formula_is_left_and_the_text_can_be_restored(cell in "[=+\\-@＝'\" ;\t\r\n\u{feff}a,é]{0,12}") {
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
