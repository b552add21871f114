//! `smtp-pool probe`: what a server says of itself.

mod args;
mod certificate;
mod report;
mod run;

pub(crate) use self::{
    args::ProbeArgs,
    run::{Plan, run},
};
