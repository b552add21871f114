//! Tests of damaged and hostile files: each gives an error or is read correctly.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, types::Value};
use tempfile::TempDir;

use super::{
    checksum::{row_sum, with_checksum},
    encoding::{EntryEncoder, compress, put_number},
    input::{Hints, Rows, Source},
    open::Access,
    sqlite::Sqlite,
    store::{Changes, Postponed, ResultBatch, Store},
    *,
};
use crate::{
    metrics::{Metrics, Operation},
    proto::ClientName,
    verify::{CatchAll, Record, SubStatus, Verifier, VerifierConfig},
};

/// A job that is half done, with data in each of its tables.
struct Desk {
    _dir: TempDir,
    list: PathBuf,
    job: PathBuf,
}

const KIND: &str = "to try things";

impl Desk {
    fn new() -> Self {
        // Use memory if there is such a folder: these tests open thousands of files, each with a sync.
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let (list, job) = (dir.path().join("list.csv"), dir.path().join("out.csv.job"));
        let row = |n: u32| format!("{n},user{}@{}.test,note {n}\n", n % 60, ["a", "b", "c"][n as usize % 3]);
        fs::write(&list, format!("id,email,note\n{}", (0..90).map(row).collect::<String>())).unwrap();
        let desk = Self { _dir: dir, list, job };
        let sources = desk.sources();
        let rows = Rows::open(sources.clone(), &Hints::default(), Box::new(|_, _, _| {})).unwrap();
        let created = Job::create(&desk.job, &sources, rows, KIND).unwrap();
        assert_eq!((created.info().rows, created.info().invalid), (90, 0));
        drop(created);
        let mut store = Sqlite::open(&desk.job, Access::Write).unwrap();
        let mut encoder = EntryEncoder::default();
        // The rows from 60 on repeat the first.
        for row in (0..40).chain(60..90) {
            encoder.put(row, &record(row % 60), row % 5 != 0);
        }
        let batches = vec![ResultBatch {
            segment: 0,
            count: encoder.count,
            results: compress(&encoder.octets).unwrap(),
        }];
        let postponed = (0..40).step_by(5).map(|row| Postponed {
            row,
            due: 1_700_000_000_000 + i64::from(row),
            attempts: 1,
            address: format!("user{row}@a.test"),
        });
        let metrics = Metrics::new();
        metrics.server("mx.a.test").record_many(Operation::Rcpt, Duration::from_millis(20), 40);
        let none = Metrics::new().snapshot();
        let run = history::RunMetrics { began: &none, now: &metrics.snapshot() };
        let history = history::History::default().with_run(&run, Vec::new(), Duration::from_secs(5));
        let changes = Changes {
            batches,
            touched: vec![0],
            postponed: postponed.collect(),
            catch_all: vec![("a.test".into(), CatchAll::Accepted), ("b.test".into(), CatchAll::Refused)],
            values: vec![(history::History::NAME, history.text().unwrap())],
            ..Changes::default()
        };
        store.commit(&changes).unwrap();
        drop(store);
        assert_eq!(fs::read_dir(desk.job.parent().unwrap()).unwrap().count(), 2, "the log is in the job");
        desk
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::File(self.list.clone())]
    }

    /// Changes the job and corrects all checksums, as an attacker could.
    fn forge(&self, sql: &str) {
        let connection = Connection::open(&self.job).unwrap();
        connection.execute_batch(sql).unwrap();
        correct_sums(&connection);
    }

    /// Replaces an encoded value.
    fn forge_value(&self, column: &str, row: i64, encoded: &[u8]) {
        let (table, name) = column.split_once('.').unwrap();
        let key = if table == "postponed" { "row" } else { "id" };
        let connection = Connection::open(&self.job).unwrap();
        let sql = format!("UPDATE {table} SET {name} = ? WHERE {key} = ?");
        let changed = connection.execute(&sql, (with_checksum(column, row, encoded), row)).unwrap();
        assert_eq!(changed, 1);
    }

    /// Runs the job to its end without a network.
    fn run(&self) -> error::Result<JobProgress> {
        self.start(|run| {
            let ended = async { tokio::time::timeout(Duration::from_secs(60), run.ended()).await };
            let ended = tokio::runtime::Handle::current().block_on(ended);
            ended.expect("a run must not wait for ever")?;
            Ok(run.progress())
        })?
    }

    fn start<T>(&self, with: impl FnOnce(&mut JobRun) -> T) -> error::Result<T> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
        config.probe = false;
        let metrics = Arc::new(Metrics::new());
        let verifier = {
            let _inside = runtime.enter();
            Verifier::new(config, Arc::clone(&metrics)).unwrap()
        };
        let _inside = runtime.enter();
        let mut run = JobRun::start(&self.job, &verifier, metrics, Box::new(|_| {}))?;
        Ok(with(&mut run))
    }
}

