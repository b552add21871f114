//! `smtp-pool probe`: what a server says of itself.

mod args;
mod certificate;
mod connect;
mod plan;
mod report;
mod run;

pub(crate) use self::{args::ProbeArgs, plan::ProbePlan, run::run};
