//! Finds the format of a text, and how its cells are separated, by its first octets.

use std::borrow::Cow;

use super::{
    Hints, InputFormat, Quoting,
    fields::{CsvRecord, QuoteRules},
    json,
    layout::{self, TableRow, is_address},
    names, records,
};

/// The records that are split by each delimiter in turn.
const TRIED: usize = 200;
/// The delimiters that are tried. Among equals, the last one is taken.
const DELIMITERS: [u8; 5] = [b'^', b'|', b'\t', b';', b','];

/// The first octets of a list in UTF-8.
pub(super) struct SampleText {
    pub(super) octets: Vec<u8>,
    /// True if they are the whole list.
    pub(super) is_complete: bool,
}

/// How a text is separated into rows and cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Separation {
    pub(super) format: InputFormat,
    pub(super) delimiter: u8,
    pub(super) quoting: Quoting,
    /// The lines at the start that are no rows: those that the user skips, and `sep=;`.
    pub(super) skip: u64,
}

impl SampleText {
    fn lines(&self, skip: u64) -> impl Iterator<Item = &[u8]> {
        let text = self.octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.octets);
        Lines { rest: text, ended: text.is_empty() }.skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// Returns the records of the sample, at most `limit`.
    pub(super) fn records(&self, separation: &Separation, limit: usize) -> Vec<CsvRecord> {
        let Separation { delimiter, quoting, skip, .. } = *separation;
        let rules = QuoteRules::of(quoting);
        records::sample(&self.octets, self.is_complete, delimiter, rules, skip, limit)
    }

    /// Returns the lines that are not blank, at most `limit`. The last line of a list that goes on may be cut.
    pub(super) fn filled_lines(&self, skip: u64, limit: usize) -> Vec<&[u8]> {
        let filled = self.lines(skip).filter(|line| !line.trim_ascii().is_empty());
        let mut lines: Vec<_> = filled.take(limit + 1).collect();
        if !self.is_complete && lines.len() <= limit && lines.len() > 1 {
            lines.pop();
        }
        lines.truncate(limit);
        lines
    }
}

struct Lines<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.ended {
            return None;
        }
        let Some(end) = memchr::memchr2(b'\n', b'\r', self.rest) else {
            self.ended = true;
            return Some(self.rest);
        };
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]);
        self.ended = self.rest.is_empty();
        Some(line)
    }
}

/// Splits a record into cells of text.
pub(super) fn cells(record: &CsvRecord, delimiter: u8) -> Vec<String> {
    let (octets, _) = records::utf8(record.octets.clone(), record.cut);
    let record = CsvRecord { number: record.number, octets, rules: record.rules, cut: record.cut };
    record.fields(delimiter).map(|cell| String::from_utf8_lossy(&cell).into_owned()).collect()
}

pub(super) fn table(records: &[CsvRecord], delimiter: u8) -> Vec<TableRow> {
    records.iter().map(|record| TableRow { number: record.number, cells: cells(record, delimiter) }).collect()
}

/// Finds out how a list is separated.
pub(super) fn detect(sample: &SampleText, hints: &Hints) -> Separation {
    let mut skip = hints.skip;
    let mut said = None;
    if let Some(delimiter) = sample.lines(skip).next().and_then(separator_line) {
        (said, skip) = (Some(delimiter), skip + 1);
    }
    let delimiter = hints.delimiter.or(said);
    let first =
        sample.filled_lines(skip, 1).first().map(|line| line.trim_ascii().to_vec()).unwrap_or_default();
    let of = |format, delimiter| Separation { format, delimiter, quoting: quoting(sample, delimiter), skip };
    let format = match hints.format {
        None if delimiter.is_some() => Some(InputFormat::Csv),
        None => json_format(&first),
        // The user need not tell an array from lines.
        Some(InputFormat::Jsonl | InputFormat::Json) => json_format(&first).or(hints.format),
        format => format,
    };
    match (format, delimiter) {
        (Some(InputFormat::Csv), Some(delimiter)) => of(InputFormat::Csv, delimiter),
        (Some(InputFormat::Csv), None) => {
            let best = best_delimiter(sample, skip).map(|found| found.delimiter);
            of(InputFormat::Csv, best.unwrap_or_else(|| most_frequent(&first)))
        }
        (Some(format), _) => of(format, b','),
        (None, _) => text_or_csv(sample, hints, skip, &first),
    }
}

/// Returns the delimiter of `sep=;`, a line that Excel reads.
fn separator_line(line: &[u8]) -> Option<u8> {
    let line = line.trim_ascii_start();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] if is_delimiter(*delimiter) => {
            Some(*delimiter)
        }
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', b'\\', b't'] => Some(b'\t'),
        _ => None,
    }
}

