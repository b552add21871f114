//! Cleaned lists: rows are copied octet by octet, and no file is destroyed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use proptest::{prelude::*, test_runner::Config};
use tempfile::TempDir;

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").current_dir(dir).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn done(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[track_caller]
fn refused(dir: &Path, args: &[&str], part: &str) {
    let output = run(dir, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(error.contains(part), "{part} is not in {error}");
}

/// A piece of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Lines before the first row, or between rows.
    Between,
    /// A row with an address.
    Valid,
    /// A row without an address.
    Invalid,
}

/// Returns a list, with its extension.
fn lists() -> impl Strategy<Value = (&'static str, Vec<(Part, String)>)> {
    let end = || prop::sample::select(vec!["\n", "\r\n"]);
    let bom = || prop::sample::select(vec!["", "\u{feff}"]);
    let name = || "[a-z]{1,6}";
    let blank = || ("[ \t]{0,2}", end()).prop_map(|(blank, end)| (Part::Between, blank + end));
    let address = move || (name(), name()).prop_map(|(local, domain)| format!("{local}@{domain}.test"));

    let row = prop_oneof![
        4 => (" {0,2}", address(), " {0,2}", end())
            .prop_map(|(before, address, after, end)| (Part::Valid, before + &address + &after + end)),
        1 => ("[a-z ü]{1,8}", end()).prop_map(|(text, end)| (Part::Invalid, format!("x{text}{end}"))),
        1 => ("# [a-zé]{0,5}", end()).prop_map(|(comment, end)| (Part::Between, comment + end)),
        1 => blank(),
    ];
    // The first row shows the format.
    let text =
        (bom(), address(), end(), prop::collection::vec(row, 0..8)).prop_map(|(bom, first, end, rows)| {
            [vec![(Part::Valid, format!("{bom}{first}{end}"))], rows].concat()
        });

    let cell = move |delimiter: &'static str| {
        prop_oneof![
            "[a-zü0-9]{0,6}".prop_map(|text| text),
            (name(), name()).prop_map(move |(one, other)| format!("\"{one}{delimiter} \"\"{other}\"\"\"")),
            (name(), end(), name()).prop_map(|(one, end, other)| format!("\"{one}{end}{other}\"")),
        ]
    };
    let csv = move |delimiter: &'static str| {
        let row = (address(), cell(delimiter), cell(delimiter), end(), any::<bool>()).prop_map(
            move |(address, one, other, end, valid)| {
                let (part, address) =
                    if valid { (Part::Valid, address) } else { (Part::Invalid, "none".into()) };
                (part, [&*one, &address, &other].join(delimiter) + end)
            },
        );
        let header = (bom(), end()).prop_map(move |(bom, end)| {
            (Part::Between, [bom, "id", delimiter, "E-Mail", delimiter, "Ort", end].concat())
        });
        (header, prop::collection::vec(row, 0..8)).prop_map(|(header, rows)| [vec![header], rows].concat())
    };

    let object = prop_oneof![
        4 => (address(), "[a-zü]{0,4}", end())
            .prop_map(|(address, note, end)| (Part::Valid, format!("{{\"n\": 1.50, \"email\":\"{address}\" ,\"x\":\"{note}\"}}{end}"))),
        1 => end().prop_map(|end| (Part::Invalid, format!("{{\"email\": null}}{end}"))),
        1 => blank(),
    ];
    let jsonl = (bom(), prop::collection::vec(object, 0..8)).prop_map(|(bom, objects)| {
        let mut objects =
            [vec![(Part::Valid, "{\"email\":\"first@x.test\"}\n".to_owned())], objects].concat();
        objects[0].1.insert_str(0, bom);
        objects
    });
    prop_oneof![
        text.prop_map(|list| ("txt", list)),
        csv(",").prop_map(|list| ("csv", list)),
        csv(";").prop_map(|list| ("csv", list)),
        csv("\t").prop_map(|list| ("tsv", list)),
        jsonl.prop_map(|list| ("jsonl", list)),
    ]
}

