//! Where the rows of a cleaned list go.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use smtp_pool::{
    job::{JobRow, format, format::Compression},
    verify::Status,
};

use super::{args::CleanRuleArgs, unique::SeenMailboxes};
use crate::{
    escape::FileName,
    exit::{ErrorContext, Failure, Result},
    filter::{FilterArgs, VerdictKind, selects},
    output::{Destination, RawOutput},
};

/// The statuses in the order of their files.
const STATUSES: [Status; 4] = [Status::Deliverable, Status::Undeliverable, Status::Risky, Status::Unknown];

/// The outputs of a cleaned list, and the rule for their rows.
#[derive(Clone, Debug)]
pub(crate) struct CleanTarget {
    outputs: Vec<CleanOutput>,
    keep: Vec<VerdictKind>,
    unique: bool,
    /// The folder of several outputs.
    folder: Option<PathBuf>,
    /// What else a row must be.
    filter: FilterArgs,
}

#[derive(Clone, Debug)]
struct CleanOutput {
    /// The status of its rows. `None` takes all rows that are kept.
    status: Option<Status>,
    destination: Destination,
    compression: Option<Compression>,
}

impl CleanTarget {
    /// Returns the outputs for a list. Nothing is written yet.
    pub(crate) fn new(rule: &CleanRuleArgs, output: Option<&Path>, list: &Path) -> Result<Self> {
        let may_replace = if rule.replace { is_any } else { is_empty };
        let of = |path: Option<&Path>, status| -> Result<CleanOutput> {
            let path = path.filter(|path| *path != Path::new("-"));
            let compression = path.and_then(|path| format::of(path).1);
            Ok(CleanOutput { status, destination: Destination::new(path, may_replace)?, compression })
        };
        let outputs = match &rule.split {
            None => vec![of(output, None)?],
            Some(folder) => {
                make_folder(folder)?;
                let suffix = suffix(list);
                let file = |status: Status| folder.join(format!("{status}{suffix}"));
                STATUSES
                    .into_iter()
                    .map(|status| of(Some(&file(status)), Some(status)))
                    .collect::<Result<_>>()?
            }
        };
        let usual =
            if rule.split.is_some() { VerdictKind::All } else { VerdictKind::Status(Status::Deliverable) };
        let keep = if rule.keep.is_empty() { vec![usual] } else { rule.keep.clone() };
        // A job stands beside the folder, not in it.
        let folder = rule.split.as_deref().map(|folder| folder.components().collect());
        Ok(Self { outputs, keep, unique: rule.unique, folder, filter: FilterArgs::default() })
    }

    /// Keeps only rows that this filter selects, too.
    pub(crate) fn select(self, filter: &FilterArgs) -> Self {
        Self { filter: filter.clone(), ..self }
    }

    /// Returns the destinations, for the files that they must not replace.
    pub(crate) fn destinations(&mut self) -> impl Iterator<Item = &mut Destination> {
        self.outputs.iter_mut().map(|output| &mut output.destination)
    }

    /// Checks that nothing would be replaced that must stay.
    pub(crate) fn check(&self) -> Result<()> {
        self.outputs.iter().try_for_each(|output| output.destination.check()).map_err(|failure| {
            match self.outputs.iter().any(|output| output.destination.file().is_some_and(Path::exists)) {
                true => failure.hint("write to another file, remove this file, or replace it with --replace"),
                false => failure,
            }
        })
    }

    /// Returns the file or the folder that the job stands beside. `None` for a pipe.
    pub(crate) fn place(&self) -> Option<&Path> {
        match &self.folder {
            Some(folder) => Some(folder),
            None => self.outputs[0].destination.file(),
        }
    }

    /// Starts to write all outputs.
    pub(super) fn open(&self) -> Result<Vec<RawOutput>> {
        let open = |output: &CleanOutput| RawOutput::open(&output.destination, output.compression);
        self.outputs.iter().map(open).collect()
    }

    /// Returns a test of rows by the rule.
    pub(super) fn rule(&self) -> impl Fn(&JobRow) -> bool + '_ {
        let selects = selects(&self.filter);
        move |row| self.keep.iter().any(|kind| kind.includes(&row.record)) && selects(&row.record)
    }

    /// Returns the outputs that get a row that passes the [rule](Self::rule), one bit for each. `seen` holds the mailboxes
    /// of the rows before.
    pub(super) fn outputs_of(&self, row: &JobRow, seen: &mut SeenMailboxes) -> u8 {
        if self.unique && !seen.insert(&row.record.address) {
            return 0;
        }
        let takes = |output: &CleanOutput| output.status.is_none_or(|status| status == row.record.status);
        (0..).zip(&self.outputs).filter(|(_, output)| takes(output)).map(|(n, _)| 1 << n).sum()
    }
}

/// Returns the extensions of a list, as in `.csv.gz`.
fn suffix(list: &Path) -> String {
    let name = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let compressed = format::of(list).1.is_some();
    let (stem, last) = match name.rsplit_once('.') {
        Some((stem, last)) => (stem, format!(".{last}")),
        None => return String::new(),
    };
    match stem.rsplit_once('.') {
        Some((_, before)) if compressed => format!(".{before}{last}"),
        _ => last,
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made
            .usage_at(format_args!("--split {}", FileName(folder)))
            .map_err(|failure: Failure| failure.hint("name a folder, in a folder that exists")),
    }
}

fn is_any(_: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Returns whether nothing is lost if the file is replaced. A cleaned list looks like any list, so a file of an earlier
/// run is not recognised.
fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_folder_have_the_extensions_of_the_list() {
        for (list, found) in [
            ("list.csv", ".csv"),
            ("a/b.c/list.CSV.gz", ".CSV.gz"),
            ("list", ""),
            ("my.list.txt", ".txt"),
            ("list.gz", ".gz"),
        ] {
            assert_eq!(suffix(Path::new(list)), found, "{list}");
        }
    }
}