/// Returns true for an octet that can separate cells.
pub(super) fn is_delimiter(octet: u8) -> bool {
    octet.is_ascii()
        && !octet.is_ascii_alphanumeric()
        && !matches!(octet, b'"' | b'\r' | b'\n' | b'\\' | b'@' | b'.' | 0)
}

fn json_format(first: &[u8]) -> Option<InputFormat> {
    let is_array = || {
        let inner = first.strip_prefix(b"[").map(<[u8]>::trim_ascii);
        inner.is_some_and(|inner| matches!(inner.first(), None | Some(b'{' | b'"' | b'[' | b']')))
    };
    match () {
        () if is_array() => Some(InputFormat::Json),
        () if json::looks_like(first) => Some(InputFormat::Jsonl),
        () => None,
    }
}

/// How well a delimiter fits: rows with an address in a cell, rows of the usual width in percent, and that width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    hits: usize,
    regular: usize,
    width: usize,
    delimiter: u8,
}

fn fit(sample: &SampleText, delimiter: u8, skip: u64) -> Option<Fit> {
    let separation =
        Separation { format: InputFormat::Csv, delimiter, quoting: quoting(sample, delimiter), skip };
    let rows = table(&sample.records(&separation, TRIED), delimiter);
    let wide = rows.iter().filter(|row| row.cells.len() > 1).count();
    if wide * 2 < rows.len() || wide == 0 {
        return None;
    }
    let is_hit = |row: &&TableRow| row.cells.iter().any(|cell| is_address(cell.trim()));
    let mut widths: Vec<usize> = rows.iter().map(|row| row.cells.len()).collect();
    widths.sort_unstable();
    let usual = widths.chunk_by(|one, other| one == other).max_by_key(|run| (run.len(), run[0]))?;
    Some(Fit {
        hits: rows.iter().filter(is_hit).count(),
        regular: usual.len() * 100 / rows.len(),
        width: usual[0],
        delimiter,
    })
}

fn best_delimiter(sample: &SampleText, skip: u64) -> Option<Fit> {
    let fits = DELIMITERS.iter().filter_map(|delimiter| fit(sample, *delimiter, skip));
    fits.max_by_key(|fit| (fit.hits, fit.regular, fit.width))
}

fn text_or_csv(sample: &SampleText, hints: &Hints, skip: u64, first: &[u8]) -> Separation {
    let text = Separation { format: InputFormat::Text, delimiter: b',', quoting: Quoting::Doubled, skip };
    let csv = |delimiter| Separation {
        format: InputFormat::Csv,
        delimiter,
        quoting: quoting(sample, delimiter),
        skip,
    };
    let lines: Vec<String> = sample
        .filled_lines(skip, TRIED)
        .into_iter()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let whole = lines.iter().filter(|line| is_address(line.trim())).count();
    let best = best_delimiter(sample, skip).filter(|best| best.hits > 0);
    let title = String::from_utf8_lossy(first);
    let is_title = |text: &str| names::rank(text.trim().trim_matches('"')).is_some() && !text.contains('@');
    let Some(best) = best else {
        return match () {
            // Columns were named, or the first line is the name of a column.
            () if whole > 0 && !is_title(&title) && hints.columns.is_empty() => text,
            () if is_title(&title) => csv(most_frequent(first)),
            () if whole == 0 && first.contains(&most_frequent(first)) && !first.starts_with(b"#") => {
                csv(most_frequent(first))
            }
            () => text,
        };
    };
    let rows = table(&sample.records(&csv(best.delimiter), TRIED), best.delimiter);
    let layout = layout::layout(&rows, &hints.columns, hints.header);
    let has_header = layout.as_ref().is_ok_and(|layout| layout.header);
    // A pipe or a caret may be a part of an address.
    let is_rare = matches!(best.delimiter, b'|' | b'^') && whole >= best.hits;
    match () {
        () if whole > best.hits => text,
        // Each line is an address, and the delimiter stands in a few of them, as in a comment.
        () if whole == best.hits && !has_header && best.regular < 100 => text,
        () if is_rare && !has_header && (best.regular < 100 || rows.len() < 2) => text,
        // Several addresses a line.
        () if hints.columns.is_empty() && layout.is_ok_and(|layout| layout.has_only_addresses) => text,
        () => csv(best.delimiter),
    }
}

