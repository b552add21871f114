//! Runs a job. It keeps the verdicts beside the output, and writes the output when all rows have one.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::HumanCount;
use smtp_pool::{
    job::{
        Job, JobProgress, JobRun, LaneCallback, LaneSummary, MatchedBy,
        input::{Rows, Source, Tracker},
    },
    verify::{LaneState, SubStatus},
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    context::{RunContext, TICK, report_refused, report_timeouts},
    metrics_server::MetricsServer,
    plan::JobPlan,
};
use crate::{
    escape::FileName,
    exit::{ErrorContext, Exit, Failure, Result},
    output::Written,
    progress::{RunProgress, Screen},
    stop,
    summary::{LaneRefusals, VerdictCounts, format_duration, tables},
    understood::{self, UnderstoodList},
};

/// The maximum time to wait for answers after an interruption.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn run(
    context: RunContext,
    mut plan: JobPlan,
    write: impl FnOnce(&Job) -> Result<Written>,
    server: &MetricsServer,
) -> Result<Exit> {
    let started = Instant::now();
    // The folder is deleted at the end of the run.
    let scratch = plan.scratch.take();
    let (path, known_by, sources) = (plan.path.clone(), plan.known_by, plan.sources.clone());
    let (standing, lists) = match known_by {
        Some(_) => tokio::task::block_in_place(|| -> Result<_> {
            let job = Job::open(&path)?;
            Ok((job.progress()?, understood::of_job(&job)))
        })?,
        None => create_job(plan, &context.screen).await?,
    };
    understood::print(&lists, &context.screen, context.quiet);
    let before = standing.done();
    if !context.quiet && (before > 0 || standing.postponed > 0) {
        context.screen.print_line(format_args!(
            "continuing {}: {before} of {} rows are done",
            FileName(&path),
            standing.rows
        ));
    }
    let (standing, ended) = match before == standing.rows {
        true => (standing, true),
        false => {
            if let Some(known_by) = known_by {
                record_lists(known_by, &path, &sources, &context)?;
            }
            work(&context, &path, server).await?
        }
    };
    context.screen.clear();
    let (screen, counts) = (&context.screen, VerdictCounts::from(&standing));
    if ended && standing.done() < standing.rows {
        let left = standing.rows - standing.done();
        return Err(Failure::failed(format_args!(
            "{}: {left} rows have no verdict, and the job has no record that they are to be asked",
            FileName(&path)
        ))
        .hint("the job is damaged; save its verdicts with `smtp-pool job export`, then start again with --restart"));
    }
    if !ended && scratch.is_some() {
        screen.print_line(
            "interrupted: nothing is written; with an output that is a file, a job keeps the verdicts",
        );
        return Ok(Exit::Interrupted);
    }
    if !ended {
        screen.print_line(format_args!(
            "interrupted: {} of {} rows have a verdict, which {} keeps",
            standing.done(),
            standing.rows,
            FileName(&path)
        ));
        let results = format_args!("`smtp-pool job results {}`", FileName(&path)).to_string();
        screen.print_line(format_args!(
            "  to continue, give the same command again; {results} shows the verdicts"
        ));
        return Ok(Exit::Interrupted);
    }
    let (written, lanes, totals) = tokio::task::block_in_place(|| -> Result<_> {
        let job = Job::open(&path)?;
        Ok((write(&job)?, job.lanes()?, job.totals()?))
    })?;
    if written == Written::ReaderClosed {
        return Ok(Exit::Done);
    }
    if !context.quiet && counts.total() > 0 {
        let done = standing.done() - before;
        screen.print_tables(tables(&counts, done, &context.metrics.snapshot(), started.elapsed()));
        if totals.runs > 1 {
            screen.print_line(format_args!(
                "the whole job: {} rows in {} runs of {} together",
                HumanCount(standing.done()),
                HumanCount(totals.runs),
                format_duration(totals.elapsed())
            ));
        }
        report_timeouts(&counts, screen);
    }
    context.print_refusal_notes(lanes.iter().map(|lane| LaneRefusals {
        lane: &lane.name,
        sender_refusals: lane.sender_refusals,
        harvest_defences: lane.harvest_defences,
    }));
    let exit = report_blocked(&lanes, &standing.verdicts, screen);
    Ok(context.check_gate(&counts, exit))
}

