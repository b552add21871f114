//! Lists with many columns: each column is written under a name of its own, and the time grows linearly.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The limit for a debug build on a busy machine. Quadratic time would be minutes.
const SECONDS: Duration = Duration::from_secs(60);

#[track_caller]
fn done(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(dir: &TempDir, name: &str, text: String) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Returns a list with the address and further columns. A cell holds the numbers of its row and its column.
fn list(prefix: &str, columns: usize, rows: usize) -> String {
    let header: String = (1..=columns).map(|n| format!(",{prefix}{n}")).collect();
    let row = |row: usize| {
        let cells: String = (1..=columns).map(|n| format!(",{row}.{n}")).collect();
        format!("{prefix}{row}@x.test{cells}\n")
    };
    format!("email{header}\n{}", (0..rows).map(row).collect::<String>())
}

fn records(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let texts = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    let header = texts(reader.headers().unwrap());
    (header, reader.records().map(|record| texts(&record.unwrap())).collect())
}

/// The fields of the record itself, and the column with the address.
const FIELDS: usize = 19;

#[test]
fn a_list_of_140_001_columns_takes_seconds() {
    const COLUMNS: usize = 140_000;
    let started = Instant::now();
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "list.csv", list("column_", COLUMNS, 3));
    let out = dir.path().join("out.csv");
    done(&["verify", "--syntax-only", "-q", str_of(&path), "-o", str_of(&out)]);
    let (header, rows) = records(&out);
    assert_eq!((header.len(), rows.len()), (FIELDS + 1 + COLUMNS, 3));
    assert_eq!((&*header[FIELDS], &*header[FIELDS + COLUMNS]), ("email", "column_140000"));
    assert_eq!((&*rows[2][0], &*rows[2][FIELDS + COLUMNS]), ("column_2@x.test", "2.140000"));

    let text = done(&["job", "export", str_of(&out)]);
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((objects.len(), objects[1].as_object().unwrap().len()), (3, FIELDS + 1 + COLUMNS));
    assert_eq!(objects[1]["column_140000"], "1.140000");
    let text = done(&["job", "results", str_of(&out), "--vocab", "kickbox"]);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["column_140000"], &last["input_email"]),
        (&"2.140000".into(), &"column_2@x.test".into())
    );
    done(&["job", "diff", str_of(&out), str_of(&out)]);
    assert!(started.elapsed() < SECONDS, "{:?}", started.elapsed());
}

#[test]
fn two_lists_of_20_000_columns_take_seconds() {
    const COLUMNS: usize = 20_000;
    let started = Instant::now();
    let dir = TempDir::new().unwrap();
    let lists = ["a", "b"].map(|prefix| file(&dir, &format!("{prefix}.csv"), list(prefix, COLUMNS, 20)));
    let out = dir.path().join("out.csv");
    done(&["verify", "--syntax-only", "-q", str_of(&lists[0]), str_of(&lists[1]), "-o", str_of(&out)]);
    let (header, rows) = records(&out);
    assert_eq!((header.len(), rows.len()), (FIELDS + 1 + 2 * COLUMNS, 40));
    let cells = |row: usize| [0, 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS].map(|n| &*rows[row][FIELDS + n]);
    // Both lists have the column with the address.
    assert_eq!(cells(19), ["a19@x.test", "19.1", "19.20000", "", ""]);
    assert_eq!(cells(39), ["b19@x.test", "", "", "19.1", "19.20000"]);
    assert!(started.elapsed() < SECONDS, "{:?}", started.elapsed());
}

#[test]
fn objects_of_many_and_of_different_keys_take_seconds() {
    const KEYS: usize = 50_000;
    let started = Instant::now();
    let dir = TempDir::new().unwrap();
    let row = |row: usize| {
        let keys: String = (0..KEYS).map(|n| format!(",\"k{}\":{row}", row * KEYS + n)).collect();
        format!("{{\"email\":\"a{row}@x.test\",\"address\":1,\"input_address\":2{keys}}}\n")
    };
    let objects = file(&dir, "list.jsonl", (0..5).map(row).collect());
    let columns = file(&dir, "list.csv", list("input", 10, 1));
    let out = dir.path().join("out.csv");
    let text = done(&["verify", "--syntax-only", "-q", "--keep-order", str_of(&objects)]);
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (n, object) in found.iter().enumerate() {
        let object = object.as_object().unwrap();
        assert_eq!(object.len(), FIELDS + 3 + KEYS);
        assert_eq!((&object["input_input_address"], &object["input_address"]), (&1.into(), &2.into()));
        assert_eq!(object[&format!("k{}", n * KEYS + KEYS - 1)], n);
    }
    // In CSV the objects are one column.
    done(&["verify", "--syntax-only", "-q", str_of(&columns), str_of(&objects), "-o", str_of(&out)]);
    let (header, rows) = records(&out);
    assert_eq!((header.len(), &*header[header.len() - 1]), (FIELDS + 1 + 10 + 1, "input"));
    assert_eq!((&*rows[0][FIELDS + 10], &*rows[0][FIELDS + 11]), ("0.10", ""));
    let object: Value = serde_json::from_str(&rows[5][FIELDS + 11]).unwrap();
    assert_eq!(object.as_object().unwrap().len(), 3 + KEYS);
    assert!(started.elapsed() < SECONDS, "{:?}", started.elapsed());
}

#[test]
fn columns_of_the_same_name_are_all_passed_on() {
    let dir = TempDir::new().unwrap();
    let text = "email,tag,tag,address,input_address,tag_2\na@x.test,1,2,3,4,5\n";
    let path = file(&dir, "list.csv", text.into());
    let other = file(&dir, "other.csv", "tag,email,tag\n6,b@x.test,7\n".into());
    let names = ["email", "tag", "tag_3", "input_address_2", "input_address", "tag_2"];
    let out = dir.path().join("out.csv");
    done(&["verify", "--syntax-only", "-q", str_of(&path), str_of(&other), "-o", str_of(&out)]);
    let (header, rows) = records(&out);
    assert_eq!(header[FIELDS..], names);
    assert_eq!(header.iter().collect::<HashSet<_>>().len(), header.len());
    assert_eq!(rows[0][FIELDS..], ["a@x.test", "1", "2", "3", "4", "5"]);
    assert_eq!(rows[1][FIELDS..], ["b@x.test", "6", "", "", "", "7"]);
    let text = done(&["job", "results", str_of(&out)]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].ends_with(
            r#","email":"a@x.test","tag":"1","tag_3":"2","input_address_2":"3","input_address":"4","tag_2":"5"}"#
        ),
        "{text}"
    );
    assert!(lines[1].ends_with(r#","tag":"6","email":"b@x.test","tag_2":"7"}"#), "{text}");
}
