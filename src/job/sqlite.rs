//! The store of a job in one SQLite file.
//!
//! A job is made without a journal, as a [draft](super::draft). Later it has a write-ahead log, so that readers never
//! wait. With `synchronous = NORMAL`, a commit survives the end of the process at any moment. A power failure loses
//! at most the last commits.
//!
//! Everything read is checked: each row against its checksum, and each number against its range. A hostile file can
//! have correct checksums, so the range checks are needed too.

use std::path::Path;

use foldhash::HashMap;
use rusqlite::{
    Connection, OptionalExtension, Row, Statement, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    checksum::{checked, row_sum, with_checksum},
    encoding::{catch_all, catch_all_code},
    error::{JobError, Result},
    open::{self, Access},
    schema::{self, StoreFormat},
    store::{Changes, Chunk, ChunkHead, MAX_ROWS, Postponed, Segment, Span, Store},
};
use crate::verify::CatchAll;

/// The highest chunk number. The next number means no chunk, and the one after it is needed for counting.
const MAX_CHUNK: u32 = u32::MAX - 2;
/// The most attempts that are read. No schedule has as many.
const MAX_ATTEMPTS: u32 = 1_000_000;
/// The longest domain in octets, as written in a list.
const MAX_DOMAIN: usize = 1_024;

/// A job in a file.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    format: StoreFormat,
}

