//! What is to be seen while it runs: one line on a terminal, and what is said in between.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use smtp_pool::verify::Status;

use crate::{
    input::Tracker,
    summary::{Tally, word},
};

/// Standard error, shared by the progress line and everything else that is said. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Screen(ProgressBar);

impl Screen {
    /// Nothing moves unless somebody watches.
    pub(crate) fn new(progress: bool) -> Self {
        let shown = progress && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed}  {wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Writes a line, above the progress.
    pub(crate) fn say(&self, line: impl fmt::Display) {
        // Where standard error is gone there is nobody left to tell.
        self.0.suspend(|| drop(writeln!(io::stderr().lock(), "{line}")));
    }

    pub(crate) fn show(&self, tally: &Tally, tracker: &Tracker, elapsed: Duration) {
        if self.0.is_hidden() {
            return;
        }
        let done = tally.total();
        let total = match tracker.total() {
            Some((total, true)) => format!(" of {}", HumanCount(total)),
            Some((total, false)) => format!(" of about {}", HumanCount(total)),
            None => String::new(),
        };
        let rate = HumanCount((done as f64 / elapsed.as_secs_f64().max(0.001)) as u64);
        let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
        for ((status, _), count) in tally.counts() {
            *by_status.entry(status).or_default() += count;
        }
        let counts: String =
            by_status.iter().map(|(status, n)| format!(" · {} {}", HumanCount(*n), word(status))).collect();
        self.0.set_message(format!("{}{total} · {rate}/s{counts}", HumanCount(done)));
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
