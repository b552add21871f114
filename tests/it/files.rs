//! Files: the command replaces only its own outputs, and reads jobs from any folder and any owner.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;

const COMMAND: &str = env!("CARGO_BIN_EXE_smtp-pool");

/// A folder with a list and a place for the output.
struct Workspace {
    dir: TempDir,
    list: PathBuf,
    out: PathBuf,
    job: PathBuf,
}

impl Workspace {
    fn new(list: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (path, out, job) = (at("list.csv"), at("out.csv"), at("out.csv.job"));
        fs::write(&path, list).unwrap();
        Self { list: path, out, job, dir }
    }

    /// Makes a folder with a completed job.
    fn done(list: &str) -> Self {
        let workspace = Self::new(list);
        let output = workspace.verify(&["--syntax-only", "-q"]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        workspace
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(self.dir.path())
    }

    /// Returns a command that runs in the folder.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(COMMAND);
        command.args(args).env_remove("RUST_LOG").current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        ended(&mut self.command(args))
    }

    fn verify(&self, more: &[&str]) -> Output {
        self.run(&[&["verify", "list.csv", "-o", "out.csv"], more].concat())
    }

    fn shell(&self, script: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("SMTP_POOL", COMMAND).current_dir(self.dir.path());
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(&mut shell)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a command, and fails if it hangs.
fn ended(command: &mut Command) -> Output {
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        panic!("{command:?} hangs");
    })
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", err(output));
    assert!(err(output).contains(message), "{message} is not in {}", err(output));
}

/// The first line of an output. A list with this line is protected only because it is a list.
const OURS: &str = "address,status,sub_status,blame,catch_all,role,disposable,free,mx_host,smtp_code,enhanced_code,reply,\
                    attempts,tls,duration_ms,checked_at,normal_form,did_you_mean\nann@x.test,unknown\n";

#[test]
fn no_output_is_written_over_the_list() {
    let workspace = Workspace::done(OURS);
    fs::hard_link(&workspace.list, workspace.at("hard.csv")).unwrap();
    symlink("list.csv", workspace.at("soft.csv")).unwrap();
    fs::create_dir(workspace.at("x")).unwrap();
    let absolute = workspace.list.to_str().unwrap().to_owned();
    for out in ["list.csv", "hard.csv", "soft.csv", "./x/../list.csv", &absolute] {
        for args in [
            &["job", "results", "out.csv", "-o", out][..],
            &["job", "export", "out.csv.job", "-o", out],
            &["report", "out.csv", "-o", out],
            &["verify", "list.csv", "--syntax-only", "-o", out],
            &["verify", "soft.csv", "ann@x.test", "--syntax-only", "-o", out],
            &["verify", "--syntax-only", "ann@x.test", "--role", "hard.csv", "-o", out],
        ] {
            refused(&workspace.run(args), "this is ");
        }
        let script = format!("\"$SMTP_POOL\" verify --syntax-only - -o {out} < hard.csv");
        refused(&workspace.shell(&script), "this is the list");
        let script = format!("\"$SMTP_POOL\" verify --syntax-only /dev/stdin -o {out} < list.csv");
        refused(&workspace.shell(&script), "this is the list");
    }
    // Standard output may be the list, too.
    refused(&workspace.shell("\"$SMTP_POOL\" verify --syntax-only soft.csv >> list.csv"), "this is the list");
    refused(&workspace.shell("\"$SMTP_POOL\" job results out.csv >> hard.csv"), "this is the list");
    refused(
        &workspace.shell("\"$SMTP_POOL\" job export out.csv -o /dev/stdout >> list.csv"),
        "this is the list",
    );
    assert_eq!(workspace.text("list.csv"), OURS);
    // The list may have moved, and the command may run in another folder.
    fs::rename(&workspace.list, workspace.at("moved.csv")).unwrap();
    fs::remove_file(workspace.at("soft.csv")).unwrap();
    let mut elsewhere = workspace.command(&["job", "results", "../out.csv", "-o", "../moved.csv"]);
    refused(&ended(elsewhere.current_dir(workspace.at("x"))), "this is the list");
    assert_eq!(workspace.text("moved.csv"), OURS);
}

