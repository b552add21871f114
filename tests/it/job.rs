//! Runs jobs as a user does: they are made, interrupted, killed, resumed, and read while they run.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

#[track_caller]
fn done(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with a list and a place for the output.
struct Workspace {
    dir: TempDir,
    list: PathBuf,
    out: PathBuf,
    job: PathBuf,
}

impl Workspace {
    fn new(list: impl AsRef<[u8]>) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (path, out, job) = (at("list.csv"), at("out.csv"), at("out.csv.job"));
        fs::write(&path, list).unwrap();
        Self { list: path, out, job, dir }
    }

    fn verify<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["verify", str_of(&self.list), "-o", str_of(&self.out)][..], more].concat()
    }

    fn rows(&self) -> Vec<HashMap<String, String>> {
        csv::Reader::from_path(&self.out).unwrap().deserialize().map(Result::unwrap).collect()
    }
}

/// Returns a list of mixed rows with repeats, for the world of the sandbox.
fn list(rows: usize) -> String {
    let row = |n: usize| match n % 10 {
        0 => format!("{n},user{n}@good.test"),
        1 => format!("{n},ann@good.test"),
        2 => format!("{n},any{n}@catchall.test"),
        3 => format!("{n},nobody{n}@Good.test"),
        4 => format!("{n},no address {n}"),
        5 => format!("{n},bob@good.test"),
        6 => format!("{n},x{n}@nowhere{n}.test"),
        7 => format!("{n},full@good.test"),
        8 => format!("{n},x{}@catchall.test", n / 50),
        _ => format!("{n},x{n}@null.test"),
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("id,email\n{}\n", rows.join("\n"))
}

/// Returns the parts of the rows that must be equal in every run.
fn verdicts(rows: &[HashMap<String, String>]) -> Vec<[&str; 5]> {
    let fields = ["id", "address", "status", "sub_status", "normal_form"];
    rows.iter().map(|row| fields.map(|field| &*row[field])).collect()
}

#[test]
fn each_row_is_written_once_and_in_order() {
    let workspace = Workspace::new(list(1_000));
    let output = run(&workspace.verify(&["--sandbox"]));
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let rows = workspace.rows();
    assert_eq!(rows.len(), 1_000);
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row["id"], n.to_string());
        assert!(row["address"].ends_with("test") || row["sub_status"] == "failed_syntax_check");
    }
    // The address is as it was written, and names the same mailbox.
    assert_eq!((&*rows[3]["address"], &*rows[3]["normal_form"]), ("nobody3@Good.test", "nobody3@good.test"));
    assert!(rows.iter().step_by(10).skip(1).all(|row| row["sub_status"] == "mailbox_not_found"));
    // A repeated address is asked about once.
    let status: Value =
        serde_json::from_str(&done(&["job", "status", "--json", str_of(&workspace.job)])).unwrap();
    assert_eq!((&status["rows"], &status["done"]), (&1_000.into(), &1_000.into()));
    assert!(status["addresses"].as_u64().unwrap() < 700, "{status}");
    assert!(!workspace.dir.path().join("out.csv.job-wal").exists());

    // A second run has nothing to do, and writes the same output.
    let before = fs::read(&workspace.out).unwrap();
    let output = run(&workspace.verify(&["--sandbox"]));
    assert!(err(&output).contains("1000 of 1000 rows are done"), "{}", err(&output));
    assert_eq!(fs::read(&workspace.out).unwrap(), before);
}

#[test]
fn a_changed_list_or_purpose_is_refused() {
    let workspace = Workspace::new(list(20));
    let args = workspace.verify(&["--syntax-only", "-q"]);
    assert_eq!(run(&args).status.code(), Some(0));
    let other = run(&workspace.verify(&["--sandbox", "-q"]));
    assert_eq!(other.status.code(), Some(2));
    assert!(err(&other).contains("out.csv.job: the job was made to check the syntax only\n  hint: start"));

    fs::write(&workspace.list, list(21)).unwrap();
    let changed = run(&args);
    assert_eq!(changed.status.code(), Some(2));
    assert!(
        err(&changed).contains("list.csv is not the list that the job was made from"),
        "{}",
        err(&changed)
    );
    assert_eq!(workspace.rows().len(), 20);
    assert_eq!(run(&workspace.verify(&["--syntax-only", "-q", "--restart"])).status.code(), Some(0));
    assert_eq!(workspace.rows().len(), 21);

    fs::write(&workspace.job, "no job").unwrap();
    let foreign = run(&args);
    assert!(err(&foreign).contains("out.csv.job: this is not a job file"), "{}", err(&foreign));
    assert_eq!(run(&["job", "status", str_of(&workspace.list)]).status.code(), Some(2));
    let nothing = run(&["verify", "--sandbox", "a@good.test", "--restart", "-o", str_of(&workspace.out)]);
    assert!(err(&nothing).contains("--restart: these inputs make no job"), "{}", err(&nothing));
}

