//! The files beside a job, and checks that they belong to it.
//!
//! A job is one file. During writes, SQLite keeps a log and its index beside the job (`-wal`, `-shm`). A run keeps
//! its lock there (`-lock`). SQLite empties and deletes any file with such a name. So each one is checked first, and
//! a file of another origin is never touched.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{
    error::{IoContext, JobError, Result},
    schema::{APPLICATION_ID, DRAFT_ID},
};

/// Suffixes of the files that SQLite may keep beside a job.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The suffix of a job that is not complete yet.
const DRAFT_SUFFIX: &str = ".smtp-pool";
/// The index of a log grows in blocks of this many octets, even if the disk is full before it has its size.
const INDEX_BLOCK: u64 = 4_096;

/// Returns the path of a companion.
pub(super) fn companion_path(job: &Path, suffix: &str) -> PathBuf {
    let mut path = job.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the path of a job without symbolic links. The job need not exist. So all names of a job lead to one lock
/// and one log.
///
/// # Errors
/// Fails if the folder does not exist, or if a symbolic link is broken.
pub(super) fn canonical_path(job: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(job).is_ok() {
        return job.canonicalize();
    }
    let name = job.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let folder = job.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(folder.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

/// Opens a regular file without following a symbolic link and without blocking. A new file is readable by its owner
/// only. Returns None if the path is not a regular file.
pub(super) fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    }
    let no_file = |meta: fs::Metadata| !meta.is_file();
    match options.open(path) {
        Ok(file) if no_file(file.metadata()?) => Ok(None),
        Ok(file) => Ok(Some(file)),
        Err(error) => match fs::symlink_metadata(path).is_ok_and(no_file) {
            true => Ok(None),
            false => Err(error),
        },
    }
}

/// The access that this process has to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) read: bool,
    /// Permission to write the job, and to make and delete files beside it.
    pub(super) write: bool,
}

impl Rights {
    pub(super) fn to(job: &Path) -> Self {
        let folder = job.parent().unwrap_or(Path::new("/"));
        Self { read: may(job, Right::Read), write: may(job, Right::Write) && may(folder, Right::Write) }
    }
}

/// Returns true if this process may read a file.
pub(super) fn may_read(path: &Path) -> bool {
    may(path, Right::Read)
}

/// An access right of this process.
enum Right {
    Read,
    Write,
}

