//! What is to be seen while it runs: a live view on a terminal, lines where there is none, or lines of JSON.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use smtp_pool::{
    job::input::Report,
    verify::{LaneState, LaneStatus, Status, SubStatus},
};

use crate::{escape::Escaped, terminal::Terminal};

/// How often a line is said where no line can move.
const LINES: Duration = Duration::from_secs(10);
const JSON: Duration = Duration::from_secs(1);
/// Lanes that are shown.
const LANES: usize = 6;
/// Lanes that each list of an object names.
const NAMES: usize = 100;
/// Over how long the rate is taken.
const RATE: Duration = Duration::from_secs(10);

/// What of it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    None,
    ForPeople,
    Json,
}

/// How it stands at a moment.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) verdicts: BTreeMap<SubStatus, u64>,
    pub(crate) postponed: u64,
    /// How many rows there are, and whether that is certain.
    pub(crate) total: Option<(u64, bool)>,
    pub(crate) lanes: Vec<LaneStatus>,
}

impl Frame {
    fn done(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

/// Standard error, shared by the progress and everything else that is said. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    progress: Progress,
    bar: ProgressBar,
    pace: Arc<Mutex<Pace>>,
}

/// How fast it goes, and when something was last said.
#[derive(Debug, Default)]
struct Pace {
    /// The oldest first, over [`RATE`].
    marks: std::collections::VecDeque<(Instant, u64)>,
    said: Option<Instant>,
}

impl Pace {
    fn rate(&mut self, now: Instant, done: u64) -> f64 {
        self.marks.push_back((now, done));
        while self.marks.len() > 2 && now.duration_since(self.marks[1].0) >= RATE {
            self.marks.pop_front();
        }
        let (then, before) = self.marks[0];
        done.saturating_sub(before) as f64 / now.duration_since(then).as_secs_f64().max(0.001)
    }
}

impl Screen {
    pub(crate) fn new(progress: Progress) -> Self {
        let moves = progress == Progress::ForPeople && io::stderr().is_terminal();
        let target = if moves { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed}  {msg}") {
            bar.set_style(style);
        }
        Self { progress, bar, pace: Arc::default() }
    }

    /// Writes one line above the progress, whatever is in it.
    pub(crate) fn say(&self, line: impl fmt::Display) {
        // Where standard error is gone there is nobody left to tell.
        self.bar.suspend(|| drop(Terminal::err().line(line)));
    }

    /// Writes text of several lines that were made here, as tables.
    pub(crate) fn say_lines(&self, text: impl fmt::Display) {
        self.bar.suspend(|| drop(Terminal::err().lines(text)));
    }

    /// Says what is wrong with rows.
    pub(crate) fn reporter(&self) -> Report {
        let screen = self.clone();
        Box::new(move |source, line, fault| screen.say(format_args!("{source}:{line}: {fault}")))
    }