/// Prints the providers that refused us in any run of the job, unless all addresses that they refused were asked since.
fn report_blocked(lanes: &[LaneSummary], verdicts: &BTreeMap<SubStatus, u64>, screen: &Screen) -> Exit {
    let blocked = lanes.iter().filter(|lane| lane.is_blocked(verdicts));
    report_refused(blocked.filter_map(|lane| Some((lane.name.as_str(), lane.blocked.clone()?))), screen)
}

/// Records the new places of the lists since the last run. Their content is unchanged.
fn record_lists(known_by: MatchedBy, path: &Path, sources: &[Source], context: &RunContext) -> Result<()> {
    if known_by == MatchedBy::Identity {
        return Ok(());
    }
    if known_by == MatchedBy::Time && !context.quiet {
        context.screen.print_line(format_args!(
            "{} was made by an earlier version, which recognized its list by size and time. Both are \
             unchanged. From now on the job recognizes the list by its content",
            FileName(path)
        ));
    }
    let remembered = tokio::task::block_in_place(|| Job::remember(path, sources));
    remembered.map_err(|error| Failure::from(error).within(FileName(path)))
}

/// Imports the lists. This can be interrupted at any time: an earlier job stays until the import is complete.
async fn create_job(plan: JobPlan, screen: &Screen) -> Result<(JobProgress, Vec<UnderstoodList>)> {
    let JobPlan { path, sources, hints, kind, .. } = plan;
    let rows = Rows::open(sources.clone(), &hints, screen.reporter())?;
    let tracker = rows.tracker();
    let mut made = tokio::task::spawn_blocking(move || {
        let made = Job::create(&path, &sources, rows, kind).map_err(Failure::from);
        made.map(|job| (job.info().rows, understood::of_job(&job)))
    });
    let (rows, lists) = loop {
        select! {
            made = &mut made => break made.failed_at("the import")??,
            () = sleep(TICK) => screen.show(&import_progress(&tracker), false),
        }
    };
    match tracker.unreported() {
        0 => {}
        1 => screen.print_line("and 1 more row that is no address"),
        more => screen.print_line(format_args!("and {more} more rows that are no addresses")),
    }
    let mut progress = JobProgress::default();
    progress.rows = rows;
    Ok((progress, lists))
}

fn import_progress(tracker: &Tracker) -> RunProgress {
    RunProgress { total: tracker.total(), ..RunProgress::default() }
}

/// Runs the job until all rows are done or the user stops it. Returns whether all rows are done.
async fn work(context: &RunContext, path: &Path, server: &MetricsServer) -> Result<(JobProgress, bool)> {
    let RunContext { verifier, metrics, screen, .. } = context;
    let on_lane = lane_reporter(screen.clone(), context.quiet);
    let at = |failure: Failure| failure.within(FileName(path));
    let mut run = tokio::task::block_in_place(|| JobRun::start(path, verifier, metrics.clone(), on_lane))
        .map_err(|error| at(error.into()))?;
    let progress = |run: &JobRun| {
        let JobProgress { verdicts, postponed, rows, .. } = run.progress();
        RunProgress { verdicts, postponed, total: Some((rows, true)), lanes: run.lanes().snapshot() }
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
                    screen.print_line("stopping: waiting for answers; give Ctrl-C again to stop at once");
                    given_up = Some(Instant::now() + DRAIN_TIMEOUT);
                }
                stopped.set(stop::requested());
            }
            _ = tick.tick() => {
                let progress = progress(&run);
                screen.show(&progress, false);
                server.update(&progress);
                if given_up.is_some_and(|time| time <= Instant::now()) {
                    run.give_up();
                }
            }
        }
    }
    let last = progress(&run);
    screen.show(&last, true);
    server.update(&last);
    Ok((run.progress(), given_up.is_none()))
}

/// Returns a function that prints when a lane becomes blocked, and when the block ends.
fn lane_reporter(screen: Screen, quiet: bool) -> LaneCallback {
    let mut blocked = HashSet::new();
    Box::new(move |lane| {
        let line = match &lane.state {
            LaneState::Blocked(block) if blocked.insert(Arc::clone(&lane.name)) => {
                format!("{}: blocked, {} ({})", lane.name, block.cause, block.reply)
            }
            LaneState::Open | LaneState::Limited if blocked.remove(&lane.name) => {
                format!("{}: no longer blocked", lane.name)
            }
            _ => return,
        };
        if !quiet {
            screen.print_line(line);
        }
    })
}
