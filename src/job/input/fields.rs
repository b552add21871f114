//! Splits one CSV record into fields (RFC 4180), with fixed rules for malformed quotes.
//!
//! A quote opens a field only at its start. It closes the field only before a delimiter or the end of the record. A
//! record with any other quote is taken literally, line by line: `"john doe"@example.com` is an address. So an
//! unclosed quote does not consume the rest of the file.

use std::borrow::Cow;

use memchr::memchr;

/// The state of a field reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CsvState {
    /// At the start of a field; spaces are skipped.
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the field, or the first half of an escaped quote.
    Quote,
    /// After the closing quote.
    Closed,
    /// The quotes are malformed.
    Broken,
}

impl CsvState {
    pub(super) fn step(self, octet: u8, delimiter: u8) -> Self {
        match (self, octet) {
            (Self::Broken, _) => Self::Broken,
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (_, octet) if octet == delimiter => Self::Start,
            (Self::Start, b'"') | (Self::Quote, b'"') => Self::Quoted,
            (Self::Start, b' ') => Self::Start,
            (Self::Start | Self::Plain, _) => Self::Plain,
            (Self::Quote | Self::Closed, b' ') => Self::Closed,
            (Self::Quote | Self::Closed, _) => Self::Broken,
        }
    }

    pub(super) fn advance(mut self, mut octets: &[u8], delimiter: u8) -> Self {
        while !octets.is_empty() {
            let (at, taken) = self.advance_once(octets, delimiter);
            (self, octets) = (at, &octets[taken..]);
        }
        self
    }

    /// Advances to the next octet that can change the state. Returns the state after it and the number of octets, at
    /// least 1.
    fn advance_once(self, octets: &[u8], delimiter: u8) -> (Self, usize) {
        let passed = match self {
            Self::Plain => memchr(delimiter, octets),
            Self::Quoted => memchr(b'"', octets),
            Self::Broken => None,
            Self::Start | Self::Quote | Self::Closed => Some(0),
        };
        match passed {
            Some(passed) => (self.step(octets[passed], delimiter), passed + 1),
            None => (self, octets.len()),
        }
    }

    /// Returns the position of the delimiter that ends the first field.
    fn end(octets: &[u8], delimiter: u8) -> Option<usize> {
        let (mut at, mut passed) = (Self::Start, 0);
        while passed < octets.len() {
            let (next, taken) = at.advance_once(&octets[passed..], delimiter);
            passed += taken;
            if next == Self::Start && octets[passed - 1] == delimiter {
                return Some(passed - 1);
            }
            at = next;
        }
        None
    }
}

/// One record, of one line, or of several with quotes.
#[derive(Debug)]
pub(super) struct CsvRecord<O = Vec<u8>> {
    pub(super) number: u64,
    pub(super) octets: O,
    /// True if quotes have no special meaning.
    pub(super) literal: bool,
    /// True if the end of the record was dropped.
    pub(super) cut: bool,
}

impl<'a> CsvRecord<&'a [u8]> {
    pub(super) fn into_fields(self, delimiter: u8) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a> {
        let Self { octets, literal, .. } = self;
        let mut rest = Some(octets);
        std::iter::from_fn(move || {
            let octets = rest?;
            let end = if literal { memchr(delimiter, octets) } else { CsvState::end(octets, delimiter) };
            rest = end.map(|end| &octets[end + 1..]);
            let field = octets[..end.unwrap_or(octets.len())].trim_ascii();
            Some(if literal { field.into() } else { unquoted(field) })
        })
    }
}

impl<O: AsRef<[u8]>> CsvRecord<O> {
    pub(super) fn fields(&self, delimiter: u8) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let Self { number, octets, literal, cut } = self;
        CsvRecord { number: *number, octets: octets.as_ref(), literal: *literal, cut: *cut }
            .into_fields(delimiter)
    }
}

fn unquoted(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return field.into();
    };
    let mut quotes = 0;
    let keep = |octet: &&u8| {
        quotes = if **octet == b'"' { quotes + 1 } else { 0 };
        quotes % 2 == 0 || **octet != b'"'
    };
    if inner.contains(&b'"') {
        Cow::Owned(inner.iter().filter(keep).copied().collect())
    } else {
        inner.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str, literal: bool) -> Vec<String> {
        let record = CsvRecord { number: 1, octets: text.as_bytes(), literal, cut: false };
        record.fields(b',').map(|field| String::from_utf8(field.into_owned()).unwrap()).collect()
    }

    #[test]
    fn quotes_protect_delimiters_and_quotes() {
        assert_eq!(fields(r#"1, "a,b" ,"say ""hi""",,x y"#, false), ["1", "a,b", "say \"hi\"", "", "x y"]);
        assert_eq!(fields("", false), [""]);
        assert_eq!(fields(r#""john doe"@x.test,1"#, true), ["\"john doe\"@x.test", "1"]);
    }

    #[test]
    fn malformed_quotes_are_found() {
        let advance = |text: &str| CsvState::Start.advance(text.as_bytes(), b',');
        assert_eq!(advance(r#"1,"a"#), CsvState::Quoted);
        assert_eq!(advance(r#""john doe"@x.test,1"#), CsvState::Broken);
        assert_eq!(advance(r#"o"hara@x.test,"b" "#), CsvState::Closed);
        assert_eq!(advance(r#"a,"b"""#), CsvState::Quoted);
        assert_eq!(advance(r#"a,"b""""#), CsvState::Quote);
    }

    /// Splits a record octet by octet.
    fn naive(octets: &[u8]) -> Vec<Vec<u8>> {
        let (mut at, mut fields) = (CsvState::Start, vec![Vec::new()]);
        for &octet in octets {
            at = at.step(octet, b',');
            match fields.last_mut() {
                Some(field) if octet != b',' || at != CsvState::Start => field.push(octet),
                _ => fields.push(Vec::new()),
            }
        }
        fields.iter().map(|field| unquoted(field.trim_ascii()).into_owned()).collect()
    }

    proptest! {
        #[test]
        fn skipping_octets_changes_nothing(text in "[a\", \n]{0,24}") {
            let step = text.bytes().fold(CsvState::Start, |at, octet| at.step(octet, b','));
            prop_assert_eq!(CsvState::Start.advance(text.as_bytes(), b','), step);
            let fields: Vec<_> = fields(&text, false).into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(fields, naive(text.as_bytes()));
        }

        #[test]
        fn output_of_a_csv_writer_is_read(written in prop::collection::vec("[a\", é\n]{0,6}", 1..5)) {
            let mut writer = csv::Writer::from_writer(vec![]);
            writer.write_record(&written).unwrap();
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let record = text.strip_suffix('\n').unwrap();
            prop_assert!(!matches!(CsvState::Start.advance(record.as_bytes(), b','), CsvState::Quoted | CsvState::Broken));
            // Only spaces outside of quotes are lost.
            let trimmed: Vec<_> = written.iter().map(|field| match field.contains(['"', ',', '\n']) {
                true => field.as_str(),
                false => field.trim_matches(' '),
            }).collect();
            prop_assert_eq!(fields(record, false), trimmed);
        }
    }
}
