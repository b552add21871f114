//! Writes the page about a job.

use std::{io::Write, path::Path};

use super::{args::ReportArgs, facts::gather, page};
use crate::{
    exit::{ErrorContext, Exit, Result},
    job::{open, path_of, protect_job, protect_job_and_lists},
    output::Destination,
};

pub(crate) fn run(args: &ReportArgs) -> Result<Exit> {
    let path = Some(&*args.output).filter(|path| *path != Path::new("-"));
    let mut destination = Destination::new(path, page::is_page)?;
    protect_job(&mut destination, &path_of(&args.job));
    let job = open(&args.job)?;
    protect_job_and_lists(&mut destination, &path_of(&args.job), job.info());
    destination.check()?;
    let page = page::page(&gather(&job)?).failed_at("the charts")?;
    let draft = destination.create()?;
    let written = draft.writer().and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.flush()
    });
    written.failed_at(format_args!("--output {}", destination.name()))?;
    draft.finish()?;
    Ok(Exit::Done)
}
