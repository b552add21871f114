//! Tests of damaged files: each gives an error or is read correctly. `forged` has those that an attacker wrote.

mod forged;
mod old_version;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    encoding::{EntryEncoder, compress},
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
struct HalfDoneJob {
    _dir: TempDir,
    list: PathBuf,
    job: PathBuf,
}

const KIND: &str = "to try things";

impl HalfDoneJob {
    fn new() -> Self {
        // Use memory if there is such a folder: these tests open thousands of files, each with a sync.
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let (list, job) = (dir.path().join("list.csv"), dir.path().join("out.csv.job"));
        let row = |n: u32| format!("{n},user{}@{}.test,note {n}\n", n % 60, ["a", "b", "c"][n as usize % 3]);
        fs::write(&list, format!("id,email,note\n{}", (0..90).map(row).collect::<String>())).unwrap();
        let half_done = Self { _dir: dir, list, job };
        let sources = half_done.sources();
        let rows = Rows::open(sources.clone(), &Hints::default(), Box::new(|_, _, _| {})).unwrap();
        let created = Job::create(&half_done.job, &sources, rows, KIND).unwrap();
        assert_eq!((created.info().rows, created.info().invalid), (90, 0));
        drop(created);
        let mut store = Sqlite::open(&half_done.job, Access::Write).unwrap();
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
        assert_eq!(
            fs::read_dir(half_done.job.parent().unwrap()).unwrap().count(),
            2,
            "the log is in the job"
        );
        half_done
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::File(self.list.clone())]
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
    let half_done = HalfDoneJob::new();
    let wanted = all(&half_done.job).unwrap();
    let octets = fs::read(&half_done.job).unwrap();
    let mut file = File::options().write(true).open(&half_done.job).unwrap();
    let (mut tried, mut errors) = (0, 0);
    for (at, octet) in octets.iter().enumerate() {
        let of_header = at < 100;
        if *octet == 0 && !of_header && at % 97 != 0 {
            continue;
        }
        for turn in 0..if of_header { 8 } else { bits } {
            let bit = if of_header { turn } else { (at + turn) % 8 };
            write_octet(&mut file, at, octet ^ (1 << bit));
            match all(&half_done.job) {
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
    assert_eq!(all(&half_done.job).unwrap(), wanted);
    println!("{errors} of {tried} flipped bits were found; the others change nothing");
    assert!(errors > tried / 2 && tried > 2_000, "{errors} of {tried}");
}

#[test]
fn torn_and_scribbled_files_are_errors_and_no_panics() {
    let half_done = HalfDoneJob::new();
    let octets = fs::read(&half_done.job).unwrap();
    let wanted = all(&half_done.job).unwrap();
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
        fs::write(&half_done.job, scribbled).unwrap();
        if let Ok(found) = all(&half_done.job) {
            assert_eq!(found, wanted);
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(companions::companion_path(&half_done.job, suffix));
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
        let half_done = HalfDoneJob::new();
        Connection::open(&half_done.job).unwrap().execute_batch(sql).unwrap();
        assert!(matches!(Job::open(&half_done.job), Err(JobError::Foreign(_))), "{sql}");
        assert!(matches!(half_done.run(), Err(JobError::Foreign(_))), "{sql}");
        assert!(Job::retry(&half_done.job, |_| true).is_err(), "{sql}");
    }
}

#[test]
fn a_failure_to_open_says_why() {
    let half_done = HalfDoneJob::new();
    let dir = half_done.job.parent().unwrap();
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
    assert!(message(&half_done.list).contains("it is not an SQLite file"));
    let other = dir.join("other.job");
    fs::write(&other, "").unwrap();
    assert!(message(&other).contains("it is empty"));
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(message(&other).contains("it is an SQLite database of another program"));
    let newer = HalfDoneJob::new();
    Connection::open(&newer.job).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Job::open(&newer.job).unwrap_err();
    assert!(matches!(error, JobError::Newer(9)) && error.hint().unwrap().contains("use a version"));
    // A page in the middle.
    let mut octets = fs::read(&half_done.job).unwrap();
    let len = octets.len();
    octets[3 * 16_384..4 * 16_384].fill(0xff);
    fs::write(&half_done.job, &octets).unwrap();
    assert!(
        message(&half_done.job).starts_with("the job is damaged: ") && len > 8 * 16_384,
        "{}",
        message(&half_done.job)
    );
    assert!(message(&half_done.job).contains('4'), "names the page: {}", message(&half_done.job));
    #[cfg(unix)]
    {
        let fifo = dir.join("fifo.job");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(message(&fifo).contains("it is not a regular file"));
    }
}