#[test]
fn a_list_with_every_row_kept_is_the_same_octet_by_octet() {
    let config = Config { cases: 32, max_shrink_iters: 200, ..Config::default() };
    proptest!(config, |((extension, mut parts) in lists(), ended in any::<bool>())| {
        // The last line may lack its end.
        if let (false, Some((_, last))) = (ended, parts.last_mut()) {
            let len = last.trim_end_matches(['\n', '\r']).len();
            last.truncate(len);
        }
        let dir = TempDir::new().unwrap();
        let list: String = parts.iter().map(|(_, octets)| octets.as_str()).collect();
        let name = format!("list.{extension}");
        fs::write(dir.path().join(&name), &list).unwrap();
        let out = format!("out.{extension}");
        // Most rows may be damaged, so the list does not tell where its addresses are.
        let hint = match extension {
            "txt" => ["--format", "text"],
            "jsonl" => ["--column", "email"],
            _ => ["--column", "E-Mail"],
        };
        let clean = [&["clean", &name, "--syntax-only", "-q", "--keep", "all", "-o", &out], &hint[..]];
        done(dir.path(), &clean.concat());
        prop_assert_eq!(fs::read_to_string(dir.path().join(&out)).unwrap(), list);

        // Blank lines of CSV belong to the row before them.
        let job = format!("{out}.job");
        for (keep, part) in [("unknown", Part::Valid), ("undeliverable", Part::Invalid)] {
            let results = [&["job", "results", &job, "--clean", "--keep", keep], &hint[..]];
            let kept = done(dir.path(), &results.concat());
            let wanted = parts.iter().filter(|(this, _)| *this == part || *this == Part::Between);
            let wanted: String = wanted.map(|(_, octets)| octets.as_str()).collect();
            prop_assert_eq!(String::from_utf8(kept).unwrap(), wanted);
        }
    });
}

struct CleanSpace {
    dir: TempDir,
}

impl CleanSpace {
    fn new(list: impl AsRef<[u8]>) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("list.csv"), list).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    #[track_caller]
    fn clean(&self, args: &[&str]) -> Vec<u8> {
        done(self.dir.path(), &[&["clean", "list.csv", "--sandbox", "-q"], args].concat())
    }
}

const LIST: &str = "id;email;note\r\n\
    1;ann@good.test;\"a;b\"\r\n\
    2;ghost.1@good.test;x\r\n\
    3;Ann@good.test;again\r\n\
    4;no address;x\r\n\
    5;ann@catchall.test;x";

#[test]
fn rows_are_kept_by_their_verdict() {
    let space = CleanSpace::new(LIST);
    space.clean(&["-o", "clean.csv"]);
    assert_eq!(
        space.text("clean.csv"),
        "id;email;note\r\n1;ann@good.test;\"a;b\"\r\n3;Ann@good.test;again\r\n"
    );
    let results = |args: &[&str]| {
        let args = [&["job", "results", "clean.csv", "--clean"], args].concat();
        String::from_utf8(done(space.dir.path(), &args)).unwrap()
    };
    assert_eq!(results(&["--keep", "all"]), LIST);
    assert_eq!(
        results(&["--keep", "deliverable", "--unique"]),
        "id;email;note\r\n1;ann@good.test;\"a;b\"\r\n"
    );
    assert_eq!(results(&["--keep", "risky:catch_all"]), "id;email;note\r\n5;ann@catchall.test;x");
    assert_eq!(results(&["--keep", "failed_syntax_check"]), "id;email;note\r\n4;no address;x\r\n");
    assert_eq!(
        results(&["--keep", "all", "--domain", "CATCHALL.test"]),
        "id;email;note\r\n5;ann@catchall.test;x"
    );
    let refused = |args: &[&str], part| refused(space.dir.path(), args, part);
    refused(&["job", "results", "clean.csv", "--keep", "all"], "only --clean has this option");
    refused(&["job", "results", "clean.csv", "--clean", "--keep", "good"], "there is no such verdict");
    refused(&["clean", "list.csv", "-o", "x.csv", "--vocab", "kickbox"], "a cleaned list holds no records");
    refused(&["clean", "ann@good.test", "-o", "x.csv"], "clean takes one list");
}

#[test]
fn a_list_is_split_by_status() {
    let space = CleanSpace::new(LIST);
    space.clean(&["--split", "parts/"]);
    let header = "id;email;note\r\n";
    for (name, rows) in [
        ("deliverable", "1;ann@good.test;\"a;b\"\r\n3;Ann@good.test;again\r\n"),
        ("undeliverable", "2;ghost.1@good.test;x\r\n4;no address;x\r\n"),
        ("risky", "5;ann@catchall.test;x"),
        ("unknown", ""),
    ] {
        assert_eq!(space.text(&format!("parts/{name}.csv")), format!("{header}{rows}"), "{name}");
    }
    assert!(space.at("parts.job").is_file());
}

