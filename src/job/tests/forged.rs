//! Tests of forged jobs: their checksums are correct and their values are absurd.

use rusqlite::types::Value;

use super::*;
use crate::job::{
    checksum::{row_sum, with_checksum},
    encoding::put_number,
};

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

impl HalfDoneJob {
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
        let half_done = HalfDoneJob::new();
        half_done.forge(&sql);
        let began = Instant::now();
        assert_eq!(all(&half_done.job).is_err(), when_read, "{sql}");
        assert!(half_done.run().is_err(), "{sql}");
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
    let (half_done, mut tried) = (HalfDoneJob::new(), 0);
    let octets = fs::read(&half_done.job).unwrap();
    // The run waits for a time within the hour.
    for (table, column) in columns.filter(|(_, column)| *column != "due") {
        for value in values {
            fs::write(&half_done.job, &octets).unwrap();
            // One row of each table is enough.
            let sql = format!(
                "UPDATE OR IGNORE {table} SET {column} = {value} \
                 WHERE {column} = (SELECT max({column}) FROM {table})"
            );
            let connection = Connection::open(&half_done.job).unwrap();
            if connection.execute_batch(&sql).is_err() {
                // The row number is an integer primary key.
                continue;
            }
            correct_sums(&connection);
            drop(connection);
            let began = Instant::now();
            let _ = (all(&half_done.job), half_done.run(), all(&half_done.job));
            assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn a_far_due_time_is_brought_forward() {
    for due in ["9223372036854775807", "-9223372036854775808", "4102444800000", "0"] {
        let half_done = HalfDoneJob::new();
        half_done.forge(&format!("UPDATE postponed SET due = {due}"));
        let mut store = Sqlite::open(&half_done.job, Access::Write).unwrap();
        let latest = feeder::now();
        store.bring_forward(latest).unwrap();
        let found = store.due(i64::MAX, (i64::MIN, 0), 100).unwrap();
        assert_eq!(found.len(), 8, "{due}");
        assert!(found.iter().all(|it| (0..=latest).contains(&it.due)), "{due}: {found:?}");
    }
    // A run does so at its start, up to the longest pause of its schedule.
    let half_done = HalfDoneJob::new();
    half_done.forge("UPDATE postponed SET due = 9223372036854775807");
    let _ = half_done.start(|_| ());
    let store = Sqlite::open(&half_done.job, Access::Read).unwrap();
    let hour = feeder::now() + 3_600_000;
    assert!(store.due(hour, (i64::MIN, 0), 100).unwrap().len() == 8);
    // A near due time does not change.
    let half_done = HalfDoneJob::new();
    let mut store = Sqlite::open(&half_done.job, Access::Write).unwrap();
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
        let half_done = HalfDoneJob::new();
        let row = if column.starts_with("result") { 1 } else { 0 };
        half_done.forge_value(column, row, &encoded);
        let began = Instant::now();
        let ends = half_done.run().is_err()
            || Job::open(&half_done.job)
                .and_then(|job| job.rows().collect::<error::Result<Vec<_>>>())
                .is_err();
        assert!(ends, "{column} of {} octets", encoded.len());
        assert!(began.elapsed() < Duration::from_secs(30), "{column}: {:?}", began.elapsed());
    }
}

#[test]
fn long_texts_are_cut_when_they_are_read() {
    let half_done = HalfDoneJob::new();
    let mut encoder = EntryEncoder::default();
    let long = Record { reply: Some("é".repeat(1 << 20).into()), ..record(0) };
    encoder.put(0, &long, true);
    half_done.forge_value("result.results", 1, &compress(&encoder.octets).unwrap());
    let rows: Vec<_> = Job::open(&half_done.job).unwrap().rows().next().unwrap().unwrap();
    let reply = rows[0].record.reply.as_deref().unwrap();
    assert!(reply.len() <= 2_051 && reply.ends_with("é…"), "{} octets", reply.len());
}
