//! CSV in a spreadsheet: no cell with text from a server is a formula.

use std::{collections::HashMap, fmt::Write as _, fs};

use serde_json::Value;
use tempfile::TempDir;

use super::{file, run, str_of};

/// Replies that a spreadsheet runs: at once, behind skipped characters, or split at `;`.
const FORMULAS: [&str; 12] = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\u{ff1d}1+1",
    "\u{ff0b}1",
    "\u{feff}=1",
    "\u{a0}=1",
    "'=1",
    "\"=1\",=2",
    "no such user;=cmd|' /C calc'!A0",
    "no such user\t+1; \"-1\"",
];
/// Replies that a spreadsheet does not run.
const HARMLESS: [&str; 4] =
    ["User unknown; try a-b=c", "'no' is no name", "5+5 - no such user", "no, =such user"];

/// Returns whether a spreadsheet runs the cell, or a part of it when it splits the cell.
fn runs(cell: &str) -> bool {
    let passed_over =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}' | '"');
    cell.split([';', '\t', '\r', '\n']).any(|part| {
        part.trim_start_matches(passed_over).starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
    })
}

/// Returns a host and a domain for each reply.
fn world(code: &str) -> String {
    let mut toml = String::new();
    for (n, reply) in FORMULAS.iter().chain(&HARMLESS).enumerate() {
        let reply = toml::Value::from(format!("{code} {reply}")).to_string();
        let _ = write!(
            toml,
            "[[host]]\nname = \"mx{n}.test\"\nfaults = [{{ at = \"rcpt\", does = {{ reply = {reply} }} }}]\n\
             [[domain]]\nname = \"d{n}.test\"\nhosts = [\"mx{n}.test\"]\n"
        );
    }
    toml
}

/// Returns a list with an address at each domain.
fn list(local: &str, column: &str, cell: &str) -> String {
    let mut list = format!("email,{column}\n");
    for n in 0..FORMULAS.len() + HARMLESS.len() {
        let _ = writeln!(list, "{local}{n}@d{n}.test,{cell}");
    }
    list
}

fn cells(path: &std::path::Path) -> (csv::StringRecord, Vec<HashMap<String, String>>) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    (header, reader.deserialize().map(Result::unwrap).collect())
}

#[tokio::test]
async fn no_reply_is_run() {
    let dir = TempDir::new().unwrap();
    let list = file(&dir, "list.csv", &list("u", "note", "x"));
    for (code, vocab, column, pointer) in [
        ("550 5.1.1", None, "reply", "/reply"),
        ("451 4.2.0", Some("reacher"), "error", "/smtp/error/message"),
    ] {
        let world = file(&dir, "world.toml", &world(code));
        let sandbox = format!("--sandbox={}", str_of(&world));
        let vocab: Vec<_> = vocab.into_iter().flat_map(|vocab| ["--vocab", vocab]).collect();
        let (out, text) = (dir.path().join("out.csv"), dir.path().join("out.jsonl"));
        let args = ["verify", str_of(&list), &sandbox, "-q", "--restart", "-o"];
        assert_eq!(run(&[&args[..], &[str_of(&out)], &vocab].concat()).await.code, Some(0));
        assert_eq!(run(&[&args[..], &[str_of(&text)], &vocab].concat()).await.code, Some(0));
        let records: Vec<Value> = fs::read_to_string(&text)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // The second output is read from the job.
        let again = dir.path().join("again.csv");
        let args = ["job", "export", str_of(&out), "-o", str_of(&again)];
        assert_eq!(run(&[&args[..], &vocab].concat()).await.code, Some(0));
        assert_eq!(fs::read(&again).unwrap(), fs::read(&out).unwrap());
        let (_, rows) = cells(&out);
        assert_eq!((rows.len(), records.len()), (16, 16));
        for ((row, record), said) in rows.iter().zip(&records).zip(FORMULAS.iter().chain(&HARMLESS)) {
            let (cell, exact) = (&row[column], record.pointer(pointer).unwrap().as_str().unwrap());
            // JSON has the exact text of the server.
            assert_eq!(exact, *said);
            assert!(!runs(cell), "{cell:?}");
            match HARMLESS.contains(said) {
                true => assert_eq!(cell, exact),
                false => assert_eq!(cell.replace('\'', ""), exact.replace('\'', ""), "only quotes are added"),
            }
        }
        assert_eq!(rows[0][column], "'=cmd|' /C calc'!A0");
        assert_eq!(rows[10][column], "no such user;'=cmd|' /C calc'!A0");
        // There is one `'` more than before, so that removing one restores the text.
        assert_eq!(rows[8][column], "''=1");
    }
}

