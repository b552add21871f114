//! `smtp-pool report`: writes one HTML page about a job, which loads nothing.

mod args;
mod chart;
mod facts;
mod page;
mod run;

pub(crate) use self::{args::ReportArgs, run::run};