fn record(row: u32) -> Record {
    Record {
        address: String::new(),
        status: SubStatus::MailboxNotFound.status(),
        sub_status: SubStatus::MailboxNotFound,
        blame: None,
        catch_all: CatchAll::Refused,
        role: row.is_multiple_of(2),
        disposable: false,
        free: row.is_multiple_of(3),
        mx_host: Some("mx.a.test".into()),
        smtp_code: Some(550),
        enhanced_code: None,
        reply: Some(format!("5.1.1 no user {row}").into()),
        attempts: 1,
        tls: None,
        duration_ms: 20,
        checked_at: Timestamp::from_millisecond(1_700_000_000_000 + i64::from(row)).unwrap(),
    }
}

/// The columns that the checksum covers, of each table.
const SUMMED: [(&str, &str, &str); 7] = [
    ("value", "name", "name, value"),
    ("segment", "id", "id, source, first, rows"),
    ("chunk", "id", "id, segment, domain, count"),
    ("touched", "chunk", "chunk"),
    ("result", "id", "id, segment, count"),
    ("postponed", "row", "row, due, attempts, address"),
    ("catch_all", "domain", "domain, answer"),
];

fn correct_sums(connection: &Connection) {
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").unwrap();
    for (table, key, columns) in SUMMED {
        let mut statement = connection.prepare(&format!("SELECT {key}, {columns} FROM {table}")).unwrap();
        let count = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut sums: Vec<(Value, i64)> = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let sum = row_sum(table, (1..count).map(|column| row.get_ref(column).unwrap()));
            sums.push((row.get(0).unwrap(), sum));
        }
        drop(rows);
        for (key_of_row, sum) in sums {
            let sql = format!("UPDATE {table} SET sum = ? WHERE {key} = ?");
            connection.execute(&sql, (sum, key_of_row)).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// Returns everything that a job reports, through every interface.
fn all(path: &Path) -> error::Result<String> {
    let job = Job::open(path)?;
    let rows = job.rows().collect::<error::Result<Vec<_>>>()?;
    let store = Sqlite::open(path, Access::Read)?;
    let mut work = Vec::new();
    for head in store.chunks(0)? {
        work.push((store.addresses(head.id)?, head));
    }
    let rest = (store.repeats()?, store.next_chunk()?, store.due(i64::MAX, (i64::MIN, 0), 1_000)?);
    let mut catch_all = store.catch_all()?;
    catch_all.sort_by(|one, other| one.0.cmp(&other.0));
    let runs = (job.totals()?, job.latencies()?, job.lanes()?, job.progress()?);
    Ok(format!("{:?}{rows:?}{work:?}{rest:?}{catch_all:?}{runs:?}", job.info()))
}

/// Writes an octet into the middle of a file.
fn write_octet(file: &mut File, at: usize, octet: u8) {
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[octet]).unwrap();
}

/// Flips one bit of each octet that is not zero and of some zeros, and each bit of the header. `FLIPS` sets the
/// number of bits per octet, at most 8.
#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let bits = std::env::var("FLIPS").ok().and_then(|bits| bits.parse().ok()).unwrap_or(1_usize);
    let desk = Desk::new();
    let wanted = all(&desk.job).unwrap();
    let octets = fs::read(&desk.job).unwrap();
    let mut file = File::options().write(true).open(&desk.job).unwrap();
    let (mut tried, mut errors) = (0, 0);
    for (at, octet) in octets.iter().enumerate() {
        let of_header = at < 100;
        if *octet == 0 && !of_header && at % 97 != 0 {
            continue;
        }
        for turn in 0..if of_header { 8 } else { bits } {
            let bit = if of_header { turn } else { (at + turn) % 8 };
            write_octet(&mut file, at, octet ^ (1 << bit));
            match all(&desk.job) {
                Ok(found) => assert!(found == wanted, "octet {at} bit {bit} reads as something else"),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    errors += 1;
                }
            }
            tried += 1;
        }
        write_octet(&mut file, at, *octet);
    }
    assert_eq!(all(&desk.job).unwrap(), wanted);
    println!("{errors} of {tried} flipped bits were found; the others change nothing");
    assert!(errors > tried / 2 && tried > 2_000, "{errors} of {tried}");
}