#[test]
fn no_output_is_written_over_a_job_or_what_lies_beside_it() {
    let workspace = Workspace::done("email\nann@x.test\n");
    let before = fs::read(&workspace.job).unwrap();
    symlink("out.csv.job", workspace.at("soft.html")).unwrap();
    fs::hard_link(&workspace.job, workspace.at("hard.html")).unwrap();
    for out in ["out.csv.job", "./out.csv.job", "soft.html", "hard.html"] {
        refused(&workspace.run(&["report", "out.csv", "-o", out]), "this is the job");
    }
    for suffix in ["-wal", "-shm", "-journal", "-lock"] {
        let out = format!("out.csv.job{suffix}");
        refused(&workspace.run(&["report", "out.csv", "-o", &out]), "this is a file of the job");
        assert!(!workspace.at(&out).exists());
    }
    // Another job is protected, too.
    let other = Workspace::done("email\nbob@x.test\n");
    let out = other.job.to_str().unwrap();
    refused(&workspace.run(&["report", "out.csv", "-o", out]), "smtp-pool did not write it");
    assert_eq!(fs::read(&workspace.job).unwrap(), before);
    assert_eq!(ended(&mut other.command(&["job", "status", "out.csv"])).status.code(), Some(0));
}

#[test]
fn a_foreign_file_is_not_replaced() {
    let workspace = Workspace::done("email\nann@x.test\n");
    let mine = "id,name\n1,mine\n";
    for name in ["mine.csv", "mine.jsonl", "mine.csv.gz", "mine.html", "out.csv.new", "out.csv.job.new"] {
        workspace.put(name, mine);
    }
    for out in ["mine.csv", "mine.jsonl", "mine.csv.gz"] {
        for args in [
            &["job", "results", "out.csv", "-o", out][..],
            &["job", "export", "out.csv", "-o", out, "--vocab", "kickbox"],
            &["verify", "list.csv", "--syntax-only", "-o", out],
            &["verify", "ann@x.test", "--syntax-only", "-o", out],
        ] {
            refused(&workspace.run(args), "smtp-pool did not write it\n  hint: ");
        }
    }
    refused(&workspace.run(&["report", "out.csv", "-o", "mine.html"]), "smtp-pool did not write it");
    refused(&workspace.run(&["report", "out.csv", "-o", "out.csv"]), "smtp-pool did not write it");
    // Earlier versions took files with these names for their own.
    assert_eq!(workspace.verify(&["--syntax-only", "-q", "--restart"]).status.code(), Some(0));
    for name in ["mine.csv", "mine.jsonl", "mine.csv.gz", "mine.html", "out.csv.new", "out.csv.job.new"] {
        assert_eq!(workspace.text(name), mine, "{name}");
    }
    assert!(!workspace.names().iter().any(|name| name.starts_with('.')), "{:?}", workspace.names());
}

#[test]
fn a_link_where_a_draft_might_be_leads_nowhere() {
    let workspace = Workspace::new("email\nann@x.test\n");
    let precious = workspace.put("precious", "mine");
    for name in ["out.csv.new", "out.csv.job.new", "good.csv.new"] {
        symlink(&precious, workspace.at(name)).unwrap();
    }
    assert_eq!(workspace.verify(&["--syntax-only", "-q"]).status.code(), Some(0));
    assert_eq!(workspace.run(&["job", "results", "out.csv", "-o", "good.csv"]).status.code(), Some(0));
    assert_eq!(workspace.text("precious"), "mine");
    assert!(workspace.at("out.csv.new").is_symlink() && workspace.at("out.csv.job.new").is_symlink());
    assert!(workspace.text("good.csv").starts_with("address,") && !workspace.at("good.csv").is_symlink());
}

#[test]
fn a_file_does_not_belong_to_a_job_by_its_name_alone() {
    let mine = "ann@x.test\n";
    for name in
        ["out.csv.job", "out.csv.job-wal", "out.csv.job-shm", "out.csv.job-journal", "out.csv.job-lock"]
    {
        let workspace = Workspace::new("email\nann@x.test\n");
        workspace.put(name, mine);
        for more in [&["--syntax-only", "-q"][..], &["--syntax-only", "-q", "--restart"]] {
            let output = workspace.verify(more);
            assert_eq!(output.status.code(), Some(2), "{name}: {}", err(&output));
            assert!(err(&output).contains(name), "{}", err(&output));
            assert_eq!(workspace.text(name), mine, "{name}");
        }
        assert_eq!(workspace.names(), ["list.csv", name]);
        // The same holds beside a completed job.
        fs::remove_file(workspace.at(name)).unwrap();
        assert_eq!(workspace.verify(&["--syntax-only", "-q"]).status.code(), Some(0));
        workspace.put(name, mine);
        for args in [
            &["verify", "list.csv", "-o", "out.csv", "--syntax-only", "-q", "--restart"][..],
            &["job", "retry", "out.csv", "--status", "other"],
        ] {
            let output = workspace.run(args);
            if name != "out.csv.job-lock" || args[0] == "verify" {
                assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {}", err(&output));
            }
            assert_eq!(workspace.text(name), mine, "{name}");
        }
    }
    // A list with such a name is a list.
    for list in ["out.csv.job", "out.csv.job-wal", "out.csv.job-lock"] {
        let workspace = Workspace::new("");
        workspace.put(list, mine);
        for more in [&[][..], &["--restart"]] {
            let args = [&["verify", list, "-o", "out.csv", "--syntax-only"], more].concat();
            refused(&workspace.run(&args), "the job of this output would replace the list\n  hint: ");
        }
        assert_eq!(workspace.text(list), mine);
    }
}

