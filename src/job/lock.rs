//! The lock on a job, which one process at a time holds.
//!
//! The lock is on a separate file, because SQLite uses locks of another kind on the job. The file holds the process
//! ID.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    process,
};

use super::{
    companions::{canonical_path, companion_path, open_plain},
    error::{IoContext, JobError, Result},
};

/// The text before the process ID.
const NAME: &str = "smtp-pool ";
/// How often to try again if another process deletes the file before it is locked.
const TRIES: u32 = 100;
const DOING: &str = "the job cannot be locked";

/// A held lock. It is released when dropped, and when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    pub(super) fn of(job: &Path) -> Result<Self> {
        let path = companion_path(&canonical_path(job).context(DOING)?, "-lock");
        for _ in 0..TRIES {
            let file = match open_plain(
                File::options().create(true).truncate(false).read(true).write(true),
                &path,
            ) {
                Ok(Some(file)) => file,
                Ok(None) => return Err(JobError::InTheWay(path)),
                Err(error) => return Err(error).context(DOING),
            };
            let Some(holder) = holder(&file).context(DOING)? else { return Err(JobError::InTheWay(path)) };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(JobError::Busy(holder)),
                Err(TryLockError::Error(error)) => return Err(error).context(DOING),
            }
            // The previous holder may have deleted the file meanwhile.
            if is_at(&file, &path) {
                sign(&file).context(DOING)?;
                return Ok(Self { path, file });
            }
        }
        Err(JobError::Busy(None))
    }

    /// Returns the ID of the process that works on a job, if one does.
    pub(super) fn holder(job: &Path) -> Option<u32> {
        let file =
            open_plain(File::options().read(true), &companion_path(&canonical_path(job).ok()?, "-lock"))
                .ok()??;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
            .then(|| holder(&file).ok()??)
            .flatten()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// Returns the process ID in a lock file. None if the file is not a lock. Earlier versions wrote an empty file, which
/// gives `Some(None)`.
fn holder(file: &File) -> io::Result<Option<Option<u32>>> {
    let mut text = String::new();
    if file.take(64).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let pid = text.strip_prefix(NAME).and_then(|rest| rest.strip_suffix('\n')).map(str::parse);
    Ok(match pid {
        _ if text.is_empty() => Some(None),
        Some(Ok(pid)) => Some(Some(pid)),
        _ => None,
    })
}

fn sign(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{NAME}{}", process::id())
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    inode(file.metadata()).is_some_and(|here| inode(fs::symlink_metadata(path)) == Some(here))
}

/// Other systems do not let an open file be deleted.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("a.job");
        let lock = Lock::of(&job).unwrap();
        assert!(matches!(Lock::of(&job), Err(JobError::Busy(Some(pid))) if pid == process::id()));
        assert_eq!(Lock::holder(&job), Some(process::id()));
        drop(lock);
        assert!(!dir.path().join("a.job-lock").exists());
        assert_eq!(Lock::holder(&job), None);
        // A kill leaves such a file: an earlier version an empty one, this version one with an ID.
        for left in ["", "smtp-pool 1\n"] {
            fs::write(dir.path().join("a.job-lock"), left).unwrap();
            drop(Lock::of(&job).unwrap());
        }
    }

    #[test]
    fn another_file_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (job, path) = (dir.path().join("a.job"), dir.path().join("a.job-lock"));
        for text in ["ann@example.com\n", "smtp-pool \n", "smtp-pool x\n", "smtp-pool 1"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Lock::of(&job), Err(JobError::InTheWay(it)) if it == path), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_a_plain_file_and_opens_at_once() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (job, path) = (dir.path().join("a.job"), dir.path().join("a.job-lock"));
        let precious = dir.path().join("precious");
        fs::write(&precious, "").unwrap();
        symlink(&precious, &path).unwrap();
        assert!(matches!(Lock::of(&job), Err(JobError::InTheWay(_))));
        fs::remove_file(&path).unwrap();
        // Opening a FIFO for writing would wait for a reader without end.
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(Lock::of(&job), Err(JobError::InTheWay(_))));
        assert_eq!(Lock::holder(&job), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Lock::of(&job).is_err());
        fs::remove_dir(&path).unwrap();
        let lock = Lock::of(&job).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(lock);
        assert_eq!(fs::read_to_string(precious).unwrap(), "");
    }
}
