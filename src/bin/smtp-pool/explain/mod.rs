//! `smtp-pool explain`: what replies mean, who they speak about, and which rule decides.

mod args;
mod find;
mod log;
mod no_reply;
mod run;

pub(crate) use self::{args::ExplainArgs, run::run};
