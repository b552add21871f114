//! Splits one CSV record into fields (RFC 4180), with fixed rules for malformed quotes.
//!
//! A quote opens a field only at its start. It closes the field only before a delimiter or the end of the record. Any
//! other quote is a part of the field, as in `"john doe"@example.com` or `"5" pipe"`. A quote that nothing closes is a
//! part of the field, too. So it does not consume the rest of the file.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::Quoting;

/// The octets in which a stray quote looks for the quote that closes its field.
const LOOKAHEAD: usize = 1_024;

/// How the quotes of a record are read. The first octet of a stored row has these bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QuoteRules(pub(super) u8);

impl QuoteRules {
    /// Quotes have no special meaning. Earlier versions stored rows so.
    #[cfg(test)]
    pub(super) const LITERAL: Self = Self(1);
    const BACKSLASH: u8 = 2;
    const UNCLOSED: u8 = 4;

    pub(super) fn of(quoting: Quoting) -> Self {
        Self(if quoting == Quoting::Backslash { Self::BACKSLASH } else { 0 })
    }

    /// The last quoted field is not closed, so its first quote has no special meaning.
    pub(super) fn unclosed(self) -> Self {
        Self(self.0 | Self::UNCLOSED)
    }

    fn is_literal(self) -> bool {
        self.0 & 1 != 0
    }

    fn has_backslash(self) -> bool {
        self.0 & Self::BACKSLASH != 0
    }

    fn is_unclosed(self) -> bool {
        self.0 & Self::UNCLOSED != 0
    }
}

/// The state of a field reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CsvState {
    /// At the start of a field; spaces are skipped.
    Start,
    Plain,
    Quoted,
    /// After a backslash within quotes.
    Escape,
    /// After a quote within quotes: the end of the field, or the first half of an escaped quote.
    Quote,
    /// After the closing quote.
    Closed,
}

impl CsvState {
    /// Advances over `octets`. Returns the state at their end.
    pub(super) fn advance(mut self, octets: &[u8], delimiter: u8, rules: QuoteRules) -> Self {
        let mut at = 0;
        while at < octets.len() {
            (self, at) = self.advance_once(octets, at, delimiter, rules);
        }
        self
    }

    /// Advances from `at` to the next octet that can change the state. Returns the state and the place after it.
    fn advance_once(self, octets: &[u8], at: usize, delimiter: u8, rules: QuoteRules) -> (Self, usize) {
        let rest = &octets[at..];
        let skipped = match self {
            Self::Plain => memchr(delimiter, rest),
            Self::Quoted if rules.has_backslash() => memchr2(b'"', b'\\', rest),
            Self::Quoted => memchr(b'"', rest),
            Self::Start | Self::Escape | Self::Quote | Self::Closed => Some(0),
        };
        let Some(skipped) = skipped else { return (self, octets.len()) };
        let octet = rest[skipped];
        let next = match (self, octet) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Escape,
            (Self::Escape, _) => Self::Quoted,
            (_, octet) if octet == delimiter => Self::Start,
            (Self::Start, b'"') | (Self::Quote, b'"') => Self::Quoted,
            (Self::Start, b' ') => Self::Start,
            (Self::Start | Self::Plain, _) => Self::Plain,
            (Self::Quote | Self::Closed, b' ') => Self::Closed,
            (Self::Quote | Self::Closed, _) if closes_later(&rest[skipped..], delimiter) => Self::Quoted,
            (Self::Quote | Self::Closed, _) => Self::Plain,
        };
        (next, at + skipped + 1)
    }

    /// Returns the position of the delimiter that ends the first field, and true if a quote is open at the end.
    fn end(octets: &[u8], delimiter: u8, rules: QuoteRules) -> (Option<usize>, bool) {
        let (mut state, mut at) = (Self::Start, 0);
        while at < octets.len() {
            (state, at) = state.advance_once(octets, at, delimiter, rules);
            if state == Self::Start && octets[at - 1] == delimiter {
                return (Some(at - 1), false);
            }
        }
        (None, matches!(state, Self::Quoted | Self::Escape))
    }
}

/// Returns true if a quote closes the field on this line before another one opens a field.
fn closes_later(rest: &[u8], delimiter: u8) -> bool {
    let rest = &rest[..rest.len().min(LOOKAHEAD)];
    let line = &rest[..memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())];
    let is_end = |after: &[u8]| match after.iter().position(|octet| *octet != b' ') {
        Some(at) => after[at] == delimiter,
        None => true,
    };
    let opens = |before: &[u8]| match before.iter().rposition(|octet| *octet != b' ') {
        Some(at) => before[at] == delimiter,
        None => false,
    };
    let quotes = memchr::memchr_iter(b'"', line);
    for quote in quotes {
        if opens(&line[..quote]) {
            return false;
        }
        if is_end(&line[quote + 1..]) {
            return true;
        }
    }
    false
}

/// One record, of one line, or of several with quotes.
#[derive(Clone, Debug)]
pub(super) struct CsvRecord<O = Vec<u8>> {
    pub(super) number: u64,
    pub(super) octets: O,
    pub(super) rules: QuoteRules,
    /// True if the end of the record was dropped.
    pub(super) cut: bool,
}

impl<'a> CsvRecord<&'a [u8]> {
    pub(super) fn into_fields(self, delimiter: u8) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a> {
        let Self { octets, rules, .. } = self;
        let mut rest = Some(octets);
        std::iter::from_fn(move || {
            let octets = rest?;
            let plain = || memchr(delimiter, octets);
            let (end, literal) = match rules.is_literal() {
                true => (plain(), true),
                false => match CsvState::end(octets, delimiter, rules) {
                    (None, true) if rules.is_unclosed() => (plain(), true),
                    (end, _) => (end, false),
                },
            };
            rest = end.map(|end| &octets[end + 1..]);
            let field = &octets[..end.unwrap_or(octets.len())];
            Some(if literal { field.into() } else { unquoted(field, rules) })
        })
    }
}

