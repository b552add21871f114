//! Text from servers, the DNS, lists and file names is escaped, and cannot imitate other output.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{
        Name, RData, RecordType,
        rdata::{A, MX, PTR, TXT},
    },
};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::Value;
use smtp_pool::sandbox::Sandbox;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use crate::{nameserver::Nameserver, support};

mod metrics;
mod spreadsheet;
mod writers;

/// One character of each kind that a terminal obeys or does not show, without the line feed. They are escape, bell, a
/// C1 control, delete, bidirectional controls, zero width, line separator, byte order mark, and a tag.
const HOSTILE: &str =
    "x\u{1b}]0;y\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{61c}\u{200b}\u{2028}\u{feff}\u{e0041}z";
/// The escaped form of it.
const SHOWN: &str = r"x\x1b]0;y\x07\u{9b}2J\x7f\u{202e}\u{2066}\u{61c}\u{200b}\u{2028}\u{feff}\u{e0041}z";

/// Returns whether a terminal obeys the character or does not show it.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns the text, and fails if it has a forbidden character other than the line feed.
#[track_caller]
fn clean(octets: &[u8]) -> String {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    let found: Vec<_> = text.chars().filter(|&c| c != '\n' && is_forbidden(c)).collect();
    assert!(found.is_empty(), "{found:?} in {text}");
    text
}

struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandOutput {
    #[track_caller]
    fn new(output: &Output) -> Self {
        Self { code: output.status.code(), out: clean(&output.stdout), err: clean(&output.stderr) }
    }

    fn records(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command<A: AsRef<OsStr>>(args: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command, and fails if one of its outputs has a forbidden character.
async fn run<A: AsRef<OsStr>>(args: &[A]) -> CommandOutput {
    CommandOutput::new(&command(args).output().await.unwrap())
}

async fn run_with<A: AsRef<OsStr>>(args: &[A], input: &str) -> CommandOutput {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    CommandOutput::new(&child.wait_with_output().await.unwrap())
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(dir: &TempDir, name: impl AsRef<Path>, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Returns the text as a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Returns a host with this reply at a stage, for a domain with `ann`.
fn world(at: &str, reply: &str) -> String {
    format!(
        "[[host]]\nname = \"mx.evil.test\"\nfaults = [{{ at = \"{at}\", does = {{ reply = {} }} }}]\n\
         [[domain]]\nname = \"evil.test\"\nhosts = [\"mx.evil.test\"]\nusers = [\"ann\"]\n",
        quoted(reply)
    )
}

/// Serves SMTP inside of TLS, with a certificate that imitates a line of `probe`.
async fn hostile_server() -> std::net::SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let forged = format!("x\ncertificate  trusted\r{HOSTILE}");
    params.distinguished_name.push(DnType::CommonName, &*forged);
    params.distinguished_name.push(DnType::OrganizationName, "\u{202e}y\u{1b}[2J");
    let name = "a.test\ncertificate  trusted\u{1b}[2J\u{7f}";
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (read, mut write) = tokio::io::split(stream);
                let mut lines = BufReader::new(read).lines();
                write.write_all(format!("220 {HOSTILE} ESMTP\r\n").as_bytes()).await.unwrap();
                while let Ok(Some(line)) = lines.next_line().await {
                    let reply = match line.split(' ').next().unwrap() {
                        "EHLO" => {
                            format!("250-mx\r\n250-X-EVIL {HOSTILE}\r\n250 AUTH A\u{1b}[2J\u{202e}\r\n")
                        }
                        _ => "221 bye\r\n".into(),
                    };
                    write.write_all(reply.as_bytes()).await.unwrap();
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_cannot_forge_a_line_of_probe() {
    let addr = hostile_server().await.to_string();
    let done = run(&["probe", "--tls", "implicit", &addr]).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let trust: Vec<_> = done.out.lines().filter(|line| line.starts_with("certificate")).collect();
    assert!(trust.len() == 1 && trust[0].starts_with("certificate  not trusted: "), "{}", done.out);
    assert!(done.out.contains(&format!(r"x\ncertificate  trusted\r{SHOWN}")), "{}", done.out);
    assert!(done.out.contains(r"a.test\ncertificate  trusted\x1b[2J\x7f"), "{}", done.out);
    assert!(done.out.contains(&format!("banner       220 {SHOWN} ESMTP\n")), "{}", done.out);

    // In JSON they are escaped, and parse to the same text.
    let done = run(&["probe", "--tls", "implicit", "--json", &addr]).await;
    let found = &done.records()[0];
    assert_eq!(found["banner"], format!("220 {HOSTILE} ESMTP"));
    let subject = found["tls"]["certificate"]["subject"].as_str().unwrap();
    assert!(subject.contains(&format!("x\ncertificate  trusted\r{HOSTILE}")), "{subject}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_shown_by_probe_as_text() {
    for at in ["connect", "ehlo", "starttls"] {
        let sandbox = support::sandbox(&world(at, &format!("554 5.7.1 {HOSTILE}"))).await;
        let addr = sandbox.addr("mx.evil.test").unwrap().to_string();
        let done = run(&["probe", &addr]).await;
        let shown = if at == "starttls" { &done.out } else { &done.err };
        assert!(shown.contains(SHOWN), "{at}: {shown}");
    }
}

/// Returns a name below `test` with any octets.
fn labels(label: &[u8]) -> Name {
    Name::from_labels([label, b"test"]).unwrap()
}

/// Returns the records of the zone. 192.0.2.8 is listed for a reason that imitates a line of `doctor`.
fn zone(name: &str, record: RecordType) -> Result<Vec<RData>, ResponseCode> {
    match (name, record) {
        ("8.2.0.192.in-addr.arpa.", RecordType::PTR) => Ok(vec![RData::PTR(PTR(labels(b"a\x1b[2J")))]),
        ("8.2.0.192.bl.test.", RecordType::A) => Ok(vec![RData::A(A("127.0.0.4".parse().unwrap()))]),
        ("8.2.0.192.bl.test.", RecordType::TXT) => {
            let text = format!("x\nok       blocklist  192.0.2.8 is not in bl.test{HOSTILE}");
            Ok(vec![RData::TXT(TXT::new(vec![text]))])
        }
        ("evil.test.", RecordType::MX) => {
            Ok(vec![RData::MX(MX::new(10, labels("=x\u{1b}[2J\u{9b}\u{202e}".as_bytes())))])
        }
        (_, RecordType::A) if name.ends_with(".test.") && name.starts_with(['=', '\\']) => {
            Ok(vec![RData::A(A("127.0.0.1".parse().unwrap()))])
        }
        ("8.2.0.192.bl.test." | "evil.test.", _) => Ok(vec![]),
        _ => Err(ResponseCode::NXDomain),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocklist_cannot_forge_a_line_of_doctor() {
    let dns = Nameserver::start(zone).await;
    let sandbox = support::sandbox(&world("connect", &format!("220 {HOSTILE}"))).await;
    let (server, dns) = (sandbox.addr("mx.evil.test").unwrap().to_string(), dns.addr.to_string());
    let args =
        ["doctor", "--helo", "evil.test", "--ip", "192.0.2.8", "--blocklist", "bl.test", "--timeout", "1"];
    let args = [&args[..], &["--ntp", "127.0.0.1:9", "--server", &server, "--nameserver", &dns]].concat();
    let done = run(&args).await;
    let lines: Vec<_> = done.out.lines().filter(|line| line.contains("blocklist  192.0.2.8 is")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("FAILED   blocklist "), "{}", done.out);
    assert!(lines[0].contains(&format!(r"is not in bl.test{SHOWN}")), "{}", done.out);
    assert!(done.out.contains(&format!("answered: 220 {SHOWN}\n")), "{}", done.out);

    let done = run(&[&args[..], &["--json"]].concat()).await;
    let found = done.records().into_iter().find(|finding| finding["check"] == "blocklist").unwrap();
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.contains("\nok ") && detail.contains(HOSTILE), "{detail}");
}

#[tokio::test]
async fn replies_and_stages_are_explained_as_text() {
    let reply = format!("550 5.1.1 {HOSTILE} user unknown");
    let done = run(&["explain", &reply]).await;
    assert!(done.out.starts_with(&format!("550 5.1.1 {SHOWN} user unknown\n  verdict ")), "{}", done.out);
    let lines = format!("{reply}\nno reply {HOSTILE}\r{HOSTILE}\n");
    let done = run_with(&["explain"], &lines).await;
    // CR ends a line as well.
    assert_eq!(done.out.lines().count(), 3, "{}", done.out);
    assert!(done.out.contains(&format!("no reply {SHOWN}\n")), "{}", done.out);

    let stage = format!("{HOSTILE}\nerror: forged");
    let object = serde_json::json!({ "reply": "550 x", "stage": stage }).to_string();
    let done = run_with(&["explain", "--json"], &object).await;
    assert_eq!((done.code, done.err.lines().count()), (Some(2), 1), "{}", done.err);
    assert!(done.err.contains(&format!(r"{SHOWN}\nerror: forged")), "{}", done.err);
    let done = run(&["explain", "--stage", &stage, "550 x"]).await;
    assert_eq!((done.code, done.err.lines().count()), (Some(2), 1), "{}", done.err);
    assert!(done.err.contains(&format!(r"{SHOWN}\nerror: forged")), "{}", done.err);
}

#[tokio::test]
async fn file_names_are_shown_as_text() {
    let dir = TempDir::new().unwrap();
    let odd = format!("{HOSTILE}\nlist       other.csv\n<script>");
    let shown = format!(r"{SHOWN}\nlist       other.csv\n<script>");
    let list = file(&dir, format!("{odd}.csv"), "id,email\n1,ann@x.test\n2,no address\n");
    let out = dir.path().join(format!("{odd}-out.csv"));
    let verify = ["verify", "--syntax-only", str_of(&list), "-o", str_of(&out)];
    let done = run(&verify).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains(&format!("{shown}.csv:3: ")), "{}", done.err);
    let done = run(&["job", "status", str_of(&out)]).await;
    assert_eq!(done.out.lines().filter(|line| line.starts_with("list ")).count(), 1, "{}", done.out);
    assert!(done.out.contains(&format!("{shown}.csv\n")), "{}", done.out);
    let done = run(&["job", "status", "--json", str_of(&out)]).await;
    assert!(done.records()[0]["lists"][0].as_str().unwrap().ends_with(&format!("{odd}.csv")));

    // The page has the names, too, where they are no HTML.
    let page = dir.path().join("page.html");
    run(&["report", str_of(&out), "-o", str_of(&page)]).await;
    let html = clean(&fs::read(&page).unwrap());
    assert!(html.contains(&shown.replace('<', "&lt;").replace('>', "&gt;")) && !html.contains("<script"));

    // An error of the command is one line and a hint.
    for args in [
        &["verify", &odd][..],
        &["verify", "--syntax-only", str_of(&list), "-o", &format!("{odd}.xml")],
        &["verify", "--sandbox", "a@x.test", "--rules", &odd],
        &["verify", "a@x.test", "--route", &odd],
        &["verify", "--sandbox", "a@x.test", "--helo", &odd],
        &["job", "status", &odd],
        &["probe", &odd],
        &["sandbox", &odd],
    ] {
        let done = run(args).await;
        assert_ne!(done.code, Some(0), "{args:?}");
        assert!(done.err.contains(&shown), "{args:?}: {}", done.err);
        let rest: Vec<_> = done.err.lines().skip(1).collect();
        assert!(
            rest.len() < 2 && rest.iter().all(|line| line.starts_with("  hint: ")),
            "{args:?}: {}",
            done.err
        );
    }
    // An error of the command line has its form from the parser.
    let done = run(&["job", "retry", str_of(&out), "--status", &odd]).await;
    assert!(done.code == Some(2) && done.err.contains(&shown), "{}", done.err);
    let octets = [dir.path().as_os_str().as_bytes(), b"/b\xff\x1b\x9b.xml"].concat();
    let done =
        run(&["verify".as_ref(), "a@x.test".as_ref(), "-o".as_ref(), OsStr::from_bytes(&octets)]).await;
    assert!(done.err.contains(r"/b\xff\x1b\x9b.xml: the extension"), "{}", done.err);
}

#[tokio::test]
async fn arguments_are_shown_as_text() {
    let odd = format!("--{HOSTILE}\nerror: forged");
    let shown = format!(r"--{SHOWN}\nerror: forged");
    for args in
        [&["verify", &odd][..], &["verify", "--tls", &odd[2..], "a@x.test"], &["verify", "--bind", &odd[2..]]]
    {
        let done = run(args).await;
        assert_eq!(done.code, Some(2), "{args:?}");
        assert!(done.err.contains(&shown[2..]), "{args:?}: {}", done.err);
        assert!(!done.err.lines().skip(1).any(|line| line.starts_with("error: ")), "{args:?}: {}", done.err);
    }
    let octets: [&OsStr; 2] = ["verify".as_ref(), OsStr::from_bytes(b"--\xff\x1b[2J\nerror: forged")];
    let done = run(&octets).await;
    assert_eq!(
        (done.code, done.err.lines().filter(|line| line.starts_with("error: ")).count()),
        (Some(2), 1)
    );
}

#[tokio::test]
async fn a_fault_in_a_file_of_toml_is_pointed_at() {
    let dir = TempDir::new().unwrap();
    let rules = file(&dir, "rules.toml", "[[rule]]\nid = 1 # \u{9b}\u{202e}\n");
    let done = run(&["explain", "--rules", str_of(&rules), "550 x"]).await;
    for part in [
        "rules.toml: the rules are not well-formed: TOML parse error at line 2, column 6\n",
        "2 | id = 1 # \\u{9b}\\u{202e}\n",
    ] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
}

#[tokio::test]
async fn replies_in_a_run_are_shown_as_text() {
    let dir = TempDir::new().unwrap();
    let reply = format!("554 5.7.1 Service unavailable; Client host blocked using {HOSTILE}");
    let world = file(&dir, "world.toml", &world("rcpt", &reply));
    let list = file(
        &dir,
        "list.csv",
        &"email\n"
            .to_owned()
            .chars()
            .chain((0..40).flat_map(|n| format!("u{n}@evil.test\n").chars().collect::<Vec<_>>()))
            .collect::<String>(),
    );
    let (sandbox, out) = (format!("--sandbox={}", str_of(&world)), dir.path().join("out.csv"));
    let done = run(&["verify", &sandbox, str_of(&list)]).await;
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains(SHOWN), "{}", done.err);
    // Records are JSON: without hidden characters, and exact.
    assert!(
        done.records().iter().any(|record| record["reply"].as_str().is_some_and(|it| it.ends_with(HOSTILE)))
    );
    let done = run(&["verify", &sandbox, str_of(&list), "--vocab", "reacher"]).await;
    let message = |record: &Value| record["smtp"]["error"]["message"].as_str().unwrap().to_owned();
    assert!(done.records().iter().any(|record| message(record).ends_with(HOSTILE)), "{}", done.out);

    let done = run(&["verify", &sandbox, str_of(&list), "-o", str_of(&out)]).await;
    assert!(
        done.err.contains(&format!("blocked, blocked ({}", &reply[..3])) || done.err.contains(SHOWN),
        "{}",
        done.err
    );
    for args in [
        &["job", "status", str_of(&out)][..],
        &["job", "results", str_of(&out)],
        &["job", "diff", "--json", str_of(&out), str_of(&out)],
    ] {
        run(args).await;
    }
    let page = dir.path().join("page.html");
    run(&["report", str_of(&out), "-o", str_of(&page)]).await;
    assert!(clean(&fs::read(&page).unwrap()).contains(SHOWN));
    // Check progress as JSON, and logs.
    for more in ["--json-progress", "-v", "-vv"] {
        run(&["verify", &sandbox, "u1@evil.test", "u2@evil.test", more]).await;
    }
}

#[tokio::test]
async fn names_of_providers_are_shown_as_text() {
    let dir = TempDir::new().unwrap();
    let name = format!("{HOSTILE}\nforged");
    let providers = format!("[[provider]]\nname = {}\nmx = [\"mx.evil.test\"]\n", quoted(&name));
    let providers = file(&dir, "providers.toml", &providers);
    let world = file(&dir, "world.toml", &world("rcpt", "554 5.7.1 Client host blocked using x"));
    let (sandbox, providers) = (format!("--sandbox={}", str_of(&world)), str_of(&providers));
    let done = run(&["plan", &sandbox, "--providers", providers, "ann@evil.test"]).await;
    assert!(done.out.contains(&format!(r"{SHOWN}\nforged")), "{}", done.out);
    let done = run(&["plan", "--json", &sandbox, "--providers", providers, "ann@evil.test"]).await;
    assert_eq!(done.records()[0]["lanes"][0]["provider"], name);
    let addresses: Vec<_> = (0..20).map(|n| format!("u{n}@evil.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(|it| &**it).collect();
    let done = run(&[&["verify", &sandbox, "--providers", providers][..], &addresses].concat()).await;
    assert!(done.err.contains(&format!(r"{SHOWN}\nforged")), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_the_dns_are_logged_as_text() {
    let dns = Nameserver::start(zone).await;
    let sandbox = support::sandbox(&world("connect", &format!("554 5.7.1 {HOSTILE}"))).await;
    let (port, dns) = (sandbox.addr("mx.evil.test").unwrap().port().to_string(), dns.addr.to_string());
    let args = [
        "verify",
        "-vv",
        "--helo",
        "mx.example.org",
        "--allow-private",
        "--nameserver",
        &dns,
        "--port",
        &port,
    ];
    let done = run(&[&args[..], &["ann@evil.test"]].concat()).await;
    assert_eq!(done.records().len(), 1, "{}", done.err);
    assert!(done.err.contains("hickory_resolver"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_view_shows_names_as_text() {
    use rustix::{fs as files, pty, termios};
    let dir = TempDir::new().unwrap();
    let providers =
        format!("[[provider]]\nname = {}\nmx = [\"mx.evil.test\"]\n", quoted("a\nb\u{1b}]0;c\u{7}\u{202e}"));
    let providers = file(&dir, "providers.toml", &providers);
    let world = "[[host]]\nname = \"mx.evil.test\"\nlatency = \"40ms\"\n\
                 [[domain]]\nname = \"evil.test\"\nhosts = [\"mx.evil.test\"]\ncatch_all = true\n";
    let world = file(&dir, "world.toml", world);
    let list: String = (0..300).map(|n| format!("u{n}@evil.test\n")).collect();
    let list = file(&dir, "list.txt", &list);
    let screen = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&screen).unwrap();
    pty::unlockpt(&screen).unwrap();
    let flags = files::OFlags::RDWR | files::OFlags::NOCTTY;
    let terminal =
        files::open(pty::ptsname(&screen, Vec::new()).unwrap(), flags, files::Mode::empty()).unwrap();
    let size = termios::Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(&terminal, size).unwrap();
    let sandbox = format!("--sandbox={}", str_of(&world));
    let args = ["verify", str_of(&list), &sandbox, "--providers", str_of(&providers), "-o"];
    let mut command = command(&[&args[..], &[str_of(&dir.path().join("out.csv"))]].concat());
    let mut child = command.env("TERM", "xterm").stderr(Stdio::from(terminal)).spawn().unwrap();
    drop(command);
    let shown = tokio::task::spawn_blocking(move || {
        // Reading ends with an error when no process has the terminal open.
        let mut shown = Vec::new();
        let _ = fs::File::from(screen).read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let shown = shown.await.unwrap();
    assert!(child.wait().await.unwrap().success());
    assert!(shown.contains(r"a\nb\x1b]0;c\x07\u{202e}"), "{shown}");
    assert!(!shown.contains("\u{1b}]0;") && !shown.contains('\u{202e}'), "{shown}");
}

#[tokio::test]
async fn a_sandbox_has_no_name_that_is_not_one() {
    for name in ["a\u{1b}[2J.test", "a\nb.test", "a\u{202e}.test"] {
        let toml = format!("[[host]]\nname = {}\n", quoted(name));
        let world = smtp_pool::sandbox::World::from_toml(&toml);
        if let Ok(world) = world {
            assert!(Sandbox::start(world).await.is_err(), "{name:?}");
        }
    }
    let dir = TempDir::new().unwrap();
    let world = file(&dir, "world.toml", &format!("[[host]]\nname = {}\n", quoted("a\u{1b}[2J\nb.test")));
    let done = run(&["sandbox", str_of(&world)]).await;
    assert_ne!(done.code, Some(0));
    assert!(done.err.contains(r"a\x1b[2J\nb.test"), "{}", done.err);
}
