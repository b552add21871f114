//! `smtp-pool explain`: what replies mean, who they speak of, and which rule says so.

mod args;
mod find;
mod no_reply;
mod run;

pub(crate) use self::{args::ExplainArgs, run::run};
