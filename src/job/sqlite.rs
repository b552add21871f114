//! The store in one file, by SQLite.
//!
//! A job is made in a file of another name, without a journal, and gets its name when it is whole. Afterwards there is a
//! write-ahead log, so that readers never wait; with `synchronous = NORMAL` whatever was committed outlives the death
//! of the process at any moment, and a loss of power takes the last moments at most.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{
    error::{Doing, JobError, Result},
    pack::{catch_all, catch_all_code},
    store::{Changes, Chunk, ChunkHead, Postponed, Segment, Span, Store},
};
use crate::verify::CatchAll;

/// "SPjb", by which a job is known from other files of SQLite.
const APPLICATION_ID: i32 = 0x5350_6a62;
const VERSION: i32 = 1;

const SCHEMA: &str = "
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

/// A job in a file.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
}

/// A job that is being made. What a kill leaves of it is overwritten by the next.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) store: Sqlite,
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    pub(super) fn new(target: &Path) -> Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing("the job cannot be made");
            }
            _ => {}
        }
        // Its own error would not say why a folder cannot be written to.
        File::create(&path).doing("the job cannot be made")?;
        let connection = Connection::open(&path)?;
        connection.execute_batch(&format!(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; BEGIN; {SCHEMA} COMMIT;"
        ))?;
        Ok(Self { store: Sqlite { connection }, path, target: target.into() })
    }

    /// Takes it away again.
    pub(super) fn discard(self) {
        drop(self.store);
        let _ = fs::remove_file(&self.path);
    }

    /// Makes it durable, and gives it its name.
    pub(super) fn finish(self) -> Result<()> {
        let Self { store, path, target } = self;
        store.connection.close().map_err(|(_, error)| error)?;
        File::open(&path).and_then(|file| file.sync_all()).doing("the job cannot be written")?;
        fs::rename(&path, &target).doing("the job cannot be made")
    }
}

impl Sqlite {
    /// Opens a job, to write to it or to read only.
    pub(super) fn open(path: &Path, writable: bool) -> Result<Self> {
        // Not by opening it: to close it again would take the locks of SQLite away.
        fs::metadata(path).doing("the job cannot be opened")?;
        // Readers write too, if they may: whoever closes last takes the log away. Where they may not, they read.
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, access)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        match (pragma("application_id"), pragma("user_version")) {
            (Ok(APPLICATION_ID), Ok(VERSION)) => {}
            _ => return Err(JobError::Foreign),
        }
        if writable {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection })
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection })
    }

    fn blobs(&self, sql: &str, parameter: impl rusqlite::Params) -> Result<Vec<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let blobs = statement.query_map(parameter, |row| row.get(0))?;
        Ok(blobs.collect::<std::result::Result<_, _>>()?)
    }
}