#[test]
fn torn_and_scribbled_files_are_errors_and_no_panics() {
    let desk = Desk::new();
    let octets = fs::read(&desk.job).unwrap();
    let wanted = all(&desk.job).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..150 {
        let mut scribbled = octets.clone();
        for _ in 0..random.usize(1..6) {
            let (at, len) = (random.usize(..octets.len()), random.usize(1..200));
            let end = octets.len().min(at + len);
            random.fill(&mut scribbled[at..end]);
        }
        if random.bool() {
            scribbled.truncate(random.usize(..octets.len()));
        }
        fs::write(&desk.job, scribbled).unwrap();
        if let Ok(found) = all(&desk.job) {
            assert_eq!(found, wanted);
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(companions::companion_path(&desk.job, suffix));
        }
    }
}

#[test]
fn a_job_with_more_than_its_tables_is_refused() {
    for sql in [
        "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TRIGGER endless AFTER INSERT ON result BEGIN \
         INSERT INTO result (segment, count, sum, results) VALUES (0, 0, 0, x''); END",
        "CREATE TABLE more (id INTEGER PRIMARY KEY)",
        "CREATE INDEX more ON chunk (domain)",
        "DROP INDEX result_segment",
        "DROP TABLE catch_all; CREATE VIEW catch_all AS SELECT name AS domain, 1 AS answer, 0 AS sum FROM value",
        "ALTER TABLE chunk ADD COLUMN more TEXT",
        "DROP TABLE touched; CREATE TABLE touched (chunk INTEGER PRIMARY KEY, sum INTEGER NOT NULL CHECK (abs(sum)))",
        "ANALYZE",
    ] {
        let desk = Desk::new();
        Connection::open(&desk.job).unwrap().execute_batch(sql).unwrap();
        assert!(matches!(Job::open(&desk.job), Err(JobError::Foreign(_))), "{sql}");
        assert!(matches!(desk.run(), Err(JobError::Foreign(_))), "{sql}");
        assert!(Job::retry(&desk.job, |_| true).is_err(), "{sql}");
    }
}

#[test]
fn absurd_numbers_are_errors_without_a_hang() {
    let history = |values: &str| {
        format!(
            "UPDATE value SET value = '{{\"totals\":{{\"runs\":1,\"milliseconds\":1,\"connections_opened\":1,\
             \"connections_failed\":1}},\"latencies\":{values},\"lanes\":[]}}' WHERE name = 'history'"
        )
    };
    let cases = [
        ("UPDATE segment SET rows = 4000000000".into(), true),
        ("UPDATE segment SET rows = 91".into(), true),
        ("UPDATE segment SET rows = -1".into(), true),
        ("UPDATE segment SET first = 1".into(), true),
        ("UPDATE segment SET source = 7".into(), true),
        ("UPDATE segment SET id = 9".into(), true),
        ("DELETE FROM segment".into(), true),
        ("UPDATE chunk SET id = 4294967295".into(), true),
        ("UPDATE chunk SET id = 4294967294".into(), true),
        ("UPDATE chunk SET id = -1".into(), true),
        ("UPDATE chunk SET segment = 7".into(), false),
        ("UPDATE chunk SET count = 4294967295".into(), true),
        ("UPDATE chunk SET domain = printf('%.*c', 100000, 'x')".into(), true),
        ("UPDATE value SET value = '4294967295' WHERE name = 'chunks'".into(), true),
        ("UPDATE value SET value = '-1' WHERE name = 'chunks'".into(), true),
        (
            "UPDATE value SET value = replace(value, '\"rows\":90', '\"rows\":91') WHERE name = 'about'"
                .into(),
            true,
        ),
        (
            "UPDATE value SET value = replace(value, '\"rows\":90', '\"rows\":1e308') WHERE name = 'about'"
                .into(),
            true,
        ),
        ("UPDATE value SET value = printf('%.*c', 1000000, '[') WHERE name = 'about'".into(), true),
        ("DELETE FROM value".into(), true),
        ("UPDATE postponed SET attempts = 4294967295".into(), true),
        ("UPDATE postponed SET row = 4000000000 WHERE row = 5".into(), false),
        ("UPDATE postponed SET row = -1 WHERE row = 5".into(), true),
        (history("{\"rcpt\":[[1e308,1]]}"), true),
        (history("{\"rcpt\":[[-1,1]]}"), true),
        (history("{\"rcpt\":1}"), true),
    ];
    for (sql, when_read) in cases {
        let desk = Desk::new();
        desk.forge(&sql);
        let began = Instant::now();
        assert_eq!(all(&desk.job).is_err(), when_read, "{sql}");
        assert!(desk.run().is_err(), "{sql}");
        assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
    }
}

