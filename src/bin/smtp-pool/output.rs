//! Writes records as JSONL or CSV, in our format or that of another service, to a file or standard output. The
//! extension selects the compression.

mod columns;
mod destination;
mod earlier_output;
mod formula;
mod native;
mod row;
mod vocab;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use flate2::write::GzEncoder;
use serde_json::Value;
use smtp_pool::job::{
    format::{self, Compression},
    input::Shape,
};

use self::{columns::Columns, destination::OutputDraft, formula::ListCells};
pub(crate) use self::{
    destination::{Destination, is_same},
    row::OutputRow,
    vocab::Vocab,
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
}

impl Target {
    pub(crate) fn new(path: Option<&Path>, vocab: Option<Vocab>) -> Result<Self> {
        let path = path.filter(|path| *path != Path::new("-"));
        let destination = Destination::new(path, earlier_output::is_output)?;
        let (extension, compression) = path.map_or_else(Default::default, format::of);
        let format = match &*extension {
            "jsonl" | "ndjson" | "json" => OutputFormat::Jsonl,
            "csv" => OutputFormat::Csv,
            // The name of a pipe or a device seldom tells the format.
            _ if destination.is_stream() => OutputFormat::Jsonl,
            _ => {
                return Err(Failure::usage(format_args!(
                    "--output {}: the extension names no format",
                    destination.name()
                ))
                .hint("use .jsonl or .csv, with .gz or .zst behind it to compress the output"));
            }
        };
        Ok(Self { destination, format, compression, vocab, list_cells: ListCells::default() })
    }

    /// Escapes the cells of the list in CSV if `yes`. The cells with text from servers are always escaped.
    pub(crate) fn escape_formulas(self, yes: bool) -> Self {
        Self { list_cells: if yes { ListCells::Escaped } else { ListCells::Unchanged }, ..self }
    }

    /// Starts an output for rows of these shapes.
    pub(crate) fn open(&self, shapes: &[Shape]) -> Result<Output> {
        let draft = self.destination.create()?;
        let open = || -> io::Result<Writer> {
            let raw = draft.writer()?;
            let sink = BufWriter::with_capacity(
                64 * 1024,
                match self.compression {
                    None => Sink::Plain(raw),
                    Some(Compression::Gzip) => {
                        Sink::Gzip(GzEncoder::new(raw, flate2::Compression::default()))
                    }
                    Some(Compression::Zstd) => Sink::Zstd(zstd::Encoder::new(raw, 0)?),
                    Some(other) => return Err(io::Error::other(format!("no {other} is written"))),
                },
            );
            Ok(match self.format {
                OutputFormat::Jsonl => Writer::Jsonl(sink),
                OutputFormat::Csv => Writer::Csv(Box::new(csv::Writer::from_writer(sink))),
            })
        };
        let name = self.destination.name().to_owned();
        let writer = open().usage_at(format_args!("--output {name}"))?;
        let (is_stream, vocab, list_cells) = (self.destination.is_stream(), self.vocab, self.list_cells);
        let fields: Vec<&str> = match vocab {
            Some(vocab) => vocab.columns().iter().map(|(name, _)| *name).collect(),
            None => native::FIELDS.to_vec(),
        };
        let is_csv = self.format == OutputFormat::Csv;
        // The object of another service shows which names it takes.
        let columns = Columns::new(shapes, if is_csv || vocab.is_none() { &fields } else { &[] }, is_csv);
        let scratch = Vec::new();
        let mut output = Output { name, is_stream, draft, writer, vocab, list_cells, columns, scratch };
        output.begin(&fields)?;
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

/// An output to which records are written.
pub(crate) struct Output {
    name: String,
    is_stream: bool,
    draft: OutputDraft,
    writer: Writer,
    vocab: Option<Vocab>,
    list_cells: ListCells,
    columns: Columns,
    scratch: Vec<u8>,
}

enum Writer {
    Jsonl(BufWriter<Sink>),
    Csv(Box<csv::Writer<BufWriter<Sink>>>),
}

impl Output {
    /// Writes the header, also if no record follows.
    fn begin(&mut self, fields: &[&str]) -> Result<()> {
        let list_cells = self.list_cells;
        let Writer::Csv(csv) = &mut self.writer else { return Ok(()) };
        let header = fields.iter().copied().chain(self.columns.names().iter().map(String::as_str));
        let done =
            csv.write_record(header.map(|name| list_cells.apply(name.as_bytes()))).map_err(io::Error::from);
        self.judge(done).map(drop)
    }

    pub(crate) fn write(&mut self, line: &OutputRow<'_>) -> Result<Written> {
        let cells = self.list_cells;
        let done = match (&mut self.writer, self.vocab) {
            (Writer::Jsonl(sink), None) => native::json(line, &self.columns, &mut self.scratch, sink),
            (Writer::Jsonl(sink), Some(vocab)) => object(vocab, line, &self.columns, &mut self.scratch, sink),
            (Writer::Csv(csv), vocab) => {
                let fields = match vocab {
                    None => native::csv(line, cells, &mut self.scratch, csv),
                    Some(vocab) => columns(vocab, line, cells, csv),
                };
                let fields = fields.and_then(|()| self.columns.csv(line, cells, csv));
                fields.and_then(|()| csv.write_record(None::<&[u8]>)).map_err(io::Error::from)
            }
        };
        self.judge(done)
    }

    /// Writes out the records in the buffer, for readers that watch the output.
    pub(crate) fn flush(&mut self) -> Result<Written> {
        let done = match &mut self.writer {
            Writer::Jsonl(sink) => sink.flush(),
            Writer::Csv(csv) => csv.flush(),
        };
        self.judge(done)
    }

    /// Ends the output, and gives a file its name.
    pub(crate) fn finish(mut self) -> Result<Written> {
        if self.flush()? == Written::ReaderClosed {
            return Ok(Written::ReaderClosed);
        }
        let Self { name, is_stream, draft, writer, .. } = self;
        let sink = match writer {
            Writer::Jsonl(sink) => sink.into_inner().map_err(|error| error.into_error()),
            Writer::Csv(csv) => csv
                .into_inner()
                .map_err(|error| io::Error::new(error.error().kind(), error.error().to_string()))
                .and_then(|sink| sink.into_inner().map_err(|error| error.into_error())),
        };
        let written = judge(sink.and_then(Sink::finish), is_stream, &name)?;
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

/// Returns one object in the format of another service, with the fields of the row behind.
fn object(
    vocab: Vocab,
    line: &OutputRow<'_>,
    columns: &Columns,
    scratch: &mut Vec<u8>,
    sink: &mut impl Write,
) -> io::Result<()> {
    let mut object = vocab.object(line);
    if let Value::Object(fields) = &mut object {
        columns.insert(line, fields);
    }
    scratch.clear();
    json::append(scratch, &object)?;
    scratch.push(b'\n');
    json::escape(scratch);
    sink.write_all(scratch)
}

fn columns<W: Write>(
    vocab: Vocab,
    line: &OutputRow<'_>,
    cells: ListCells,
    csv: &mut csv::Writer<W>,
) -> csv::Result<()> {
    let object = vocab.object(line);
    for (_, path) in vocab.columns() {
        let cell = plain(object.pointer(path));
        csv.write_field(match vocab.is_from_list(path) {
            true => cells.apply(cell.as_bytes()),
            false => formula::escaped(cell.as_bytes()),
        })?;
    }
    Ok(())
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

enum Sink {
    Plain(Box<dyn Write>),
    Gzip(GzEncoder<Box<dyn Write>>),
    Zstd(zstd::Encoder<'static, Box<dyn Write>>),
}

impl Sink {
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
