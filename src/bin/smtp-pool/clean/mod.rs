//! `smtp-pool clean`: verifies a list, and writes it again with the rows to keep.
//!
//! ```text
//! run ▶ copy ▶ target ▶ unique;  args
//! ```

mod args;
mod copy;
mod run;
mod target;
mod unique;

pub(crate) use self::{
    args::{CleanArgs, CleanRuleArgs},
    copy::write_clean,
    run::plan,
    target::CleanTarget,
};
