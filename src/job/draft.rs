//! A job that is not complete yet. It has a random name until then.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use tempfile::TempPath;

use super::{
    companions::{canonical_path, check_replaceable, draft_name, remove_companions, remove_old_drafts},
    error::{IoContext, Result},
    open,
    schema::{APPLICATION_ID, CHECKSUMMED, DRAFT_ID, StoreFormat},
    sqlite::Sqlite,
};

const DOING: &str = "the job cannot be made";

/// A job that is not complete yet. Dropping it deletes the file.
#[derive(Debug)]
pub(super) struct JobDraft {
    pub(super) store: Sqlite,
    /// Dropped after the store.
    path: TempPath,
    target: PathBuf,
}

impl JobDraft {
    /// Creates a draft that is to become `target`. The caller holds the lock of the job.
    ///
    /// # Errors
    /// Fails if `target` exists and is not a job, or if no file can be made there.
    pub(super) fn new(target: &Path) -> Result<Self> {
        let target = canonical_path(target).context(DOING)?;
        check_replaceable(&target)?;
        remove_old_drafts(&target);
        let (prefix, suffix) = draft_name(&target);
        let folder = target.parent().unwrap_or(Path::new("/"));
        // Only the owner can read this file and those that SQLite makes beside it.
        let file =
            tempfile::Builder::new().prefix(&prefix).suffix(suffix).tempfile_in(folder).context(DOING)?;
        let path = file.into_temp_path();
        let connection = Connection::open(&path)?;
        let version = StoreFormat::VERSION;
        connection.execute_batch(&format!(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
             PRAGMA application_id = {DRAFT_ID}; PRAGMA user_version = {version}; BEGIN; {CHECKSUMMED} COMMIT;"
        ))?;
        open::harden(&connection)?;
        Ok(Self { store: Sqlite::new(connection, StoreFormat::Checksummed), path, target })
    }

    /// Syncs the draft and gives it its final name. Only an existing job is replaced.
    ///
    /// # Errors
    /// Fails if another file has taken the name meanwhile, or if the disk is full.
    pub(super) fn finish(self) -> Result<()> {
        let Self { store, path, target } = self;
        store
            .into_connection(|connection| connection.pragma_update(None, "application_id", APPLICATION_ID))?;
        File::open(&path).and_then(|file| file.sync_all()).context("the job cannot be written")?;
        let persisted = match check_replaceable(&target)? {
            true => {
                copy_owner(&path, &target);
                remove_companions(&target)?;
                path.persist(&target)
            }
            false => path.persist_noclobber(&target),
        };
        persisted.map_err(|error| error.error).context(DOING)?;
        // Sync the name too. Some systems cannot open a folder; the name is then not synced.
        if let Some(Ok(folder)) = target.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Gives the new job the owner of the job that it replaces, if permitted: root may work on jobs of other users.
#[cfg(unix)]
fn copy_owner(job: &Path, from: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    if let Ok(meta) = std::fs::metadata(from) {
        let _ = chown(job, Some(meta.uid()), Some(meta.gid()));
    }
}

#[cfg(not(unix))]
fn copy_owner(_: &Path, _: &Path) {}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::job::error::JobError;
    use crate::job::store::{Changes, Store};

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_job_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.job");
        drop(JobDraft::new(&target).unwrap());
        assert_eq!(files(dir.path()), [""; 0]);
        let draft = JobDraft::new(&target).unwrap();
        assert!(!target.exists());
        assert!(matches!(Sqlite::open(&draft.path, open::Access::Read), Err(JobError::Foreign(_))));
        draft.finish().unwrap();
        assert_eq!(files(dir.path()), ["a.job"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.job");
        let draft = JobDraft::new(&target).unwrap();
        fs::write(&target, "mine").unwrap();
        assert!(matches!(draft.finish(), Err(JobError::InTheWay(_))));
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        assert_eq!(files(dir.path()), ["a.job"]);
    }

    /// A killed job's log holds pages of that job only, not of its replacement.
    #[test]
    fn the_log_of_a_job_is_not_that_of_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.job");
        let named = |name: &str| Changes { values: vec![("about", name.into())], ..Changes::default() };
        let mut draft = JobDraft::new(&target).unwrap();
        draft.store.commit(&named("old")).unwrap();
        draft.finish().unwrap();
        let mut old = Sqlite::open(&target, open::Access::Write).unwrap();
        old.commit(&named("older")).unwrap();
        assert!(fs::metadata(dir.path().join("a.job-wal")).unwrap().len() > 0);
        // The state that a kill leaves.
        std::mem::forget(old);
        let mut draft = JobDraft::new(&target).unwrap();
        draft.store.commit(&named("new")).unwrap();
        draft.finish().unwrap();
        let new = Sqlite::open(&target, open::Access::Read).unwrap();
        assert_eq!(new.value("about").unwrap().as_deref(), Some("new"));
    }
}
