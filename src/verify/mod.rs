//! Verification of addresses.

mod classify;
mod verdict;

pub use classify::{Classifier, Explanation, Retry, RulesError, Stage, UnknownStage, Verdict};
pub use verdict::{Blame, Status, SubStatus};
