//! Verification of addresses.

mod verdict;

pub use verdict::{Blame, Status, SubStatus};