/// Returns the most frequent delimiter outside of quotes.
fn most_frequent(line: &[u8]) -> u8 {
    let count = |delimiter: &u8| {
        let record = CsvRecord { number: 1, octets: line, rules: QuoteRules::default(), cut: false };
        record.fields(*delimiter).count()
    };
    DELIMITERS.into_iter().max_by_key(count).unwrap_or(b',')
}

/// Finds out how quotes within quotes are written.
fn quoting(sample: &SampleText, delimiter: u8) -> Quoting {
    let text: Cow<'_, [u8]> = Cow::Borrowed(&sample.octets);
    let is_edge = |octet: Option<&u8>| octet.is_none_or(|octet| [b'\n', b'\r', delimiter].contains(octet));
    let next = |at: usize| text[at..].iter().find(|octet| **octet != b' ');
    let is_escaped = |at: &usize| match next(at + 2) {
        // Within a field of doubled quotes, two quotes follow the backslash.
        Some(b'"') => text.get(at + 2) == Some(&b'"') && is_edge(next(at + 3)),
        octet => !is_edge(octet),
    };
    let escaped = memchr::memmem::find_iter(&text, b"\\\"").filter(is_escaped).count();
    if escaped == 0 {
        return Quoting::Doubled;
    }
    let before = |at: usize| text[..at].iter().rfind(|octet| **octet != b' ');
    // Two quotes at the start or end of a field are an empty field, or the quotes of a field within escapes.
    let is_doubled = |at: &usize| !is_edge(before(*at)) && !is_edge(next(at + 2)) && text[at - 1] != b'\\';
    let doubled = memchr::memmem::find_iter(&text, b"\"\"").filter(is_doubled).count();
    if escaped > doubled { Quoting::Backslash } else { Quoting::Doubled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separation(text: &str) -> Separation {
        detect(&SampleText { octets: text.into(), is_complete: true }, &Hints::default())
    }

    #[track_caller]
    fn check(text: &str, format: InputFormat, delimiter: u8) {
        let found = separation(text);
        assert_eq!(found.format, format, "{text:?}");
        if format == InputFormat::Csv {
            assert_eq!(char::from(found.delimiter), char::from(delimiter), "{text:?}");
        }
    }

    #[test]
    fn delimiters_are_found() {
        for delimiter in DELIMITERS {
            let text = "name,email,note\nAnn,ann@x.test,x\nBob,bob@x.test,\n"
                .replace(',', &char::from(delimiter).to_string());
            check(&text, InputFormat::Csv, delimiter);
        }
        check("Name;E-Mail\nDoe, Ann;ann@x.test\nRoe, Bob;bob@x.test\n", InputFormat::Csv, b';');
        check("Name,Note,E-Mail\nAnn,a;b;c;d,ann@x.test\n", InputFormat::Csv, b',');
        check("sep=;\nName;E-Mail\nAnn,Doe;ann@x.test\n", InputFormat::Csv, b';');
        check("Name|E-Mail\nAnn|ann@x.test\n", InputFormat::Csv, b'|');
        check("E-Mail-Adresse\nann@x.test\n", InputFormat::Csv, b',');
        check("id,email\n", InputFormat::Csv, b',');
    }

    #[test]
    fn text_is_no_table() {
        for text in [
            "ann@x.test\nbob@x.test\n",
            "ann@x.test;bob@x.test;eve@x.test",
            "ann@x.test, bob@x.test\neve@x.test\n",
            "Ann|b@x.test\n",
            "\"a, b\"@x.test\n",
            "# a, list; of\nann@x.test\n",
            "Ann Doe <ann@x.test>\nBob <bob@x.test>\n",
            "",
        ] {
            check(text, InputFormat::Text, b',');
        }
    }

    #[test]
    fn json_is_found() {
        check("{\"email\":\"ann@x.test\"}\n", InputFormat::Jsonl, b',');
        check("\"ann@x.test\"\n", InputFormat::Jsonl, b',');
        check(" [ {\"email\":\"ann@x.test\"}]", InputFormat::Json, b',');
        check("[\n\"ann@x.test\"]", InputFormat::Json, b',');
        check("[x]\nann@x.test\n", InputFormat::Text, b',');
    }

    #[test]
    fn quoting_is_found() {
        let quoting = |text: &str| separation(text).quoting;
        assert_eq!(quoting("n,email\n\"say \\\"hi\\\", Ann\",ann@x.test\n"), Quoting::Backslash);
        assert_eq!(quoting("n,email\n\"say \"\"hi\"\", Ann\",ann@x.test\n"), Quoting::Doubled);
        assert_eq!(quoting("n,email\n\"C:\\dir\\\",ann@x.test\n"), Quoting::Doubled);
    }
}
