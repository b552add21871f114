//! The sources of lists, and their formats.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

use super::{
    Dialect, Hints, InputFormat, LineEnd, Lines, Row, Shape,
    charset::{self, Charset},
    csv::Csv,
    detect::{self, SampleText, Separation},
    elements::Elements,
    fields::QuoteRules,
    json::{Json, Values},
    layout::{self, CellCheck, TableRow},
    names,
    open::{self, Consumed, Content, Head, OpenedFile, SAMPLE_LINES},
    records::CsvRecords,
    text::{Text, is_comment},
    workbook::{Sheet, WorkbookRows},
};
use crate::job::{
    digest::Digest,
    error::{IoContext, JobError, Result},
};

/// A source of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file, compressed or not.
    File(PathBuf),
    /// Addresses from the command line.
    Addresses(Vec<String>),
}

impl Source {
    /// Sorts arguments into sources. `-` is standard input, an existing path is a file, and anything else with an `@`
    /// is an address.
    ///
    /// # Errors
    /// Fails if an argument is none of these, or if standard input is named twice.
    pub fn of_arguments(arguments: &[String]) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        for argument in arguments {
            let path = Path::new(argument);
            if argument == "-" {
                if sources.contains(&Self::Stdin) {
                    return Err(JobError::list("-: standard input can be read only once"));
                }
                sources.push(Self::Stdin);
            } else if path.exists() {
                sources.push(Self::File(path.into()));
            } else if !argument.contains('@') {
                let fault = format_args!("{argument}: no such file").to_string();
                return Err(JobError::hinted(fault, "an address has an @; `-` is standard input"));
            } else if let Some(Self::Addresses(addresses)) = sources.last_mut() {
                addresses.push(argument.clone());
            } else {
                sources.push(Self::Addresses(vec![argument.clone()]));
            }
        }
        Ok(sources)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Addresses(_) => f.write_str("argument"),
        }
    }
}

/// Checks the names of the encoding and the delimiter.
///
/// # Errors
/// Fails if there is no such encoding, or if the delimiter is a letter, a digit, a quote or no ASCII.
fn check_hints(hints: &Hints) -> Result<()> {
    if let Some(encoding) = &hints.encoding {
        Charset::of_name(encoding)?;
    }
    match hints.delimiter {
        Some(octet) if !detect::is_delimiter(octet) => Err(JobError::hinted(
            format_args!("--delimiter {}: this cannot separate cells", char::from(octet).escape_default()),
            "use comma, semicolon, tab, pipe, caret, or a character that is no letter, digit or quote",
        )),
        _ => Ok(()),
    }
}

/// The rows of one source. An error ends them.
pub(super) type RowReader = Box<dyn Iterator<Item = io::Result<Row>> + Send>;

/// A source that was opened, with its format detected.
pub(super) struct OpenedSource {
    pub(super) list: OpenedList,
    /// The size of the file, if it has one.
    pub(super) size: Option<u64>,
    /// The hash of the octets read from the file.
    pub(super) digest: Digest,
}

/// A list whose rows can be read.
pub(super) struct OpenedList {
    pub(super) rows: RowReader,
    pub(super) shape: Shape,
    pub(super) dialect: Dialect,
    /// The first cells with addresses.
    pub(super) check: CellCheck,
}

/// Opens a source and finds out how it is written.
pub(super) fn open(source: &Source, hints: &Hints, consumed: &Consumed) -> Result<OpenedSource> {
    let digest = Digest::default();
    let file = match source {
        Source::Addresses(addresses) => {
            let row = |(n, address): (usize, String)| Ok(Row::new(n as u64 + 1, address));
            let rows = Box::new(addresses.clone().into_iter().enumerate().map(row));
            let (shape, dialect, check) = (Shape::Plain, Dialect::default(), CellCheck::default());
            return Ok(OpenedSource { list: OpenedList { rows, shape, dialect, check }, size: None, digest });
        }
        Source::Stdin => open::stdin(consumed),
        Source::File(path) => open::file(path, consumed, &digest),
    };
    let opened = check_hints(hints).and(file).and_then(|file| {
        let OpenedFile { content, compression, size } = file;
        let mut list = list_of(content, hints)?;
        list.dialect.compression = compression;
        check_cells(&list, hints)?;
        Ok((list, size))
    });
    let (list, size) = opened.map_err(|error| error.within(source))?;
    Ok(OpenedSource { list, size, digest })
}

