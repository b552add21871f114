//! Writes records as JSONL or CSV, in our format or that of another service, to a file or standard output. The
//! extension selects the compression.

mod args;
mod cells;
mod columns;
mod destination;
mod earlier_output;
mod formula;
mod native;
mod row;
mod vocab;

use std::{
    io::{self, ErrorKind, Write},
    path::Path,
};

use flate2::write::GzEncoder;
use serde_json::Value;
use smtp_pool::job::{
    format::{self, Compression},
    input::Shape,
};

pub(crate) use self::{
    args::RecordArgs,
    destination::{Destination, is_same},
    row::OutputRow,
    vocab::Vocab,
};
use self::{
    cells::CsvRow, columns::Columns, destination::OutputDraft, formula::ListCells, native::TimeWriter,
};
use crate::{
    exit::{ErrorContext, Failure, Result},
    json,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Jsonl,
    Csv,
}

/// The destination and the format of an output.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) destination: Destination,
    format: OutputFormat,
    compression: Option<Compression>,
    vocab: Option<Vocab>,
    list_cells: ListCells,
    layout: Layout,
}

/// How the cells of a record are arranged.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The columns of the list come first.
    append: bool,
    delimiter: u8,
    bom: bool,
}

impl Target {
    pub(crate) fn new(path: Option<&Path>, args: &RecordArgs) -> Result<Self> {
        let path = path.filter(|path| *path != Path::new("-"));
        let destination = Destination::new(path, earlier_output::is_output)?;
        let (extension, compression) = path.map_or_else(Default::default, format::of);
        let (format, delimiter) = match &*extension {
            "jsonl" | "ndjson" | "json" => (OutputFormat::Jsonl, b','),
            "csv" => (OutputFormat::Csv, b','),
            "tsv" => (OutputFormat::Csv, b'\t'),
            // The name of a pipe or a device seldom tells the format.
            _ if destination.is_stream() && (args.csv_delimiter.is_some() || args.bom) => {
                (OutputFormat::Csv, b',')
            }
            _ if destination.is_stream() => (OutputFormat::Jsonl, b','),
            _ => {
                return Err(Failure::usage(format_args!(
                    "--output {}: the extension names no format",
                    destination.name()
                ))
                .hint("use .jsonl, .csv or .tsv, with .gz or .zst behind it to compress the output"));
            }
        };
        if format == OutputFormat::Jsonl {
            let of_csv = args.given().into_iter().find(|flag| matches!(*flag, "--csv-delimiter" | "--bom"));
            if let Some(flag) = of_csv {
                return Err(Failure::usage(format_args!("{flag}: JSONL has no such thing"))
                    .hint("name an output with .csv, or leave the option out"));
            }
        }
        let delimiter = args.csv_delimiter.map_or(delimiter, |delimiter| delimiter.octet());
        let layout = Layout { append: args.append, delimiter, bom: args.bom };
        let list_cells = if args.escape_formulas { ListCells::Escaped } else { ListCells::Unchanged };
        Ok(Self { destination, format, compression, vocab: args.vocab, list_cells, layout })
    }

    /// Starts an output for rows of these shapes.
    pub(crate) fn open(&self, shapes: &[Shape]) -> Result<Output> {
        let draft = self.destination.create()?;
        let name = self.destination.name().to_owned();
        let sink = Sink::open(&draft, self.compression).usage_at(format_args!("--output {name}"))?;
        let (is_stream, vocab, list_cells) = (self.destination.is_stream(), self.vocab, self.list_cells);
        let fields: Vec<&str> = match vocab {
            Some(vocab) => vocab.columns().iter().map(|(name, _)| *name).collect(),
            None => native::FIELDS.to_vec(),
        };
        let is_csv = self.format == OutputFormat::Csv;
        // The object of another service shows which names it takes.
        let columns = Columns::new(shapes, if is_csv || vocab.is_none() { &fields } else { &[] }, is_csv);
        let mut output = Output {
            name,
            is_stream,
            draft,
            sink,
            format: self.format,
            vocab,
            list_cells,
            layout: self.layout,
            columns,
            clock: TimeWriter::default(),
            buffer: Vec::with_capacity(BUFFER_OCTETS + BUFFER_OCTETS / 8),
        };
        output.begin(&fields);
        Ok(output)
    }
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// The reader of standard output or of a pipe has closed it, as `head` does.
    ReaderClosed,
}

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The octets of records after which they are written out.
const BUFFER_OCTETS: usize = 64 * 1024;

