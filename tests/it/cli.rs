//! Runs the command as a user does.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use smtp_pool::sandbox::{DomainConfig, HostConfig, Sandbox, World};
use tempfile::TempDir;

struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandOutput {
    fn records(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run_with(args: &[&str], input: &[u8]) -> CommandOutput {
    let mut child = command(args).spawn().unwrap();
    // A command that rejects its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    CommandOutput {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> CommandOutput {
    run_with(args, b"")
}

fn file(dir: &TempDir, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, octets).unwrap();
    path
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// Returns the addresses of the records of a list, sorted.
#[track_caller]
fn addresses(done: &CommandOutput) -> Vec<String> {
    assert_eq!(done.code, Some(0), "{}", done.err);
    let mut found: Vec<_> =
        done.records().iter().map(|record| record["address"].as_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn every_row_of_the_example_gets_its_verdict() {
    let done = run(&["verify", "--sandbox", "examples/addresses.csv"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let found: HashMap<String, Vec<(String, String)>> =
        done.records().into_iter().fold(HashMap::new(), |mut found, record| {
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            found.entry(text("address")).or_default().push((text("status"), text("sub_status")));
            found
        });
    let mut list = csv::Reader::from_path("examples/addresses.csv").unwrap();
    let mut rows = 0;
    for row in list.records().map(Result::unwrap) {
        let expected = (row[2].to_owned(), row[3].to_owned());
        assert!(found[&row[1]].iter().all(|verdict| *verdict == expected), "{row:?}: {:?}", found[&row[1]]);
        rows += 1;
    }
    assert_eq!(done.out.lines().count(), rows);
    for part in ["mailbox_not_found", "p99", "rcpt", "addresses.csv:43: ", "48 addresses in "] {
        assert!(done.err.contains(part), "{part} is not in\n{}", done.err);
    }
}

#[test]
fn every_record_has_every_field() {
    const FIELDS: &str = "address,status,sub_status,blame,catch_all,role,disposable,free,mx_host,smtp_code,\
                          enhanced_code,reply,attempts,tls,duration_ms,checked_at,normal_form,did_you_mean,asked";
    let jsonl = run(&["verify", "--sandbox", "-q", "ann@good.test"]);
    assert_eq!((jsonl.code, &*jsonl.err), (Some(0), ""));
    let record = &jsonl.records()[0];
    let mut wanted: Vec<_> = FIELDS.split(',').collect();
    wanted.sort();
    assert_eq!(record.as_object().unwrap().keys().collect::<Vec<_>>(), wanted);

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.csv");
    let done = run(&["verify", "--sandbox", "ann@good.test", "x@nowhere.test", "-q", "-o", str_of(&path)]);
    assert_eq!((done.code, &*done.out), (Some(0), ""));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().next(), Some(FIELDS));
    let nowhere = text.lines().find(|line| line.starts_with("x@nowhere.test,")).unwrap();
    assert!(
        nowhere.starts_with(
            "x@nowhere.test,undeliverable,no_dns_entries,recipient,not_run,false,false,false,,,,"
        )
    );

    let empty = file(&dir, "empty.txt", "");
    let args = ["verify", "--syntax-only", str_of(&empty), "-o", str_of(&path)];
    assert_eq!(run(&args).code, Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), FIELDS);
}

#[test]
fn lists_come_in_many_forms() {
    let dir = TempDir::new().unwrap();
    let csv = b"\xef\xbb\xbfName;E-Mail\nAnn;ann@x.test\nBob;bob@x.test\n";
    let jsonl = b"{\"email\":\"ann@x.test\"}\n\"bob@x.test\"\n";
    let lists = [
        file(&dir, "a.txt", "ann@x.test\n\n# nobody\n bob@x.test"),
        file(&dir, "b.csv", csv),
        file(&dir, "c.csv.gz", gzip(csv)),
        file(&dir, "d.jsonl.zst", zstd::encode_all(&jsonl[..], 1).unwrap()),
        file(&dir, "e", "1\tann@x.test\n2\tbob@x.test\n"),
        file(&dir, "f.txt", gzip(b"ann@x.test\nbob@x.test\n")),
    ];
    for list in &lists {
        let done = run(&["verify", "--syntax-only", str_of(list)]);
        assert_eq!(addresses(&done), ["ann@x.test", "bob@x.test"], "{}", list.display());
        let piped = run_with(&["verify", "--syntax-only", "-"], &fs::read(list).unwrap());
        assert_eq!(addresses(&piped), ["ann@x.test", "bob@x.test"], "- < {}", list.display());
    }
    let both = run(&["verify", "--syntax-only", str_of(&lists[0]), "eve@x.test", str_of(&lists[1])]);
    assert_eq!(addresses(&both).len(), 5);
    let odd = file(&dir, "odd", "work,email\nann@x.test,none\n");
    let done = run(&["verify", "--syntax-only", "--format", "csv", "--column", "WORK", str_of(&odd)]);
    assert_eq!(addresses(&done), ["ann@x.test"]);
}

#[test]
fn compressed_output_is_whole() {
    let dir = TempDir::new().unwrap();
    for name in ["out.jsonl.gz", "out.csv.zst"] {
        let path = dir.path().join(name);
        let done = run(&["verify", "--syntax-only", "examples/addresses.csv", "-o", str_of(&path)]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        let octets = fs::read(&path).unwrap();
        let mut text = String::new();
        match name.ends_with("gz") {
            true => flate2::read::GzDecoder::new(&octets[..]).read_to_string(&mut text).unwrap(),
            false => zstd::Decoder::new(&octets[..]).unwrap().read_to_string(&mut text).unwrap(),
        };
        assert_eq!(text.lines().filter(|line| line.contains("@")).count(), 47, "{name}");
    }
}

#[test]
fn bad_rows_are_reported_and_never_lost() {
    let dir = TempDir::new().unwrap();
    let csv = file(
        &dir,
        "list.csv",
        b"id,email,\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\n1,ann@x.test\n2,\n\n3,a\xffb@x.test\n4\n5,no address\n6,bob@x.test\n",
    );
    let done = run(&["verify", "--syntax-only", str_of(&csv)]);
    assert_eq!(done.records().len(), 6);
    let failed = done.records().iter().filter(|record| record["sub_status"] == "failed_syntax_check").count();
    assert_eq!(failed, 4);
    let reports: Vec<_> = done
        .err
        .lines()
        .filter_map(|line| line.strip_prefix(str_of(&csv)))
        // The line that says what was understood has no number.
        .filter(|report| !report.starts_with(": "))
        .collect();
    let lines: Vec<_> = reports.iter().map(|report| report.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["3", "5", "6", "7"], "{}", done.err);
    assert!(done.err.contains(":5: not UTF-8 at byte 3") && done.err.contains(":6: there is no column 2"));

    let jsonl = b"{\"email\":\"ann@x.test\"}\n{\"email\":\n{\"mail\":7}\n";
    let done = run_with(&["verify", "--syntax-only"], jsonl);
    assert_eq!(done.records().len(), 3);
    assert!(done.err.contains("standard input:2: not JSON: ") && done.err.contains("standard input:3: "));

    let done =
        run_with(&["verify", "--syntax-only", "-q", "--format", "text"], "bad\n".repeat(1_000).as_bytes());
    assert_eq!((done.records().len(), done.err.lines().count()), (1_000, 21));
    assert!(done.err.ends_with("and 980 more rows that are no addresses\n"), "{}", done.err);
}

#[test]
fn rows_before_a_broken_end_are_written() {
    let dir = TempDir::new().unwrap();
    let list: String = (0..10_000).map(|n| format!("user{n}@x{n}.test\n")).collect();
    let mut octets = gzip(list.as_bytes());
    octets.truncate(octets.len() / 2);
    let torn = file(&dir, "torn.gz", octets);
    let done = run(&["verify", "--syntax-only", "-q", str_of(&torn)]);
    assert_eq!(done.code, Some(2));
    let records = done.records().len();
    assert!(records > 1_000, "{records}");
    assert!(done.err.contains(&format!("torn.gz: after line {records}: ")), "{}", done.err);
}

#[test]
fn an_error_of_usage_names_its_place_and_a_hint() {
    let dir = TempDir::new().unwrap();
    let columns = file(&dir, "columns.csv", "a,b\n1,2\n");
    let list = file(&dir, "list.csv", "ann@x.test\n");
    let (columns, list) = (str_of(&columns), str_of(&list));
    let wrong: &[(&[&str], &str)] = &[
        (&["verify", "nothing.csv"], "nothing.csv: no such file\n  hint: "),
        (&["verify", "--syntax-only", columns], "columns.csv: no column of addresses was found\n  hint: "),
        (
            &["verify", "--syntax-only", list, "--column", "z"],
            "--column z: plain text has no columns\n  hint: ",
        ),
        (&["verify", "--syntax-only", list, "-o", list], "this is the list\n  hint: "),
        (&["verify", "--syntax-only", list, "-o", "out.xml"], "--output out.xml: the extension"),
        (&["verify", "--syntax-only", list, "-o", "/nowhere/out.csv"], "--output /nowhere/out.csv: "),
        (
            &["verify", "a@x.test", "--route", "x.test"],
            "--route x.test: this is not DOMAIN=HOST[:PORT]\n  hint: ",
        ),
        (&["verify", "a@x.test", "--route", "x.test=::1", "--helo", "a b"], "--helo a b: "),
        (&["verify", "--sandbox", "a@x.test", "--from", "nobody"], "--from nobody: "),
        (
            &["verify", "--sandbox", "a@x.test", "--rules", columns],
            "columns.csv: the rules are not well-formed",
        ),
        (&["verify", "--sandbox", "a@x.test", "--timeout", "-1"], "--timeout -1: "),
        (&["verify", "--sandbox", "a@x.test", "--risky", "role,none"], "--risky: none cannot stand"),
        (&["verify", "--sandbox", "a@x.test", "--tls", "maybe"], "'--tls <WHEN>'"),
        (
            &["verify", &format!("--sandbox={columns}"), "a@x.test"],
            "columns.csv: the description of the world",
        ),
        (&["explain", "--stage", "vrfy", "550"], "--stage: unknown stage `vrfy`"),
        (&["probe", "host", "--ca", columns], "columns.csv: no certificate"),
        (&["verify", "--sandbox", "a@x.test", "--ca", "no.pem"], "--ca no.pem: "),
        (&["probe", "host:port"], "host:port: this is not HOST[:PORT]\n  hint: "),
        (&["sandbox", "nothing.toml"], "nothing.toml: "),
    ];
    for (args, told) in wrong {
        let done = run(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        assert!(done.err.contains(told), "{args:?}: {}", done.err);
        assert_eq!(done.out, "", "{args:?}");
    }
    assert_eq!(fs::read_to_string(list).unwrap(), "ann@x.test\n");
}

#[test]
fn help_shows_exit_codes_and_examples() {
    for subcommand in ["verify", "plan", "job", "explain", "probe", "sandbox"] {
        let help = run(&[subcommand, "--help"]);
        assert_eq!(help.code, Some(0));
        for part in ["Examples:\n", "Exit codes:\n"] {
            assert!(help.out.contains(part), "{subcommand}: {}", help.out);
        }
    }
    assert!(run(&["--version"]).out.starts_with("smtp-pool 0."));
}

#[test]
fn replies_in_every_form_are_explained() {
    const FIELDS: [&str; 11] = [
        "blame",
        "line",
        "predicate",
        "queue_id",
        "reply",
        "retry",
        "rule",
        "status",
        "sub_status",
        "subject",
        "to",
    ];
    let done = run(&["explain", "--json", "550 5.1.1 User unknown"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let answer = &done.records()[0];
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), FIELDS);
    assert_eq!((&answer["sub_status"], &answer["blame"]), (&"mailbox_not_found".into(), &"recipient".into()));

    let lines = r#"550 5.1.1 User unknown

smtp; 550-5.1.1 User\r\n550 5.1.1 unknown
{"reply": "550-5.1.1 User\r\n550 5.1.1 unknown", "stage": "rcpt", "id": 4}
{"reply": "550 5.1.1 User unknown", "stage": "banner"}
host mx[192.0.2.1] said: 550 5.1.1 User unknown (in reply to RCPT TO command)
"#;
    for args in [&["explain", "--json"][..], &["explain", "--json", "-"]] {
        let done = run_with(args, lines.as_bytes());
        assert_eq!((done.code, &*done.err), (Some(0), ""));
        let found: Vec<_> = done.records().iter().map(|answer| answer["status"].clone()).collect();
        assert_eq!(found, ["undeliverable", "undeliverable", "undeliverable", "unknown", "undeliverable"]);
    }

    let mixed = run_with(&["explain", "--json"], br#"{"reply": "250-2.1.5 Ok\r\n550 5.1.1 User unknown"}"#);
    let answer = &mixed.records()[0];
    assert_eq!((&answer["sub_status"], &answer["blame"]), (&"protocol_error".into(), &"server".into()));
    assert_eq!((&answer["retry"], &answer["rule"]), (&"later".into(), &"codes-differ".into()));

    let bad = "no reply\n{\"reply\": 1}\n{\"reply\": \"550\", \"stage\": \"vrfy\"}\n451 4.7.1 Greylisted\n";
    let done = run_with(&["explain", "--json"], bad.as_bytes());
    assert_eq!((done.code, done.records().len()), (Some(2), 4));
    assert_eq!(
        (&done.records()[0]["rule"], &done.records()[0]["sub_status"]),
        (&Value::Null, &"protocol_error".into())
    );
    assert_eq!(done.records()[3]["sub_status"], "greylisted");
    for place in ["standard input:1: ", "standard input:2: ", "standard input:3: unknown stage `vrfy`"] {
        assert!(done.err.contains(place), "{}", done.err);
    }

    // The subject, the predicate, and why a log has no reply. Octets that are not UTF-8 are read, too.
    let log = b"550 Sender unknown\ndsn=4.4.1, status=deferred (connect to mx[192.0.2.1]:25: Connection timed out)\n\
                550 5.1.1 Empf\xe4nger unbekannt\n";
    let done = run_with(&["explain", "--json", "--stage", "rcpt"], log);
    let found = |n: usize, key: &str| done.records()[n][key].clone();
    assert_eq!((found(0, "subject"), found(0, "predicate")), ("sender".into(), "not_found".into()));
    assert_eq!((found(1, "sub_status"), found(1, "blame")), ("timeout_exceeded".into(), "network".into()));
    assert_eq!(
        (found(2, "line"), found(2, "queue_id"), found(2, "to")),
        (3.into(), Value::Null, Value::Null)
    );
    assert_eq!(found(2, "reply"), "550 5.1.1 Empfänger unbekannt");
    let sent =
        "mx postfix/smtp[1]: 4XyZ12AbC: to=<ann@x.test>, status=bounced (host mx said: 550 5.1.1 gone)\n";
    let done = run_with(&["explain", "--json"], sent.as_bytes());
    let answer = &done.records()[0];
    assert_eq!((&answer["queue_id"], &answer["to"]), (&"4XyZ12AbC".into(), &"ann@x.test".into()));
    assert_eq!((found(2, "subject"), found(2, "status")), ("recipient".into(), "undeliverable".into()));
    let block = run(&["explain", "550 5.1.1 User unknown"]).out;
    assert!(block.contains("\n  who      recipient\n  what     not found\n"), "{block}");

    // The text output has a block for each argument, quoted or not, and a line for each line of input.
    for args in [&["explain", "550 5.1.1 User unknown"][..], &["explain", "550", "5.1.1", "User", "unknown"]]
    {
        let block = run(args).out;
        assert!(
            block.starts_with("550 5.1.1 User unknown\n  verdict  undeliverable, mailbox_not_found\n"),
            "{block}"
        );
    }
    assert_eq!(run_with(&["explain"], lines.as_bytes()).out.lines().count(), 5);
}

#[test]
fn own_rules_replace_the_built_in_ones() {
    let dir = TempDir::new().unwrap();
    let rule = "[[rule]]\nid = 'mine'\nverdict = 'mailbox_disabled'\nany = ['has left']\n";
    let rules = file(&dir, "rules.toml", rule);
    let done = run(&["explain", "--json", "--rules", str_of(&rules), "550 She has left"]);
    assert_eq!(done.records()[0]["rule"], "mine");
    let printed = run(&["explain", "--print-rules"]).out;
    let rules = file(&dir, "printed.toml", printed);
    assert_eq!(run(&["explain", "--rules", str_of(&rules), "550 5.1.1"]).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_probed_and_routes_are_followed() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let addr = |host: &str| sandbox.addr(host).unwrap().to_string();
    let good = addr("mx.good.test");
    tokio::task::spawn_blocking(move || {
        let done = run(&["probe", "--json", &good]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        let found = &done.records()[0];
        assert!(found["banner"].as_str().unwrap().starts_with("220 mx.good.test ESMTP"));
        assert!(found["capabilities"].as_array().unwrap().contains(&"PIPELINING".into()));
        assert_eq!((&found["tls"]["version"], &found["tls"]["trusted"]), (&"TLSv1.3".into(), &false.into()));
        assert_eq!(found["tls"]["certificate"]["names"][0], "mx.good.test");
        assert!(found["timings_ms"]["ehlo"].is_number());
        let plain = run(&["probe", "--tls", "off", &good]).out;
        assert!(plain.contains("tls          none\n") && plain.contains("STARTTLS"), "{plain}");

        let route = format!("good.test={good}");
        let args = ["verify", "ann@good.test", "no@good.test", "a@null.test"];
        let done = run(&[&args[..], &["-q", "--route", &route, "--route", "null.test=."]].concat());
        assert_eq!((done.code, &*done.err), (Some(0), ""));
        let mut found: Vec<_> = done.records().iter().map(|record| record["sub_status"].clone()).collect();
        found.sort_by_key(|sub_status| sub_status.to_string());
        assert_eq!(found, ["accepted", "does_not_accept_mail", "mailbox_not_found"]);
    })
    .await
    .unwrap();

    let (blocked, down, broken) = (addr("mx.blocked.test"), addr("mx.down.test"), addr("mx.tls.test"));
    tokio::task::spawn_blocking(move || {
        let done = run(&["probe", &blocked]);
        assert_eq!(
            (done.code, done.err.contains("hint: this means blocked")),
            (Some(1), true),
            "{}",
            done.err
        );
        assert_eq!(run(&["probe", &down]).code, Some(1));
        assert!(run(&["probe", &broken]).out.contains("offered, but it failed: "));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_of_a_file_are_trusted() {
    let domain = DomainConfig::new("good.test", ["ann"]);
    let world = World::new(vec![HostConfig::new("localhost")], vec![domain]);
    let sandbox = Sandbox::start(world).await.unwrap();
    let server = format!("localhost:{}", sandbox.addr("localhost").unwrap().port());
    let dir = TempDir::new().unwrap();
    let ca = file(&dir, "ca.pem", sandbox.certificate_pem());
    tokio::task::spawn_blocking(move || {
        let ca = ["--ca", str_of(&ca)];
        let trusted = |ca: &[&str]| {
            let done = run(&[&["probe", "--json", &server], ca].concat());
            assert_eq!(done.code, Some(0), "{}", done.err);
            done.records()[0]["tls"]["trusted"].clone()
        };
        assert_eq!((trusted(&[]), trusted(&ca)), (false.into(), true.into()));
        let route = format!("good.test={server}");
        let verified = |ca: &[&str]| {
            let args = ["verify", "ann@good.test", "-q", "--tls", "required", "--route", &route];
            run(&[&args[..], ca].concat()).records()[0]["sub_status"].clone()
        };
        assert_eq!((verified(&[]), verified(&ca)), ("tls_failed".into(), "accepted".into()));
    })
    .await
    .unwrap();
}

#[test]
fn the_world_of_a_file_is_used() {
    let dir = TempDir::new().unwrap();
    let printed = run(&["sandbox", "--print-world"]).out;
    let world = file(&dir, "world.toml", printed);
    let with_equals = format!("--sandbox={}", str_of(&world));
    for args in [&[&*with_equals][..], &["--sandbox", str_of(&world)]] {
        let done = run(&[&["verify", "-q"], args, &["ann@good.test"]].concat());
        assert_eq!(done.records()[0]["sub_status"], "accepted", "{}", done.err);
    }
    let required = run(&["verify", "-q", "--sandbox", "--tls", "required", "ann@good.test"]);
    assert_eq!(required.records()[0]["tls"], "TLSv1.3");
}

#[cfg(unix)]
mod interrupted {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn interrupt(child: &std::process::Child) {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn an_interrupted_stream_writes_its_records() {
        let mut child = command(&["verify", "--syntax-only"]).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all("ann@x.test\n".repeat(2_000).as_bytes()).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = out.next().unwrap();
        // Standard input is still open, so nothing ends the command but the signal.
        interrupt(&child);
        for line in std::iter::once(first).chain(out) {
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
        let output = child.wait_with_output().unwrap();
        drop(input);
        assert_eq!(output.status.code(), Some(130));
        assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted: "));
    }

    #[test]
    fn the_sandbox_prints_routes_and_waits() {
        let mut child = command(&["sandbox"]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let route = out.find(|line| line.starts_with("--route good.test=")).unwrap();
        let args: Vec<&str> = route.split(' ').collect();
        let done = run(&[&["verify", "-q", "ann@good.test"], &args[..]].concat());
        assert_eq!(done.records()[0]["sub_status"], "accepted", "{}", done.err);
        assert!(out.any(|line| line == "# Ctrl-C ends the sandbox."));
        interrupt(&child);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let mut child = command(&["verify", "--syntax-only", "-q"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(input.write_all("ann@x.test\n".repeat(100_000).as_bytes())));
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn plan_shows_the_maximum_time_for_a_silent_host() {
    let world = "[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n";
    let dir = TempDir::new().unwrap();
    let list: String = (0..1_000).map(|n| format!("user{n}@good.test\n")).collect();
    let (world, list) = (file(&dir, "world.toml", world), file(&dir, "list.txt", list));
    let sandbox = format!("--sandbox={}", str_of(&world));
    let json = |timeout: &str| {
        let done = run(&["plan", &sandbox, "--json", "--timeout", timeout, str_of(&list)]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        serde_json::from_str::<Value>(&done.out).unwrap()["longest_seconds"].as_u64().unwrap()
    };
    // An answer takes up to 6 s. Connecting and lagging behind take up to two minutes each.
    assert_eq!(json("30"), 6_000 + 246);
    assert_eq!(json("3"), 600 + 6 + 24);
    let done = run(&["plan", &sandbox, str_of(&list)]);
    assert!(done.out.contains("is given up after at most 2 hours"), "{}", done.out);
}

#[test]
fn the_estimate_of_a_slow_host_ends_when_it_is_given_up() {
    // An answer takes 0.84 s, so all of them would take 15 minutes.
    let world = "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
                 tarpit = { octet = \"60ms\", from = \"rcpt\" }\n\
                 [[domain]]\nname = \"slow.test\"\nknown_share = 1.0\n";
    let dir = TempDir::new().unwrap();
    let list: String = (0..1_000).map(|n| format!("user{n}@slow.test\n")).collect();
    let (world, list) = (file(&dir, "world.toml", world), file(&dir, "list.txt", list));
    let sandbox = format!("--sandbox={}", str_of(&world));
    let done =
        run(&["verify", &sandbox, "--timeout", "1", "--json-progress", "--no-catch-all", str_of(&list)]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let frames = done.err.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let etas: Vec<_> = frames.filter_map(|frame| frame["eta_s"].as_u64()).collect();
    assert!(etas.iter().any(|eta| *eta < 30), "{etas:?}");
    assert!(done.err.contains("addresses got no answer in time"), "{}", done.err);
    assert!(done.records().iter().all(|record| record["status"] != "undeliverable"));
}

#[cfg(unix)]
#[test]
fn a_low_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let mut shell = Command::new("sh");
    let script = "ulimit -S -n 24 && exec \"$0\" verify -q --sandbox examples/addresses.csv";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_smtp-pool")]);
    let output = shell.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
