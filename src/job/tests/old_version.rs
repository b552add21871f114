//! Tests of jobs of version 1: they are read as they are, and renewed before they are written.

use super::*;

/// Turns a job into one of version 1.
fn make_old(half_done: &HalfDoneJob) {
    let old = half_done.job.with_extension("old");
    let to = Connection::open(&old).unwrap();
    to.execute_batch(&format!(
        "PRAGMA page_size = 16384; PRAGMA application_id = {}; PRAGMA user_version = 1; {}",
        schema::APPLICATION_ID,
        schema::PLAIN
    ))
    .unwrap();
    let from = Sqlite::open(&half_done.job, Access::Read).unwrap();
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
    fs::rename(old, &half_done.job).unwrap();
}

fn rows_of(path: &Path) -> Vec<JobRow> {
    Job::open(path).unwrap().rows().flat_map(|rows| rows.unwrap()).collect()
}

#[test]
fn a_job_of_version_1_is_read_as_it_is_and_renewed_before_it_is_written() {
    let half_done = HalfDoneJob::new();
    let rows = rows_of(&half_done.job);
    make_old(&half_done);
    let octets = fs::read(&half_done.job).unwrap();
    let old = Job::open(&half_done.job).unwrap();
    assert_eq!(rows_of(&half_done.job), rows);
    assert_eq!(old.check(&half_done.sources(), KIND).unwrap(), MatchedBy::Time);
    assert_eq!((old.latencies().unwrap()[0].count, old.lanes().unwrap()[0].blocked.is_some()), (40, true));
    drop(old);
    assert_eq!(fs::read(&half_done.job).unwrap(), octets, "a reader leaves it as it was");

    Job::remember(&half_done.job, &half_done.sources()).unwrap();
    assert_eq!(rows_of(&half_done.job), rows);
    let new = Job::open(&half_done.job).unwrap();
    assert!(new.info().lists[0].hash.is_some());
    assert_eq!(new.check(&half_done.sources(), KIND).unwrap(), MatchedBy::Content, "it was just written");
    assert_eq!((new.latencies().unwrap()[0].count, new.lanes().unwrap()[0].blocked.is_some()), (40, true));
    drop(new);
    let progress = half_done.run().unwrap();
    assert_eq!((progress.done(), progress.postponed), (90, 0));
    assert_eq!(fs::read_dir(half_done.job.parent().unwrap()).unwrap().count(), 2, "the list and the job");
}

#[test]
fn an_old_job_is_renewed_by_a_run_and_by_a_retry_too() {
    let half_done = HalfDoneJob::new();
    make_old(&half_done);
    assert_eq!(half_done.run().unwrap().done(), 90);
    let half_done = HalfDoneJob::new();
    make_old(&half_done);
    assert_eq!(
        Job::retry(&half_done.job, |record| record.sub_status == SubStatus::MailboxNotFound).unwrap(),
        56
    );
    // The modification time changes: version 1 stores nothing else about a list.
    let half_done = HalfDoneJob::new();
    make_old(&half_done);
    File::options().append(true).open(&half_done.list).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let checked = Job::open(&half_done.job).unwrap().check(&half_done.sources(), KIND);
    assert!(matches!(checked, Err(JobError::Changed(_))));
    assert!(Job::remember(&half_done.job, &half_done.sources()).is_err());
}
