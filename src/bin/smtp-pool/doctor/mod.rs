//! `smtp-pool doctor`: whether this machine is fit to ask mail servers, and what to do where it is not.
//!
//! Servers judge whoever connects before they answer anything: by the address, its name, and the name given in EHLO. What
//! they will find is looked up here the way they look it up, and nothing is asked of anybody that a mail server is not
//! asked all day.

mod args;
mod blocklist;
mod clock;
mod dns;
mod finding;
mod limits;
mod name;
mod outward;
mod plan;
mod run;

pub(crate) use self::{args::DoctorArgs, plan::DoctorPlan, run::run};