/// An output to which records are written.
pub(crate) struct Output {
    name: String,
    is_stream: bool,
    draft: OutputDraft,
    sink: Sink,
    format: OutputFormat,
    vocab: Option<Vocab>,
    list_cells: ListCells,
    layout: Layout,
    columns: Columns,
    clock: TimeWriter,
    /// The records that are not written out yet.
    buffer: Vec<u8>,
}

impl Output {
    /// Writes the header, also if no record follows.
    fn begin(&mut self, fields: &[&str]) {
        if self.format == OutputFormat::Csv {
            if self.layout.bom {
                self.buffer.extend_from_slice(BOM);
            }
            let mut row = CsvRow::new(&mut self.buffer, self.layout.delimiter);
            let own = fields.iter().copied();
            let of_list = self.columns.names().iter().map(String::as_str);
            let names: Vec<&str> =
                if self.layout.append { of_list.chain(own).collect() } else { own.chain(of_list).collect() };
            names.iter().for_each(|name| row.cell(&self.list_cells.apply(name.as_bytes())));
            row.end();
        }
    }

    pub(crate) fn write(&mut self, line: &OutputRow<'_>) -> Result<Written> {
        let Self { buffer, columns, clock, list_cells, layout, .. } = self;
        let done = match (self.format, self.vocab) {
            (OutputFormat::Jsonl, None) => native::json(line, columns, layout.append, clock, buffer),
            (OutputFormat::Jsonl, Some(vocab)) => object(vocab, line, columns, buffer),
            (OutputFormat::Csv, vocab) => {
                let mut row = CsvRow::new(buffer, layout.delimiter);
                if layout.append {
                    columns.csv(line, *list_cells, &mut row);
                }
                match vocab {
                    None => native::csv(line, *list_cells, clock, &mut row),
                    Some(vocab) => fields(vocab, line, *list_cells, &mut row),
                }
                if !layout.append {
                    columns.csv(line, *list_cells, &mut row);
                }
                row.end();
                Ok(())
            }
        };
        let done = match done {
            Ok(()) if self.buffer.len() >= BUFFER_OCTETS => self.write_out(),
            done => done,
        };
        self.judge(done)
    }

    /// Writes out the records in the buffer. They are gone, also after an error.
    fn write_out(&mut self) -> io::Result<()> {
        let done = self.sink.write_all(&self.buffer);
        self.buffer.clear();
        done
    }

    /// Writes out the records in the buffer, for readers that watch the output.
    pub(crate) fn flush(&mut self) -> Result<Written> {
        let done = self.write_out().and_then(|()| self.sink.flush());
        self.judge(done)
    }

    /// Ends the output, and gives a file its name.
    pub(crate) fn finish(mut self) -> Result<Written> {
        if self.flush()? == Written::ReaderClosed {
            return Ok(Written::ReaderClosed);
        }
        let Self { name, is_stream, draft, sink, .. } = self;
        let written = judge(sink.finish(), is_stream, &name)?;
        draft.finish().map(|()| written)
    }

    fn judge(&self, done: io::Result<()>) -> Result<Written> {
        judge(done, self.is_stream, &self.name)
    }
}

