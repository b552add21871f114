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
mod digest;
mod draft;
mod durable;
mod error;
mod feed;
mod flight;
pub mod format;
mod history;
mod import;
pub mod input;
mod keep;
mod lock;
mod open;
mod origin;
mod pack;
mod place;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod results;
mod run;
mod schema;
mod seal;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod upgrade;

pub use self::{
    board::{OnLane, Standing},
    durable::{About, Job, diff},
    error::JobError,
    history::{LaneNote, Took, Totals},
    origin::{KnownBy, Origin, Place},
    results::{JobRow, Known},
    run::JobRun,
};
