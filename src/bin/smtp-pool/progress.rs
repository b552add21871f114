//! The progress on standard error: a live view on a terminal, else lines of text, or lines of JSON.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use smtp_pool::{
    job::input::RowFaultCallback,
    verify::{LaneState, LaneStatus, Status, SubStatus},
};

use crate::{
    escape::Escaped,
    exit::{Exit, Failure, Result},
    terminal::Terminal,
};

/// The pause between lines of text, where the output is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of lanes in the live view.
const SHOWN_LANES: usize = 6;
/// The maximum number of lanes in each list of a JSON object.
const MAX_NAMES: usize = 100;
/// The columns of the live view. Every terminal has as many, so no line wraps, also after a resize.
const WIDTH: usize = 79;
/// The columns of the name of a lane.
const NAME_WIDTH: usize = 26;
/// The period that the rate is measured over.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The kind of progress that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    None,
    Human,
    Json,
}

/// The state of a run at one moment.
#[derive(Debug, Default)]
pub(crate) struct RunProgress {
    pub(crate) verdicts: BTreeMap<SubStatus, u64>,
    pub(crate) postponed: u64,
    /// The number of rows, and whether it is final.
    pub(crate) total: Option<(u64, bool)>,
    pub(crate) lanes: Vec<LaneStatus>,
}

impl RunProgress {
    fn done(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

/// Standard error, which the progress and all messages share. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    progress: ProgressMode,
    bar: ProgressBar,
    meter: Arc<Mutex<RateMeter>>,
}

/// Measures the rate, and remembers when the last line was printed.
#[derive(Debug, Default)]
struct RateMeter {
    /// Times with the rows done by then, the oldest first, over [`RATE_WINDOW`].
    marks: std::collections::VecDeque<(Instant, u64)>,
    said: Option<Instant>,
    /// The last event of JSON.
    last: Map<String, Value>,
}

impl RateMeter {
    fn rate(&mut self, now: Instant, done: u64) -> f64 {
        self.marks.push_back((now, done));
        while self.marks.len() > 2 && now.duration_since(self.marks[1].0) >= RATE_WINDOW {
            self.marks.pop_front();
        }
        let (then, before) = self.marks[0];
        done.saturating_sub(before) as f64 / now.duration_since(then).as_secs_f64().max(0.001)
    }
}

impl Screen {
    pub(crate) fn new(progress: ProgressMode) -> Self {
        let moves = progress == ProgressMode::Human && io::stderr().is_terminal();
        let target = if moves { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed}  {msg}") {
            bar.set_style(style);
        }
        Self { progress, bar, meter: Arc::default() }
    }

    /// Writes one line above the progress. Its values are escaped.
    pub(crate) fn print_line(&self, line: impl fmt::Display) {
        if self.is_json() {
            return self.print_message(&line.to_string());
        }
        // If standard error is closed, the message cannot be reported anywhere.
        self.bar.suspend(|| drop(Terminal::err().line(line)));
    }

    /// Returns whether standard error gets JSON and nothing else.
    pub(crate) fn is_json(&self) -> bool {
        self.progress == ProgressMode::Json
    }

    /// Writes one event with the fields of an object as a line of JSON.
    pub(crate) fn print_json(&self, event: &str, object: &impl serde::Serialize) {
        if let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(object) {
            fields.insert("event".into(), event.into());
            self.bar.suspend(|| drop(Terminal::err().json(&fields)));
        }
    }

    /// Writes text of several lines, such as notes.
    pub(crate) fn print_lines(&self, text: impl fmt::Display) {
        if self.is_json() {
            return self.print_message(&text.to_string());
        }
        self.bar.suspend(|| drop(Terminal::err().lines(text)));
    }

    /// Writes tables, which JSON has in its last event instead.
    pub(crate) fn print_tables(&self, text: impl fmt::Display) {
        if !self.is_json() {
            self.print_lines(text);
        }
    }

