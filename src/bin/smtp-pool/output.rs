//! Where records go: JSONL or CSV, to a file or standard output, compressed by the extension.
//!
//! A file is written as the records come rather than at the end, so that a long run can be looked at, and so that
//! what was known survives whatever happens.

use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use flate2::write::GzEncoder;
use smtp_pool::verify::Record;

use crate::{
    exit::{At, Failure, Result},
    format::{self, Compression},
};

/// The fields of a record, in their order: the header of CSV, which is there without any record as well.
const FIELDS: [&str; 16] = [
    "address",
    "status",
    "sub_status",
    "blame",
    "catch_all",
    "role",
    "disposable",
    "free",
    "mx_host",
    "smtp_code",
    "enhanced_code",
    "reply",
    "attempts",
    "tls",
    "duration_ms",
    "checked_at",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jsonl,
    Csv,
}

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Standard output, if none.
    path: Option<PathBuf>,
    format: Format,
    compression: Option<Compression>,
}

impl Target {
    pub(crate) fn new(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self { path: None, format: Format::Jsonl, compression: None });
        };
        let (extension, compression) = format::of(path);
        let format = match &*extension {
            "jsonl" | "ndjson" | "json" => Format::Jsonl,
            "csv" => Format::Csv,
            _ => {
                return Err(Failure::usage(format_args!(
                    "--output {}: no format is known by this extension",
                    path.display()
                ))
                .hint("use .jsonl or .csv, with .gz or .zst behind it if you like"));
            }
        };
        Ok(Self { path: Some(path.into()), format, compression })
    }

    /// Whether writing there would destroy the file that is being read.
    pub(crate) fn is(&self, input: &Path) -> bool {
        let same = |path: &PathBuf| Some(path.canonicalize().ok()? == input.canonicalize().ok()?);
        self.path.as_ref().and_then(same).unwrap_or(false)
    }

    /// Creates the file.
    pub(crate) fn open(&self) -> Result<Output> {
        let name = match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard output".into(),
        };
        let open = || -> io::Result<Writer> {
            let raw: Box<dyn Write> = match &self.path {
                Some(path) => Box::new(File::create(path)?),
                None => Box::new(io::stdout()),
            };
            let sink = BufWriter::with_capacity(
                64 * 1024,
                match self.compression {
                    None => Sink::Plain(raw),
                    Some(Compression::Gzip) => {
                        Sink::Gzip(GzEncoder::new(raw, flate2::Compression::default()))
                    }
                    Some(Compression::Zstd) => Sink::Zstd(zstd::Encoder::new(raw, 0)?),
                },
            );
            Ok(match self.format {
                Format::Jsonl => Writer::Jsonl(sink),
                Format::Csv => {
                    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(sink);
                    csv.write_record(FIELDS)?;
                    Writer::Csv(Box::new(csv))
                }
            })
        };
        let writer = open().usage_at(format_args!("--output {name}"))?;
        Ok(Output { name, is_stdout: self.path.is_none(), writer })
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// Whoever read standard output has had enough, like `head`.
    Enough,
}

/// Records on their way out.
pub(crate) struct Output {
    name: String,
    is_stdout: bool,
    writer: Writer,
}

enum Writer {
    Jsonl(BufWriter<Sink>),
    Csv(Box<csv::Writer<BufWriter<Sink>>>),
}

impl Output {
    pub(crate) fn write(&mut self, record: &Record) -> Result<Written> {
        let done = match &mut self.writer {
            Writer::Jsonl(sink) => serde_json::to_writer(&mut *sink, record)
                .map_err(io::Error::from)
                .and_then(|()| sink.write_all(b"\n")),
            Writer::Csv(csv) => csv.serialize(record).map_err(io::Error::from),
        };
        self.judge(done)
    }

    /// Passes on what has gathered, for those who watch.
    pub(crate) fn flush(&mut self) -> Result<Written> {
        let done = match &mut self.writer {
            Writer::Jsonl(sink) => sink.flush(),
            Writer::Csv(csv) => csv.flush(),
        };
        self.judge(done)
    }

    /// Ends the file: without this, a compressed one is torn.
    pub(crate) fn finish(mut self) -> Result<Written> {
        if self.flush()? == Written::Enough {
            return Ok(Written::Enough);
        }
        let Self { name, is_stdout, writer } = self;
        let sink = match writer {
            Writer::Jsonl(sink) => sink.into_inner().map_err(|error| error.into_error()),
            Writer::Csv(csv) => csv
                .into_inner()
                .map_err(|error| io::Error::new(error.error().kind(), error.error().to_string()))
                .and_then(|sink| sink.into_inner().map_err(|error| error.into_error())),
        };
        judge(sink.and_then(Sink::finish), is_stdout, &name)
    }

    fn judge(&self, done: io::Result<()>) -> Result<Written> {
        judge(done, self.is_stdout, &self.name)
    }
}

fn judge(done: io::Result<()>, is_stdout: bool, name: &str) -> Result<Written> {
    match done {
        Ok(()) => Ok(Written::Yes),
        Err(error) if is_stdout && error.kind() == ErrorKind::BrokenPipe => Ok(Written::Enough),
        Err(error) => Err(error).failed_at(format_args!("{name}: cannot be written")),
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
