//! Finds out whether a file is an output of an earlier run, which the next run may replace.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use clap::ValueEnum;
use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

use super::{native, vocab::Vocab};

/// The maximum size of the first line: a record and the row behind it.
const MAX_LINE: u64 = 8 << 20;
/// The number of fields that records have had in each version.
const NATIVE_FIELDS: usize = 5;

/// Returns whether the file is empty, or its first line is that of an output: a header of CSV, or a record.
pub(super) fn is_output(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let head = file.fill_buf()?;
    let mut line = Vec::new();
    let read = match head {
        [] => return Ok(true),
        [0x1f, 0x8b, ..] => first_line(MultiGzDecoder::new(file), &mut line),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::with_buffer(file).and_then(|text| first_line(text, &mut line))
        }
        _ => first_line(file, &mut line),
    };
    // A file that cannot be decompressed is no output.
    Ok(read.is_ok() && (line.is_empty() || is_first_line(&line)))
}

fn first_line(text: impl Read, line: &mut Vec<u8>) -> io::Result<()> {
    BufReader::new(text.take(MAX_LINE)).read_until(b'\n', line).map(drop)
}

fn is_first_line(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_end();
    if line.starts_with(b"{") {
        let Ok(record) = serde_json::from_slice::<Value>(line) else { return false };
        let has = |paths: &[(&str, &str)]| paths.iter().all(|(_, path)| record.pointer(path).is_some());
        return native::FIELDS[..NATIVE_FIELDS].iter().all(|name| record.get(name).is_some())
            || Vocab::value_variants().iter().any(|vocab| has(vocab.first_columns()));
    }
    // With `--append`, the columns of the list come first.
    let has = |fields: &[&str]| {
        [",", ";", "\t", "|"].iter().any(|delimiter| {
            let header = fields.join(delimiter);
            memchr::memmem::find_iter(line, &header).any(|at| {
                let (before, behind) = (&line[..at], &line[at + header.len()..]);
                (before.is_empty() || before.ends_with(delimiter.as_bytes()))
                    && (behind.is_empty() || behind.starts_with(delimiter.as_bytes()))
            })
        })
    };
    let of_vocab =
        |vocab: &Vocab| has(&vocab.first_columns().iter().map(|(name, _)| *name).collect::<Vec<_>>());
    has(&native::FIELDS[..NATIVE_FIELDS]) || Vocab::value_variants().iter().any(of_vocab)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn foreign_files_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let is = |octets: &[u8]| {
            fs::write(&path, octets).unwrap();
            is_output(&path).unwrap()
        };
        let header = format!("{},id\n1", native::FIELDS.join(","));
        let record = br#"{"address":"a@x.test","status":"unknown","sub_status":"other","blame":null,"catch_all":"not_run"}"#;
        for ours in [
            b"",
            header.as_bytes(),
            record,
            format!("\u{feff}id;E-Mail;{}\r\n", native::FIELDS.join(";")).as_bytes(),
            format!("{}\tid", native::FIELDS.join("\t")).as_bytes(),
            b"email,result,flags,suggested_correction,normalized_email,domain\n",
        ] {
            assert!(is(ours), "{}", String::from_utf8_lossy(ours));
            assert!(is(&zstd::encode_all(ours, 1).unwrap()));
        }
        for other in [
            &b"email\nann@x.test\n"[..],
            b"address,status,sub_status\n",
            b"my_address,status,sub_status,blame,catch_all\n",
            b"address;status,sub_status,blame,catch_all\n",
            b"address,status,sub_status,blame,catch_all_2\n",
            br#"{"address":"a@x.test","status":"unknown"}"#,
            br#"{"address":"#,
            b"\n",
            b"\x1f\x8b\x08",
            b"SQLite format 3\0",
            b"\0\0\0",
        ] {
            assert!(!is(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
