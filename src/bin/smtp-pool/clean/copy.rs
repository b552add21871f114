//! Copies the rows to keep from the list, octet by octet.
//!
//! The list is read twice side by side: as rows, which say where each begins, and as lines, which are copied. Each row
//! must have the address that the job has for it. So a row of another list, or one that is read differently, is an error
//! and never another row.

use std::path::Path;

use smtp_pool::job::{
    Job, JobRow,
    input::{Hints, RawLines, Rows, Shape, Source},
};

use super::{target::CleanTarget, unique::SeenMailboxes};
use crate::{
    escape::FileName,
    exit::{ErrorContext, Failure, Result},
    output::{RawOutput, Written},
};

/// The octets of a line in which its address is looked for.
const CHECKED_OCTETS: usize = 16 * 1024;

/// Writes the rows of the list to the outputs of the target.
pub(crate) fn write_clean(job: &Job, list: &Path, hints: &Hints, target: &CleanTarget) -> Result<Written> {
    let differs = |what: &str| {
        Failure::usage(format_args!("{}: {what}", FileName(list)))
            .hint("give the unchanged list, and the options that the job was made with, such as --column")
    };
    let mut rows = Rows::open(vec![Source::File(list.into())], hints, Box::new(|_, _, _| ()))?;
    let tracker = rows.tracker();
    let lines_of_one = !matches!(rows.shapes(), [Shape::Csv { .. }]);
    let dialect =
        rows.recognitions().first().map(|recognition| recognition.dialect.clone()).unwrap_or_default();
    let mut copy = Copy { raw: RawLines::open(list, &dialect)?, outputs: target.open()?, lines_of_one };
    let (mut seen, passes) = (SeenMailboxes::default(), target.rule());
    let mut group: Option<LineRows> = None;
    for piece in job.rows() {
        for known in piece? {
            let row = rows.next().filter(|row| row.address == known.record.address);
            let row = row.ok_or_else(|| differs("its rows are not those of the job"))?;
            let chosen = if passes(&known) { target.outputs_of(&known, &mut seen) } else { 0 };
            match &mut group {
                // A line with several addresses is kept if any of them is.
                Some(group) if group.line == row.line => group.chosen |= chosen,
                _ => {
                    if copy.group(group.take(), Some(row.line), &differs)? == Written::ReaderClosed {
                        return Ok(Written::ReaderClosed);
                    }
                    let is_plain = row.fault.is_none() && copy.raw.has_single_octets();
                    let address = probe(&known).filter(|_| is_plain).map(Into::into);
                    group = Some(LineRows { line: row.line, chosen, address });
                }
            }
        }
    }
    if rows.next().is_some() || tracker.failure().is_some() {
        return Err(differs("its rows are not those of the job"));
    }
    if copy.group(group, None, &differs)? == Written::ReaderClosed {
        return Ok(Written::ReaderClosed);
    }
    copy.outputs.into_iter().try_fold(Written::Yes, |_, output| output.finish())
}

/// The rows that begin at one line.
struct LineRows {
    line: u64,
    /// The outputs that get them, one bit for each.
    chosen: u8,
    /// An address that stands in the line as it is.
    address: Option<Box<str>>,
}

/// Returns the address of a row if a list writes it in only one way.
fn probe(row: &JobRow) -> Option<&str> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'@' | b'_' | b'-');
    Some(&*row.record.address).filter(|address| address.bytes().all(is_plain))
}

struct Copy {
    raw: RawLines,
    outputs: Vec<RawOutput>,
    /// Whether each row is one line. Other lines between them are no rows, and are kept.
    lines_of_one: bool,
}

impl Copy {
    /// Copies the lines of a group, up to the line where the next group begins, or to the end. Without a group, copies
    /// the lines before the first row, which all outputs get.
    fn group(
        &mut self,
        group: Option<LineRows>,
        until: Option<u64>,
        differs: &impl Fn(&str) -> Failure,
    ) -> Result<Written> {
        let first = match &group {
            Some(group) if self.raw.line() != group.line => {
                return Err(differs("its lines are not those of its rows"));
            }
            Some(group) => Some(group.line),
            None => None,
        };
        while until.is_none_or(|until| self.raw.line() < until) {
            let is_first = Some(self.raw.line()) == first;
            let chosen = match &group {
                Some(group) if is_first || !self.lines_of_one => group.chosen,
                _ => u8::MAX,
            };
            let address = group.as_ref().and_then(|group| group.address.as_deref()).filter(|_| is_first);
            let mut head = Vec::new();
            let outputs = &mut self.outputs;
            let found = self.raw.copy_line(&mut |octets| {
                for (n, output) in outputs.iter_mut().enumerate() {
                    if chosen & (1 << n) != 0 {
                        output.write(octets);
                    }
                }
                if address.is_some() && head.len() < CHECKED_OCTETS {
                    head.extend_from_slice(&octets[..octets.len().min(CHECKED_OCTETS - head.len())]);
                }
            });
            if !found.failed_at("the list cannot be read")? {
                break;
            }
            // A row of several lines may have its address in any of them.
            let is_whole = self.lines_of_one || until == Some(self.raw.line());
            if let Some(address) = address
                && is_whole
                && head.len() < CHECKED_OCTETS
                && !head.contains(&b'\\')
                && memchr::memmem::find(&head, address.as_bytes()).is_none()
            {
                return Err(differs("its lines are not those of its rows"));
            }
        }
        self.outputs.iter_mut().try_fold(Written::Yes, |so_far, output| match output.check()? {
            Written::ReaderClosed => Ok(Written::ReaderClosed),
            Written::Yes => Ok(so_far),
        })
    }
}
