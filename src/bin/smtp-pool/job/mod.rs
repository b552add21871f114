//! `smtp-pool job`: shows or changes a job, also while it runs.

mod args;
mod files;
mod run;

pub(crate) use self::{
    args::JobArgs,
    files::{files_of, open, path_of, protect_job, protect_job_and_lists, write_rows},
    run::run,
};
