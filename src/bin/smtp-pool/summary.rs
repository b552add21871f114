//! The tables at the end of a run: verdicts and latencies. Below them stand refusals that verdicts do not show.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use indicatif::HumanCount;
use serde::Serialize;
use smtp_pool::{
    job::JobProgress,
    metrics::Snapshot,
    proto::ReversePath,
    verify::{Record, Status, SubStatus},
};

use crate::escape::Escaped;

/// The maximum number of lanes in a list.
const MAX_LANES: usize = 20;

/// The number of rows of each verdict.
#[derive(Debug, Default)]
pub(crate) struct VerdictCounts {
    counts: BTreeMap<(Status, SubStatus), u64>,
    total: u64,
}

impl From<&JobProgress> for VerdictCounts {
    fn from(standing: &JobProgress) -> Self {
        let counts = standing.verdicts.iter().filter(|(_, count)| **count > 0);
        let counts = counts.map(|(sub_status, count)| ((sub_status.status(), *sub_status), *count));
        Self { counts: counts.collect(), total: standing.done() }
    }
}

impl VerdictCounts {
    pub(crate) fn add(&mut self, record: &Record) {
        *self.counts.entry((record.status, record.sub_status)).or_default() += 1;
        self.total += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn verdicts(&self) -> BTreeMap<SubStatus, u64> {
        self.counts().map(|((_, sub_status), count)| (sub_status, count)).collect()
    }

    fn counts(&self) -> impl Iterator<Item = ((Status, SubStatus), u64)> + '_ {
        self.counts.iter().map(|(verdict, count)| (*verdict, *count))
    }
}

/// Returns the name of a verdict, as in the records.
pub(crate) fn variant_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(variant_name)) => variant_name,
        _ => String::new(),
    }
}

/// Returns both tables as one text. `done` is the number of verdicts of this run, and `elapsed` its duration.
pub(crate) fn tables(counts: &VerdictCounts, done: u64, snapshot: &Snapshot, elapsed: Duration) -> String {
    let mut text = verdicts(counts);
    if snapshot.latencies().next().is_some() {
        text = format!("{text}\n\n{}", latencies(snapshot));
    }
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let connections =
        match (snapshot.connections_opened(), snapshot.connections_failed().values().sum::<u64>()) {
            (0, 0) => String::new(),
            (opened, failed) => {
                format!(", {} connections opened, {} failed", HumanCount(opened), HumanCount(failed))
            }
        };
    let total = HumanCount(done);
    format!("{text}\n\n{total} addresses in {} ({rate:.0}/s){connections}", format_duration(elapsed))
}

pub(crate) fn verdicts(counts: &VerdictCounts) -> String {
    let mut table = table(&["status", "sub_status", "count", "share"], 2);
    for ((status, sub_status), count) in counts.counts() {
        let share = 100.0 * count as f64 / counts.total as f64;
        let count = HumanCount(count).to_string();
        table.add_row([variant_name(&status), variant_name(&sub_status), count, format!("{share:.1} %")]);
    }
    table.trim_fmt()
}

/// Refusals of a lane that verdicts do not show: of the sender, or of every recipient for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneRefusals<'a> {
    pub(crate) lane: &'a str,
    pub(crate) sender_refusals: u64,
    pub(crate) harvest_defences: u32,
}

/// Returns a list of the lanes that refused the sender, or every recipient for a while. It is empty, or several lines.
pub(crate) fn refusal_notes(lanes: &[LaneRefusals<'_>], from: &ReversePath) -> String {
    let mut refused: Vec<_> = lanes.iter().filter(|lane| lane.sender_refusals > 0).collect();
    refused.sort_by_key(|lane| std::cmp::Reverse(lane.sender_refusals));
    let answers = |lane: &LaneRefusals<'_>| match lane.sender_refusals {
        1 => "1 answer".into(),
        count => format!("{} answers", HumanCount(count)),
    };
    let refused = refused.iter().map(|lane| (*lane, answers(lane)));
    let head = match from.as_str() {
        "" => "servers refused the null sender, MAIL FROM:<>; name a mailbox of your own with --from:".into(),
        from => format!("servers refused the sender {from} of --from:"),
    };
    let mut text = lane_list(&head, refused);
    let times = |lane: &LaneRefusals<'_>| match lane.harvest_defences {
        1 => "once".into(),
        times => format!("{times} times"),
    };
    let defended = lanes.iter().filter(|lane| lane.harvest_defences > 0).map(|lane| (lane, times(lane)));
    text.push_str(&lane_list(
        "servers refused every recipient as unknown, a defence against directory harvesting; these refusals do not count:",
        defended,
    ));
    text
}

/// Returns a head with the lanes under it, or nothing if there are no lanes.
fn lane_list<'a>(head: &str, lanes: impl Iterator<Item = (&'a LaneRefusals<'a>, String)>) -> String {
    let mut lines: Vec<_> =
        lanes.map(|(lane, what)| Escaped(format_args!("  {}: {what}", lane.lane)).to_string()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(MAX_LANES);
    lines.truncate(MAX_LANES);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    format!("\n{}\n{}\n", Escaped(head), lines.join("\n"))
}

fn latencies(snapshot: &Snapshot) -> String {
    let mut table = table(&["operation", "count", "p50", "p90", "p99", "max"], 1);
    for (operation, latency) in snapshot.latencies() {
        let count = HumanCount(latency.count).to_string();
        let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(format_duration);
        table.add_row([operation.to_string(), count, p50, p90, p99, max]);
    }
    table.trim_fmt()
}

/// Returns a table with words in its first columns and numbers in the others.
pub(crate) fn table(header: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { 2 }, 0));
        if index >= words {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Returns the duration with three digits and a suitable unit.
pub(crate) fn format_duration(duration: Duration) -> String {
    let (value, unit) = match duration.as_secs_f64() {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let spans =
            [(950, "950 µs"), (1_234, "1.23 ms"), (45_678, "45.7 ms"), (1_500_000, "1.50 s"), (0, "0.00 µs")];
        for (micros, text) in spans {
            assert_eq!(format_duration(Duration::from_micros(micros)), text);
        }
        assert_eq!(variant_name(&SubStatus::MailboxNotFound), "mailbox_not_found");
    }
}