#[test]
fn a_broken_list_makes_no_job() {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(list(5_000).as_bytes()).unwrap();
    let mut octets = encoder.finish().unwrap();
    octets.truncate(octets.len() / 2);
    let workspace = Workspace::new(octets);
    let output = run(&workspace.verify(&["--syntax-only", "-q"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("list.csv: after line "), "{}", err(&output));
    assert_eq!(fs::read_dir(workspace.dir.path()).unwrap().count(), 1, "nothing but the list");
}

#[test]
fn addresses_are_asked_again_and_verdicts_compared() {
    let workspace = Workspace::new(list(100));
    let syntax = workspace.dir.path().join("syntax.jsonl");
    done(&["verify", str_of(&workspace.list), "-o", str_of(&syntax), "--syntax-only", "-q"]);
    done(&workspace.verify(&["--sandbox", "-q"]));
    let job = str_of(&workspace.job);

    let told = done(&["job", "retry", job, "--status", "risky,mailbox_not_found"]);
    let status: Value = serde_json::from_str(&done(&["job", "status", "--json", job])).unwrap();
    let left = status["left"].as_u64().unwrap();
    assert!(left > 20 && told.starts_with(&format!("{left} rows")), "{told} {status}");
    assert_eq!(done(&["job", "results", job]).lines().count() as u64, 100 - left);
    assert_eq!(done(&["job", "export", job]).lines().count(), 100);
    let before = fs::read(&workspace.out).unwrap();
    done(&workspace.verify(&["--sandbox", "-q"]));
    assert_eq!(workspace.rows().len(), 100);
    let text = String::from_utf8(before).unwrap();
    let rows: Vec<HashMap<String, String>> =
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect();
    assert_eq!(verdicts(&rows), verdicts(&workspace.rows()));

    let differs = done(&["job", "diff", "--json", str_of(&syntax), job]);
    let differs: Vec<Value> = differs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(differs.iter().all(|it| it["before"] == "other" && it["after"] != "failed_syntax_check"));
    let ann = differs.iter().find(|it| it["address"] == "ann@good.test").unwrap();
    assert_eq!(ann["after"], "accepted");
    assert_eq!(done(&["job", "diff", job, str_of(&workspace.out)]).lines().count(), 1, "only the header");
    let wrong = run(&["job", "retry", job, "--status", "nonsense"]);
    assert!(
        err(&wrong).contains("'nonsense' for '--status <VERDICT>': there is no such verdict; name"),
        "{}",
        err(&wrong)
    );
}

#[test]
fn greylisted_addresses_are_retried_by_the_schedule() {
    let workspace = Workspace::new("email\neve@greylist.test\nann@good.test\n");
    let world = slow_world(workspace.dir.path());
    done(&workspace.verify(&[&world, "-q", "--attempts", "3", "--retry-after", "0.5"]));
    let rows = workspace.rows();
    assert_eq!((&*rows[0]["status"], &*rows[0]["attempts"]), ("deliverable", "2"), "{:?}", rows[0]);
}

/// A world with slow answers, so that a run can be interrupted.
const SLOW: &str = r#"
[[host]]
name = "mx.good.test"
without = ["STARTTLS"]
latency = "10ms"
errors = { soft = 10, hard = 20, delay = "200ms" }

[[host]]
name = "mx.greylist.test"
greylist = "300ms"

[[domain]]
name = "good.test"
hosts = ["mx.good.test"]
users = ["ann", "bob"]
full = ["full"]

[[domain]]
name = "catchall.test"
hosts = ["mx.good.test"]
catch_all = true

[[domain]]
name = "null.test"
null_mx = true

[[domain]]
name = "greylist.test"
hosts = ["mx.greylist.test"]
users = ["eve"]
"#;

fn slow_world(dir: &Path) -> String {
    let path = dir.join("world.toml");
    fs::write(&path, SLOW).unwrap();
    format!("--sandbox={}", path.display())
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn an_interrupted_job_says_how_to_go_on() {
    let workspace = Workspace::new(list(4_000));
    let world = slow_world(workspace.dir.path());
    let child = command(&workspace.verify(&[&world, "--json-progress"])).spawn().unwrap();
    wait_for_some(&workspace.job);
    // A reader does not disturb the run. A second run is refused.
    assert!(!done(&["job", "results", str_of(&workspace.job)]).is_empty());
    let busy = run(&workspace.verify(&[&world, "-q"]));
    assert_eq!(busy.status.code(), Some(1));
    assert!(err(&busy).contains("another run works on this job"), "{}", err(&busy));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert!(err(&output).contains("give the same command again"), "{}", err(&output));
    assert!(!workspace.out.exists());
    done(&workspace.verify(&["--sandbox", "-q"]));
    assert_eq!(workspace.rows().len(), 4_000);
}

#[test]
fn a_terminal_has_a_live_view() {
    use rustix::{fs, pty, termios};
    let (workspace, flags) = (Workspace::new(list(2_000)), pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY);
    let world = slow_world(workspace.dir.path());
    let screen = pty::openpt(flags).unwrap();
    pty::grantpt(&screen).unwrap();
    pty::unlockpt(&screen).unwrap();
    let size = termios::Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = fs::open(
        pty::ptsname(&screen, Vec::new()).unwrap(),
        fs::OFlags::RDWR | fs::OFlags::NOCTTY,
        fs::Mode::empty(),
    );
    let terminal = terminal.unwrap();
    termios::tcsetwinsize(&terminal, size).unwrap();
    let mut child = command(&workspace.verify(&[&world]))
        .env("TERM", "xterm")
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    // Reading ends with an error when no process has the terminal open.
    let mut shown = Vec::new();
    let _ = std::fs::File::from(screen).read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    for part in
        ["█", "░", " %", " of 2,000 · ", " left · ", " deliverable", "waiting    answered", "mx.good.test"]
    {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(shown.contains('\u{1b}'), "it moves: {shown}");
}

/// Waits until the job has a result.
fn wait_for_some(job: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = run(&["job", "status", "--json", str_of(job)]);
        if let Ok(status) = serde_json::from_slice::<Value>(&status.stdout)
            && status["done"].as_u64() > Some(0)
        {
            return;
        }
        assert!(Instant::now() < deadline, "nothing was done");
        std::thread::yield_now();
    }
}

/// Checks that a run that is killed and resumed has the same end. `KILLS` is the number of kills.
#[test]
fn no_kill_loses_or_repeats_a_row() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5_u32);
    let text = list(4_000);
    let undisturbed = Workspace::new(&text);
    let world = slow_world(undisturbed.dir.path());
    let started = Instant::now();
    done(&undisturbed.verify(&[&world, "-q"]));
    let took = started.elapsed();
    let (rows, mut random) = (undisturbed.rows(), fastrand::Rng::with_seed(7));

    let mut workspace = Workspace::new(&text);
    let (mut killed, mut ended) = (0, 0);
    while killed < kills {
        let mut child = command(&workspace.verify(&[&world, "-q"])).spawn().unwrap();
        std::thread::sleep(took.mul_f64(random.f64() * 0.6));
        match child.try_wait().unwrap() {
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
            }
            Some(status) => {
                assert!(status.success());
                ended += 1;
                assert_eq!(verdicts(&workspace.rows()), verdicts(&rows));
                workspace = Workspace::new(&text);
            }
        }
    }
    done(&workspace.verify(&[&world, "-q"]));
    assert_eq!(verdicts(&workspace.rows()), verdicts(&rows));
    // No address has two results, and none is left.
    let status: Value =
        serde_json::from_str(&done(&["job", "status", "--json", str_of(&workspace.job)])).unwrap();
    assert_eq!((&status["done"], &status["left"]), (&4_000.into(), &0.into()));
    println!("{killed} kills, {ended} runs that came to their end between them");
}

