//! The end of a run with servers that refused the sender, or every recipient.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

const WORLD: &str = r#"
[[host]]
name = "mx.bounce.test"
without = ["STARTTLS"]
faults = [{ at = "mail", does = { reply = "550 5.7.1 Null sender not accepted" } }]
[[host]]
name = "mx.harvest.test"
without = ["STARTTLS"]
harvest_defence = { after = 5 }
[[host]]
name = "mx.good.test"
[[domain]]
name = "bounce.test"
hosts = ["mx.bounce.test"]
users = ["ann"]
[[domain]]
name = "harvest.test"
hosts = ["mx.harvest.test"]
users = ["user0", "user1", "user2", "user20", "user30"]
[[domain]]
name = "good.test"
hosts = ["mx.good.test"]
users = ["ann"]
"#;

const NULL_SENDER: &str = "servers refused the null sender, MAIL FROM:<>; name a mailbox of your own with --from:\n  \
                           mx.bounce.test: ";
const HARVEST: &str = "servers refused every recipient as unknown, a defence against directory harvesting; these \
                       refusals do not count:\n  mx.harvest.test: once\n";

struct Lists {
    dir: TempDir,
}

impl Lists {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("world.toml"), WORLD).unwrap();
        let list = (0..40).map(|n| format!("user{n}@harvest.test\n")).collect::<String>();
        fs::write(dir.path().join("list.txt"), list + "ann@bounce.test\nann@good.test\n").unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn verify(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
        command.args(["verify", &format!("--sandbox={}", self.at("world.toml").display())]);
        command.arg(self.at("list.txt")).args(more).env_remove("RUST_LOG").output().unwrap()
    }
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn streams_and_jobs_list_the_lanes_that_refused_the_sender_or_everybody() {
    let lists = Lists::new();
    let out = lists.at("out.csv");
    for output in [lists.verify(&[]), lists.verify(&["-o", out.to_str().unwrap()])] {
        let text = err(&output);
        assert!(text.contains(NULL_SENDER) && text.contains(HARVEST), "{text}");
        assert_eq!(text.matches("--from").count(), 1, "{text}");
        assert_eq!(output.status.code(), Some(3), "the defence lasts to the end: {text}");
    }
    let page = lists.at("report.html");
    let report = Command::new(env!("CARGO_BIN_EXE_smtp-pool"))
        .args(["report", out.to_str().unwrap(), "-o", page.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(report.status.code(), Some(0), "{}", err(&report));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<tr><td>mx.harvest.test<td>0<td>1"), "{page}");
    assert!(page.contains("<tr><td>mx.bounce.test<td>1<td>0") && page.contains("--from"), "{page}");
}

#[test]
fn a_sender_of_our_own_that_is_refused_is_named() {
    let text = err(&Lists::new().verify(&["--from", "me@example.org"]));
    let head = "servers refused the sender me@example.org of --from:\n  mx.bounce.test: ";
    assert!(text.contains(head) && !text.contains("null sender"), "{text}");
}

#[test]
fn without_refusals_no_lane_is_listed() {
    let lists = Lists::new();
    fs::write(lists.at("list.txt"), "ann@good.test\nbob@good.test\n").unwrap();
    let text = err(&lists.verify(&[]));
    assert!(!text.contains("refused") && !text.contains("--from"), "{text}");
}

#[test]
fn progress_in_json_names_them() {
    let text = err(&Lists::new().verify(&["--json-progress"]));
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["sender_refused"], serde_json::json!(["mx.bounce.test"]));
    assert_eq!(last["harvest_defences"], serde_json::json!(["mx.harvest.test"]));
}
