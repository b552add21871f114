//! Verifies lists through a job: a file that stores the rows and their results, and that a later run can continue.
//!
//! ```text
//! lists ─▶ input ─▶ import ─▶ store ─▶ feeder ─▶ engine ─▶ writer ─▶ store ─▶ results
//! ```
//!
//! * `job`, `run`: [`Job`] reads a job; [`JobRun`] verifies its addresses.
//! * `input/`: reads rows from text, CSV and JSON Lines. `format` tells format and compression from a file name.
//! * `import`: groups rows into segments and their distinct addresses into chunks. `draft` is the unfinished job.
//! * `list_file`, `digest`: recognize a list that a job was made from.
//! * `feeder`, `in_flight`, `writer`: send addresses to the engine, limit those under way, and store the results.
//! * `progress`, `history`: counts of the current run, and statistics of all runs.
//! * `results`, `diff`: read all rows with their results, and compare two jobs.
//! * `store` ◀ `sqlite`, `schema`, `encoding`, `checksum`: the storage interface and its implementation.
//! * `open`, `companions`, `lock`, `upgrade`: opening, files beside the job, the lock, and version 1.
//!
//! A [`Job`] is made once from its lists. It holds every row in order and each distinct address once, grouped by
//! domain. A [`JobRun`] works on it. If a run ends early, the next one continues where it stopped, because one
//! transaction stores results and marks their addresses as done. Results can be read at any time, in row order.

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