#[test]
fn a_cleaned_list_may_go_to_standard_output() {
    let space = CleanSpace::new(LIST);
    for output in [&["-o", "-"][..], &["-o", "/dev/stdout"], &[]] {
        let out = space.clean(&[output, &["--keep", "risky"]].concat());
        assert_eq!(String::from_utf8(out).unwrap(), "id;email;note\r\n5;ann@catchall.test;x", "{output:?}");
    }
    // Its job is gone.
    assert_eq!(fs::read_dir(space.dir.path()).unwrap().count(), 1);
}

#[test]
fn no_file_is_replaced_unless_asked() {
    let space = CleanSpace::new(LIST);
    fs::write(space.at("clean.csv"), "precious\n").unwrap();
    let clean = |args: &[&str], part| {
        refused(space.dir.path(), &[&["clean", "list.csv", "--sandbox", "-q"], args].concat(), part);
    };
    clean(&["-o", "clean.csv"], "--replace");
    assert_eq!(space.text("clean.csv"), "precious\n");
    for replace in [&[][..], &["--replace"]] {
        clean(&[&["-o", "list.csv"], replace].concat(), "this is the list");
    }
    assert_eq!(space.text("list.csv"), LIST);
    space.clean(&["-o", "clean.csv", "--replace"]);
    assert!(space.text("clean.csv").starts_with("id;email;note\r\n1;"));
}

#[test]
fn octets_that_are_not_utf_8_stay() {
    let list = b"name;email\nM\xfcller;ann@good.test\nx;ghost.1@good.test\n";
    let space = CleanSpace::new(list);
    let kept = space.clean(&["-o", "-"]);
    assert_eq!(kept, b"name;email\nM\xfcller;ann@good.test\n");
}

#[test]
fn a_changed_list_is_refused() {
    let space = CleanSpace::new(LIST);
    space.clean(&["-o", "clean.csv"]);
    fs::write(space.at("list.csv"), LIST.replace("2;ghost.1", "2;ghost.2")).unwrap();
    refused(space.dir.path(), &["job", "results", "clean.csv", "--clean"], "it has changed");
    fs::remove_file(space.at("list.csv")).unwrap();
    refused(space.dir.path(), &["job", "results", "clean.csv", "--clean"], "this list is gone");
}

#[test]
fn the_columns_of_the_list_may_come_first() {
    let space = CleanSpace::new(LIST);
    let verify = |args: &[&str]| {
        done(space.dir.path(), &[&["verify", "list.csv", "--sandbox", "-q"], args].concat());
    };
    verify(&["-o", "out.csv", "--append", "--bom", "--csv-delimiter", "semicolon"]);
    let text = space.text("out.csv");
    assert!(text.starts_with("\u{feff}id;email;note;address;status;sub_status;"), "{text}");
    assert!(text.contains("\n1;ann@good.test;\"a;b\";ann@good.test;deliverable;accepted;"), "{text}");
    // The same command replaces its own output.
    verify(&["-o", "out.csv", "--append", "--bom", "--csv-delimiter", "semicolon", "--restart"]);
    assert_eq!(space.text("out.csv").lines().count(), text.lines().count());

    verify(&["-o", "out.tsv"]);
    assert!(space.text("out.tsv").starts_with("address\tstatus\tsub_status\t"));
    verify(&["-o", "out.jsonl", "--append"]);
    let first = space.text("out.jsonl").lines().next().unwrap().to_owned();
    assert!(
        first.starts_with("{\"id\":\"1\",\"email\":\"ann@good.test\",\"note\":\"a;b\",\"address\":"),
        "{first}"
    );
    assert!(serde_json::from_str::<serde_json::Value>(&first).is_ok(), "{first}");
    refused(
        space.dir.path(),
        &["verify", "list.csv", "--syntax-only", "-q", "-o", "x.jsonl", "--bom"],
        "--bom: JSONL has no such thing",
    );
}

