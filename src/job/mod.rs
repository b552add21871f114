//! Lists in, verdicts out, and nothing lost in between: a job on the disk that outlives its runs.
//!
//! ```text
//! lists ─▶ rows (input) ─▶ import ─▶ store ─▶ feeder ─▶ engine ─▶ writer ─▶ store ─▶ results
//! ```
//!
//! A [`Job`] is made once from its lists: each different address once, those of a domain together, every row in its
//! place. A [`JobRun`] works on it, is drained or killed, and another goes on where it was: results and the completion
//! of their addresses are kept in one transaction. Whatever is known can be read at any time, in the order of the rows.

mod checksum;
mod companions;
mod diff;
mod digest;
mod draft;
mod encoding;
mod error;
mod feeder;
pub mod format;
mod history;
mod import;
mod in_flight;
pub mod input;
#[expect(clippy::module_inception, reason = "the layer is named for the type that it is about")]
mod job;
mod list_file;
mod lock;
mod open;
mod progress;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod results;
mod run;
mod schema;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod upgrade;
mod writer;

pub use self::{
    diff::diff,
    error::JobError,
    history::{LaneSummary, LatencySummary, Totals},
    job::{Job, JobInfo},
    list_file::{FileIdentity, ListFile, MatchedBy},
    progress::{JobProgress, LaneCallback},
    results::{JobRow, RowState},
    run::JobRun,
};
