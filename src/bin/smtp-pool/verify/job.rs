//! A job: what is known is kept beside the output, and the output is written when all of it is.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    job::{
        Job, JobRun, OnLane, Standing,
        input::{Rows, Tracker},
    },
    verify::{LaneState, LaneStatus},
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{TICK, Tools, blocked, serve::Server};
use crate::{
    escape::FileName,
    exit::{At, Exit, Failure, Result},
    jobs::write_rows,
    output::{Target, Written},
    plan::JobPlan,
    progress::{Frame, Screen},
    stop,
    summary::{Tally, tables},
};

/// How long answers are waited for after an interruption.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(tools: Tools, plan: JobPlan, target: &Target, server: &Server) -> Result<Exit> {
    let started = Instant::now();
    let path = plan.path.clone();
    let standing = match plan.there {
        true => tokio::task::block_in_place(|| Job::open(&path)?.standing())?,
        false => make(plan, &tools.screen).await?,
    };
    let before = standing.done();
    if !tools.quiet && (before > 0 || standing.postponed > 0) {
        tools.screen.say(format_args!(
            "going on with {}: {before} of {} rows are done",
            FileName(&path),
            standing.rows
        ));
    }
    let (standing, lanes, ended) = match before == standing.rows {
        true => (standing, Vec::new(), true),
        false => work(&tools, &path, server).await?,
    };
    tools.screen.clear();
    let (screen, tally) = (&tools.screen, Tally::from(&standing));
    if !ended || standing.done() < standing.rows {
        screen.say(format_args!(
            "interrupted: {} of {} rows have their verdict, kept in {}",
            standing.done(),
            standing.rows,
            FileName(&path)
        ));
        let results = format_args!("`smtp-pool job results {}`", FileName(&path)).to_string();
        screen.say(format_args!("  the same command goes on; {results} shows them"));
        return Ok(Exit::Interrupted);
    }
    if tokio::task::block_in_place(|| export(&path, target))? == Written::Enough {
        return Ok(Exit::Done);
    }
    if !tools.quiet && tally.total() > 0 {
        let done = standing.done() - before;
        screen.say_lines(tables(&tally, done, &tools.metrics.snapshot(), started.elapsed()));
    }
    tools.say_notes(&lanes);
    Ok(blocked(&lanes, screen))
}

/// Imports the lists. Nobody has to wait for that to be interrupted: what was there before stays until it is done.
async fn make(plan: JobPlan, screen: &Screen) -> Result<Standing> {
    let JobPlan { path, sources, hints, kind, .. } = plan;
    let rows = Rows::open(sources.clone(), &hints, screen.reporter())?;
    let tracker = rows.tracker();
    let mut made = tokio::task::spawn_blocking(move || {
        Job::create(&path, &sources, rows, kind).map(|job| job.about().rows).map_err(Failure::from)
    });
    let rows = loop {
        select! {
            made = &mut made => break made.failed_at("the import")??,
            () = sleep(TICK) => screen.show(&importing(&tracker), false),
        }
    };
    match tracker.unreported() {
        0 => {}
        more => screen.say(format_args!("and {more} more rows that are no addresses")),
    }
    Ok(Standing { rows, ..Standing::default() })
}

fn importing(tracker: &Tracker) -> Frame {
    Frame { total: tracker.total(), ..Frame::default() }
}

/// Works on the job until all is done or the user has had enough, and tells which.
async fn work(tools: &Tools, path: &Path, server: &Server) -> Result<(Standing, Vec<LaneStatus>, bool)> {
    let Tools { verifier, metrics, screen, .. } = tools;
    let on_lane = lane_reporter(screen.clone(), tools.quiet);
    let at = |failure: Failure| failure.within(FileName(path));
    let mut run = tokio::task::block_in_place(|| JobRun::start(path, verifier, metrics.clone(), on_lane))
        .map_err(|error| at(error.into()))?;
    let frame = |run: &JobRun| {
        let Standing { verdicts, postponed, rows, .. } = run.standing();
        Frame { verdicts, postponed, total: Some((rows, true)), lanes: run.lanes().snapshot() }
    };
    let mut stopped = pin!(stop::requested());
    let mut given_up = None;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            ended = run.ended() => {
                ended.map_err(|error| at(error.into()))?;
                break;
            }
            () = &mut stopped => {
                if given_up.is_some() {
                    run.give_up();
                } else {
                    run.drain();
                    screen.say("stopping: answers under way are waited for; once more to stop at once");
                    given_up = Some(Instant::now() + PATIENCE);
                }
                stopped.set(stop::requested());
            }
            _ = tick.tick() => {
                let frame = frame(&run);
                screen.show(&frame, false);
                server.update(&frame);
                if given_up.is_some_and(|time| time <= Instant::now()) {
                    run.give_up();
                }
            }
        }
    }
    let last = frame(&run);
    screen.show(&last, true);
    server.update(&last);
    Ok((run.standing(), last.lanes, given_up.is_none()))
}

/// Says when a lane is blocked, and when it is not any more.
fn lane_reporter(screen: Screen, quiet: bool) -> OnLane {
    let mut blocked = HashSet::new();
    Box::new(move |lane| {
        let line = match &lane.state {
            LaneState::Blocked(block) if blocked.insert(Arc::clone(&lane.name)) => {
                format!("{}: blocked, {} ({})", lane.name, block.cause, block.reply)
            }
            LaneState::Open | LaneState::Limited if blocked.remove(&lane.name) => {
                format!("{}: not blocked any more", lane.name)
            }
            _ => return,
        };
        if !quiet {
            screen.say(line);
        }
    })
}

/// Writes the output, which is there when it is whole.
fn export(path: &Path, target: &Target) -> Result<Written> {
    let Some(output) = target.file() else { return Ok(Written::Yes) };
    let mut name = output.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    let job = Job::open(path)?;
    let written = write_rows(&job, &target.at(draft.clone()), |_| true)?;
    std::fs::rename(&draft, output).failed_at(format_args!("--output {}", FileName(output)))?;
    Ok(written)
}
