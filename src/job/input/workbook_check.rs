//! Checks an xlsx before it is parsed: no part of it may take more memory than a list needs.
//!
//! A ZIP archive expands a thousandfold, and its directory need not tell the truth. So each part is decompressed once,
//! and measured.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek},
};

use memchr::memchr;
use zip::ZipArchive;

use crate::job::error::{IoContext, JobError, Result};

/// The most octets of shared strings, which are held in memory. A million rows with three texts each take 120 MiB.
const MAX_STRINGS: u64 = 192 << 20;
/// The most octets of any other part that is held in memory.
const MAX_PART: u64 = 32 << 20;
/// The most octets of a cell with its tags. Excel allows 32,767 characters.
const MAX_CELL: u64 = 1 << 20;
/// The most parts of an archive.
const MAX_PARTS: usize = 10_000;

/// Checks the parts of an xlsx.
///
/// # Errors
/// Fails if the file is no xlsx, or if a part is too large.
pub(super) fn check_parts(file: &File) -> Result<()> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        JobError::hinted(format_args!("the workbook cannot be read: {error}"), "save the sheet as CSV")
    })?;
    refuse_others(&archive)?;
    if archive.len() > MAX_PARTS {
        return Err(too_large("more than 10,000 parts"));
    }
    for number in 0..archive.len() {
        let part = archive.by_index(number).map_err(|error| {
            JobError::hinted(format_args!("the workbook cannot be read: {error}"), "save the sheet as CSV")
        })?;
        let name = part.name().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        if !name.ends_with(".xml") && !name.ends_with(".rels") {
            continue;
        }
        let is_sheet = name.contains("/worksheets/") && !name.contains("/_rels/");
        let is_strings = name.ends_with("sharedstrings.xml");
        let checked = match (is_sheet, is_strings) {
            (true, _) => longest_cell(BufReader::new(part)).map(|longest| longest <= MAX_CELL),
            (false, true) => size(part, MAX_STRINGS).map(|size| size <= MAX_STRINGS),
            (false, false) => size(part, MAX_PART).map(|size| size <= MAX_PART),
        };
        if !checked.context("the workbook cannot be read")? {
            return Err(too_large(match (is_sheet, is_strings) {
                (true, _) => "a cell of more than 1 MiB",
                (false, true) => "more than 192 MiB of texts",
                (false, false) => "a part of more than 32 MiB",
            }));
        }
    }
    let mut file = file;
    file.rewind().context("the workbook cannot be read")
}

fn too_large(what: &str) -> JobError {
    JobError::hinted(
        format_args!("the workbook has {what}"),
        "save the sheet as CSV, which is read in constant memory",
    )
}

/// Refuses other files that are ZIP archives, by their names.
fn refuse_others<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<()> {
    let names: Vec<_> = archive.file_names().filter_map(|name| name.ok()).collect();
    let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let (what, hint) = match () {
        () if names.iter().any(|name| name == "xl/workbook.bin") => {
            ("a binary workbook (xlsb), not an xlsx", "save it as xlsx or CSV")
        }
        () if has("xl/") => return Ok(()),
        () if has("word/") => ("a Word document, not a list", "save the list as CSV or xlsx"),
        () if has("ppt/") => ("a presentation, not a list", "save the list as CSV or xlsx"),
        () if has("mimetype") && has("content.xml") => {
            ("an OpenDocument file, not a list", "save the sheet as CSV or xlsx")
        }
        () if has("Index/") || has("index.numbers") => {
            ("a Numbers document, not a list", "export it as CSV or xlsx")
        }
        () => ("a ZIP archive, not a list", "unpack it, and name the list in it"),
    };
    Err(JobError::hinted(what, hint))
}

/// Returns the size of a part, up to a little more than `limit`.
fn size(part: impl Read, limit: u64) -> std::io::Result<u64> {
    std::io::copy(&mut part.take(limit + 1), &mut std::io::sink())
}

/// Returns the longest distance between the starts of two cells or rows of a sheet, up to a little more than the limit.
/// Parts behind the rows have no cells, and are not parsed. So only the distance between two tags counts there.
fn longest_cell(mut sheet: impl BufRead) -> std::io::Result<u64> {
    let (mut longest, mut since_cell, mut since_tag) = (0, 0, 0);
    let mut in_rows = false;
    // The first octets of a tag, which may be split over two buffers.
    let mut tag: Option<Vec<u8>> = None;
    loop {
        let buffer = sheet.fill_buf()?;
        if buffer.is_empty() {
            return Ok(longest);
        }
        let mut at = 0;
        while at < buffer.len() {
            if let Some(begun) = &mut tag {
                let octet = buffer[at];
                if octet.is_ascii_alphanumeric() || octet == b':' || octet == b'/' && begun.is_empty() {
                    if begun.len() < 64 {
                        begun.push(octet);
                    }
                } else {
                    let name = begun.rsplit(|octet| *octet == b':').next().unwrap_or_default();
                    match name {
                        b"c" | b"row" => since_cell = 0,
                        b"sheetData" if !begun.starts_with(b"/") => (in_rows, since_cell) = (true, 0),
                        b"sheetData" | b"/sheetData" => in_rows = false,
                        _ => {}
                    }
                    tag = None;
                }
                at += 1;
                (since_cell, since_tag) = (since_cell + 1, since_tag + 1);
                continue;
            }
            let next = memchr(b'<', &buffer[at..]);
            let passed = next.map_or(buffer.len() - at, |next| next + 1);
            (since_cell, since_tag) = (since_cell + passed as u64, since_tag + passed as u64);
            longest = longest.max(since_tag).max(if in_rows { since_cell } else { 0 });
            if next.is_some() {
                (tag, since_tag) = (Some(Vec::new()), 0);
            }
            at += passed;
        }
        if longest > MAX_CELL {
            return Ok(longest);
        }
        let len = buffer.len();
        sheet.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_cell_is_found_in_any_pieces() {
        let sheet = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\"><v>1</v></c><x:c><v>12345</v></x:c></row></sheetData><a/></worksheet>";
        let whole = longest_cell(sheet.as_bytes()).unwrap();
        assert_eq!(longest_cell(BufReader::with_capacity(1, sheet.as_bytes())).unwrap(), whole);
        assert!((20..60).contains(&whole), "{whole}");
        let text = format!("<sheetData><row><c>{}</c></row></sheetData>", "<t>x</t>".repeat(1 << 20));
        assert!(longest_cell(text.as_bytes()).unwrap() > MAX_CELL);
        let many = format!("<sheetData>{}</sheetData>", "<row><c>x</c></row>".repeat(1 << 18));
        assert!(longest_cell(many.as_bytes()).unwrap() < 100);
    }
}