#[tokio::test]
async fn cells_of_the_list_are_unchanged_without_the_option() {
    let dir = TempDir::new().unwrap();
    let list = file(&dir, "list.csv", &list("=u", "=note", "-5"));
    let world = file(&dir, "world.toml", &world("550 5.1.1"));
    let (sandbox, out) = (format!("--sandbox={}", str_of(&world)), dir.path().join("out.csv"));
    let verify = ["verify", str_of(&list), &sandbox, "-q", "-o", str_of(&out)];
    assert_eq!(run(&verify).await.code, Some(0));
    let (header, rows) = cells(&out);
    assert!(header.iter().any(|name| name == "=note"), "{header:?}");
    assert_eq!((&*rows[3]["=note"], &*rows[3]["address"]), ("-5", "=u3@d3.test"));
    assert_eq!((&*rows[3]["normal_form"], &*rows[3]["email"]), ("=u3@d3.test", "=u3@d3.test"));
    assert_eq!(rows[3]["reply"], "'@SUM(1)");

    let asked = dir.path().join("asked.csv");
    for command in ["results", "export"] {
        let done = run(&["job", command, str_of(&out), "--escape-formulas", "-o", str_of(&asked)]).await;
        assert_eq!(done.code, Some(0), "{}", done.err);
        let (header, rows) = cells(&asked);
        for cell in header.iter().chain(rows.iter().flat_map(HashMap::values).map(String::as_str)) {
            assert!(!runs(cell), "{cell}");
        }
        assert_eq!((&*rows[3]["'=note"], &*rows[3]["address"]), ("'-5", "'=u3@d3.test"));
    }
    let done = run(&[&verify[..], &["--restart", "--escape-formulas"]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let kept = |path| -> Vec<_> {
        let (_, mut rows) = cells(path);
        // The second run took another time.
        rows.iter_mut()
            .for_each(|row| ["duration_ms", "checked_at"].iter().for_each(|name| drop(row.remove(*name))));
        rows
    };
    assert_eq!(kept(&out), kept(&asked));
    for vocab in ["reacher", "zerobounce", "kickbox", "neverbounce"] {
        let args = ["job", "export", str_of(&out), "--vocab", vocab, "-o", str_of(&asked)];
        run(&args).await;
        let (_, rows) = cells(&asked);
        assert!(rows[3].values().any(|cell| cell == "=u3@d3.test"), "{vocab}");
        run(&[&args[..], &["--escape-formulas"]].concat()).await;
        let (header, rows) = cells(&asked);
        for cell in header.iter().chain(rows.iter().flat_map(HashMap::values).map(String::as_str)) {
            assert!(!runs(cell), "{vocab}: {cell}");
        }
    }
    // A spreadsheet does not read JSON.
    let done = run(&["job", "results", str_of(&out), "--escape-formulas"]).await;
    assert_eq!(
        (&done.records()[3]["address"], &done.records()[3]["=note"]),
        (&"=u3@d3.test".into(), &"-5".into())
    );
}

#[tokio::test]
async fn rows_of_json_are_cells_too() {
    let dir = TempDir::new().unwrap();
    let list = file(&dir, "list.jsonl", "{\"email\":\"=u@x.test\",\"note\":\"=1\"}\n\"=v@x.test\"\n");
    let out = dir.path().join("out.csv");
    let args = ["verify", "--syntax-only", "-q", str_of(&list), "--escape-formulas", "-o", str_of(&out)];
    assert_eq!(run(&args).await.code, Some(0));
    let (_, rows) = cells(&out);
    let cells: Vec<_> = rows.iter().flat_map(HashMap::values).collect();
    assert!(cells.iter().all(|cell| !runs(cell)), "{cells:?}");
    assert_eq!(rows[1]["address"], "'=v@x.test");
}

#[tokio::test]
async fn the_help_of_the_option_says_how_to_restore_the_text() {
    for command in [&["verify"][..], &["job", "results"], &["job", "export"]] {
        let help = run(&[command, &["--help"]].concat()).await.out;
        let option = help.split("--escape-formulas").nth(1).unwrap_or_default();
        assert!(option.contains('\'') && option.contains("remove"), "{command:?}: {help}");
    }
}
