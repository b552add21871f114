//! Writes the page about a job.

use std::{io::Write, path::Path};

use super::{args::ReportArgs, facts::gather, page};
use crate::{
    exit::{At, Exit, Result},
    job::{keep, keep_job, open, path_of},
    output::Place,
};

pub(crate) fn run(args: &ReportArgs) -> Result<Exit> {
    let path = Some(&*args.output).filter(|path| *path != Path::new("-"));
    let mut place = Place::new(path, page::is_page)?;
    keep_job(&mut place, &path_of(&args.job));
    let job = open(&args.job)?;
    keep(&mut place, &path_of(&args.job), job.about());
    place.check()?;
    let page = page::page(&gather(&job)?).failed_at("the charts")?;
    let draft = place.create()?;
    let written = draft.writer().and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.flush()
    });
    written.failed_at(format_args!("--output {}", place.name()))?;
    draft.finish()?;
    Ok(Exit::Done)
}