/// Checks the permission without opening the file. Closing it would release the locks that SQLite holds on it.
#[cfg(unix)]
fn may(path: &Path, right: Right) -> bool {
    use rustix::{
        fs::{Access, AtFlags, CWD, accessat},
        io::Errno,
    };
    let access = match right {
        Right::Read => Access::READ_OK,
        Right::Write => Access::WRITE_OK,
    };
    !matches!(accessat(CWD, path, access, AtFlags::empty()), Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

#[cfg(not(unix))]
fn may(path: &Path, right: Right) -> bool {
    match right {
        Right::Read => true,
        Right::Write => fs::metadata(path).is_ok_and(|meta| !meta.permissions().readonly()),
    }
}

/// Returns true if the job has a log that is not empty.
pub(super) fn has_log(job: &Path) -> bool {
    fs::symlink_metadata(companion_path(job, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

/// Checks that each file with the name of a companion is one.
///
/// # Errors
/// Fails with [`InTheWay`](JobError::InTheWay) if a file is something else, which SQLite would destroy.
pub(super) fn check_companions(job: &Path) -> Result<()> {
    for suffix in COMPANIONS {
        let path = companion_path(job, suffix);
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let is_ours = meta.is_file()
            && match suffix {
                // Do not open it: closing it would release the locks of SQLite.
                "-shm" => meta.len().is_multiple_of(INDEX_BLOCK),
                // A log may begin with zeros: its end is being written, or its start was not on the disk at a power
                // failure.
                "-wal" => {
                    begins_with(&path, &[&[0x37, 0x7f, 0x06, 0x82], &[0x37, 0x7f, 0x06, 0x83], &[0; 4]])
                }
                _ => begins_with(&path, &[&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7], &[0; 8]]),
            };
        if !is_ours {
            return Err(JobError::InTheWay(path));
        }
    }
    Ok(())
}

/// Returns true if a file is empty, begins with one of `heads`, or cannot be read. SQLite then reports the read
/// error.
fn begins_with(path: &Path, heads: &[&[u8]]) -> bool {
    let mut found = [0; 8];
    match head(path, &mut found) {
        Ok(0) | Err(_) => true,
        Ok(len) => heads.iter().any(|head| found[..len].starts_with(head)),
    }
}

fn head(path: &Path, into: &mut [u8]) -> io::Result<usize> {
    let Some(file) = open_plain(File::options().read(true), path)? else { return Ok(0) };
    let mut found = Vec::new();
    file.take(into.len() as u64).read_to_end(&mut found)?;
    into[..found.len()].copy_from_slice(&found);
    Ok(found.len())
}

/// Returns true if `path` holds a job, which a new one may replace. It must not be open in this process.
///
/// # Errors
/// Fails with [`InTheWay`](JobError::InTheWay) if something else is there.
pub(super) fn check_replaceable(path: &Path) -> Result<bool> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // SQLite would apply a log without its job to the new job.
            let left = COMPANIONS.map(|suffix| companion_path(path, suffix)).into_iter();
            return match left.into_iter().find(|path| fs::symlink_metadata(path).is_ok()) {
                Some(left) => Err(JobError::InTheWay(left)),
                None => Ok(false),
            };
        }
        Err(error) => return Err(error).context("the job cannot be made"),
    };
    let is_job = meta.is_file() && (meta.len() == 0 || application(path)? == Some(APPLICATION_ID));
    match is_job {
        true => check_companions(path).map(|()| true),
        false => Err(JobError::InTheWay(path.into())),
    }
}

/// Deletes the companions of a job that is about to be replaced. SQLite would apply its log to the new job.
pub(super) fn remove_companions(job: &Path) -> Result<()> {
    for suffix in COMPANIONS {
        match fs::remove_file(companion_path(job, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context("the job cannot be replaced");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the application ID in the header of an SQLite file. None if the file is not of SQLite.
fn application(path: &Path) -> Result<Option<i32>> {
    let mut header = [0; 72];
    let len = head(path, &mut header).context("the job cannot be opened")?;
    let id = header.last_chunk().copied().map(i32::from_be_bytes);
    Ok(id.filter(|_| len == header.len() && header.starts_with(b"SQLite format 3\0")))
}

/// Returns the prefix and the suffix of the name of a draft for `job`.
pub(super) fn draft_name(job: &Path) -> (OsString, &'static OsStr) {
    // A name may have 255 octets, and the random part needs some.
    let name = job.file_name().unwrap_or_default().to_string_lossy();
    let short: String = name.chars().take(50).collect();
    (format!(".{short}.").into(), OsStr::new(DRAFT_SUFFIX))
}

/// Deletes the drafts that killed runs left of this job. The caller holds the lock of the job, so no draft is in use.
pub(super) fn remove_old_drafts(job: &Path) {
    let (prefix, suffix) = draft_name(job);
    let Some(Ok(entries)) = job.parent().map(fs::read_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let is_draft = name.starts_with(prefix.as_encoded_bytes())
            && name.ends_with(suffix.as_encoded_bytes())
            && application(&entry.path()).is_ok_and(|id| id == Some(DRAFT_ID));
        if is_draft {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_sqlite_would_empty_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("a.job");
        for suffix in COMPANIONS {
            let path = companion_path(&job, suffix);
            fs::write(&path, "ann@example.com\n").unwrap();
            assert!(matches!(check_companions(&job), Err(JobError::InTheWay(it)) if it == path), "{suffix}");
            assert!(check_replaceable(&job).is_err());
            fs::write(&path, "").unwrap();
            check_companions(&job).unwrap();
            // Not without its job.
            assert!(check_replaceable(&job).is_err());
            fs::remove_file(&path).unwrap();
        }
        assert!(!check_replaceable(&job).unwrap());
    }

    #[test]
    fn only_a_job_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.job");
        let other = [&b"SQLite format 3\0"[..], &[0; 100]].concat();
        for octets in [&b"ann@example.com\n"[..], &other, &other[..40]] {
            fs::write(&path, octets).unwrap();
            assert!(matches!(check_replaceable(&path), Err(JobError::InTheWay(_))));
        }
        let mut job = other;
        job[68..72].copy_from_slice(&APPLICATION_ID.to_be_bytes());
        fs::write(&path, job).unwrap();
        assert!(check_replaceable(&path).unwrap());
    }

    #[test]
    fn only_drafts_of_this_job_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("a.job");
        let mut draft = [&b"SQLite format 3\0"[..], &[0; 100]].concat();
        draft[68..72].copy_from_slice(&DRAFT_ID.to_be_bytes());
        let at = |name: &str| dir.path().join(name);
        for name in [".a.job.x1.smtp-pool", ".b.job.x1.smtp-pool", ".a.job.x1", "a.job"] {
            fs::write(at(name), &draft).unwrap();
        }
        fs::write(at(".a.job.mine.smtp-pool"), "mine").unwrap();
        remove_old_drafts(&job);
        assert!(!at(".a.job.x1.smtp-pool").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
