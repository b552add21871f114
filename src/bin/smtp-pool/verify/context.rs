//! What a stream and a job have in common: what they run with, and what they say at the end.

use std::{sync::Arc, time::Duration};

use indicatif::HumanCount;
use smtp_pool::{
    metrics::Metrics,
    proto::ReversePath,
    verify::{LaneState, LaneStatus, SubStatus, Verifier},
};

use crate::{
    exit::Exit,
    progress::Screen,
    summary::{LaneRefusals, VerdictCounts, refusal_notes},
};

/// How often what is known is shown and passed on.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// What both ways of running have in hand.
pub(super) struct RunContext {
    pub(super) verifier: Verifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) screen: Screen,
    pub(super) quiet: bool,
    pub(super) from: ReversePath,
}

impl RunContext {
    /// Tells what servers did that the verdicts do not tell.
    pub(super) fn print_refusal_notes<'a>(&self, lanes: impl Iterator<Item = LaneRefusals<'a>>) {
        let notes = refusal_notes(&lanes.collect::<Vec<_>>(), &self.from);
        if !self.quiet && !notes.is_empty() {
            self.screen.print_lines(notes.trim_end());
        }
    }
}

/// Tells which lanes stayed blocked, and what that means for how the command ends.
pub(super) fn report_blocked(lanes: &[LaneStatus], screen: &Screen) -> Exit {
    let blocked = lanes.iter().filter_map(|lane| match &lane.state {
        LaneState::Blocked(block) => Some((&*lane.name, format!("{} ({})", block.cause, block.reply))),
        _ => None,
    });
    report_refused(blocked, screen)
}

/// Tells which providers refused us, and why.
pub(super) fn report_refused<'a>(
    providers: impl Iterator<Item = (&'a str, String)>,
    screen: &Screen,
) -> Exit {
    let mut exit = Exit::Done;
    for (name, why) in providers {
        if exit == Exit::Done {
            screen.print_line("");
            screen.print_line("providers that did not want us to the end:");
        }
        exit = Exit::Blocked;
        screen.print_line(format_args!("  {name}: {why}"));
    }
    exit
}

/// Says how many addresses got no answer in time: nothing is known of them, and asking again may tell.
pub(super) fn report_timeouts(counts: &VerdictCounts, screen: &Screen) {
    let count = counts.verdicts().get(&SubStatus::TimeoutExceeded).copied().unwrap_or(0);
    if count > 0 {
        screen.print_line("");
        screen.print_line(format_args!(
            "{} addresses got no answer in time: their servers, or the DNS, are silent or too slow",
            HumanCount(count)
        ));
    }
}
