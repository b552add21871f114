//! Opens a file or standard input as text: counts, decompresses, and rejects other files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use flate2::bufread::MultiGzDecoder;

use crate::job::{
    digest::Digest,
    error::{IoContext, JobError, Result},
    format::{self, Compression},
};

const BUFFER: usize = 64 * 1024;

/// The octets read from a file so far, before decompression.
#[derive(Clone, Debug, Default)]
pub(super) struct Consumed(Arc<AtomicU64>);

impl Consumed {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts and hashes the octets read from a file.
struct Counted<R> {
    inner: R,
    consumed: Consumed,
    digest: Option<Digest>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.0.fetch_add(n as u64, Relaxed);
        if let Some(digest) = &self.digest {
            digest.update(&buffer[..n]);
        }
        Ok(n)
    }
}

/// Opens a file, and returns its size if it has one. Its octets are added to `digest` as they are read.
pub(super) fn file(
    path: &Path,
    consumed: &Consumed,
    digest: &Digest,
) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    let file = File::open(path).context("cannot be opened")?;
    let meta = file.metadata().context("cannot be opened")?;
    if meta.is_dir() {
        return Err(JobError::list("is a directory"));
    }
    let (_, compression) = format::of(path);
    let counted = Counted { inner: file, consumed: consumed.clone(), digest: Some(digest.clone()) };
    Ok((text_of(counted, compression)?, meta.is_file().then_some(meta.len())))
}

/// Opens standard input.
pub(super) fn stdin(consumed: &Consumed) -> Result<Box<dyn BufRead + Send>> {
    text(io::stdin(), None, consumed)
}

/// Opens any input as text.
pub(super) fn text(
    input: impl Read + Send + 'static,
    named: Option<Compression>,
    consumed: &Consumed,
) -> Result<Box<dyn BufRead + Send>> {
    text_of(Counted { inner: input, consumed: consumed.clone(), digest: None }, named)
}

/// Detects the compression by the first octets, because the extension may be wrong.
fn text_of(
    counted: Counted<impl Read + Send + 'static>,
    named: Option<Compression>,
) -> Result<Box<dyn BufRead + Send>> {
    let (head, input) = head(counted).context("cannot be read")?;
    let input = BufReader::with_capacity(BUFFER, input);
    let refuse = |what: &str, hint: &str| Err(JobError::hinted(what, hint));
    match (&head[..], named) {
        ([0x1f, 0x8b, ..], _) => Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input)))),
        ([0x28, 0xb5, 0x2f, 0xfd], _) => {
            let decoder = zstd::Decoder::with_buffer(input).context("cannot be read")?;
            Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
        }
        ([b'P', b'K', 3, 4], _) => {
            refuse("a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV")
        }
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => {
            refuse("UTF-16 is not supported", "convert it to UTF-8: iconv -f UTF-16 -t UTF-8")
        }
        ([], _) => Ok(Box::new(input)),
        (_, Some(Compression::Gzip)) => refuse("not compressed by gzip", "remove .gz from its name"),
        (_, Some(Compression::Zstd)) => refuse("not compressed by Zstandard", "remove .zst from its name"),
        (_, _) => Ok(Box::new(input)),
    }
}

/// Returns the first four octets, or fewer, and the whole input.
fn head(mut input: impl Read + Send + 'static) -> io::Result<(Vec<u8>, impl Read + Send + 'static)> {
    let mut head = Vec::new();
    Read::take(&mut input, 4).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(input)))
}
