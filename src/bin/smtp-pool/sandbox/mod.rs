//! `smtp-pool sandbox`: a world of mail servers to try things on.

mod args;
mod run;

pub(crate) use self::{
    args::SandboxArgs,
    run::{SandboxPlan, run},
};
