//! `smtp-pool verify`: reads addresses and writes records, as a stream or as a job.

mod args;
mod context;
mod gate;
mod job;
mod metrics_server;
mod plan;
mod run;
mod sandbox;
mod stream;

pub(crate) use self::{
    args::VerifyArgs,
    plan::{FOR_SANDBOX, FOR_SYNTAX, VerifyPlan, Work},
    run::run,
    sandbox::start_sandbox,
};
