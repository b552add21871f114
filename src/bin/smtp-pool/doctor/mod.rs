//! `smtp-pool doctor`: checks whether this machine is fit to ask mail servers, and says what to do where it is not.
//!
//! Mail servers judge a client by its address, the name of the address, and the name in EHLO. `doctor` looks these up
//! as a mail server does. It asks no more of others than a mail client does.

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
