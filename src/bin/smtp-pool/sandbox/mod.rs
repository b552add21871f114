//! `smtp-pool sandbox`: a world of mail servers for tests of other software.

mod args;
mod run;

pub(crate) use self::{
    args::SandboxArgs,
    run::{SandboxPlan, run},
};