#[test]
fn metrics_and_health_are_served_while_it_runs() {
    let workspace = Workspace::new(list(4_000));
    let world = slow_world(workspace.dir.path());
    let mut child = command(&workspace.verify(&[&world, "--metrics", "127.0.0.1:0"])).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("metrics at http://")).unwrap();
    let address = line["metrics at http://".len()..].split('/').next().unwrap().to_owned();
    wait_for_some(&workspace.job);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let wanted =
        ["HTTP/1.1 200 OK\r\n", "smtp_pool_rows 4000\n", "sub_status=\"accepted\"", "smtp_pool_lanes{"];
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = get("/metrics");
        if wanted.iter().all(|part| metrics.contains(part)) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
    assert!(get("/health").ends_with("{\"status\":\"ok\"}\n"));
    assert!(get("/").starts_with("HTTP/1.1 404 "));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn blocked_lanes_set_the_exit_code() {
    let workspace = Workspace::new("email\nann@listed.test\nbob@good.test\n");
    let world = SLOW.to_owned()
        + "\n[[host]]\nname = \"mx.listed.test\"\nblocked = { at = \"connect\" }\n\
           [[domain]]\nname = \"listed.test\"\nhosts = [\"mx.listed.test\"]\nusers = [\"ann\"]\n";
    fs::write(workspace.dir.path().join("world.toml"), world).unwrap();
    let world = format!("--sandbox={}", workspace.dir.path().join("world.toml").display());
    let stream = run(&["verify", &world, str_of(&workspace.list)]);
    for output in [run(&workspace.verify(&[&world])), stream] {
        assert_eq!(output.status.code(), Some(3), "{}", err(&output));
        assert!(
            err(&output).contains("blocked us until the end; ask again later:\n  mx.listed.test: "),
            "{}",
            err(&output)
        );
    }
    assert_eq!(
        (&*workspace.rows()[0]["status"], &*workspace.rows()[1]["status"]),
        ("unknown", "deliverable")
    );
}

