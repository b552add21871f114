//! The tables of a job, and the detection of its format.
//!
//! A job is read from these tables only. A file with any other table, view, trigger or index is refused before its
//! data is read, because SQLite would execute what it contains.

use rusqlite::Connection;

use super::error::{JobError, Result};

/// "SPjb", the application ID of a job.
pub(super) const APPLICATION_ID: i32 = 0x5350_6a62;
/// "SPjd", the application ID of a job that is not complete yet.
pub(super) const DRAFT_ID: i32 = 0x5350_6a64;

/// The format of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFormat {
    /// Version 1, without checksums. It is read and never written.
    Plain,
    /// Version 2: each row and each encoded value has a checksum.
    Checksummed,
}

impl StoreFormat {
    /// The version that this crate writes.
    pub(super) const VERSION: i32 = 2;

    fn tables(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Checksummed => CHECKSUMMED,
        }
    }
}

/// The tables of version 2. The column `sum` covers the columns before it. The encoded values after it carry their
/// own checksums, so that the small columns can be read without them.
pub(super) const CHECKSUMMED: &str = "
CREATE TABLE value (name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, first INTEGER NOT NULL, rows INTEGER NOT NULL,
    sum INTEGER NOT NULL, repeats BLOB NOT NULL, data BLOB NOT NULL
);
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, domain TEXT, count INTEGER NOT NULL,
    sum INTEGER NOT NULL, addresses BLOB NOT NULL
);
CREATE TABLE touched (chunk INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
CREATE TABLE result (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, count INTEGER NOT NULL,
    sum INTEGER NOT NULL, results BLOB NOT NULL
);
CREATE INDEX result_segment ON result (segment);
CREATE TABLE postponed (
    row INTEGER PRIMARY KEY, due INTEGER NOT NULL, attempts INTEGER NOT NULL, address TEXT NOT NULL,
    sum INTEGER NOT NULL
);
CREATE INDEX postponed_due ON postponed (due, row);
CREATE TABLE catch_all (domain TEXT PRIMARY KEY, answer INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
";

/// The tables of version 1.
pub(super) const PLAIN: &str = "
CREATE TABLE value (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, first INTEGER NOT NULL, rows INTEGER NOT NULL,
    repeats BLOB NOT NULL, data BLOB NOT NULL
);
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, domain TEXT, count INTEGER NOT NULL, addresses BLOB NOT NULL
);
CREATE TABLE touched (chunk INTEGER PRIMARY KEY);
CREATE TABLE result (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, count INTEGER NOT NULL, results BLOB NOT NULL
);
CREATE INDEX result_segment ON result (segment);
CREATE TABLE postponed (
    row INTEGER PRIMARY KEY, due INTEGER NOT NULL, attempts INTEGER NOT NULL, address TEXT NOT NULL
);
CREATE INDEX postponed_due ON postponed (due, row);
CREATE TABLE catch_all (domain TEXT PRIMARY KEY, answer INTEGER NOT NULL) WITHOUT ROWID;
";

/// Returns the format of a job, after checking that its tables are those of a job.
///
/// # Errors
/// Fails if the file is not a job, or if it is of a newer version.
pub(super) fn format(connection: &Connection) -> Result<StoreFormat> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    match pragma("application_id")? {
        APPLICATION_ID => {}
        DRAFT_ID => return Err(JobError::Foreign("its creation was interrupted")),
        0 if pragma("page_count")? == 0 => return Err(JobError::Foreign("it is empty")),
        _ => return Err(JobError::Foreign("it is an SQLite database of another program")),
    }
    let format = match pragma("user_version")? {
        1 => StoreFormat::Plain,
        StoreFormat::VERSION => StoreFormat::Checksummed,
        newer if newer > StoreFormat::VERSION => return Err(JobError::Newer(newer)),
        _ => return Err(JobError::Damaged.within("the format version")),
    };
    // SQLite stores the statements word for word, without the semicolon.
    let mut wanted: Vec<&str> =
        format.tables().split(';').map(str::trim).filter(|it| !it.is_empty()).collect();
    let mut statement = connection.prepare("SELECT ifnull(sql, '') FROM sqlite_schema LIMIT 100")?;
    let mut found: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    wanted.sort_unstable();
    found.sort_unstable();
    match found == wanted {
        true => Ok(format),
        false => Err(JobError::Foreign("its tables, views or triggers are not those of a job")),
    }
}

/// Checks each page of the file: that the trees are intact and the indexes match their tables.
///
/// # Errors
/// Fails with [`DamagedAt`](JobError::DamagedAt), which names the page and the fault.
pub(super) fn check_pages(connection: &Connection) -> Result<()> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(JobError::DamagedAt(found.trim_start_matches("*** in database main ***").trim().into()))
    }
}
