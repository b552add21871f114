//! Says what was understood about the lists.

use std::path::Path;

use serde::Serialize;
use smtp_pool::job::{
    Job,
    input::{Recognition, Rows, Source},
};

use crate::{escape::FileName, progress::Screen};

/// What was understood about a list. It serialises to one object.
#[derive(Debug, Serialize)]
pub(crate) struct UnderstoodList {
    /// The name of the list.
    list: String,
    /// The number of its rows, if they were counted.
    rows: Option<u64>,
    /// The line that says it.
    understood: String,
    #[serde(flatten)]
    recognition: Recognition,
}

impl UnderstoodList {
    fn new(list: String, rows: Option<u64>, recognition: &Recognition) -> Self {
        Self { list, rows, understood: recognition.line(rows), recognition: recognition.clone() }
    }

    fn of_path(path: &Path, rows: u64, recognition: &Recognition) -> Self {
        Self::new(path.to_string_lossy().into_owned(), Some(rows), recognition)
    }

    /// Returns the line that says it.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", FileName(Path::new(&self.list)), self.understood)
    }
}

/// Returns what was understood about lists that are about to be read. Addresses on the command line are no list.
pub(crate) fn of_rows(rows: &Rows) -> Vec<UnderstoodList> {
    let lists = rows.lists().filter(|(source, _)| !matches!(source, Source::Addresses(_)));
    lists.map(|(source, recognition)| UnderstoodList::new(source.to_string(), None, recognition)).collect()
}

/// Returns what was understood about lists with these numbers of rows.
pub(crate) fn of_counted_rows(lists: Vec<(Source, Recognition)>, rows: &[u64]) -> Vec<UnderstoodList> {
    let counted = lists.iter().zip(rows).filter(|((source, _), _)| !matches!(source, Source::Addresses(_)));
    counted
        .map(|((source, recognition), rows)| {
            UnderstoodList::new(source.to_string(), Some(*rows), recognition)
        })
        .collect()
}

/// Returns what a job understood about its lists. Jobs of earlier versions do not tell.
pub(crate) fn of_job(job: &Job) -> Vec<UnderstoodList> {
    let lists = job.info().lists.iter().zip(job.list_rows());
    let understood = lists.filter_map(|(list, rows)| Some((&list.path, rows, list.recognition.as_ref()?)));
    understood.map(|(path, rows, recognition)| UnderstoodList::of_path(path, rows, recognition)).collect()
}

/// Prints one line for each list: as text, or as JSON beside a progress in JSON.
pub(crate) fn print(lists: &[UnderstoodList], screen: &Screen, quiet: bool) {
    for list in lists {
        match (screen.is_json(), quiet) {
            (true, _) => screen.print_json("list", list),
            (false, false) => screen.print_line(list.line()),
            (false, true) => {}
        }
    }
}