#[test]
fn progress_in_json_is_one_object_a_line() {
    let workspace = Workspace::new("email\nann@good.test\n");
    let output = run(&workspace.verify(&["--sandbox", "--json-progress"]));
    let text = err(&output);
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&last["done"], &last["total"], &last["verdicts"]["accepted"]),
        (&1.into(), &1.into(), &1.into())
    );
}

/// Checks the estimate at a rate limit. The burst at the start, a tenth of an hour's limit, must not count as the rate.
#[test]
fn the_estimate_follows_the_limits() {
    let addresses: String = (0..200).map(|n| format!("user{n}@good.test\n")).collect();
    let workspace = Workspace::new(format!("email\n{addresses}"));
    let providers = workspace.dir.path().join("providers.toml");
    fs::write(&providers, "[[provider]]\nname = \"Good\"\nmx = [\"mx.good.test\"]\nper_hour = 100\n")
        .unwrap();
    let args = ["--sandbox", "--json-progress", "--providers", str_of(&providers)];
    let mut child = command(&workspace.verify(&args)).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let eta = lines.take(30).find_map(|line| {
        let object: Value = serde_json::from_str(&line).ok()?;
        (object["done"].as_u64()? > 0).then(|| object["eta_s"].as_u64()).flatten()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // 190 addresses are left, at 100 an hour.
    assert!((6_000..=7_200).contains(&eta.unwrap()), "{eta:?}");
}

#[test]
fn the_format_of_other_services_is_written() {
    let workspace = Workspace::new(
        "id,email\n1,ann@good.test\n2,nobody@good.test\n3,any@catchall.test\n4,x\n5,info@good.test\n6,a@gmial.con\n",
    );
    done(&workspace.verify(&["--sandbox", "-q"]));
    let job = str_of(&workspace.job);
    let of = |vocab: &str, path: &str| -> Vec<Value> {
        let text = done(&["job", "results", job, "--vocab", vocab]);
        let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.map(|object| object.pointer(path).cloned().unwrap_or_default()).collect()
    };
    let is = |vocab: &str, path: &str, values: &[&str]| assert_eq!(of(vocab, path), values, "{vocab} {path}");
    is("reacher", "/is_reachable", &["safe", "invalid", "risky", "invalid", "risky", "invalid"]);
    assert_eq!(of("reacher", "/smtp/is_deliverable")[..3], [true.into(), false.into(), Value::from(true)]);
    is("zerobounce", "/status", &["valid", "invalid", "catch-all", "invalid", "do_not_mail", "invalid"]);
    is(
        "zerobounce",
        "/sub_status",
        &["", "mailbox_not_found", "", "failed_syntax_check", "role_based", "possible_typo"],
    );
    is(
        "kickbox",
        "/reason",
        &[
            "accepted_email",
            "rejected_email",
            "low_deliverability",
            "invalid_email",
            "accepted_email",
            "invalid_domain",
        ],
    );
    is("neverbounce", "/result", &["valid", "invalid", "catchall", "invalid", "valid", "invalid"]);
    assert_eq!(of("kickbox", "/did_you_mean")[5], "a@gmail.com");
    // The columns of the list are written, also if the name is taken.
    is("kickbox", "/id", &["1", "2", "3", "4", "5", "6"]);
    assert_eq!(of("kickbox", "/input_email")[3], "x");
    for (vocab, header) in [
        ("reacher", "input,is_reachable,misc.is_disposable,"),
        ("zerobounce", "address,status,sub_status,account,domain,did_you_mean,"),
        ("kickbox", "email,result,reason,role,free,disposable,accept_all,did_you_mean,sendex,"),
        ("neverbounce", "email,result,flags,suggested_correction,"),
    ] {
        let path = workspace.dir.path().join(format!("{vocab}.csv"));
        done(&["job", "export", job, "--vocab", vocab, "-o", str_of(&path)]);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with(header) && text.lines().count() == 7, "{text}");
    }
}

#[test]
fn streams_keep_order_and_columns_too() {
    let workspace = Workspace::new(list(3_000));
    let text = done(&["verify", "--sandbox", "-q", "--keep-order", str_of(&workspace.list)]);
    let ids: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert!(ids.iter().enumerate().all(|(n, id)| id.as_str() == Some(&n.to_string())) && ids.len() == 3_000);
}

#[test]
fn lists_of_the_user_are_used() {
    let workspace = Workspace::new("email\nann@good.test\nann@catchall.test\n");
    let (disposable, role) =
        (workspace.dir.path().join("disposable.txt"), workspace.dir.path().join("role.txt"));
    fs::write(&disposable, "# mine\nGood.test\n").unwrap();
    fs::write(&role, "ann\n").unwrap();
    let more = ["--sandbox", "-q", "--disposable", str_of(&disposable), "--role", str_of(&role)];
    done(&workspace.verify(&more));
    let rows = workspace.rows();
    assert_eq!((&*rows[0]["sub_status"], &*rows[0]["role"]), ("disposable", "true"));
    assert_eq!(&rows[1]["disposable"], "false");
    fs::write(&disposable, "no domain\n").unwrap();
    let wrong = run(&workspace.verify(&more));
    assert!(err(&wrong).contains("disposable.txt: line 1: "), "{}", err(&wrong));
}

#[test]
fn a_plan_counts_by_provider() {
    let workspace = Workspace::new(list(100));
    let plan = done(&["plan", "--sandbox", "--json", str_of(&workspace.list)]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["rows"], &plan["invalid"]), (&100.into(), &10.into()));
    assert_eq!(plan["unasked"]["does_not_accept_mail"], 10);
    let asked: u64 =
        plan["lanes"].as_array().unwrap().iter().map(|it| it["addresses"].as_u64().unwrap()).sum();
    assert_eq!(asked, 70);
    assert!(done(&["plan", "--sandbox", str_of(&workspace.list)]).contains("10 addresses need no server"));
}

#[test]
fn a_report_is_one_page_that_loads_nothing() {
    let workspace = Workspace::new("email\nann@good.test\nnobody@good.test\n<b>&x\n");
    done(&workspace.verify(&["--sandbox", "-q"]));
    let page = workspace.dir.path().join("report.html");
    done(&["report", str_of(&workspace.job), "-o", str_of(&page)]);
    let html = fs::read_to_string(page).unwrap();
    for part in [
        "<h2>Verdicts</h2>",
        "mailbox_not_found",
        "<h2>Providers</h2>",
        "mx.good.test",
        "2 · 66.7 %",
        "<h2>Throughput</h2>",
        "<td>rcpt<td>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // The page has four charts and loads nothing.
    assert_eq!(html.matches("<svg").count(), 4);
    let links = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!links.contains("http") && !links.contains("<script") && !links.contains("<link"));
}
