//! Shows a job, or changes it.

use std::{collections::BTreeMap, io, path::Path};

use serde_json::json;
use smtp_pool::{
    job::{Job, JobProgress, JobRow, RowState, diff, input::Source},
    verify::{Status, SubStatus},
};

use super::{
    args::{JobArgs, JobCommand, ReadArgs},
    files::{open, path_of, protect_job, protect_job_and_lists, write_rows},
};
use crate::{
    clean::{CleanRuleArgs, CleanTarget, write_clean},
    escape::FileName,
    exit::{ErrorContext, Exit, Failure, Result},
    filter::{FilterArgs, VerdictKind, selects},
    options::hints,
    output::Target,
    summary::{VerdictCounts, format_duration, verdicts},
    terminal::Terminal,
    understood,
};

pub(crate) fn run(args: &JobArgs) -> Result<Exit> {
    match &args.command {
        JobCommand::Status { job, json } => status(job, *json),
        JobCommand::Results(read) => read_rows(read, |row| row.state != RowState::Nothing),
        JobCommand::Export(read) => read_rows(read, |_| true),
        JobCommand::Retry { job, filter } => retry(job, filter),
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
            "understood": understood::of_job(&job),
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
    for list in understood::of_job(&job) {
        print(format_args!("read as    {}", list.line()))?;
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
    if args.clean {
        return clean(args);
    }
    refuse_without_clean(args)?;
    let mut target = Target::new(args.output.as_deref(), &args.records)?;
    protect_job(&mut target.destination, &path_of(&args.job));
    let job = open(&args.job)?;
    protect_job_and_lists(&mut target.destination, &path_of(&args.job), job.info());
    target.destination.check()?;
    let selects = selects(&args.filter);
    write_rows(&job, &target, |row| wanted(row) && selects(&row.record))?;
    Ok(Exit::Done)
}

/// Refuses options that only `--clean` uses.
fn refuse_without_clean(args: &ReadArgs) -> Result<()> {
    let CleanRuleArgs { keep, unique, split, replace } = &args.rule;
    for (is_given, flag) in [
        (!keep.is_empty(), "--keep"),
        (*unique, "--unique"),
        (split.is_some(), "--split"),
        (*replace, "--replace"),
        (args.lists.format.is_some(), "--format"),
        (!args.lists.column.is_empty(), "--column"),
        (args.lists.delimiter.is_some(), "--delimiter"),
        (args.lists.header.is_some(), "--header"),
        (args.lists.skip > 0, "--skip"),
        (args.lists.encoding.is_some(), "--encoding"),
        (args.lists.sheet.is_some(), "--sheet"),
    ] {
        if is_given {
            return Err(Failure::usage(format_args!("{flag}: only --clean has this option"))
                .hint("add --clean to write the list itself, or leave the option out"));
        }
    }
    Ok(())
}

/// Writes the list of the job with the rows to keep.
fn clean(args: &ReadArgs) -> Result<Exit> {
    let path = path_of(&args.job);
    let job = open(&args.job)?;
    let [list] = &job.info().lists[..] else {
        return Err(Failure::usage("--clean: the job was made from several lists, and clean writes one"));
    };
    // The list may have moved with its name, or lie where it was found first.
    let found = list.identity.as_ref().map(|found| &found.path);
    let list = [Some(&list.path), found].into_iter().flatten().find(|path| path.is_file());
    let list = list.ok_or_else(|| {
        Failure::usage(format_args!("{}: this list is gone", FileName(&job.info().lists[0].path)))
            .hint("--clean copies the rows of the list; put it back, or write records without --clean")
    })?;
    job.check(&[Source::File(list.clone())], &job.info().kind)?;
    let mut target = CleanTarget::new(&args.rule, args.output.as_deref(), list)?.select(&args.filter);
    for destination in target.destinations() {
        protect_job_and_lists(destination, &path, job.info());
    }
    target.check()?;
    write_clean(&job, list, &hints(&args.lists), &target)?;
    Ok(Exit::Done)
}

fn retry(job: &Path, filter: &FilterArgs) -> Result<Exit> {
    let path = path_of(job);
    let mut filter = filter.clone();
    if filter.status.is_empty() {
        filter.status.push(VerdictKind::Status(Status::Unknown));
    }
    let rows = Job::retry(&path, selects(&filter));
    let rows = rows.map_err(|error| Failure::from(error).within(FileName(&path)))?;
    let rows = match rows {
        1 => "1 row is".into(),
        rows => format!("{rows} rows are"),
    };
    print(format_args!("{rows} to be asked again; to ask, give the command that made the job"))?;
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
