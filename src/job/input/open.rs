//! Opens a file or standard input: counts, decompresses, and tells text from workbooks and other files.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    InputFormat, compressed,
    limits::BUFFER,
    slow_input::{PauseCheck, SlowInput},
};
use crate::job::{
    digest::Digest,
    error::{IoContext, JobError, Result},
    format::Compression,
};

/// The lines of a list that are looked at before the first row is read.
pub(super) const SAMPLE_LINES: usize = 1_002;
/// The octets of a list that are looked at, if they hold a few lines.
const SAMPLE_OCTETS: usize = 1 << 20;
/// The octets of a list that are looked at, if its lines are that long.
const MAX_SAMPLE_OCTETS: usize = 16 << 20;
/// The largest workbook that is copied from standard input or decompressed, 1 GiB.
const MAX_SPOOLED: u64 = 1 << 30;
/// A list from a pipe is read row by row if no more comes within this time.
const PIPE_PAUSE: Duration = Duration::from_millis(500);

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
    digest: Digest,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.0.fetch_add(n as u64, Relaxed);
        self.digest.update(&buffer[..n]);
        Ok(n)
    }
}

/// The first octets of a text.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) octets: Vec<u8>,
    /// True if they are the whole text.
    pub(super) is_complete: bool,
}

/// What a file holds.
pub(super) enum Content {
    /// Text: its first octets, and the input behind them.
    Text(Head, Box<dyn Read + Send>),
    /// A workbook, in a file that can be read at any place.
    Workbook(InputFormat, File),
}

/// An opened list.
pub(super) struct OpenedFile {
    pub(super) content: Content,
    pub(super) compression: Option<Compression>,
    /// The size of the file, if it has one.
    pub(super) size: Option<u64>,
}

/// Opens a file. Its octets are added to `digest` as they are read.
pub(super) fn file(path: &Path, consumed: &Consumed, digest: &Digest) -> Result<OpenedFile> {
    let file = File::open(path).context("cannot be opened")?;
    let meta = file.metadata().context("cannot be opened")?;
    if meta.is_dir() {
        return Err(JobError::list("is a directory"));
    }
    let size = meta.is_file().then_some(meta.len());
    let seekable = match size {
        Some(_) => Some(file.try_clone().context("cannot be opened")?),
        None => None,
    };
    let counted = Counted { inner: file, consumed: consumed.clone(), digest: digest.clone() };
    let (content, compression) = content(counted, seekable, None)?;
    Ok(OpenedFile { content, compression, size })
}

/// Opens standard input.
pub(super) fn stdin(consumed: &Consumed) -> Result<OpenedFile> {
    let slow = SlowInput::new(io::stdin());
    let pause = slow.pause();
    let counted = Counted { inner: slow, consumed: consumed.clone(), digest: Digest::default() };
    let (content, compression) = content(counted, None, Some(&pause))?;
    Ok(OpenedFile { content, compression, size: None })
}

/// Opens a list in memory.
#[cfg(any(test, fuzzing))]
pub(super) fn memory(list: impl Read + Send + 'static) -> Result<OpenedFile> {
    let (content, compression) = content(list, None, None)?;
    Ok(OpenedFile { content, compression, size: None })
}

/// Finds out what an input holds by its first octets, because the extension may be wrong. `seekable` is the same file,
/// if the input is one.
fn content(
    input: impl Read + Send + 'static,
    seekable: Option<File>,
    pause: Option<&PauseCheck>,
) -> Result<(Content, Option<Compression>)> {
    let (magic, input) = magic(input).context("cannot be read")?;
    let Some(compression) = compressed::compression(&magic) else {
        return Ok((plain(&magic, input, seekable, pause)?, None));
    };
    let input = compressed::decompressed(BufReader::with_capacity(BUFFER, input), compression)
        .context("cannot be read")?;
    let (magic, input) = self::magic(input).context("cannot be read")?;
    Ok((plain(&magic, input, None, None)?, Some(compression)))
}

fn plain(
    magic: &[u8],
    mut input: impl Read + Send + 'static,
    seekable: Option<File>,
    pause: Option<&PauseCheck>,
) -> Result<Content> {
    let workbook = match magic {
        [b'P', b'K', 3, 4, ..] => Some(InputFormat::Xlsx),
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => Some(InputFormat::Xls),
        _ => None,
    };
    if let Some(format) = workbook {
        let file = match seekable {
            Some(file) => {
                // The workbook is not read in the order of its octets.
                io::copy(&mut input, &mut io::sink()).context("cannot be read")?;
                file
            }
            None => spooled(input)?,
        };
        return Ok(Content::Workbook(format, file));
    }
    if let Some((_, name, hint)) = BINARIES.iter().find(|(start, ..)| magic.starts_with(start)) {
        return Err(JobError::hinted(format_args!("{name}, not a list"), *hint));
    }
    let head = head(&mut input, pause).context("cannot be read")?;
    if is_binary(&head.octets) {
        return Err(JobError::hinted(
            "a binary file, not a list",
            "a list is text, CSV, JSONL, a JSON array or a workbook (xlsx, xls); --encoding names an encoding of text",
        ));
    }
    Ok(Content::Text(head, Box::new(input)))
}

