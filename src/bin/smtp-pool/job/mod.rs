//! `smtp-pool job`: looking at a job, or changing what it has to do, also while it runs.

mod args;
mod files;
mod run;

pub(crate) use self::{
    args::JobArgs,
    files::{files_of, keep, keep_job, open, path_of, write_rows},
    run::run,
};