/// Reads a list from memory, compressed or not.
#[cfg(any(test, fuzzing))]
pub(in crate::job) fn read(
    list: impl io::Read + Send + 'static,
    hints: &Hints,
) -> Result<(impl Iterator<Item = io::Result<Row>>, Dialect, Shape)> {
    let OpenedFile { content, compression, .. } = open::memory(list)?;
    let OpenedList { rows, shape, mut dialect, .. } = list_of(content, hints)?;
    dialect.compression = compression;
    Ok((rows.map(|row| row.map(Row::checked)), dialect, shape))
}

/// Fails if most of the first cells are no addresses. Such a list is probably not read as it was meant. A user who names
/// the column, or says that a text is one, has decided.
fn check_cells(list: &OpenedList, hints: &Hints) -> Result<()> {
    let OpenedList { dialect, check: CellCheck { cells, addresses, others }, .. } = list;
    let is_text = dialect.format == InputFormat::Text;
    let is_decided = !hints.columns.is_empty() || is_text && hints.format == Some(InputFormat::Text);
    if is_decided || 2 * addresses >= *cells {
        return Ok(());
    }
    let shown = others.iter().map(|cell| format!("{cell:?}")).collect::<Vec<_>>().join(", ");
    let place = dialect.address_columns().next().map(|name| format!(" of {name:?}")).unwrap_or_default();
    let fault = format!(
        "read as {dialect}: {addresses} of the first {cells} cells{place} look like addresses, not {shown}"
    );
    let hint = match dialect.format {
        InputFormat::Text => {
            "--format, --delimiter, --encoding and --skip tell how it is written; --format text reads each line as an \
             address"
                .to_owned()
        }
        InputFormat::Jsonl | InputFormat::Json => "name the field with the addresses: --column NAME".into(),
        _ => format!(
            "name the column with the addresses: --column NAME, where NAME is {}",
            names::listed(&dialect.names)
        ),
    };
    Err(JobError::hinted(fault, hint))
}

fn list_of(content: Content, hints: &Hints) -> Result<OpenedList> {
    match content {
        Content::Workbook(format, file) => workbook(format, file, hints),
        Content::Text(..) if hints.format.is_some_and(InputFormat::is_workbook) => {
            Err(JobError::hinted("this is no workbook", "leave out --format: the content tells the format"))
        }
        Content::Text(..) if hints.sheet.is_some() => {
            Err(JobError::list("--sheet: only a workbook (xlsx, xls) has sheets"))
        }
        Content::Text(head, rest) => text(head, rest, hints),
    }
}

fn workbook(format: InputFormat, file: File, hints: &Hints) -> Result<OpenedList> {
    if hints.format.is_some_and(|hint| !hint.is_workbook()) {
        return Err(JobError::hinted(
            format_args!("a workbook ({format})"),
            "leave out --format, or save the sheet as CSV",
        ));
    }
    let mut sheet = Sheet::open(file, format, hints.sheet.as_deref())?;
    let mut first = Vec::new();
    while first.len() < SAMPLE_LINES {
        match sheet.next().context("cannot be read")? {
            Some(row) if row.number <= hints.skip => {}
            Some(row) => first.push(row),
            None => break,
        }
    }
    let layout = layout::layout(&first, &hints.columns, hints.header)?;
    let check = checked_cells(&first[layout.first_row..], &layout.columns);
    let skipped = layout.skipped.max(hints.skip);
    let dialect = Dialect {
        format,
        skipped,
        header: layout.header,
        names: layout.names.clone(),
        columns: layout.columns.clone(),
        sheet: Some(sheet.name.clone()),
        ..Dialect::default()
    };
    sheet.unread(first);
    let rows = Box::new(WorkbookRows::new(sheet, layout.columns, skipped, layout.header));
    Ok(OpenedList { rows, shape: Shape::Csv { delimiter: b',', names: layout.names }, dialect, check })
}

