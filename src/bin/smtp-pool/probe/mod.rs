//! `smtp-pool probe`: shows what a mail server offers.

mod args;
mod certificate;
mod connect;
mod plan;
mod report;
mod run;

pub(crate) use self::{args::ProbeArgs, plan::ProbePlan, run::run};