impl Store for Sqlite {
    fn value(&self, name: &str) -> Result<Option<String>> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM value WHERE name = ?")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    fn add(&mut self, segment: &Segment, chunks: &[Chunk]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let Span { segment: id, source, first, rows } = segment.span;
        transaction.prepare_cached("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
            id,
            source,
            first,
            rows,
            segment.repeats,
            segment.rows
        ])?;
        insert_chunks(&transaction, chunks)?;
        Ok(transaction.commit()?)
    }

    fn spans(&self) -> Result<Vec<Span>> {
        let sql = "SELECT id, source, first, rows FROM segment ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let spans = statement.query_map([], |row| {
            Ok(Span { segment: row.get(0)?, source: row.get(1)?, first: row.get(2)?, rows: row.get(3)? })
        })?;
        Ok(spans.collect::<std::result::Result<_, _>>()?)
    }

    fn rows(&self, segment: u32) -> Result<Vec<u8>> {
        let mut statement = self.connection.prepare_cached("SELECT data FROM segment WHERE id = ?")?;
        Ok(statement.query_row([segment], |row| row.get(0))?)
    }

    fn repeats(&self) -> Result<Vec<Vec<u8>>> {
        self.blobs("SELECT repeats FROM segment WHERE length(repeats) > 0 ORDER BY id", [])
    }

    fn chunks(&self, from: u32) -> Result<Vec<ChunkHead>> {
        let sql = "SELECT id, segment, domain, count, touched.chunk IS NOT NULL \
                   FROM chunk LEFT JOIN touched ON touched.chunk = id WHERE id >= ? ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let chunks = statement.query_map([from], |row| {
            Ok(ChunkHead {
                id: row.get(0)?,
                segment: row.get(1)?,
                domain: row.get(2)?,
                count: row.get(3)?,
                touched: row.get(4)?,
            })
        })?;
        Ok(chunks.collect::<std::result::Result<_, _>>()?)
    }

    fn addresses(&self, chunk: u32) -> Result<Option<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached("SELECT addresses FROM chunk WHERE id = ?")?;
        Ok(statement.query_row([chunk], |row| row.get(0)).optional()?)
    }

    fn next_chunk(&self) -> Result<u32> {
        // Those that are finished are gone, and their numbers may still be in somebody's memory.
        let used = self.value("chunks")?.and_then(|used| used.parse().ok()).unwrap_or(0);
        let last: Option<u32> =
            self.connection.query_row("SELECT max(id) FROM chunk", [], |row| row.get(0))?;
        Ok(used.max(last.map_or(0, |last| last + 1)))
    }

    fn due(&self, now: i64, after: (i64, u32), limit: u32) -> Result<Vec<Postponed>> {
        let sql = "SELECT row, due, attempts, address FROM postponed \
                   WHERE due <= ? AND (due, row) > (?, ?) ORDER BY due, row LIMIT ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map(params![now, after.0, after.1, limit], |row| {
            Ok(Postponed { row: row.get(0)?, due: row.get(1)?, attempts: row.get(2)?, address: row.get(3)? })
        })?;
        Ok(found.collect::<std::result::Result<_, _>>()?)
    }

    fn next_due(&self, after: (i64, u32)) -> Result<Option<i64>> {
        let sql = "SELECT due FROM postponed WHERE (due, row) > (?, ?) ORDER BY due, row LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![after.0, after.1], |row| row.get(0)).optional()?)
    }

    fn catch_all(&self) -> Result<Vec<(String, CatchAll)>> {
        let mut statement = self.connection.prepare_cached("SELECT domain, answer FROM catch_all")?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, catch_all(row.get(1)?))))?;
        Ok(found.collect::<std::result::Result<_, _>>()?)
    }

    fn results(&self, segment: u32) -> Result<Vec<Vec<u8>>> {
        self.blobs("SELECT results FROM result WHERE segment = ? ORDER BY id", [segment])
    }

    fn commit(&mut self, changes: &Changes) -> Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO result (segment, count, results) VALUES (?, ?, ?)")?;
            for batch in &changes.batches {
                insert.execute(params![batch.segment, batch.count, batch.results])?;
            }
            insert_chunks(&transaction, &changes.chunks)?;
            for (sql, chunks) in [
                ("INSERT OR IGNORE INTO touched VALUES (?)", &changes.touched),
                ("DELETE FROM touched WHERE chunk = ?", &changes.finished),
                ("DELETE FROM chunk WHERE id = ?", &changes.finished),
                ("DELETE FROM postponed WHERE row = ?", &changes.settled),
            ] {
                let mut statement = transaction.prepare_cached(sql)?;
                for chunk in chunks {
                    statement.execute([chunk])?;
                }
            }
            let mut postpone =
                transaction.prepare_cached("INSERT OR REPLACE INTO postponed VALUES (?, ?, ?, ?)")?;
            for Postponed { row, due, attempts, address } in &changes.postponed {
                postpone.execute(params![row, due, attempts, address])?;
            }
            let mut keep = transaction.prepare_cached("INSERT OR REPLACE INTO catch_all VALUES (?, ?)")?;
            for (domain, answer) in &changes.catch_all {
                keep.execute(params![domain, catch_all_code(*answer)])?;
            }
            let mut set = transaction.prepare_cached("INSERT OR REPLACE INTO value VALUES (?, ?)")?;
            for (name, value) in &changes.values {
                set.execute(params![name, value])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

fn insert_chunks(transaction: &rusqlite::Transaction<'_>, chunks: &[Chunk]) -> Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO chunk VALUES (?, ?, ?, ?, ?)")?;
    for Chunk { id, segment, domain, count, addresses } in chunks {
        insert.execute(params![id, segment, domain, count, addresses])?;
    }
    Ok(())
}