    fn print_message(&self, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            drop(Terminal::err().json(&json!({ "event": "message", "text": text })));
        }
    }

    /// Writes the last event of JSON, with the state that was shown last. Prints a failure as an event before it. Returns
    /// how the command ends.
    ///
    /// # Errors
    /// Without JSON, returns the failure.
    pub(crate) fn end(&self, ended: Result<Exit>) -> Result<Exit> {
        if !self.is_json() {
            return ended;
        }
        let exit = ended.unwrap_or_else(|failure| {
            print_failure(&failure);
            failure.exit
        });
        let mut event = self.meter.lock().unwrap_or_else(PoisonError::into_inner).last.clone();
        event.insert("event".into(), "end".into());
        event.insert("exit_code".into(), (exit as u8).into());
        drop(Terminal::err().json(&event));
        Ok(exit)
    }

    /// Returns a function that reports faults of rows.
    pub(crate) fn reporter(&self) -> RowFaultCallback {
        let screen = self.clone();
        Box::new(move |source, line, fault| screen.print_line(format_args!("{source}:{line}: {fault}")))
    }

    /// Shows the state of the run. `last` means that it is final.
    pub(crate) fn show(&self, run: &RunProgress, last: bool) {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rate = meter.rate(now, run.done());
        let every = match self.progress {
            ProgressMode::None => return,
            ProgressMode::Json => JSON_INTERVAL,
            ProgressMode::Human if self.bar.is_hidden() => LINE_INTERVAL,
            ProgressMode::Human => {
                self.bar.set_message(text(run, rate, bar(run)));
                return;
            }
        };
        // The first line is due after the first interval.
        let said = *meter.said.get_or_insert(now);
        if now.duration_since(said) < every && !(last && self.progress == ProgressMode::Json) {
            return;
        }
        meter.said = Some(now);
        match self.progress {
            ProgressMode::Json => {
                meter.last = object(run, rate);
                drop(Terminal::err().json(&meter.last));
            }
            _ => self.print_line(line(run, rate)),
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Estimates the time that is left, from the rate of the whole run. It is at least what the slowest lane needs.
///
/// A lane that is asked ten times an hour has no measured rate yet. It has a limit, and the lower of the two counts.
fn eta(run: &RunProgress, rate: f64) -> Option<Duration> {
    let (total, _) = run.total?;
    let left = total.saturating_sub(run.done());
    let overall = (rate > 0.0).then(|| left as f64 / rate);
    let needs = overall.into_iter().chain(run.lanes.iter().filter_map(lane_needs)).reduce(f64::max)?;
    Duration::try_from_secs_f64(needs).ok().filter(|_| left > 0)
}

/// Estimates the seconds that a lane needs for its waiting addresses. A host that is too slow is given up earlier.
fn lane_needs(lane: &LaneStatus) -> Option<f64> {
    let meter = Some(lane.rate).filter(|rate| *rate > 0.0);
    let rate = meter.into_iter().chain(lane.most).reduce(f64::min);
    let needs = rate.map(|rate| lane.waiting as f64 / rate);
    let given_up = match &lane.state {
        LaneState::Slow { given_up_in } => given_up_in.map(|left| left.as_secs_f64()),
        _ => None,
    };
    needs.into_iter().chain(given_up).reduce(f64::min).filter(|_| lane.waiting > 0)
}

fn head(run: &RunProgress) -> String {
    let done = HumanCount(run.done());
    match run.total {
        Some((total, true)) => format!("{done} of {}", HumanCount(total)),
        Some((total, false)) => format!("{done} of about {}", HumanCount(total)),
        None => done.to_string(),
    }
}

/// Returns the progress as one line.
fn line(run: &RunProgress, rate: f64) -> String {
    let mut line = format!("{} · {}/s", head(run), HumanCount(rate as u64));
    if let Some(eta) = eta(run, rate) {
        let _ = write!(line, " · {} left", HumanDuration(eta));
    }
    let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
    for (sub_status, count) in &run.verdicts {
        *by_status.entry(sub_status.status()).or_default() += count;
    }
    for (status, count) in by_status.iter().filter(|(_, count)| **count > 0) {
        let _ = write!(line, " · {} {status}", HumanCount(*count));
    }
    if run.postponed > 0 {
        let _ = write!(line, " · {} to be asked again", HumanCount(run.postponed));
    }
    line
}

/// Returns a progress bar, if the number of rows is known.
fn bar(run: &RunProgress) -> Option<String> {
    const WIDTH: u64 = 40;
    let (total, _) = run.total.filter(|(total, _)| *total > 0)?;
    let filled = (run.done() * WIDTH / total).min(WIDTH) as usize;
    let percent = 100.0 * run.done() as f64 / total as f64;
    Some(format!("{}{} {percent:.1} %", "█".repeat(filled), "░".repeat(WIDTH as usize - filled)))
}

/// Returns the live view: a bar, a line, and the lanes that matter.
fn text(run: &RunProgress, rate: f64, bar: Option<String>) -> String {
    let mut text = match bar {
        Some(bar) => format!("{bar}\n{}", line(run, rate)),
        None => line(run, rate),
    };
    let lanes = lanes_that_matter(&run.lanes);
    if !lanes.is_empty() {
        let _ = write!(text, "\n{:<NAME_WIDTH$} {:>10} {:>11} {:>8}", "lane", "waiting", "answered", "rate");
    }
    for lane in lanes {
        let state = match &lane.state {
            LaneState::Blocked(block) => format!("blocked: {}", block.cause),
            LaneState::Unreachable => "unreachable".into(),
            LaneState::Limited => "at its limit".into(),
            LaneState::Slow { .. } => "slow".into(),
            _ => String::new(),
        };
        // `HumanCount` ignores the width of a format.
        let (waiting, answered) =
            (HumanCount(lane.waiting).to_string(), HumanCount(lane.answered).to_string());
        let name: String = Escaped(&lane.name).to_string().chars().take(NAME_WIDTH).collect();
        let rate = format!("{:.0}/s", lane.rate);
        let _ =
            write!(text, "\n{name:<NAME_WIDTH$} {waiting:>10} {answered:>11} {rate:>8}  {}", Escaped(&state));
    }
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// Cuts a line to the columns of the live view.
fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some(_) => line.chars().take(WIDTH - 1).chain(['…']).collect(),
        None => line.to_owned(),
    }
}

/// Returns the blocked lanes first, and then those that need the most time.
fn lanes_that_matter(lanes: &[LaneStatus]) -> Vec<&LaneStatus> {
    let need = |lane: &LaneStatus| lane_needs(lane).unwrap_or(lane.waiting as f64 * 10.0);
    let blocked = |lane: &LaneStatus| matches!(lane.state, LaneState::Blocked(_));
    let mut lanes: Vec<_> = lanes.iter().filter(|lane| lane.waiting > 0 || blocked(lane)).collect();
    lanes.sort_by(|one, other| {
        blocked(other).cmp(&blocked(one)).then_with(|| need(other).total_cmp(&need(one)))
    });
    lanes.truncate(SHOWN_LANES);
    lanes
}

/// Writes a failure as an event of JSON.
pub(crate) fn print_failure(failure: &Failure) {
    drop(Terminal::err().json(&json!({ "event": "error", "text": failure.to_string() })));
}

fn object(run: &RunProgress, rate: f64) -> Map<String, Value> {
    let names = |is: fn(&LaneStatus) -> bool| -> Vec<&str> {
        run.lanes.iter().filter(|lane| is(lane)).take(MAX_NAMES).map(|lane| &*lane.name).collect()
    };
    let verdicts: BTreeMap<&str, u64> =
        run.verdicts.iter().map(|(sub_status, count)| (sub_status.as_str(), *count)).collect();
    let event = json!({
        "event": "progress",
        "done": run.done(),
        "total": run.total.map(|(total, _)| total),
        "total_is_certain": run.total.is_some_and(|(_, certain)| certain),
        "rate": (rate * 10.0).round() / 10.0,
        "eta_s": eta(run, rate).map(|eta| eta.as_secs()),
        "postponed": run.postponed,
        "verdicts": verdicts,
        "blocked": names(|lane| matches!(lane.state, LaneState::Blocked(_))),
        "sender_refused": names(|lane| lane.sender_refusals > 0),
        "harvest_defences": names(|lane| lane.harvest_defences > 0),
    });
    match event {
        Value::Object(event) => event,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_view_fits_80_columns() {
        assert_eq!(cut("short"), "short");
        let cut = cut(&"é".repeat(200));
        assert_eq!((cut.chars().count(), cut.chars().last()), (WIDTH, Some('…')));
        let verdicts =
            [SubStatus::Accepted, SubStatus::MailboxNotFound, SubStatus::CatchAll, SubStatus::Other];
        let run = RunProgress {
            verdicts: verdicts.into_iter().map(|verdict| (verdict, 123_456_789)).collect(),
            postponed: 1_234_567,
            total: Some((9_999_999_999, true)),
            lanes: Vec::new(),
        };
        let text = text(&run, 123_456.0, bar(&run));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
