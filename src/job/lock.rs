//! The right to work on a job, which one process at a time has.
//!
//! A file of its own is locked, since SQLite has locks of another kind on the job.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::error::{Doing, JobError, Result};

/// Given back when dropped, also by the death of the process.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    pub(super) fn of(job: &Path) -> Result<Self> {
        let mut path = job.as_os_str().to_owned();
        path.push("-lock");
        let path = PathBuf::from(path);
        loop {
            let options = || File::options().create(true).truncate(false).write(true).open(&path);
            let file = options().doing("the job cannot be locked")?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(JobError::Busy),
                Err(TryLockError::Error(error)) => return Err(error).doing("the job cannot be locked"),
            }
            // Whoever had it before may have taken the file away meanwhile.
            if is_at(&file, &path) {
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    inode(file.metadata()).is_some_and(|here| inode(fs::metadata(path)) == Some(here))
}

/// Elsewhere an open file cannot be taken away.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("a.job");
        let lock = Lock::of(&job).unwrap();
        assert!(matches!(Lock::of(&job), Err(JobError::Busy)));
        drop(lock);
        assert!(!dir.path().join("a.job-lock").exists());
        Lock::of(&job).unwrap();
    }
}