fn judge(done: io::Result<()>, is_stream: bool, name: &str) -> Result<Written> {
    match done {
        Ok(()) => Ok(Written::Yes),
        Err(error) if is_stream && error.kind() == ErrorKind::BrokenPipe => Ok(Written::ReaderClosed),
        Err(error) => Err(error).failed_at(format_args!("{name} cannot be written")),
    }
}

/// Appends one object in the format of another service, with the fields of the row behind.
fn object(vocab: Vocab, line: &OutputRow<'_>, columns: &Columns, out: &mut Vec<u8>) -> io::Result<()> {
    let object = vocab.object(line);
    let names: Vec<&String> = object.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let start = out.len();
    json::append(out, &object)?;
    json::escape_from(out, start);
    // More fields of the same object follow.
    out.pop();
    columns.json(line, &names, out)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends the fields of another service to a row of CSV.
fn fields(vocab: Vocab, line: &OutputRow<'_>, cells: ListCells, row: &mut CsvRow<'_>) {
    let object = vocab.object(line);
    for (_, path) in vocab.columns() {
        let cell = plain(object.pointer(path));
        row.cell(&match vocab.is_from_list(path) {
            true => cells.apply(cell.as_bytes()),
            false => formula::escaped(cell.as_bytes()),
        });
    }
}

/// Returns a value as a field of CSV. A list is joined with commas, and a missing value is empty.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| plain(Some(value))).collect::<Vec<_>>().join(",")
        }
        Some(value) => value.to_string(),
    }
}

/// An output of octets that are written as they are.
pub(crate) struct RawOutput {
    name: String,
    is_stream: bool,
    draft: OutputDraft,
    sink: Sink,
    buffer: Vec<u8>,
    /// The first error, which [`check`](Self::check) returns.
    failed: Option<io::Error>,
}

impl RawOutput {
    /// Starts an output.
    pub(crate) fn open(destination: &Destination, compression: Option<Compression>) -> Result<Self> {
        let draft = destination.create()?;
        let name = destination.name().to_owned();
        let sink = Sink::open(&draft, compression).usage_at(format_args!("--output {name}"))?;
        let is_stream = destination.is_stream();
        Ok(Self { name, is_stream, draft, sink, buffer: Vec::with_capacity(BUFFER_OCTETS), failed: None })
    }

    /// Writes octets. [`check`](Self::check) returns an error.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.extend_from_slice(octets);
        if self.buffer.len() >= BUFFER_OCTETS {
            self.failed = self.sink.write_all(&self.buffer).err();
            self.buffer.clear();
        }
    }

    /// Returns the error of an earlier write.
    pub(crate) fn check(&mut self) -> Result<Written> {
        judge(self.failed.take().map_or(Ok(()), Err), self.is_stream, &self.name)
    }

    /// Ends the output, and gives a file its name.
    pub(crate) fn finish(mut self) -> Result<Written> {
        if self.check()? == Written::ReaderClosed {
            return Ok(Written::ReaderClosed);
        }
        let Self { name, is_stream, draft, mut sink, buffer, .. } = self;
        let done = sink.write_all(&buffer).and_then(|()| sink.finish());
        let written = judge(done, is_stream, &name)?;
        draft.finish().map(|()| written)
    }
}

enum Sink {
    Plain(Box<dyn Write>),
    Gzip(GzEncoder<Box<dyn Write>>),
    Zstd(zstd::Encoder<'static, Box<dyn Write>>),
}

impl Sink {
    fn open(draft: &OutputDraft, compression: Option<Compression>) -> io::Result<Self> {
        let raw = draft.writer()?;
        Ok(match compression {
            None => Self::Plain(raw),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(raw, flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(zstd::Encoder::new(raw, 0)?),
            Some(other) => return Err(io::Error::other(format!("no {other} is written"))),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(raw) => Ok(raw),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }?
        .flush()
    }
}

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(raw) => raw.write(octets),
            Self::Gzip(encoder) => encoder.write(octets),
            Self::Zstd(encoder) => encoder.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(raw) => raw.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
