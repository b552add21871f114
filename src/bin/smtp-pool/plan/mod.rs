//! `smtp-pool plan`: what it would take to verify lists. The DNS is asked, and no mail server.

mod args;
mod forecast;

pub(crate) use self::{args::PlanArgs, forecast::run};
