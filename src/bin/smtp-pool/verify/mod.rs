//! `smtp-pool verify`: addresses in, records out, as a stream or as a job.

mod args;
mod job;
mod plan;
mod run;
mod serve;
mod stream;

pub(crate) use self::{
    args::VerifyArgs,
    plan::{Plan, Work},
    run::{enter, run},
};