/// Puts any number or text in any column, with correct checksums.
#[test]
fn any_forged_column_is_read_or_refused_in_time() {
    let values = [
        "-9223372036854775808",
        "0",
        "90",
        "131073",
        "4294967295",
        "9223372036854775807",
        "1e308",
        "''",
        "printf('%.*c', 300000, 'x')",
        "x'00ff'",
    ];
    let columns =
        SUMMED.iter().flat_map(|(table, _, columns)| columns.split(", ").map(move |column| (*table, column)));
    let (desk, mut tried) = (Desk::new(), 0);
    let octets = fs::read(&desk.job).unwrap();
    // The run waits for a time within the hour.
    for (table, column) in columns.filter(|(_, column)| *column != "due") {
        for value in values {
            fs::write(&desk.job, &octets).unwrap();
            // One row of each table is enough.
            let sql = format!(
                "UPDATE OR IGNORE {table} SET {column} = {value} \
                 WHERE {column} = (SELECT max({column}) FROM {table})"
            );
            let connection = Connection::open(&desk.job).unwrap();
            if connection.execute_batch(&sql).is_err() {
                // The row number is an integer primary key.
                continue;
            }
            correct_sums(&connection);
            drop(connection);
            let began = Instant::now();
            let _ = (all(&desk.job), desk.run(), all(&desk.job));
            assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn a_far_due_time_is_brought_forward() {
    for due in ["9223372036854775807", "-9223372036854775808", "4102444800000", "0"] {
        let desk = Desk::new();
        desk.forge(&format!("UPDATE postponed SET due = {due}"));
        let mut store = Sqlite::open(&desk.job, Access::Write).unwrap();
        let latest = feeder::now();
        store.bring_forward(latest).unwrap();
        let found = store.due(i64::MAX, (i64::MIN, 0), 100).unwrap();
        assert_eq!(found.len(), 8, "{due}");
        assert!(found.iter().all(|it| (0..=latest).contains(&it.due)), "{due}: {found:?}");
    }
    // A run does so at its start, up to the longest pause of its schedule.
    let desk = Desk::new();
    desk.forge("UPDATE postponed SET due = 9223372036854775807");
    let _ = desk.start(|_| ());
    let store = Sqlite::open(&desk.job, Access::Read).unwrap();
    let hour = feeder::now() + 3_600_000;
    assert!(store.due(hour, (i64::MIN, 0), 100).unwrap().len() == 8);
    // A near due time does not change.
    let desk = Desk::new();
    let mut store = Sqlite::open(&desk.job, Access::Write).unwrap();
    store.bring_forward(feeder::now()).unwrap();
    assert_eq!(store.due(i64::MAX, (i64::MIN, 0), 100).unwrap()[0].due, 1_700_000_000_000);
}

#[test]
fn encoded_values_are_bounded() {
    // This bypasses the limit of the encoder.
    let zeros = |len: usize| zstd::bulk::compress(&vec![0; len], 1).unwrap();
    // A frame that claims 2⁶² octets.
    let endless = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 62).to_le_bytes(), &[1, 0, 0]].concat();
    let mut numbers = Vec::new();
    for _ in 0..300_000 {
        put_number(&mut numbers, 0);
        put_number(&mut numbers, 1);
    }
    let many = compress(&numbers).unwrap();
    let mut beyond = Vec::new();
    put_number(&mut beyond, 3);
    put_number(&mut beyond, 4_000_000_000);
    let beyond = compress(&beyond).unwrap();
    for (column, encoded) in [
        ("result.results", endless.clone()),
        ("result.results", zeros(300 << 20)),
        ("result.results", zeros(40 << 20)),
        ("segment.data", endless.clone()),
        ("segment.data", zeros(40 << 20)),
        ("segment.data", zeros(3)),
        ("segment.repeats", endless.clone()),
        ("segment.repeats", many.clone()),
        ("segment.repeats", zeros(2)),
        ("chunk.addresses", endless),
        ("chunk.addresses", many),
        ("chunk.addresses", beyond.clone()),
        ("result.results", beyond),
        ("result.results", b"no frame".to_vec()),
    ] {
        let desk = Desk::new();
        let row = if column.starts_with("result") { 1 } else { 0 };
        desk.forge_value(column, row, &encoded);
        let began = Instant::now();
        let ends = desk.run().is_err()
            || Job::open(&desk.job).and_then(|job| job.rows().collect::<error::Result<Vec<_>>>()).is_err();
        assert!(ends, "{column} of {} octets", encoded.len());
        assert!(began.elapsed() < Duration::from_secs(30), "{column}: {:?}", began.elapsed());
    }
}

#[test]
fn long_texts_are_cut_when_they_are_read() {
    let desk = Desk::new();
    let mut encoder = EntryEncoder::default();
    let long = Record { reply: Some("é".repeat(1 << 20).into()), ..record(0) };
    encoder.put(0, &long, true);
    desk.forge_value("result.results", 1, &compress(&encoder.octets).unwrap());
    let rows: Vec<_> = Job::open(&desk.job).unwrap().rows().next().unwrap().unwrap();
    let reply = rows[0].record.reply.as_deref().unwrap();
    assert!(reply.len() <= 2_051 && reply.ends_with("é…"), "{} octets", reply.len());
}

/// Turns a job into one of version 1.
fn make_old(desk: &Desk) {
    let old = desk.job.with_extension("old");
    let to = Connection::open(&old).unwrap();
    to.execute_batch(&format!(
        "PRAGMA page_size = 16384; PRAGMA application_id = {}; PRAGMA user_version = 1; {}",
        schema::APPLICATION_ID,
        schema::PLAIN
    ))
    .unwrap();
    let from = Sqlite::open(&desk.job, Access::Read).unwrap();
    let mut about: serde_json::Value = serde_json::from_str(&from.value("about").unwrap().unwrap()).unwrap();
    about["origins"][0].as_object_mut().unwrap().retain(|name, _| name != "hash" && name != "place");
    let took =
        LatencySummary { operation: "rcpt".into(), count: 40, p50: 20.0, p90: 20.0, p99: 20.0, max: 20.0 };
    let lanes =
        [serde_json::json!({ "name": "mx.a.test", "answered": 40, "blocked": "not wanted: go away" })];
    for (name, value) in [
        ("about", about.to_string()),
        ("chunks", from.value("chunks").unwrap().unwrap()),
        ("took", serde_json::to_string(&[took]).unwrap()),
        ("lanes", serde_json::to_string(&lanes).unwrap()),
    ] {
        to.execute("INSERT INTO value VALUES (?, ?)", (name, value)).unwrap();
    }
    for span in from.spans().unwrap() {
        let (rows, repeats) = (from.rows(span.segment).unwrap(), from.repeats().unwrap().remove(0));
        let sql = "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)";
        to.execute(sql, (span.segment, span.source, span.first, span.rows, repeats, rows)).unwrap();
        from.results(span.segment, &mut |results| {
            let sql = "INSERT INTO result (segment, count, results) VALUES (?, 40, ?)";
            to.execute(sql, (span.segment, results)).unwrap();
            Ok(())
        })
        .unwrap();
    }
    for head in from.chunks(0).unwrap() {
        let addresses = from.addresses(head.id).unwrap();
        let sql = "INSERT INTO chunk VALUES (?, ?, ?, ?, ?)";
        to.execute(sql, (head.id, head.segment, head.domain, head.count, addresses)).unwrap();
        if head.touched {
            to.execute("INSERT INTO touched VALUES (?)", [head.id]).unwrap();
        }
    }
    for it in from.due(i64::MAX, (i64::MIN, 0), 1_000).unwrap() {
        let sql = "INSERT INTO postponed VALUES (?, ?, ?, ?)";
        to.execute(sql, (it.row, it.due, it.attempts, it.address)).unwrap();
    }
    to.execute_batch("INSERT INTO catch_all VALUES ('a.test', 1), ('b.test', 2)").unwrap();
    to.close().unwrap();
    drop(from);
    fs::rename(old, &desk.job).unwrap();
}

fn rows_of(path: &Path) -> Vec<JobRow> {
    Job::open(path).unwrap().rows().flat_map(|rows| rows.unwrap()).collect()
}

#[test]
fn a_job_of_version_1_is_read_as_it_is_and_renewed_before_it_is_written() {
    let desk = Desk::new();
    let rows = rows_of(&desk.job);
    make_old(&desk);
    let octets = fs::read(&desk.job).unwrap();
    let old = Job::open(&desk.job).unwrap();
    assert_eq!(rows_of(&desk.job), rows);
    assert_eq!(old.check(&desk.sources(), KIND).unwrap(), MatchedBy::Time);
    assert_eq!((old.latencies().unwrap()[0].count, old.lanes().unwrap()[0].blocked.is_some()), (40, true));
    drop(old);
    assert_eq!(fs::read(&desk.job).unwrap(), octets, "a reader leaves it as it was");

    Job::remember(&desk.job, &desk.sources()).unwrap();
    assert_eq!(rows_of(&desk.job), rows);
    let new = Job::open(&desk.job).unwrap();
    assert!(new.info().lists[0].hash.is_some());
    assert_eq!(new.check(&desk.sources(), KIND).unwrap(), MatchedBy::Content, "it was just written");
    assert_eq!((new.latencies().unwrap()[0].count, new.lanes().unwrap()[0].blocked.is_some()), (40, true));
    drop(new);
    let progress = desk.run().unwrap();
    assert_eq!((progress.done(), progress.postponed), (90, 0));
    assert_eq!(fs::read_dir(desk.job.parent().unwrap()).unwrap().count(), 2, "the list and the job");
}

#[test]
fn an_old_job_is_renewed_by_a_run_and_by_a_retry_too() {
    let desk = Desk::new();
    make_old(&desk);
    assert_eq!(desk.run().unwrap().done(), 90);
    let desk = Desk::new();
    make_old(&desk);
    assert_eq!(Job::retry(&desk.job, |record| record.sub_status == SubStatus::MailboxNotFound).unwrap(), 56);
    // The modification time changes: version 1 stores nothing else about a list.
    let desk = Desk::new();
    make_old(&desk);
    File::options().append(true).open(&desk.list).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let checked = Job::open(&desk.job).unwrap().check(&desk.sources(), KIND);
    assert!(matches!(checked, Err(JobError::Changed(_))));
    assert!(Job::remember(&desk.job, &desk.sources()).is_err());
}

#[test]
fn a_failure_to_open_says_why() {
    let desk = Desk::new();
    let dir = desk.job.parent().unwrap();
    let message = |path: &Path| {
        let error = Job::open(path).unwrap_err();
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    };
    assert!(
        message(&dir.join("nothing.job")).contains("No such file"),
        "{}",
        message(&dir.join("nothing.job"))
    );
    assert!(message(dir).contains("it is a folder"));
    assert!(message(&desk.list).contains("it is not an SQLite file"));
    let other = dir.join("other.job");
    fs::write(&other, "").unwrap();
    assert!(message(&other).contains("it is empty"));
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(message(&other).contains("it is an SQLite database of another program"));
    let newer = Desk::new();
    Connection::open(&newer.job).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Job::open(&newer.job).unwrap_err();
    assert!(matches!(error, JobError::Newer(9)) && error.hint().unwrap().contains("use a version"));
    // A page in the middle.
    let mut octets = fs::read(&desk.job).unwrap();
    let len = octets.len();
    octets[3 * 16_384..4 * 16_384].fill(0xff);
    fs::write(&desk.job, &octets).unwrap();
    assert!(
        message(&desk.job).starts_with("the job is damaged: ") && len > 8 * 16_384,
        "{}",
        message(&desk.job)
    );
    assert!(message(&desk.job).contains('4'), "names the page: {}", message(&desk.job));
    #[cfg(unix)]
    {
        let fifo = dir.join("fifo.job");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(message(&fifo).contains("it is not a regular file"));
    }
}