#[test]
fn rows_are_selected_by_verdict_domain_and_provider() {
    let space = CleanSpace::new(LIST);
    done(space.dir.path(), &["verify", "list.csv", "--sandbox", "-q", "-o", "out.csv"]);
    let ids = |args: &[&str]| -> Vec<String> {
        let out = done(space.dir.path(), &[&["job", "results", "out.csv"], args].concat());
        let lines = String::from_utf8(out).unwrap();
        let id = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        };
        lines.lines().map(id).collect()
    };
    assert_eq!(ids(&[]), ["1", "2", "3", "4", "5"]);
    assert_eq!(ids(&["--status", "risky,mailbox_not_found"]), ["2", "5"]);
    assert_eq!(ids(&["--domain", "GOOD.test", "--status", "deliverable"]), ["1", "3"]);
    assert_eq!(ids(&["--provider", "mx.good.test", "--status", "catch_all"]), ["5"]);
    assert_eq!(ids(&["--provider", "google"]), [""; 0]);
    let retry = |args: &[&str]| {
        let out = done(space.dir.path(), &[&["job", "retry", "out.csv"], args].concat());
        String::from_utf8(out).unwrap()
    };
    assert!(retry(&[]).starts_with("0 rows are to be asked again"));
    assert!(
        retry(&["--status", "all", "--domain", "catchall.test"]).starts_with("1 row is to be asked again")
    );
}

#[test]
fn a_bounce_rate_above_the_gate_ends_with_4() {
    let space = CleanSpace::new(LIST);
    for (limit, code) in [("bounce=39%", 4), ("bounce=40%", 0)] {
        let args = ["verify", "list.csv", "--sandbox", "-q", "--gate", limit, "-o", "-"];
        let output = run(space.dir.path(), &args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert_eq!(error.contains("bounce rate is 40.0 %"), code == 4, "{error}");
    }
}

#[test]
fn progress_in_json_is_json_only_with_an_event_at_the_end() {
    let space = CleanSpace::new(LIST);
    let events = |args: &[&str], code| -> Vec<serde_json::Value> {
        let output = run(space.dir.path(), &[&["verify", "list.csv", "--json-progress"], args].concat());
        assert_eq!(output.status.code(), Some(code));
        let lines = String::from_utf8(output.stderr).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let done = events(&["--sandbox", "-o", "out.csv"], 0);
    let last = done.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"], &last["done"]), (&"end".into(), &0.into(), &5.into()));
    assert!(done.iter().any(|event| event["event"] == "message"), "{done:?}");
    let failed = events(&["--syntax-only", "-o", "out.csv"], 2);
    assert_eq!(failed.last().unwrap()["event"], "error");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let space = CleanSpace::new("precious\n");
    let script = done(space.dir.path(), &["completions", "bash"]);
    assert!(String::from_utf8(script).unwrap().contains("--json-progress"));
    for _ in 0..2 {
        done(space.dir.path(), &["manual", "man1"]);
        assert!(space.text("man1/smtp-pool-job-results.1").contains("smtp\\-pool\\-job\\-results"));
    }
    fs::write(space.at("man1/smtp-pool.1"), "mine").unwrap();
    refused(space.dir.path(), &["manual", "man1"], "smtp-pool did not write it");
}

#[test]
fn settings_are_defaults_and_say_where_they_come_from() {
    let space = CleanSpace::new("ann@good.test\n");
    let config = |name: Option<&str>| -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
        command
            .args(["config", "--json"])
            .current_dir(space.dir.path())
            .env("XDG_CONFIG_HOME", space.at("xdg"));
        if let Some(name) = name {
            command.env("SMTP_POOL_HELO", name);
        }
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    let values = |config: &serde_json::Value, key: &str| {
        (config[key]["values"][0].clone(), config[key]["from"].clone())
    };
    assert_eq!(values(&config(None), "port"), ("25".into(), "default".into()));
    fs::create_dir_all(space.at("xdg/smtp-pool")).unwrap();
    fs::write(space.at("xdg/smtp-pool/config.toml"), "helo = 'user.example.org'\nport = 2525\n").unwrap();
    fs::write(space.at("smtp-pool.toml"), "helo = 'folder.example.org'\n").unwrap();
    let found = config(None);
    assert_eq!(values(&found, "helo"), ("folder.example.org".into(), "smtp-pool.toml".into()));
    assert_eq!(values(&found, "port").0, "2525");
    let found = config(Some("env.example.org"));
    assert_eq!(values(&found, "helo"), ("env.example.org".into(), "SMTP_POOL_HELO".into()));
    fs::write(space.at("smtp-pool.toml"), "port = 'x'\n").unwrap();
    refused(space.dir.path(), &["verify", "--syntax-only", "list.csv"], "smtp-pool.toml: invalid value 'x'");
}
