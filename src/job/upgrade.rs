//! Upgrades a job of version 1 to the current version, before anything is written to it.
//!
//! The upgrade writes a copy, so that a full disk or a kill leaves the old job unchanged.

use std::{mem, path::Path};

use super::{
    draft::JobDraft,
    error::{JobError, Result},
    history::History,
    lock::Lock,
    open::Access,
    schema::StoreFormat,
    sqlite::Sqlite,
    store::{Changes, Chunk, Postponed, ResultBatch, Segment, Store},
};

/// The number of postponed addresses copied at once.
const BATCH_ROWS: u32 = 10_000;
/// Octets of results after which a copy step commits, 8 MiB.
const OCTETS: usize = 8 << 20;

/// Upgrades a job of version 1, and leaves others unchanged. `_lock` shows that the caller holds the lock of the job.
///
/// # Errors
/// Fails if the job cannot be read, if another process reads it, or if the disk has no room for the copy.
pub(super) fn upgrade(path: &Path, _lock: &Lock) -> Result<()> {
    let old = Sqlite::open(path, Access::Read)?;
    if old.format() == StoreFormat::Checksummed {
        return Ok(());
    }
    // Open it again, with permission to move its log into it.
    drop(old);
    let old = Sqlite::open(path, Access::Write)?;
    old.check_pages()?;
    let mut draft = JobDraft::new(path)?;
    copy(&old, &mut draft.store)?;
    // This deletes the log, which SQLite would otherwise apply to the new job.
    old.into_connection(|old| {
        old.busy_timeout(std::time::Duration::from_secs(10))?;
        old.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0)).map(drop)
    })?;
    draft.finish()
}

fn copy(old: &Sqlite, new: &mut Sqlite) -> Result<()> {
    let repeats = old.repeats_by_segment()?;
    for span in old.spans()? {
        let repeats = repeats.get(&span.segment).cloned().unwrap_or_default();
        new.add(&Segment { span, rows: old.rows(span.segment)?, repeats }, &[])?;
        let (mut batches, mut octets) = (Vec::new(), 0);
        old.results(span.segment, &mut |results| {
            octets += results.len();
            batches.push(ResultBatch { segment: span.segment, count: 0, results: results.to_vec() });
            if octets >= OCTETS {
                octets = 0;
                new.commit(&Changes { batches: mem::take(&mut batches), ..Changes::default() })?;
            }
            Ok(())
        })?;
        new.commit(&Changes { batches, ..Changes::default() })?;
    }
    for head in old.chunks(0)? {
        let Some(addresses) = old.addresses(head.id)? else { continue };
        let chunk =
            Chunk { id: head.id, segment: head.segment, domain: head.domain, count: head.count, addresses };
        let touched = if head.touched { vec![chunk.id] } else { Vec::new() };
        new.commit(&Changes { chunks: vec![chunk], touched, ..Changes::default() })?;
    }
    let mut after = (i64::MIN, 0);
    loop {
        let postponed: Vec<Postponed> = old.due(i64::MAX, after, BATCH_ROWS)?;
        let Some(last) = postponed.last() else { break };
        after = (last.due, last.row);
        new.commit(&Changes { postponed, ..Changes::default() })?;
    }
    let about = old.value("about")?.ok_or(JobError::Damaged)?;
    let values = vec![
        ("about", about),
        ("chunks", old.next_chunk()?.to_string()),
        (History::NAME, History::of(old)?.text()?),
    ];
    let catch_all = old.catch_all()?.into_iter().map(|(domain, answer)| (domain.into(), answer)).collect();
    new.commit(&Changes { catch_all, values, ..Changes::default() })
}