#[test]
fn an_earlier_output_is_replaced_and_stays_until_then() {
    let workspace = Workspace::done("email\nann@x.test\nbob@x.test\n");
    let first = workspace.text("out.csv");
    fs::set_permissions(&workspace.out, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&workspace.out, workspace.at("yesterday.csv")).unwrap();
    assert_eq!(workspace.verify(&["--syntax-only", "-q", "--vocab", "kickbox"]).status.code(), Some(0));
    assert!(workspace.text("out.csv").starts_with("email,result,"));
    assert_eq!(fs::metadata(&workspace.out).unwrap().mode() & 0o777, 0o640);
    // A file with another name is another file.
    assert_eq!(workspace.text("yesterday.csv"), first);
    for _ in 0..2 {
        for (out, vocab) in [
            ("a.jsonl", "zerobounce"),
            ("a.csv.gz", "reacher"),
            ("a.jsonl.zst", "neverbounce"),
            ("out.csv", "kickbox"),
        ] {
            let output = workspace.run(&["job", "export", "out.csv.job", "-o", out, "--vocab", vocab]);
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        }
        for out in ["b.jsonl", "b.csv", "b.jsonl.gz", "a.csv.gz"] {
            let output = workspace.run(&["verify", "ann@x.test", "--syntax-only", "-q", "-o", out]);
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        }
        assert_eq!(workspace.run(&["report", "out.csv.job", "-o", "r.html"]).status.code(), Some(0));
    }
    // A symbolic link is followed, and stays.
    symlink("b.csv", workspace.at("link.csv")).unwrap();
    assert_eq!(workspace.run(&["job", "results", "out.csv.job", "-o", "link.csv"]).status.code(), Some(0));
    assert!(workspace.at("link.csv").is_symlink() && workspace.text("b.csv") == first);
    // The umask decides who may read a new output. An empty file may be replaced.
    workspace.put("empty.csv", "");
    let script =
        "umask 027; for out in empty.csv new.csv; do \"$SMTP_POOL\" job results out.csv.job -o $out; done";
    assert_eq!(workspace.shell(script).status.code(), Some(0));
    assert_eq!(fs::metadata(workspace.at("new.csv")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(workspace.text("empty.csv"), first);
}

#[test]
fn two_commands_with_one_output_write_one_of_both() {
    let workspace = Workspace::new("");
    let list = |name: &str, user: &str| {
        let rows: String = (0..20_000).map(|n| format!("{user}{n}@x.test\n")).collect();
        workspace.put(name, &rows);
    };
    list("a.txt", "ann");
    list("b.txt", "bob");
    let start = |list: &str| -> Child {
        let mut command = workspace.command(&["verify", "--syntax-only", "-q", "-", "-o", "out.jsonl"]);
        command.stdin(fs::File::open(workspace.at(list)).unwrap()).spawn().unwrap()
    };
    for _ in 0..3 {
        for child in ["a.txt", "b.txt"].map(start) {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        }
        let text = workspace.text("out.jsonl");
        let users: std::collections::HashSet<char> =
            text.lines().map(|line| line.chars().nth(r#"{"address":""#.len()).unwrap()).collect();
        assert_eq!((text.lines().count(), users.len()), (20_000, 1), "one of both, and whole");
        assert_eq!(workspace.names(), ["a.txt", "b.txt", "list.csv", "out.jsonl"]);
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let rows: String = (0..3_000).map(|n| format!("user{n}@x.test\n")).collect();
    let workspace = Workspace::done(&format!("email\n{rows}"));
    assert_eq!(workspace.run(&["job", "results", "out.csv", "-o", "old.csv"]).status.code(), Some(0));
    assert_eq!(workspace.run(&["report", "out.csv", "-o", "old.html"]).status.code(), Some(0));
    let before = workspace.names();
    let (csv, html) = (workspace.text("old.csv"), workspace.text("old.html"));
    // A limit of the file size makes writes fail as on a full disk.
    for (blocks, args) in [
        (64, "job results out.csv -o old.csv"),
        (64, "job export out.csv -o old.csv"),
        (64, "job export out.csv -o new.csv"),
        (64, "verify - --syntax-only -q -o old.csv < list.csv"),
        (64, "report out.csv -o /dev/full"),
        (8, "verify list.csv --syntax-only -q -o new.csv"),
        (8, "verify list.csv --syntax-only -q -o out.csv --restart"),
        (64, "job export out.csv -o /dev/full"),
    ] {
        let output =
            workspace.shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$SMTP_POOL\" {args}"));
        assert_eq!(output.status.code(), Some(1), "{args}: {}", err(&output));
        assert!(err(&output).contains("error: "), "{args}: {}", err(&output));
        assert_eq!(workspace.names(), before, "{args}");
        assert!(workspace.text("old.csv") == csv && workspace.text("old.html") == html, "{args}");
    }
    assert_eq!(workspace.run(&["job", "status", "out.csv"]).status.code(), Some(0));
}

#[test]
fn devices_and_pipes_are_written_to_and_folders_refused() {
    let workspace = Workspace::done("email\nann@x.test\n");
    for args in [
        &["job", "results", "out.csv", "-o", "/dev/stdout"][..],
        &["job", "export", "out.csv", "-o", "/proc/self/fd/1"],
        &["verify", "list.csv", "--syntax-only", "-q", "-o", "/dev/stdout"],
    ] {
        let output = workspace.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(record["address"], "ann@x.test");
    }
    for args in [
        &["job", "results", "out.csv", "-o", "/dev/null"][..],
        &["verify", "list.csv", "--syntax-only", "-q", "-o", "/dev/null"],
        &["report", "out.csv", "-o", "/dev/null"],
    ] {
        let output = workspace.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    }
    assert!(!Path::new("/dev/null.job").exists());
    let fifo = workspace.at("pipe.csv");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read_to_string(fifo).unwrap()
    });
    let output = workspace.run(&["job", "results", "out.csv", "-o", "pipe.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        reader.join().unwrap().starts_with("address,status,") && fifo.symlink_metadata().unwrap().len() == 0
    );
    fs::create_dir(workspace.at("folder.csv")).unwrap();
    for args in [
        &["job", "results", "out.csv", "-o", "folder.csv"][..],
        &["verify", "list.csv", "--syntax-only", "-o", "folder.csv"],
        &["verify", "ann@x.test", "--syntax-only", "-o", "folder.csv"],
        &["report", "out.csv", "-o", "folder.csv"],
    ] {
        refused(&workspace.run(args), "folder.csv: this is a folder, not a file\n  hint: ");
    }
    refused(&workspace.run(&["report", "out.csv", "-o", "nowhere/r.html"]), "nowhere/r.html: ");
}

#[test]
fn an_interrupted_stream_keeps_its_records_and_a_killed_one_the_old_output() {
    let workspace = Workspace::new("");
    let start = || {
        let mut command = workspace.command(&["verify", "--syntax-only", "-", "-o", "out.jsonl"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all("ann@x.test\n".repeat(100).as_bytes()).unwrap();
        let is_draft = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".out.jsonl.");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let entries = fs::read_dir(workspace.dir.path()).unwrap().map(Result::unwrap);
            if entries.filter(is_draft).any(|draft| draft.metadata().unwrap().len() > 0) {
                break;
            }
            assert!(Instant::now() < deadline, "{:?}", workspace.names());
        }
        (child, input)
    };
    let (child, input) = start();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    drop(input);
    let known = workspace.text("out.jsonl");
    assert!(known.lines().count() > 0 && known.ends_with('\n'));
    let (mut child, _input) = start();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(workspace.text("out.jsonl") == known);
}

#[test]
fn a_list_is_recognized_by_its_content_and_not_by_its_time() {
    let (one, other) = ("email\nann@x.test\n", "email\nbob@x.test\n");
    let long_ago = SystemTime::now() - Duration::from_secs(1_000);
    let set_time =
        |path: &Path, time| fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    let workspace = Workspace::new(one);
    set_time(&workspace.list, long_ago);
    let again = || workspace.verify(&["--syntax-only"]);
    assert_eq!(again().status.code(), Some(0));
    // The list is touched, copied, and renamed twice.
    set_time(&workspace.list, SystemTime::now());
    assert_eq!(again().status.code(), Some(0), "{}", err(&again()));
    fs::copy(&workspace.list, workspace.at("copy.csv")).unwrap();
    let output = workspace.run(&["verify", "copy.csv", "-o", "out.csv", "--syntax-only"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    fs::rename(workspace.at("copy.csv"), &workspace.list).unwrap();
    assert_eq!(again().status.code(), Some(0), "{}", err(&again()));
    // Another list of the same size and time is in its place, and under another name.
    set_time(&workspace.list, long_ago);
    let workspace = Workspace::new(one);
    set_time(&workspace.list, long_ago);
    assert_eq!(workspace.verify(&["--syntax-only"]).status.code(), Some(0));
    workspace.put("other.csv", other);
    set_time(&workspace.at("other.csv"), long_ago);
    let output = workspace.run(&["verify", "other.csv", "-o", "out.csv", "--syntax-only"]);
    refused(&output, "other.csv is not the list that the job was made from");
    fs::rename(workspace.at("other.csv"), &workspace.list).unwrap();
    refused(&workspace.verify(&["--syntax-only"]), "list.csv is not the list that the job was made from");
    // The same file gets other content, and its old time.
    fs::write(&workspace.list, one).unwrap();
    set_time(&workspace.list, long_ago);
    assert_eq!(workspace.verify(&["--syntax-only"]).status.code(), Some(0));
    fs::write(&workspace.list, other).unwrap();
    set_time(&workspace.list, long_ago);
    refused(&workspace.verify(&["--syntax-only"]), "list.csv is not the list that the job was made from");
    assert!(workspace.text("out.csv").contains("ann@x.test"));
}

/// A folder that another user can enter, with the command in it.
struct OtherUser {
    dir: TempDir,
}

/// The user `nobody` of most systems. Any number that owns no file would do.
const NOBODY: &str = "65534";

impl OtherUser {
    fn new(workspace: &Workspace) -> Self {
        let dir = TempDir::new_in("/tmp").unwrap();
        fs::copy(COMMAND, dir.path().join("smtp-pool")).unwrap();
        for path in [dir.path(), workspace.dir.path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    /// Runs the command as another user, who has only the rights of everybody. Without root it runs as this user, and
    /// the modes of the files take the rights away.
    fn run(&self, workspace: &Workspace, args: &[&str]) -> Output {
        let path = self.dir.path().join("smtp-pool");
        let mut command = if is_root() {
            // Both this and su are parts of util-linux.
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
            command.arg(path);
            command
        } else {
            Command::new(path)
        };
        command.args(args).env_remove("RUST_LOG").current_dir(workspace.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(&mut command)
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_user_reads_a_job_and_leaves_no_file_behind() {
    let workspace = Workspace::done("email\nann@x.test\nbob@x.test\n");
    let other_user = OtherUser::new(&workspace);
    let before = fs::read(&workspace.job).unwrap();
    mode(&workspace.job, 0o444);
    mode(workspace.dir.path(), 0o555);
    for args in [
        &["job", "status", "out.csv.job"][..],
        &["job", "results", "out.csv.job"],
        &["job", "export", "out.csv"],
        &["job", "diff", "out.csv.job", "out.csv.job"],
        &["report", "out.csv.job", "-o", "/dev/null"],
    ] {
        let output = other_user.run(&workspace, args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    }
    let retry = other_user.run(&workspace, &["job", "retry", "out.csv.job", "--status", "other"]);
    assert!(err(&retry).contains("the job cannot be written"), "{}", err(&retry));
    mode(workspace.dir.path(), 0o755);
    assert_eq!(fs::read(&workspace.job).unwrap(), before);
    // In a folder where everybody may write, a file of another user must not block the owner of the job.
    if is_root() {
        mode(workspace.dir.path(), 0o1777);
        assert_eq!(other_user.run(&workspace, &["job", "results", "out.csv.job"]).status.code(), Some(0));
    }
    assert_eq!(workspace.names(), ["list.csv", "out.csv", "out.csv.job"]);
    // A job is made for its owner alone, and the error says so.
    mode(&workspace.job, if is_root() { 0o600 } else { 0o000 });
    let denied = other_user.run(&workspace, &["job", "status", "out.csv.job"]);
    assert_eq!(denied.status.code(), Some(2));
    assert!(err(&denied).contains("permission denied"), "{}", err(&denied));
    mode(&workspace.job, 0o600);
}

/// Returns a folder with the job of a killed run. Its log has the last results.
fn killed() -> Workspace {
    let rows: String = (0..400).map(|n| format!("user{n}@good.test\n")).collect();
    let workspace = Workspace::new(&format!("email\n{rows}"));
    workspace.put(
        "world.toml",
        "[[host]]\nname = \"mx.good.test\"\nwithout = [\"STARTTLS\"]\nlatency = \"20ms\"\n\
         errors = { soft = 10, hard = 20, delay = \"100ms\" }\n\
         [[domain]]\nname = \"good.test\"\nhosts = [\"mx.good.test\"]\nusers = [\"user1\"]\n",
    );
    let mut child = workspace
        .command(&["verify", "list.csv", "-o", "out.csv", "-q", "--sandbox=world.toml"])
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while results(&workspace.run(&["job", "results", "out.csv.job"])) == 0 {
        assert!(Instant::now() < deadline, "nothing was done");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fs::metadata(workspace.at("out.csv.job-wal")).unwrap().len() > 0, "{:?}", workspace.names());
    workspace
}

fn results(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stdout).lines().count()
}

#[test]
fn the_log_of_a_killed_run_is_read_or_the_error_says_what_to_do() {
    let workspace = killed();
    let other_user = OtherUser::new(&workspace);
    for name in ["out.csv.job", "out.csv.job-wal", "out.csv.job-shm"] {
        mode(&workspace.at(name), 0o444);
    }
    mode(workspace.dir.path(), 0o555);
    let known = results(&other_user.run(&workspace, &["job", "results", "out.csv.job"]));
    assert!(known > 0, "{}", err(&other_user.run(&workspace, &["job", "results", "out.csv.job"])));
    // Only the owner may read the log, or the index of the log is missing.
    let log_denied = |path: &Path| mode(path, if is_root() { 0o600 } else { 0o000 });
    log_denied(&workspace.at("out.csv.job-wal"));
    let denied = other_user.run(&workspace, &["job", "results", "out.csv.job"]);
    refused(&denied, "out.csv.job-wal holds the last results and cannot be read here\n  hint: copy the job");
    mode(&workspace.at("out.csv.job-wal"), 0o444);
    mode(workspace.dir.path(), 0o755);
    fs::remove_file(workspace.at("out.csv.job-shm")).unwrap();
    mode(workspace.dir.path(), 0o555);
    refused(&other_user.run(&workspace, &["job", "status", "out.csv.job"]), "copy the job and that file");
    mode(workspace.dir.path(), 0o755);
    for name in ["out.csv.job", "out.csv.job-wal"] {
        mode(&workspace.at(name), 0o600);
    }
    assert_eq!(results(&workspace.run(&["job", "results", "out.csv.job"])), known);
    assert!(!workspace.at("out.csv.job-wal").exists(), "a reader who may write takes the log into the job");
}

/// Checks that `--restart` does not use the log of the killed run.
#[test]
fn a_killed_job_can_be_restarted() {
    let workspace = killed();
    fs::write(&workspace.list, "email\nann@x.test\nbob@x.test\n").unwrap();
    let output = workspace.verify(&["--syntax-only", "-q", "--restart"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let addresses: Vec<String> = workspace
        .text("out.csv")
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    assert_eq!(addresses, ["ann@x.test", "bob@x.test"]);
    assert_eq!(workspace.names(), ["list.csv", "out.csv", "out.csv.job", "world.toml"]);
}

/// Mounts a read-only file system, for which it needs root. For other users the test above covers the same: for SQLite,
/// a folder without the right to write is the same.
#[test]
fn a_job_on_a_read_only_file_system_is_read() {
    let workspace = Workspace::done("email\nann@x.test\n");
    let script = "mount --bind . . && mount -o remount,ro,bind . && cd . || exit 99\n\
                  cd \"$PWD\"; touch x 2>/dev/null && exit 98\n\
                  \"$SMTP_POOL\" job results out.csv && \"$SMTP_POOL\" report out.csv -o /dev/null";
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-m"][..] } else { &["-rm"] }).args(["sh", "-c", script]);
    command.env("SMTP_POOL", COMMAND).current_dir(workspace.dir.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    match output.status.code() {
        // A container often forbids mounting.
        Some(1 | 99) if err(&output).contains("unshare") || err(&output).contains("mount") => {
            println!("no file system can be mounted here: {}", err(&output));
        }
        code => assert_eq!((code, results(&output)), (Some(0), 1), "{}", err(&output)),
    }
}

#[test]
fn a_job_and_its_companions_are_readable_by_their_owner_alone() {
    let workspace = Workspace::new("email\nann@good.test\n");
    workspace.put(
        "world.toml",
        "[[host]]\nname = \"mx.good.test\"\nwithout = [\"STARTTLS\"]\nlatency = \"2s\"\n\
         [[domain]]\nname = \"good.test\"\nhosts = [\"mx.good.test\"]\nusers = [\"ann\"]\n",
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$SMTP_POOL\" verify list.csv -o out.csv -q --sandbox=world.toml"]);
    let mut child = shell.env("SMTP_POOL", COMMAND).current_dir(workspace.dir.path()).spawn().unwrap();
    let companions = ["out.csv.job", "out.csv.job-lock", "out.csv.job-shm", "out.csv.job-wal"]
        .map(|name| workspace.at(name));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !companions.iter().all(|path| path.exists()) {
        assert!(Instant::now() < deadline, "{:?}", workspace.names());
    }
    for path in &companions {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
    // Other processes see by the lock that a run works on the job.
    let busy = workspace.verify(&["-q", "--sandbox=world.toml"]);
    assert!(
        err(&busy).contains(&format!("another run works on this job (process {})", child.id())),
        "{}",
        err(&busy)
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_failure_to_open_a_job_says_why() {
    let workspace = Workspace::done("email\nann@x.test\n");
    let told = |args: &[&str]| err(&workspace.run(args));
    let why = |path: &str| told(&["job", "status", path]);
    assert!(
        why("nothing.job").contains("nothing.job: the job cannot be opened: No such file"),
        "{}",
        why("nothing.job")
    );
    assert!(
        why("list.csv").contains("this is not a job file: it is not an SQLite file"),
        "{}",
        why("list.csv")
    );
    assert!(why(".").contains("it is a folder"), "{}", why("."));
    let octets = fs::read(&workspace.job).unwrap();
    let changed = |at: usize, to: &[u8]| {
        let mut octets = octets.clone();
        octets[at..at + to.len()].copy_from_slice(to);
        fs::write(workspace.at("changed.job"), octets).unwrap();
        why("changed.job")
    };
    // The header of SQLite has the version and the application.
    let newer = changed(60, &99_u32.to_be_bytes());
    assert!(
        newer.contains("of format 99, which this version of smtp-pool does not know\n  hint: use a version"),
        "{newer}"
    );
    assert!(changed(68, b"MyDB").contains("it is an SQLite database of another program"));
    let damaged = changed(16_384 * 2, &[0xff; 64]);
    assert!(damaged.contains("the job is damaged: ") && damaged.contains(" 3"), "names the page: {damaged}");
    assert!(damaged.contains("\n  hint: "), "{damaged}");
}

#[test]
fn a_job_that_would_hang_is_refused() {
    let workspace = Workspace::done("email\nann@x.test\n");
    let refuse = |sql: &str| {
        fs::copy(&workspace.job, workspace.at("odd.csv.job")).unwrap();
        rusqlite::Connection::open(workspace.at("odd.csv.job")).unwrap().execute_batch(sql).unwrap();
        for args in [
            &["job", "status", "odd.csv.job"][..],
            &["job", "results", "odd.csv.job"],
            &["job", "retry", "odd.csv.job"],
            &["report", "odd.csv.job", "-o", "r.html"],
            &["verify", "list.csv", "-o", "odd.csv", "--syntax-only"],
        ] {
            let output = workspace.run(args);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{sql} {args:?}: {}", err(&output));
            assert!(err(&output).contains("job"), "{}", err(&output));
        }
    };
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    refuse(&format!("DROP TABLE catch_all; CREATE VIEW catch_all AS {endless}"));
    refuse(&format!(
        "DROP TABLE value; CREATE VIEW value AS SELECT i AS name, i AS value, i AS sum FROM ({endless})"
    ));
    refuse(&format!(
        "CREATE TRIGGER more AFTER INSERT ON value BEGIN DELETE FROM value WHERE name IN ({endless}); END"
    ));
    refuse("CREATE TABLE more (x)");
    // The lock is a pipe: opening it would wait for the other end.
    fs::copy(&workspace.job, workspace.at("odd.csv.job")).unwrap();
    fs::remove_file(&workspace.job).unwrap();
    for job in ["odd.csv", "out.csv"] {
        let lock = workspace.at(&format!("{job}.job-lock"));
        assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success());
        let output = workspace.run(&["verify", "list.csv", "-o", job, "--syntax-only", "-q", "--restart"]);
        refused(&output, &format!("{job}.job-lock does not belong to a job"));
    }
    // The job or its log is a pipe.
    for name in ["fifo.job", "odd.csv.job-wal"] {
        assert!(Command::new("mkfifo").arg(workspace.at(name)).status().unwrap().success());
    }
    refused(&workspace.run(&["job", "status", "fifo.job"]), "it is not a regular file");
    refused(&workspace.run(&["job", "status", "odd.csv.job"]), "odd.csv.job-wal does not belong to a job");
}

#[test]
fn a_damaged_octet_is_an_error_and_never_another_verdict() {
    let rows: String = (0..500).map(|n| format!("user{n}@x.test\n")).collect();
    let workspace = Workspace::done(&format!("email\n{rows}"));
    let octets = fs::read(&workspace.job).unwrap();
    let wanted = workspace.run(&["job", "export", "out.csv.job"]).stdout;
    let mut random = fastrand::Rng::with_seed(120);
    let filled: Vec<usize> = (100..octets.len()).filter(|at| octets[*at] != 0).collect();
    let mut errors = 0;
    for _ in 0..120 {
        let mut flipped = octets.clone();
        flipped[filled[random.usize(..filled.len())]] ^= 1 << random.u32(..8);
        fs::write(workspace.at("flipped.job"), flipped).unwrap();
        let output = workspace.run(&["job", "export", "flipped.job"]);
        match output.status.code() {
            Some(0) => assert!(output.stdout == wanted, "read as something else"),
            code => {
                assert!(
                    matches!(code, Some(1 | 2)) && err(&output).starts_with("error: "),
                    "{}",
                    err(&output)
                );
                errors += 1;
            }
        }
    }
    assert!(errors > 60, "{errors} of 120");
}

/// A world with two hosts: one blocks us, the other is slow.
const BLOCKING: &str = r#"
[[host]]
name = "mx.listed.test"
blocked = { at = "connect" }

[[host]]
name = "mx.slow.test"
without = ["STARTTLS"]
latency = "30ms"
errors = { soft = 10, hard = 20, delay = "100ms" }

[[domain]]
name = "listed.test"
hosts = ["mx.listed.test"]
users = ["ann"]

[[domain]]
name = "slow.test"
hosts = ["mx.slow.test"]
users = ["user1"]
"#;

#[test]
fn the_exit_code_and_the_report_tell_of_the_whole_job() {
    let rows: String = (0..300).map(|n| format!("user{n}@slow.test\n")).collect();
    let workspace = Workspace::new(&format!("email\nann@listed.test\n{rows}"));
    workspace.put("world.toml", BLOCKING);
    let more = ["--sandbox=world.toml", "--attempts", "1"];
    let mut command = workspace.command(&[&["verify", "list.csv", "-o", "out.csv"][..], &more].concat());
    let mut child = command.spawn().unwrap();
    let status = || -> Value {
        serde_json::from_slice(&workspace.run(&["job", "status", "--json", "out.csv.job"]).stdout)
            .unwrap_or_default()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while status()["verdicts"]["blocked"].as_u64().is_none() || status()["done"].as_u64() < Some(5) {
        assert!(Instant::now() < deadline, "{}", status());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = |text: &str| -> u64 {
        let row = text.split("<tr><td>rcpt<td>").nth(1).unwrap();
        row.split('<').next().unwrap().replace(',', "").parse().unwrap()
    };
    assert_eq!(workspace.run(&["report", "out.csv.job", "-o", "r.html"]).status.code(), Some(0));
    let first = asked(&workspace.text("r.html"));
    assert!(first >= 5, "{first}");

    // The second run asks the slow host alone, and the third asks no host.
    for runs in [2, 2] {
        let output = workspace.verify(&more);
        assert_eq!(output.status.code(), Some(3), "{}", err(&output));
        assert!(
            err(&output).contains("blocked us until the end; ask again later:\n  mx.listed.test: "),
            "{}",
            err(&output)
        );
        assert!(err(&output).contains("the whole job: 301 rows in 2 runs of "), "{}", err(&output));
        assert_eq!((&status()["runs"], &status()["blocked"][0]), (&runs.into(), &"mx.listed.test".into()));
        assert_eq!(workspace.run(&["report", "out.csv.job", "-o", "r.html"]).status.code(), Some(0));
        let page = workspace.text("r.html");
        assert!(page.contains("<b><bdi>mx.listed.test</bdi></b>") && page.contains("<br>2 runs, "), "{page}");
        assert!(asked(&page) >= 300, "{} after {first}", asked(&page));
    }
    // If the addresses are asked again and the host no longer blocks us, the exit code is 0.
    workspace.put("world.toml", &BLOCKING.replace("blocked = { at = \"connect\" }", ""));
    assert_eq!(workspace.run(&["job", "retry", "out.csv.job", "--status", "blocked"]).status.code(), Some(0));
    let output = workspace.verify(&more);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(workspace.run(&["report", "out.csv.job", "-o", "r.html"]).status.code(), Some(0));
    assert!(!workspace.text("r.html").contains("<b>"));
}

#[test]
fn a_reader_of_a_pipe_may_close_it() {
    let rows: String = (0..20_000).map(|n| format!("user{n}@x.test\n")).collect();
    let workspace = Workspace::done(&format!("email\n{rows}"));
    let fifo = workspace.at("pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = std::thread::spawn(move || {
        let mut first = [0; 10];
        fs::File::open(fifo).unwrap().read_exact(&mut first).unwrap();
    });
    let output = workspace.run(&["job", "results", "out.csv", "-o", "pipe.jsonl"]);
    reader.join().unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}