    /// Shows how it stands; `last` if it will not change any more.
    pub(crate) fn show(&self, frame: &Frame, last: bool) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rate = pace.rate(now, frame.done());
        let every = match self.progress {
            Progress::None => return,
            Progress::Json => JSON,
            Progress::ForPeople if self.bar.is_hidden() => LINES,
            Progress::ForPeople => {
                self.bar.set_message(text(frame, rate, bar(frame)));
                return;
            }
        };
        // The first line is due after the first interval.
        let said = *pace.said.get_or_insert(now);
        if now.duration_since(said) < every && !(last && self.progress == Progress::Json) {
            return;
        }
        pace.said = Some(now);
        match self.progress {
            Progress::Json => self.bar.suspend(|| drop(Terminal::err().json(&object(frame, rate)))),
            _ => self.say(line(frame, rate)),
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How long it will take: by the pace of all, and no less than the slowest lane needs for what it has, at its pace or, if
/// that is less, at what the limits of its provider allow in the long run. There is no pace yet at a provider that is to
/// be asked ten times an hour; there is a limit. A host that is too slow needs no longer than until it is given up.
fn eta(frame: &Frame, rate: f64) -> Option<Duration> {
    let (total, _) = frame.total?;
    let left = total.saturating_sub(frame.done());
    let overall = (rate > 0.0).then(|| left as f64 / rate);
    let needs = overall.into_iter().chain(frame.lanes.iter().filter_map(lane_needs)).reduce(f64::max)?;
    Duration::try_from_secs_f64(needs).ok().filter(|_| left > 0)
}

/// The seconds that a lane needs for what waits, as far as can be told. A host that is too slow is given up before.
fn lane_needs(lane: &LaneStatus) -> Option<f64> {
    let pace = Some(lane.rate).filter(|rate| *rate > 0.0);
    let rate = pace.into_iter().chain(lane.most).reduce(f64::min);
    let needs = rate.map(|rate| lane.waiting as f64 / rate);
    let given_up = match &lane.state {
        LaneState::Slow { given_up_in } => given_up_in.map(|left| left.as_secs_f64()),
        _ => None,
    };
    needs.into_iter().chain(given_up).reduce(f64::min).filter(|_| lane.waiting > 0)
}

fn head(frame: &Frame) -> String {
    let done = HumanCount(frame.done());
    match frame.total {
        Some((total, true)) => format!("{done} of {}", HumanCount(total)),
        Some((total, false)) => format!("{done} of about {}", HumanCount(total)),
        None => done.to_string(),
    }
}

/// One line.
fn line(frame: &Frame, rate: f64) -> String {
    let mut line = format!("{} · {}/s", head(frame), HumanCount(rate as u64));
    if let Some(eta) = eta(frame, rate) {
        let _ = write!(line, " · {} left", HumanDuration(eta));
    }
    let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
    for (sub_status, count) in &frame.verdicts {
        *by_status.entry(sub_status.status()).or_default() += count;
    }
    for (status, count) in by_status.iter().filter(|(_, count)| **count > 0) {
        let _ = write!(line, " · {} {status}", HumanCount(*count));
    }
    if frame.postponed > 0 {
        let _ = write!(line, " · {} to be asked again", HumanCount(frame.postponed));
    }
    line
}

/// A bar, if there is something to measure it by.
fn bar(frame: &Frame) -> Option<String> {
    const WIDTH: u64 = 40;
    let (total, _) = frame.total.filter(|(total, _)| *total > 0)?;
    let filled = (frame.done() * WIDTH / total).min(WIDTH) as usize;
    let percent = 100.0 * frame.done() as f64 / total as f64;
    Some(format!("{}{} {percent:.1} %", "█".repeat(filled), "░".repeat(WIDTH as usize - filled)))
}

/// The whole view: a bar, a line, and the lanes that matter.
fn text(frame: &Frame, rate: f64, bar: Option<String>) -> String {
    let mut text = match bar {
        Some(bar) => format!("{bar}\n{}", line(frame, rate)),
        None => line(frame, rate),
    };
    let lanes = lanes_that_matter(&frame.lanes);
    if !lanes.is_empty() {
        let _ = write!(text, "\n{:<32} {:>9} {:>9} {:>8}", "lane", "waiting", "answered", "rate");
    }
    for lane in lanes {
        let state = match &lane.state {
            LaneState::Blocked(block) => format!("blocked: {}", block.cause),
            LaneState::Unreachable => "unreachable".into(),
            LaneState::Limited => "at its limit".into(),
            LaneState::Slow { .. } => "slow".into(),
            _ => String::new(),
        };
        let (waiting, answered) = (HumanCount(lane.waiting), HumanCount(lane.answered));
        let name: String = Escaped(&lane.name).to_string().chars().take(32).collect();
        let rate = format!("{:.0}/s", lane.rate);
        let _ = write!(text, "\n{name:<32} {waiting:>9} {answered:>9} {rate:>8}  {}", Escaped(&state));
    }
    text
}

/// The blocked first, then those that need the longest for what they have.
fn lanes_that_matter(lanes: &[LaneStatus]) -> Vec<&LaneStatus> {
    let need = |lane: &LaneStatus| lane_needs(lane).unwrap_or(lane.waiting as f64 * 10.0);
    let blocked = |lane: &LaneStatus| matches!(lane.state, LaneState::Blocked(_));
    let mut lanes: Vec<_> = lanes.iter().filter(|lane| lane.waiting > 0 || blocked(lane)).collect();
    lanes.sort_by(|one, other| {
        blocked(other).cmp(&blocked(one)).then_with(|| need(other).total_cmp(&need(one)))
    });
    lanes.truncate(LANES);
    lanes
}

fn object(frame: &Frame, rate: f64) -> serde_json::Value {
    let names = |is: fn(&LaneStatus) -> bool| -> Vec<&str> {
        frame.lanes.iter().filter(|lane| is(lane)).take(NAMES).map(|lane| &*lane.name).collect()
    };
    let verdicts: BTreeMap<&str, u64> =
        frame.verdicts.iter().map(|(sub_status, count)| (sub_status.as_str(), *count)).collect();
    json!({
        "done": frame.done(),
        "total": frame.total.map(|(total, _)| total),
        "total_is_certain": frame.total.is_some_and(|(_, certain)| certain),
        "rate": (rate * 10.0).round() / 10.0,
        "eta_s": eta(frame, rate).map(|eta| eta.as_secs()),
        "postponed": frame.postponed,
        "verdicts": verdicts,
        "blocked": names(|lane| matches!(lane.state, LaneState::Blocked(_))),
        "sender_refused": names(|lane| lane.sender_refusals > 0),
        "harvest_defences": names(|lane| lane.harvest_defences > 0),
    })
}