const SAVE: &str = "save the list as CSV or as a workbook";

/// The first octets of files that hold no list, their names, and what can be done.
const BINARIES: [(&[u8], &str, &str); 17] = [
    (b"%PDF", "a PDF document", SAVE),
    (b"\x89PNG", "a PNG image", SAVE),
    (b"\xff\xd8\xff", "a JPEG image", SAVE),
    (b"GIF8", "a GIF image", SAVE),
    (b"BM\0", "a BMP image", SAVE),
    (b"II*\0", "a TIFF image", SAVE),
    (b"MM\0*", "a TIFF image", SAVE),
    (b"{\\rtf", "an RTF document", SAVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive", "unpack it"),
    (b"SQLite format 3", "an SQLite database", "export a table as CSV"),
    (b"PAR1", "a Parquet file", "export it as CSV"),
    (b"Obj\x01", "an Avro file", "export it as CSV"),
    (b"\x7fELF", "a program", "name a list"),
    (b"!BDN", "a mailbox of Outlook", "export the contacts as CSV"),
    (b"<?xml", "an XML document", SAVE),
];

/// Returns true if a text holds zeros or other control characters that no text has, and is not UTF-16 or UTF-32.
fn is_binary(head: &[u8]) -> bool {
    let strange = |octet: &&u8| matches!(octet, 0..=8 | 14..=26 | 28..=31);
    let count = head.iter().filter(strange).count();
    let is_wide = super::charset::detect(head, false).name().starts_with("UTF-") && head.contains(&0);
    let is_utf8 = || std::str::from_utf8(&head[..head.len().saturating_sub(4)]).is_ok();
    !(is_wide && super::charset::detect(head, false) != super::charset::Charset::UTF_8)
        && count > head.len() / 10
        && (head.len() > 64 || !is_utf8())
}

/// Copies a workbook to a temporary file, because it is not read in the order of its octets.
fn spooled(input: impl Read) -> Result<File> {
    const DOING: &str = "cannot be copied to a temporary file";
    let mut file = tempfile::tempfile().context(DOING)?;
    let copied = io::copy(&mut input.take(MAX_SPOOLED + 1), &mut file).context(DOING)?;
    if copied > MAX_SPOOLED {
        return Err(JobError::hinted("a workbook of more than 1 GiB", "save the sheet as CSV"));
    }
    file.rewind().context(DOING)?;
    Ok(file)
}

/// Returns the first octets, and the whole input.
fn magic(mut input: impl Read + Send + 'static) -> io::Result<(Vec<u8>, impl Read + Send + 'static)> {
    let mut head = Vec::new();
    // A slow pipe gives a whole line at least.
    while head.len() < 16 && !head.contains(&b'\n') {
        let read = Read::take(&mut input, 16 - head.len() as u64).read_to_end(&mut head);
        if read? == 0 {
            break;
        }
    }
    Ok((head.clone(), Cursor::new(head).chain(input)))
}

/// Reads as many octets as are needed to find out how the text is written.
fn head(input: &mut impl Read, pause: Option<&PauseCheck>) -> io::Result<Head> {
    let mut head = Head::default();
    let (mut buffer, mut lines, mut filled) = (vec![0; BUFFER], 0, false);
    loop {
        let len = head.octets.len();
        let is_enough =
            lines >= SAMPLE_LINES || len >= SAMPLE_OCTETS && lines >= 3 || len >= MAX_SAMPLE_OCTETS;
        // A row that tells the format is enough, if the next one does not come soon.
        let is_slow = || match pause {
            Some(pause) if lines >= 2 || lines == 1 && head.octets.contains(&b'@') => pause(PIPE_PAUSE),
            _ => false,
        };
        if is_enough || is_slow() {
            return Ok(head);
        }
        match input.read(&mut buffer) {
            Ok(0) => return Ok(Head { is_complete: true, ..head }),
            Ok(read) => {
                // Blank lines tell nothing.
                for octet in &buffer[..read] {
                    match octet {
                        b'\n' | b'\r' => lines += usize::from(std::mem::take(&mut filled)),
                        octet => filled |= !matches!(octet, 0 | b' ' | b'\t'),
                    }
                }
                head.octets.extend_from_slice(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
