//! Opens a job: for writing, for reading beside a run, or where nothing can be written.
//!
//! A job file may be of unknown origin. SQLite executes nothing from it: no triggers, views or functions.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, limits::Limit};

use super::{
    companions::{Rights, canonical_path, check_companions, companion_path, has_log, may_read},
    error::{IoContext, JobError, Result},
    lock::Lock,
    schema::{self, StoreFormat},
};

/// The access that the caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read, while another process may write.
    Read,
    /// Read and write.
    Write,
}

/// How long SQLite waits for a lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to open again if a log appears or vanishes meanwhile.
const TRIES: u32 = 3;
/// The longest value that is read, in octets. The store never writes a longer one.
const MAX_LENGTH: i32 = 1 << 29;
const DOING: &str = "the job cannot be opened";

/// Opens a job. Returns the connection and the format.
///
/// # Errors
/// Fails if the job cannot be opened.
pub(super) fn open(path: &Path, access: Access) -> Result<(Connection, StoreFormat)> {
    let path = canonical_path(path).context(DOING)?;
    let meta = fs::metadata(&path).context(DOING)?;
    if meta.is_dir() {
        return Err(JobError::Foreign("it is a folder"));
    }
    if !meta.is_file() {
        return Err(JobError::Foreign("it is not a regular file"));
    }
    check_companions(&path)?;
    let mut tries = 1;
    loop {
        match open_once(&path, access) {
            // A run ended between the check for its log and the opening.
            Err(JobError::Store(error)) if tries < TRIES && is_code(&error, ErrorCode::CannotOpen) => {
                tries += 1
            }
            Err(JobError::Store(error)) if is_code(&error, ErrorCode::DatabaseBusy) => {
                return Err(JobError::Busy(Lock::holder(&path)));
            }
            other => return other,
        }
    }
}

fn is_code(error: &rusqlite::Error, code: ErrorCode) -> bool {
    error.sqlite_error_code() == Some(code)
}

fn open_once(path: &Path, access: Access) -> Result<(Connection, StoreFormat)> {
    let denied = |doing| Err(io::ErrorKind::PermissionDenied.into()).context(doing);
    let rights = Rights::to(path);
    if !rights.read {
        return denied(DOING);
    }
    if access == Access::Write && !rights.write {
        return denied("the job cannot be written");
    }
    let is_readable =
        |suffix| companion_path(path, suffix).exists() && may_read(&companion_path(path, suffix));
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match rights.write {
        // Readers open for writing too, if permitted. The last one to close moves the log into the job.
        true => Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?,
        // Use the existing log and index. A reader without write permission must not create them, since the job's
        // owner could not use them.
        false if is_readable("-wal") && is_readable("-shm") => {
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)?
        }
        false if has_log(path) => return Err(JobError::Log(companion_path(path, "-wal"))),
        // There is no writer, so no lock is needed.
        false => {
            let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable(path), flags)?
        }
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    harden(&connection)?;
    let format = schema::format(&connection).map_err(|error| match error {
        JobError::Store(error) if !rights.write && is_code(&error, ErrorCode::ReadOnly) => {
            JobError::Log(companion_path(path, "-wal"))
        }
        error => error,
    })?;
    Ok((connection, format))
}

/// Stops SQLite from executing anything that a file contains.
pub(super) fn harden(connection: &Connection) -> Result<()> {
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(setting, value)?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// Returns the SQLite URI of a file that does not change while it is read.
fn immutable(path: &Path) -> PathBuf {
    let mut address = String::from("file:");
    for octet in path.as_os_str().as_encoded_bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                address.push(char::from(*octet))
            }
            octet => address.push_str(&format!("%{octet:02x}")),
        }
    }
    address.push_str("?immutable=1");
    address.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_path_with_any_characters() {
        assert_eq!(
            immutable(Path::new("/a b/ü?x#.job")),
            Path::new("file:/a%20b/%c3%bc%3fx%23.job?immutable=1")
        );
    }
}