impl Sqlite {
    pub(super) fn new(connection: Connection, format: StoreFormat) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, format }
    }

    /// Opens a job.
    ///
    /// # Errors
    /// Fails if the job cannot be opened.
    pub(super) fn open(path: &Path, access: Access) -> Result<Self> {
        let (connection, format) = open::open(path, access)?;
        if access == Access::Write {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        Ok(Self::new(connection, format))
    }

    /// Checks each page and each named value. A damaged name would make a value appear to be missing.
    ///
    /// # Errors
    /// Fails if anything is damaged.
    pub(super) fn check_pages(&self) -> Result<()> {
        schema::check_pages(&self.connection)?;
        let sql = format!("SELECT name, value, {} FROM value", self.sum());
        self.read("value", &sql, [], |_| Ok(())).map(drop)
    }

    pub(super) fn format(&self) -> StoreFormat {
        self.format
    }

    /// Returns the encoded repeats of each segment that has any.
    pub(super) fn repeats_by_segment(&self) -> Result<HashMap<u32, Vec<u8>>> {
        let mut statement = self.connection.prepare_cached("SELECT id, repeats FROM segment ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut found = HashMap::default();
        while let Some(row) = rows.next()? {
            let segment: u32 = row.get(0)?;
            let repeats = self.checked("segment.repeats", segment.into(), row.get(1)?)?;
            if !repeats.is_empty() {
                found.insert(segment, repeats);
            }
        }
        Ok(found)
    }

    /// Runs `last` and closes the connection.
    pub(super) fn into_connection(
        self,
        last: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<()> {
        last(&self.connection)?;
        Ok(self.connection.close().map_err(|(_, error)| error)?)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(schema::CHECKSUMMED)?;
        Ok(Self::new(connection, StoreFormat::Checksummed))
    }

    /// Deletes all rows, so that the next list needs no new tables.
    #[cfg(any(test, fuzzing))]
    pub(super) fn clear(&self) -> Result<()> {
        const TABLES: [&str; 7] =
            ["value", "segment", "chunk", "touched", "result", "postponed", "catch_all"];
        for table in TABLES {
            self.connection.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
        }
        Ok(())
    }

    /// Returns the checksum column, or NULL in version 1.
    fn sum(&self) -> &'static str {
        match self.format {
            StoreFormat::Plain => "NULL",
            StoreFormat::Checksummed => "sum",
        }
    }

    /// Reads rows whose last column is the checksum of the columns before it.
    fn read<T>(
        &self,
        table: &str,
        sql: &str,
        parameters: impl rusqlite::Params,
        mut row: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count() - 1;
        let mut rows = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(next) = rows.next()? {
            self.check(table, next, columns)?;
            found.push(row(next)?);
        }
        Ok(found)
    }

    /// Checks a row against its checksum, which follows the first `columns` columns.
    fn check(&self, table: &str, row: &Row<'_>, columns: usize) -> Result<()> {
        if self.format == StoreFormat::Plain {
            return Ok(());
        }
        let values = (0..columns).map(|column| row.get_ref(column)).collect::<rusqlite::Result<Vec<_>>>()?;
        match row.get::<_, i64>(columns)? == row_sum(table, values) {
            true => Ok(()),
            false => Err(JobError::Damaged.within(format_args!("a row of {table}"))),
        }
    }

    /// Checks and removes the checksum of an encoded value. Version 1 has none.
    fn checked(&self, place: &str, row: i64, value: Vec<u8>) -> Result<Vec<u8>> {
        match self.format {
            StoreFormat::Plain => Ok(value),
            StoreFormat::Checksummed => checked(place, row, value),
        }
    }
}

impl Store for Sqlite {
    fn value(&self, name: &str) -> Result<Option<String>> {
        let sql = format!("SELECT name, value, {} FROM value WHERE name = ?", self.sum());
        Ok(self.read("value", &sql, [name], |row| Ok(row.get(1)?))?.pop())
    }

    fn add(&mut self, segment: &Segment, chunks: &[Chunk]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let Span { segment: id, source, first, rows } = segment.span;
        let id = i64::from(id);
        put(
            &mut *transaction.prepare_cached("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)")?,
            "segment",
            &[id, source.into(), first.into(), rows.into()].map(ValueRef::Integer),
            &[
                &with_checksum("segment.repeats", id, &segment.repeats),
                &with_checksum("segment.data", id, &segment.rows),
            ],
        )?;
        insert_chunks(&transaction, chunks)?;
        Ok(transaction.commit()?)
    }

    fn spans(&self) -> Result<Vec<Span>> {
        let sql = format!("SELECT id, source, first, rows, {} FROM segment ORDER BY id", self.sum());
        let (mut next, mut first) = (0, 0_u32);
        self.read("segment", &sql, [], |row| {
            let span =
                Span { segment: row.get(0)?, source: row.get(1)?, first: row.get(2)?, rows: row.get(3)? };
            // Segments must follow each other without a gap.
            if (span.segment, span.first) != (next, first) || !(1..=MAX_ROWS).contains(&span.rows) {
                return Err(JobError::Damaged.within(format_args!("segment {}", span.segment)));
            }
            next += 1;
            first = first.checked_add(span.rows).ok_or(JobError::Damaged)?;
            Ok(span)
        })
    }

    fn rows(&self, segment: u32) -> Result<Vec<u8>> {
        let mut statement = self.connection.prepare_cached("SELECT data FROM segment WHERE id = ?")?;
        let checksummed = statement.query_row([segment], |row| row.get(0))?;
        self.checked("segment.data", segment.into(), checksummed)
    }

    fn repeats(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.repeats_by_segment()?.into_values().collect())
    }

    fn chunks(&self, from: u32) -> Result<Vec<ChunkHead>> {
        let sum = self.sum();
        let touched = self.read(
            "touched",
            &format!("SELECT chunk, {sum} FROM touched WHERE chunk >= ? ORDER BY chunk"),
            [from],
            |row| Ok(row.get::<_, u32>(0)?),
        )?;
        let sql = format!("SELECT id, segment, domain, count, {sum} FROM chunk WHERE id >= ? ORDER BY id");
        self.read("chunk", &sql, [from], |row| {
            let (id, domain): (u32, Option<String>) = (row.get(0)?, row.get(2)?);
            let touched = touched.binary_search(&id).is_ok();
            let chunk = ChunkHead { id, segment: row.get(1)?, domain, count: row.get(3)?, touched };
            let is_sound = id <= MAX_CHUNK
                && chunk.count <= MAX_ROWS
                && chunk.domain.as_ref().is_none_or(|domain| domain.len() <= MAX_DOMAIN);
            if is_sound { Ok(chunk) } else { Err(JobError::Damaged.within(format_args!("chunk {id}"))) }
        })
    }

    fn addresses(&self, chunk: u32) -> Result<Option<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached("SELECT addresses FROM chunk WHERE id = ?")?;
        let checksummed = statement.query_row([chunk], |row| row.get(0)).optional()?;
        checksummed.map(|checksummed| self.checked("chunk.addresses", chunk.into(), checksummed)).transpose()
    }

    fn next_chunk(&self) -> Result<u32> {
        // Finished chunks are deleted, but a run may still hold their numbers. So the counter is stored.
        let used = self.value("chunks")?.map_or(Ok(0), |used| used.parse().map_err(|_| JobError::Damaged))?;
        let last: Option<u32> =
            self.connection.query_row("SELECT max(id) FROM chunk", [], |row| row.get(0))?;
        let next = last.map_or(Some(0), |last| last.checked_add(1)).ok_or(JobError::Damaged)?.max(used);
        if next <= MAX_CHUNK { Ok(next) } else { Err(JobError::Damaged.within("the number of chunks")) }
    }

    fn due(&self, now: i64, after: (i64, u32), limit: u32) -> Result<Vec<Postponed>> {
        let sql = format!(
            "SELECT row, due, attempts, address, {} FROM postponed \
             WHERE due <= ? AND (due, row) > (?, ?) ORDER BY due, row LIMIT ?",
            self.sum()
        );
        self.read("postponed", &sql, params![now, after.0, after.1, limit], |row| {
            let (number, attempts) = (row.get(0)?, row.get(2)?);
            if attempts > MAX_ATTEMPTS {
                return Err(JobError::Damaged.within(format_args!("row {number}")));
            }
            Ok(Postponed { row: number, due: row.get(1)?, attempts, address: row.get(3)? })
        })
    }

    fn next_due(&self, after: (i64, u32)) -> Result<Option<i64>> {
        let sql = "SELECT due FROM postponed WHERE (due, row) > (?, ?) ORDER BY due, row LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![after.0, after.1], |row| row.get(0)).optional()?)
    }

    fn catch_all(&self) -> Result<Vec<(String, CatchAll)>> {
        let sql = format!("SELECT domain, answer, {} FROM catch_all", self.sum());
        self.read("catch_all", &sql, [], |row| Ok((row.get(0)?, catch_all(row.get(1)?))))
    }

    fn results(&self, segment: u32, report: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let sql = format!(
            "SELECT id, segment, count, {}, results FROM result WHERE segment = ? ORDER BY id",
            self.sum()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([segment])?;
        while let Some(row) = rows.next()? {
            self.check("result", row, 3)?;
            report(&self.checked("result.results", row.get(0)?, row.get(4)?)?)?;
        }
        Ok(())
    }

    fn commit(&mut self, changes: &Changes) -> Result<()> {
        if self.format == StoreFormat::Plain {
            return Err(JobError::Foreign("it is of an earlier version and must be upgraded first"));
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let last: Option<i64> =
                transaction.query_row("SELECT max(id) FROM result", [], |row| row.get(0))?;
            let mut insert = transaction.prepare_cached("INSERT INTO result VALUES (?, ?, ?, ?, ?)")?;
            for (id, batch) in (last.unwrap_or(0).saturating_add(1)..).zip(&changes.batches) {
                let head = [id, batch.segment.into(), batch.count.into()].map(ValueRef::Integer);
                put(&mut insert, "result", &head, &[&with_checksum("result.results", id, &batch.results)])?;
            }
            insert_chunks(&transaction, &changes.chunks)?;
            let mut touch = transaction.prepare_cached("INSERT OR IGNORE INTO touched VALUES (?, ?)")?;
            for chunk in &changes.touched {
                put(&mut touch, "touched", &[ValueRef::Integer((*chunk).into())], &[])?;
            }
            for (sql, chunks) in [
                ("DELETE FROM touched WHERE chunk = ?", &changes.finished),
                ("DELETE FROM chunk WHERE id = ?", &changes.finished),
                ("DELETE FROM postponed WHERE row = ?", &changes.resolved),
            ] {
                let mut statement = transaction.prepare_cached(sql)?;
                for chunk in chunks {
                    statement.execute([chunk])?;
                }
            }
            put_postponed(&transaction, &changes.postponed)?;
            let mut insert =
                transaction.prepare_cached("INSERT OR REPLACE INTO catch_all VALUES (?, ?, ?)")?;
            for (domain, answer) in &changes.catch_all {
                let columns =
                    [ValueRef::Text(domain.as_bytes()), ValueRef::Integer(catch_all_code(*answer).into())];
                put(&mut insert, "catch_all", &columns, &[])?;
            }
            let mut set = transaction.prepare_cached("INSERT OR REPLACE INTO value VALUES (?, ?, ?)")?;
            for (name, value) in &changes.values {
                let columns = [name.as_bytes(), value.as_bytes()].map(ValueRef::Text);
                put(&mut set, "value", &columns, &[])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn bring_forward(&mut self, latest: i64) -> Result<()> {
        loop {
            let late = self.late(latest)?;
            if late.is_empty() {
                return Ok(());
            }
            let transaction = self.connection.transaction()?;
            put_postponed(&transaction, &late)?;
            transaction.commit()?;
        }
    }
}

impl Sqlite {
    /// Returns up to 10,000 tasks that are due after `latest` or before 1970, with `latest` as their due time.
    fn late(&self, latest: i64) -> Result<Vec<Postponed>> {
        let sql = format!(
            "SELECT row, due, attempts, address, {} FROM postponed WHERE due > ? OR due < 0 LIMIT 10000",
            self.sum()
        );
        self.read("postponed", &sql, [latest], |row| {
            Ok(Postponed { row: row.get(0)?, due: latest, attempts: row.get(2)?, address: row.get(3)? })
        })
    }
}

/// Executes an insertion of the columns, their checksum, and the encoded values.
fn put(statement: &mut Statement<'_>, table: &str, columns: &[ValueRef<'_>], values: &[&[u8]]) -> Result<()> {
    let sum = ValueRef::Integer(row_sum(table, columns.iter().copied()));
    let values = values.iter().map(|value| ValueRef::Blob(value));
    let all = columns.iter().copied().chain([sum]).chain(values).map(Bound);
    statement.execute(rusqlite::params_from_iter(all))?;
    Ok(())
}

/// A value bound to a statement.
struct Bound<'a>(ValueRef<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

fn insert_chunks(transaction: &rusqlite::Transaction<'_>, chunks: &[Chunk]) -> Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)")?;
    for Chunk { id, segment, domain, count, addresses } in chunks {
        let domain = domain.as_ref().map_or(ValueRef::Null, |domain| ValueRef::Text(domain.as_bytes()));
        let id = i64::from(*id);
        let [number, segment, count] = [id, (*segment).into(), (*count).into()].map(ValueRef::Integer);
        put(
            &mut insert,
            "chunk",
            &[number, segment, domain, count],
            &[&with_checksum("chunk.addresses", id, addresses)],
        )?;
    }
    Ok(())
}

fn put_postponed(transaction: &rusqlite::Transaction<'_>, postponed: &[Postponed]) -> Result<()> {
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO postponed VALUES (?, ?, ?, ?, ?)")?;
    for Postponed { row, due, attempts, address } in postponed {
        let [row, due, attempts] = [(*row).into(), *due, (*attempts).into()].map(ValueRef::Integer);
        put(&mut insert, "postponed", &[row, due, attempts, ValueRef::Text(address.as_bytes())], &[])?;
    }
    Ok(())
}