fn checked_cells(rows: &[TableRow], columns: &[usize]) -> CellCheck {
    let mut check = CellCheck::default();
    for row in rows {
        let cells = columns.iter().filter_map(|column| row.cells.get(*column));
        cells.for_each(|cell| check.add(cell));
    }
    check
}

fn text(head: Head, rest: Box<dyn Read + Send>, hints: &Hints) -> Result<OpenedList> {
    let charset = match &hints.encoding {
        Some(name) => Charset::of_name(name)?,
        None => charset::detect(&head.octets, head.is_complete),
    };
    let mut sample = SampleText { octets: Vec::new(), is_complete: head.is_complete };
    let decoded = charset.decoded(head.octets.clone(), io::empty()).read_to_end(&mut sample.octets);
    decoded.context("cannot be read")?;
    let separation = detect::detect(&sample, hints);
    let dialect = Dialect {
        format: separation.format,
        encoding: charset.name().into(),
        bom: charset.has_mark(&head.octets),
        line_end: line_end(&sample.octets),
        skipped: separation.skip,
        ..Dialect::default()
    };
    let input = charset.decoded(head.octets, rest);
    match separation.format {
        InputFormat::Csv => csv(input, &sample, separation, dialect, hints),
        InputFormat::Jsonl | InputFormat::Json => {
            let values = match separation.format {
                InputFormat::Json => Values::Elements(Elements::new(input)),
                _ => Values::Lines(Lines::new(input)),
            };
            let (rows, check) = Json::new(values, separation.skip, &sample.octets, &hints.columns)?;
            let names = rows.fields().to_vec();
            let dialect = Dialect { columns: (0..names.len()).collect(), names, ..dialect };
            Ok(OpenedList { rows: Box::new(rows), shape: Shape::Jsonl, dialect, check })
        }
        _ => {
            if let Some(column) = hints.columns.first() {
                return Err(JobError::hinted(
                    format_args!("--column {column}: plain text has no columns"),
                    "give its format: --format csv or --format jsonl",
                ));
            }
            let mut check = CellCheck::default();
            let lines = sample.filled_lines(separation.skip, SAMPLE_LINES - 2);
            let rows = lines.into_iter().filter(|line| !is_comment(line));
            rows.for_each(|line| check.add(&String::from_utf8_lossy(line)));
            let rows = Box::new(Text::new(Lines::new(input), separation.skip));
            Ok(OpenedList { rows, shape: Shape::Plain, dialect, check })
        }
    }
}

fn csv(
    input: Box<dyn BufRead + Send>,
    sample: &SampleText,
    separation: Separation,
    dialect: Dialect,
    hints: &Hints,
) -> Result<OpenedList> {
    let Separation { delimiter, quoting, skip, .. } = separation;
    let first = sample.records(&separation, SAMPLE_LINES);
    let rows = detect::table(&first, delimiter);
    let layout = layout::layout(&rows, &hints.columns, hints.header)?;
    // The end of a header that was cut would hide a column.
    if let Some(header) = first.get(layout.first_row.saturating_sub(1)).filter(|first| first.cut) {
        return Err(JobError::list(format_args!("line {}: longer than 4 MiB", header.number)));
    }
    let check = checked_cells(&rows[layout.first_row..], &layout.columns);
    let skipped = layout.skipped.max(skip);
    let width = layout.names.len();
    let records = CsvRecords::new(Lines::new(input), delimiter, QuoteRules::of(quoting));
    let rows = Csv::new(records, layout.columns.clone(), skipped, layout.header, width);
    let dialect = Dialect {
        delimiter: Some(delimiter),
        quoting,
        skipped,
        header: layout.header,
        names: layout.names.clone(),
        columns: layout.columns,
        ..dialect
    };
    Ok(OpenedList {
        rows: Box::new(rows),
        shape: Shape::Csv { delimiter, names: layout.names },
        dialect,
        check,
    })
}

/// Returns the first line end.
fn line_end(text: &[u8]) -> LineEnd {
    match memchr::memchr2(b'\n', b'\r', text).map(|at| &text[at..]) {
        Some([b'\r', b'\n', ..]) => LineEnd::CrLf,
        Some([b'\r', ..]) => LineEnd::Cr,
        _ => LineEnd::Lf,
    }
}
