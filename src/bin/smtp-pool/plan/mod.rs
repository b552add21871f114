//! `smtp-pool plan`: shows what it takes to verify lists. It asks the DNS, and no mail server.

mod args;
mod forecast;

pub(crate) use self::{args::PlanArgs, forecast::run};