impl<O: AsRef<[u8]>> CsvRecord<O> {
    pub(super) fn fields(&self, delimiter: u8) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let Self { number, octets, rules, cut } = self;
        CsvRecord { number: *number, octets: octets.as_ref(), rules: *rules, cut: *cut }
            .into_fields(delimiter)
    }
}

/// Takes off the quotes of a field. A field without quotes keeps its spaces.
fn unquoted(field: &[u8], rules: QuoteRules) -> Cow<'_, [u8]> {
    let trimmed = trim_spaces(field);
    let Some(inner) = trimmed.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return field.into();
    };
    if !inner.contains(&b'"') {
        return inner.into();
    }
    let mut octets = inner.iter().copied().peekable();
    let mut text = Vec::with_capacity(inner.len());
    while let Some(octet) = octets.next() {
        match (octet, octets.peek()) {
            (b'"', Some(b'"')) => drop(octets.next()),
            (b'\\', Some(b'"' | b'\\')) if rules.has_backslash() => {
                text.extend(octets.next());
                continue;
            }
            _ => {}
        }
        text.push(octet);
    }
    text.into()
}

fn trim_spaces(mut field: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = field {
        field = rest;
    }
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str, rules: QuoteRules) -> Vec<String> {
        let record = CsvRecord { number: 1, octets: text.as_bytes(), rules, cut: false };
        record.fields(b',').map(|field| String::from_utf8(field.into_owned()).unwrap()).collect()
    }

    const DOUBLED: QuoteRules = QuoteRules(0);
    const BACKSLASH: QuoteRules = QuoteRules(QuoteRules::BACKSLASH);

    #[test]
    fn quotes_protect_delimiters_and_quotes() {
        assert_eq!(fields(r#"1, "a,b" ,"say ""hi""",,x y"#, DOUBLED), ["1", "a,b", "say \"hi\"", "", "x y"]);
        assert_eq!(fields("", DOUBLED), [""]);
        assert_eq!(fields(r#""john doe"@x.test,1"#, QuoteRules::LITERAL), ["\"john doe\"@x.test", "1"]);
        assert_eq!(fields(r#""a,b",1"#, QuoteRules::LITERAL), ["\"a", "b\"", "1"]);
        assert_eq!(
            fields(r#""say \"hi, ann\"",C:\x,"C:\\""#, BACKSLASH),
            ["say \"hi, ann\"", "C:\\x", "C:\\\\"]
        );
    }

    #[test]
    fn stray_quotes_are_parts_of_their_field() {
        assert_eq!(fields(r#""john doe"@x.test,"1,2""#, DOUBLED), ["\"john doe\"@x.test", "1,2"]);
        assert_eq!(fields(r#""john doe"@x.test,1"#, DOUBLED), ["\"john doe\"@x.test", "1"]);
        assert_eq!(fields(r#""5" pipe","a,b",x"#, DOUBLED), ["5\" pipe", "a,b", "x"]);
        assert_eq!(
            fields(r#""Smith "the boss" Jones, Ann",x"#, DOUBLED),
            ["Smith \"the boss\" Jones, Ann", "x"]
        );
        assert_eq!(fields(r#"5" pipe,"a,b""#, DOUBLED), ["5\" pipe", "a,b"]);
        assert_eq!(fields(r#""a,b","open,x"#, DOUBLED.unclosed()), ["a,b", "\"open", "x"]);
    }

    #[test]
    fn open_quotes_are_found() {
        let advance = |text: &str| CsvState::Start.advance(text.as_bytes(), b',', DOUBLED);
        assert_eq!(advance(r#"1,"a"#), CsvState::Quoted);
        assert_eq!(advance(r#""john doe"@x.test,1"#), CsvState::Plain);
        assert_eq!(advance(r#"o"hara@x.test,"b" "#), CsvState::Closed);
        assert_eq!(advance(r#"a,"b"""#), CsvState::Quoted);
        assert_eq!(advance(r#"a,"b""""#), CsvState::Quote);
        assert_eq!(CsvState::Start.advance(br#"a,"b\""#, b',', BACKSLASH), CsvState::Quoted);
    }

    proptest! {
        #[test]
        fn no_octet_of_a_record_is_lost(text in "[a\"\\\\, ]{0,24}", rules in 0..8_u8) {
            let fields = fields(&text, QuoteRules(rules));
            let plain = |text: &str| text.replace(['"', '\\', ' ', ','], "");
            prop_assert_eq!(plain(&fields.concat()), plain(&text));
        }

        #[test]
        fn output_of_a_csv_writer_is_read(
            written in prop::collection::vec("[a\"\\\\, é\n]{0,6}", 1..5),
            backslash: bool,
        ) {
            let mut writer = csv::WriterBuilder::new();
            writer.double_quote(!backslash).quote_style(if backslash { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary });
            let written: Vec<_> = match backslash {
                // The writer does not escape backslashes themselves.
                true => written.iter().map(|field| field.replace('\\', "")).collect(),
                false => written,
            };
            let mut writer = writer.from_writer(vec![]);
            writer.write_record(&written).unwrap();
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let record = text.strip_suffix('\n').unwrap();
            let rules = if backslash { BACKSLASH } else { DOUBLED };
            prop_assert!(CsvState::Start.advance(record.as_bytes(), b',', rules) != CsvState::Quoted);
            prop_assert_eq!(fields(record, rules), written);
        }
    }
}
