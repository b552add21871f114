//! `smtp-pool report`: one page about a job, with everything in it.

mod args;
mod chart;
mod facts;
mod page;
mod run;

pub(crate) use self::{args::ReportArgs, run::run};
