//! What a stream and a job share: their resources, and their messages at the end.

use std::{sync::Arc, time::Duration};

use indicatif::HumanCount;
use smtp_pool::{
    metrics::Metrics,
    proto::ReversePath,
    verify::{LaneState, LaneStatus, SubStatus, Verifier},
};

use super::gate::BounceGate;
use crate::{
    exit::Exit,
    progress::Screen,
    summary::{LaneRefusals, VerdictCounts, refusal_notes},
};

/// The pause between updates of the progress.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// The resources of a run, as a stream or as a job.
pub(super) struct RunContext {
    pub(super) verifier: Verifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) screen: Screen,
    pub(super) quiet: bool,
    pub(super) from: ReversePath,
    pub(super) gate: Option<BounceGate>,
}

impl RunContext {
    /// Compares the verdicts of the whole list with the limit of the user. Returns the exit code.
    pub(super) fn check_gate(&self, counts: &VerdictCounts, exit: Exit) -> Exit {
        self.gate.map_or(exit, |gate| gate.check(counts, exit, &self.screen))
    }

    /// Prints the refusals that verdicts do not show.
    pub(super) fn print_refusal_notes<'a>(&self, lanes: impl Iterator<Item = LaneRefusals<'a>>) {
        let notes = refusal_notes(&lanes.collect::<Vec<_>>(), &self.from);
        if !self.quiet && !notes.is_empty() {
            self.screen.print_lines(notes.trim_end());
        }
    }
}

/// Prints the lanes that stayed blocked, and returns the exit code that follows.
pub(super) fn report_blocked(lanes: &[LaneStatus], screen: &Screen) -> Exit {
    let blocked = lanes.iter().filter_map(|lane| match &lane.state {
        LaneState::Blocked(block) => Some((&*lane.name, format!("{} ({})", block.cause, block.reply))),
        _ => None,
    });
    report_refused(blocked, screen)
}

/// Prints the providers that refused us, and why.
pub(super) fn report_refused<'a>(
    providers: impl Iterator<Item = (&'a str, String)>,
    screen: &Screen,
) -> Exit {
    let mut exit = Exit::Done;
    for (name, why) in providers {
        if exit == Exit::Done {
            screen.print_line("");
            screen.print_line("these providers blocked us until the end; ask again later:");
        }
        exit = Exit::Blocked;
        screen.print_line(format_args!("  {name}: {why}"));
    }
    exit
}

/// Prints how many addresses got no answer in time. Nothing is known about these, and a later run may get an answer.
pub(super) fn report_timeouts(counts: &VerdictCounts, screen: &Screen) {
    let count = counts.verdicts().get(&SubStatus::TimeoutExceeded).copied().unwrap_or(0);
    if count > 0 {
        screen.print_line("");
        screen.print_line(format_args!(
            "{} addresses got no answer in time, because their servers or the DNS are silent or too slow",
            HumanCount(count)
        ));
    }
}
