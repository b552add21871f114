//! Reads every list of `tests/lists`, and compares what was understood with the file of expectations beside it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use smtp_pool::job::input::{CellAddress, Hints, Row, Rows, Shape, Source};

/// Returns the lists and their expectations.
fn lists() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists");
    let mut lists = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().ends_with(".expected.json") {
            continue;
        }
        let mut expected = path.clone().into_os_string();
        expected.push(".expected.json");
        let expected = File::open(&expected).unwrap_or_else(|_| panic!("{}: no expectation", path.display()));
        lists.push((path, serde_json::from_reader(expected).unwrap()));
    }
    lists.sort_by(|one, other| one.0.cmp(&other.0));
    lists
}

fn hints(expected: &Value) -> Hints {
    let given = &expected["hints"];
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let columns = given["column"].as_array().into_iter().flatten();
    let mut hints = Hints::default();
    hints.format = text("format").map(|format| format.parse().unwrap());
    hints.columns = columns.map(|name| name.as_str().unwrap().into()).collect();
    hints.delimiter = text("delimiter").map(|delimiter| delimiter.as_bytes()[0]);
    hints.header = given["header"].as_bool();
    hints.skip = given["skip"].as_u64().unwrap_or(0);
    (hints.encoding, hints.sheet) = (text("encoding"), text("sheet"));
    hints
}

/// Returns the cells of a row. Values of JSON are shown as they are written.
fn cells(shape: &Shape, row: &Row) -> Map<String, Value> {
    let members = shape.members(&row.written);
    if !members.is_empty() {
        return members
            .into_iter()
            .map(|(name, text)| (name, String::from_utf8(text).unwrap().into()))
            .collect();
    }
    shape.fields(&row.written).into_iter().map(|(name, value)| (name.into_owned(), value)).collect()
}

/// Compares a list with its expectation. Returns what differs.
fn differences(path: &Path, expected: &Value) -> Vec<String> {
    let opened = Rows::open(vec![Source::File(path.into())], &hints(expected), Box::new(|_, _, _| {}));
    let mut rows = match opened {
        Ok(rows) => rows,
        Err(error) => return refused(&error, expected),
    };
    let (tracker, shape) = (rows.tracker(), rows.shapes()[0].clone());
    let recognition = rows.recognitions()[0].clone();
    let read: Vec<Row> = rows.by_ref().collect();
    if let Some(error) = tracker.failure() {
        return refused(&error, expected);
    }
    let asked: Vec<Value> = read
        .iter()
        .map(|row| if row.mailbox.is_some() { row.question().into() } else { Value::Null })
        .collect();
    let given: Vec<Value> = read.iter().map(|row| row.address.as_str().into()).collect();
    let meant: Vec<Value> =
        read.iter().map(|row| CellAddress::of(&row.address).did_you_mean.into()).collect();
    let columns: Vec<Value> = recognition.dialect.address_columns().map(Value::from).collect();
    let cells: Vec<Value> = read.iter().map(|row| Value::Object(cells(&shape, row))).collect();
    let mut found: Vec<(&str, Value)> = vec![
        ("understood", recognition.dialect.to_string().into()),
        ("columns", columns.into()),
        ("records", read.len().into()),
        ("asked", asked.into()),
        ("given", given.into()),
        ("did_you_mean", meant.into()),
        ("cells", cells.into()),
    ];
    // The other facts are not the purpose of this list.
    found.retain(|(name, _)| expected.get(*name).is_some());
    let differ = found.iter().filter(|(name, found)| expected[*name] != *found);
    let mut differ: Vec<String> = differ
        .map(|(name, found)| format!("{name}\n   expected {}\n      found {found}", expected[*name]))
        .collect();
    if expected.get("error").is_some() {
        differ.push("there is no error".into());
    }
    differ
}

fn refused(error: &smtp_pool::job::JobError, expected: &Value) -> Vec<String> {
    let hint = error.hint().unwrap_or_default().to_owned();
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let is_expected = expected["error"].as_str().is_some_and(|expected| text.contains(expected));
    let is_hint = expected["hint"].as_str().is_none_or(|expected| hint.contains(expected));
    if is_expected && is_hint { Vec::new() } else { vec![format!("{text}; hint: {hint}")] }
}

#[test]
fn every_list_is_understood() {
    let lists = lists();
    assert!(lists.len() >= 80, "{} lists", lists.len());
    let mut report = String::new();
    for (path, expected) in lists {
        for difference in differences(&path, &expected) {
            report.push_str(&format!("{}: {difference}\n", path.file_name().unwrap().display()));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
