//! Shows a job, or changes it.

use std::{collections::BTreeMap, io, path::Path};

use serde_json::json;
use smtp_pool::{
    job::{Job, JobProgress, JobRow, RowState, diff},
    verify::{Status, SubStatus},
};

use super::{
    args::{JobArgs, JobCommand, ReadArgs},
    files::{open, path_of, protect_job, protect_job_and_lists, write_rows},
};
use crate::{
    escape::FileName,
    exit::{ErrorContext, Exit, Failure, Result},
    output::Target,
    summary::{VerdictCounts, format_duration, verdicts},
    terminal::Terminal,
};

pub(crate) fn run(args: &JobArgs) -> Result<Exit> {
    match &args.command {
        JobCommand::Status { job, json } => status(job, *json),
        JobCommand::Results(read) => read_rows(read, |row| row.state != RowState::Nothing),
        JobCommand::Export(read) => read_rows(read, |_| true),
        JobCommand::Retry { job, status } => retry(job, status),
        JobCommand::Diff { before, after, json } => differences(before, after, *json),
    }
}

fn print(line: impl std::fmt::Display) -> Result<()> {
    written(Terminal::out().line(line))
}

fn print_json(value: &serde_json::Value) -> Result<()> {
    written(Terminal::out().json(value))
}

fn written(done: io::Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).failed_at("standard output"),
        _ => Ok(()),
    }
}

fn status(job: &Path, as_json: bool) -> Result<Exit> {
    let job = open(job)?;
    let (standing, totals) = (job.progress()?, job.totals()?);
    let mut blocked = job.lanes()?;
    blocked.retain(|lane| lane.is_blocked(&standing.verdicts));
    let about = job.info();
    if as_json {
        let verdicts: BTreeMap<&str, u64> =
            standing.verdicts.iter().map(|(sub_status, count)| (sub_status.as_str(), *count)).collect();
        let lists: Vec<_> = about.lists.iter().map(|origin| origin.path.to_string_lossy()).collect();
        print_json(&json!({
            "lists": lists,
            "kind": about.kind,
            "rows": standing.rows,
            "addresses": about.addresses,
            "invalid": about.invalid,
            "done": standing.done(),
            "postponed": standing.postponed,
            "left": unanswered_rows(&standing),
            "verdicts": verdicts,
            "runs": totals.runs,
            "seconds": totals.elapsed().as_secs_f64(),
            "blocked": blocked.iter().map(|lane| &lane.name).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    for origin in &about.lists {
        print(format_args!("list       {}", FileName(&origin.path)))?;
    }
    print(format_args!("made       {}", about.kind))?;
    print(format_args!("rows       {}, {} different addresses", standing.rows, about.addresses))?;
    print(format_args!("done       {}", standing.done()))?;
    print(format_args!("postponed  {}", standing.postponed))?;
    print(format_args!("left       {}", unanswered_rows(&standing)))?;
    if totals.runs > 0 {
        print(format_args!("runs       {}, {} together", totals.runs, format_duration(totals.elapsed())))?;
    }
    for lane in blocked {
        print(format_args!("blocked    {}", &lane.name))?;
    }
    let counts = VerdictCounts::from(&standing);
    if counts.total() > 0 {
        written(Terminal::out().lines(format_args!("\n{}", verdicts(&counts))))?;
    }
    Ok(Exit::Done)
}

/// Returns how many rows have no verdict yet.
fn unanswered_rows(standing: &JobProgress) -> u64 {
    standing.rows - standing.done() - standing.postponed
}

fn read_rows(args: &ReadArgs, wanted: impl Fn(&JobRow) -> bool) -> Result<Exit> {
    let mut target = Target::new(args.output.as_deref(), args.vocab)?.escape_formulas(args.escape_formulas);
    protect_job(&mut target.destination, &path_of(&args.job));
    let job = open(&args.job)?;
    protect_job_and_lists(&mut target.destination, &path_of(&args.job), job.info());
    target.destination.check()?;
    let statuses: Vec<Status> = args.status.iter().map(|status| (*status).into()).collect();
    let of_status = |row: &JobRow| statuses.is_empty() || statuses.contains(&row.record.status);
    write_rows(&job, &target, |row| wanted(row) && of_status(row))?;
    Ok(Exit::Done)
}

fn retry(job: &Path, wanted: &[String]) -> Result<Exit> {
    let path = path_of(job);
    let named = |name: &str| serde_json::from_value(name.into()).ok();
    let wanted: Vec<(Option<Status>, Option<SubStatus>)> = wanted
        .iter()
        .map(|name| match (named(name), serde_json::from_value(name.as_str().into()).ok()) {
            (None, None) => Err(Failure::usage(format_args!("--status {name}: there is no such verdict"))
                .hint("name a status or a sub-status of a record, as in unknown or greylisted")),
            either => Ok(either),
        })
        .collect::<Result<_>>()?;
    let rows = Job::retry(&path, |record| {
        wanted.contains(&(Some(record.status), None)) || wanted.contains(&(None, Some(record.sub_status)))
    });
    let rows = rows.map_err(|error| Failure::from(error).within(FileName(&path)))?;
    print(format_args!("{rows} rows are to be asked again; to ask, give the command that made the job"))?;
    Ok(Exit::Done)
}

fn differences(before: &Path, after: &Path, as_json: bool) -> Result<Exit> {
    let (before, after) = (open(before)?, open(after)?);
    let name = |verdict: Option<SubStatus>| verdict.map(SubStatus::as_str);
    let mut counts: BTreeMap<(Option<SubStatus>, Option<SubStatus>), u64> = BTreeMap::new();
    let mut failed = None;
    let told = diff(&before, &after, |address, was, now| {
        *counts.entry((was, now)).or_default() += 1;
        if as_json && failed.is_none() {
            let object = json!({ "address": address, "before": name(was), "after": name(now) });
            failed = print_json(&object).err();
        }
    });
    told?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if !as_json {
        let name = |verdict| name(verdict).unwrap_or("-");
        print(format_args!("{:<28} {:<28} {:>10}", "before", "after", "addresses"))?;
        for ((was, now), count) in counts {
            print(format_args!("{:<28} {:<28} {count:>10}", name(was), name(now)))?;
        }
    }
    Ok(Exit::Done)
}
