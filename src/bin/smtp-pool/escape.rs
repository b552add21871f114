//! Escapes text that comes from servers, the DNS, lists and file names, all of which may be hostile.
//!
//! Each character that a terminal obeys or does not show is escaped, also the line feed. So no value can end a line and
//! forge the next.
//!
//! | what | shown as |
//! |---|---|
//! | line feed, carriage return, tab | `\n`, `\r`, `\t` |
//! | other C0 control characters, DEL | `\x1b` |
//! | C1 control characters, bidirectional controls, line and paragraph separators, characters without width | `\u{202e}` |
//! | an octet of a file name that is not UTF-8 | `\xff` |
//!
//! A backslash stays as it is. So escaping a text twice gives the same as escaping it once.

use std::{
    fmt::{self, Write as _},
    path::Path,
};

/// Returns whether a terminal obeys the character or does not show it. [`Escaped`] and [`json`] escape these.
pub(crate) fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' => false,
        c if c.is_control() => true,
        // The characters of the category Cf (Unicode 17), without the visible signs of Arabic and Egyptian.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' => true,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}' => true,
        // The line separator and the paragraph separator.
        '\u{2028}' | '\u{2029}' => true,
        _ => false,
    }
}

/// Displays the value as one line, without a character that a terminal obeys or does not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(f), "{}", self.0)
    }
}

struct Escape<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            self.0.write_str(&rest[..at])?;
            match c {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                c if c.is_ascii() => write!(self.0, "\\x{:02x}", u32::from(c))?,
                c => write!(self.0, "\\u{{{:x}}}", u32::from(c))?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Displays the name of a file like [`Escaped`], also octets that are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileName<'a>(pub(crate) &'a Path);

impl fmt::Display for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            Escaped(chunk.valid()).fmt(f)?;
            chunk.invalid().iter().try_for_each(|octet| write!(f, "\\x{octet:02x}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Many of the characters that must never be shown.
    const HOSTILE: &str = "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}a\\\\é中]{0,20}";

    /// Returns whether a terminal may obey the character, or change the order of text because of it.
    fn steers(c: char) -> bool {
        let bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || bidi || matches!(c, '\u{2028}' | '\u{2029}')
    }

    #[test]
    fn escapes_are_readable() {
        let shown = |text: &str| Escaped(text).to_string();
        assert_eq!(shown("a\nb\r\tc\u{1b}[2J\0\u{7f}"), r"a\nb\r\tc\x1b[2J\x00\x7f");
        assert_eq!(
            shown("\u{9b}\u{202e}\u{2028}\u{200b}\u{feff}\u{e0041}"),
            r"\u{9b}\u{202e}\u{2028}\u{200b}\u{feff}\u{e0041}"
        );
        let plain = "550 5.1.1 <ö@例え.test>: \\n «нет» שלום\u{a0}é \u{1f600}\u{fffd}";
        assert_eq!(shown(plain), plain);
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_line_without_control_characters(text in prop_oneof![any::<String>(), HOSTILE]) {
            let shown = Escaped(&text).to_string();
            prop_assert!(!shown.chars().any(|c| steers(c) || is_hidden(c)), "{shown:?}");
            prop_assert_eq!(Escaped(&shown).to_string(), shown, "escaped once is enough");
        }

        #[test]
        fn visible_characters_stay(text in any::<String>()) {
            let kept: String = text.chars().filter(|c| !is_hidden(*c)).collect();
            prop_assert_eq!(Escaped(&kept).to_string(), kept);
        }
    }

    #[cfg(unix)]
    mod file_names {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

        use super::*;

        fn shown(octets: &[u8]) -> String {
            FileName(Path::new(OsStr::from_bytes(octets))).to_string()
        }

        #[test]
        fn octets_that_are_not_utf8_are_shown() {
            assert_eq!(shown(b"a\xff\n\xc2\x9b\xe2\x80\xae.csv"), r"a\xff\n\u{9b}\u{202e}.csv");
        }

        proptest! {
            #[test]
            fn a_file_name_is_one_line_too(octets in prop::collection::vec(any::<u8>(), 0..40)) {
                let shown = shown(&octets);
                prop_assert!(!shown.chars().any(|c| steers(c) || is_hidden(c)), "{shown:?}");
            }
        }
    }
}
