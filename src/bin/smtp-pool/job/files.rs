//! The files of a job: its own, its lists, and its output.

use std::path::{Path, PathBuf};

use smtp_pool::job::{Job, JobInfo, JobRow};

use crate::{
    escape::FileName,
    exit::{Failure, Result},
    options::job_of,
    output::{Destination, OutputRow, Target, Written},
};

/// Returns the path of a job, given the job or its output.
pub(crate) fn path_of(given: &Path) -> PathBuf {
    let beside = job_of(given);
    let is_job = given.extension().is_some_and(|extension| extension == "job");
    if !is_job && beside.exists() { beside } else { given.into() }
}

pub(crate) fn open(given: &Path) -> Result<Job> {
    let path = path_of(given);
    Job::open(&path).map_err(|error| {
        let has_hint = error.hint().is_some();
        let failure = Failure::from(error).within(FileName(&path));
        if has_hint {
            failure
        } else {
            failure.hint("name a job; `smtp-pool verify LIST -o OUT` makes OUT.job")
        }
    })
}

/// Protects the job, the files beside it, and its lists from being replaced.
pub(crate) fn protect_job_and_lists(destination: &mut Destination, job: &Path, about: &JobInfo) {
    protect_job(destination, job);
    for origin in &about.lists {
        match &origin.identity {
            Some(found) => {
                destination.protect("the list", &found.path);
                destination.protect_moved("the list", found.file, origin.size);
            }
            None => destination.protect("the list", &origin.path),
        }
    }
}

pub(crate) fn protect_job(destination: &mut Destination, job: &Path) {
    for (number, file) in files_of(job).enumerate() {
        destination.protect(if number == 0 { "the job" } else { "a file of the job" }, &file);
    }
}

/// Returns the job, and the files beside it while it runs.
pub(crate) fn files_of(job: &Path) -> impl Iterator<Item = PathBuf> {
    // SQLite puts its files beside the file that a symbolic link leads to.
    let real = job.canonicalize().unwrap_or_else(|_| job.into());
    ["", "-wal", "-shm", "-journal", "-lock"].into_iter().map(move |suffix| {
        let mut path = real.clone().into_os_string();
        path.push(suffix);
        path.into()
    })
}

/// Writes the wanted rows in their order.
pub(crate) fn write_rows(job: &Job, target: &Target, wanted: impl Fn(&JobRow) -> bool) -> Result<Written> {
    let mut output = target.open(&job.shapes())?;
    for rows in job.rows() {
        for row in rows?.iter().filter(|row| wanted(row)) {
            if output.write(&OutputRow::new(&row.record, row.source, &row.written))? == Written::ReaderClosed
            {
                return Ok(Written::ReaderClosed);
            }
        }
    }
    output.finish()
}
