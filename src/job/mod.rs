//! Lists in, verdicts out, and nothing lost in between: a job on the disk that outlives its runs.
//!
//! ```text
//! lists ─▶ rows (input) ─▶ import ─▶ store ─▶ feed ─▶ engine ─▶ keep ─▶ store ─▶ results
//! ```
//!
//! A [`Job`] is made once from its lists: each different address once, those of a domain together, every row in its
//! place. A [`JobRun`] works on it, is drained or killed, and another goes on where it was: results and the completion
//! of their addresses are kept in one transaction. Whatever is known can be read at any time, in the order of the rows.

mod board;
mod durable;
mod error;
mod feed;
mod flight;
pub mod format;
mod import;
pub mod input;
mod keep;
mod lock;
mod pack;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod results;
mod run;
mod sqlite;
mod store;

pub use self::{
    board::{LaneNote, OnLane, Standing, Took},
    durable::{About, Job, Origin, diff},
    error::JobError,
    results::{JobRow, Known},
    run::JobRun,
};
