//! `smtp-pool doctor` with a sandbox, a name server and a time server on loopback: a healthy machine, and each fault.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{
        RData, RecordType,
        rdata::{A, PTR, TXT},
    },
};
use serde_json::Value;
use smtp_pool::sandbox::Sandbox;
use tokio::{
    net::{TcpListener, UdpSocket},
    process::Command,
};

use crate::{nameserver::Nameserver, support};

/// Returns the records of the zone. 192.0.2.7 is correct, 192.0.2.8 is listed and has no name, the name of 192.0.2.9
/// has another address.
fn zone(name: &str, record: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let a = |text: &str| Ok(vec![RData::A(A(text.parse().unwrap()))]);
    let ptr = |name: &str| Ok(vec![RData::PTR(PTR(name.parse().unwrap()))]);
    match (name, record) {
        ("mail.good.test.", RecordType::A) => a("192.0.2.7"),
        ("other.test.", RecordType::A) => a("192.0.2.6"),
        ("7.2.0.192.in-addr.arpa.", RecordType::PTR) => ptr("Mail.Good.test."),
        ("9.2.0.192.in-addr.arpa.", RecordType::PTR) => ptr("other.test."),
        ("8.2.0.192.bl.test.", RecordType::A) => a("127.0.0.4"),
        ("8.2.0.192.bl.test.", RecordType::TXT) => {
            Ok(vec![RData::TXT(TXT::new(vec!["sends too much".to_owned()]))])
        }
        (_, RecordType::A) if name.ends_with(".public.test.") => a("127.255.255.254"),
        (_, RecordType::A) if name.ends_with(".gone.test.") => a("192.0.2.99"),
        (_, _) if name.ends_with(".broken.test.") => Err(ResponseCode::ServFail),
        ("mail.good.test." | "other.test." | "8.2.0.192.bl.test.", _) => Ok(vec![]),
        _ => Err(ResponseCode::NXDomain),
    }
}

/// Starts a time server whose clock is `ahead` by this many seconds.
async fn time_server(ahead: i64) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 128];
        loop {
            let (_, peer) = socket.recv_from(&mut question).await.unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let seconds = i64::try_from(now.as_secs()).unwrap() + 2_208_988_800 + ahead;
            let fraction = u32::try_from((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000).unwrap();
            let stamp = (u64::try_from(seconds).unwrap() << 32 | u64::from(fraction)).to_be_bytes();
            let mut answer = [0; 48];
            (answer[0], answer[1]) = (0b00_100_100, 2);
            answer[24..32].copy_from_slice(&question[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            socket.send_to(&answer, peer).await.unwrap();
        }
    });
    addr
}

struct TestMachine {
    _sandbox: Sandbox,
    dns: Nameserver,
    server: SocketAddr,
    ntp: SocketAddr,
}

impl TestMachine {
    async fn open() -> Self {
        let sandbox = support::sandbox("[[host]]\nname = \"mx\"\n").await;
        let server = sandbox.addr("mx").unwrap();
        Self { dns: Nameserver::start(zone).await, server, ntp: time_server(0).await, _sandbox: sandbox }
    }

    /// Returns the exit code, and the findings as `check: state: detail`.
    async fn run_doctor(&self, args: &[&str]) -> (Option<i32>, Vec<String>) {
        let mut all: Vec<String> = vec!["doctor".into(), "--json".into(), "--timeout".into(), "1".into()];
        let has = |flag: &str| args.contains(&flag);
        let defaults = [
            ("--helo", "mail.good.test".to_owned()),
            ("--ip", "192.0.2.7".to_owned()),
            ("--server", self.server.to_string()),
            ("--blocklist", "bl.test".to_owned()),
            ("--ntp", self.ntp.to_string()),
            ("--nameserver", self.dns.addr.to_string()),
        ];
        for (flag, value) in defaults {
            if !has(flag) {
                all.extend([flag.to_owned(), value]);
            }
        }
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
        command.args(&all).env_remove("RUST_LOG").stdin(Stdio::null());
        let output = command.output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let findings = said.lines().map(|line| {
            let finding: Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| finding[key].as_str().unwrap().to_owned();
            // A finding that is not ok has advice.
            assert!(word("state") != "failed" || finding["advice"].is_string(), "{line}");
            format!("{}: {}: {}", word("check"), word("state"), word("detail"))
        });
        (output.status.code(), findings.collect())
    }

    /// Fails unless there is a finding that begins with each of `expected`.
    async fn expect(&self, args: &[&str], code: i32, expected: &[&str]) {
        let (ended, findings) = self.run_doctor(args).await;
        for expected in expected {
            assert!(
                findings.iter().any(|it| it.starts_with(expected)),
                "{args:?}: no {expected}: {findings:#?}"
            );
        }
        assert_eq!(ended, Some(code), "{args:?}: {findings:#?}");
    }
}

#[tokio::test]
async fn a_healthy_machine_has_no_fault() {
    let machine = TestMachine::open().await;
    let (code, findings) = machine.run_doctor(&[]).await;
    // The limits depend on the machine that runs the tests.
    let rest: Vec<_> =
        findings.iter().filter(|it| !it.starts_with("files: ") && !it.starts_with("ports: ")).collect();
    assert!(rest.len() == 6 && rest.iter().all(|it| it.contains(": ok: ")), "{findings:#?}");
    if !findings.iter().any(|it| it.contains(": failed: ")) {
        assert_eq!(code, Some(0));
    }
    assert!(findings[0].contains("answered: 220 "), "{findings:#?}");
}

#[tokio::test]
async fn names_and_addresses_that_do_not_match() {
    let machine = TestMachine::open().await;
    machine
        .expect(&["--ip", "192.0.2.8"], 1, &["ptr: failed: 192.0.2.8 has no PTR record", "helo: warning: "])
        .await;
    machine
        .expect(&["--ip", "192.0.2.9"], 1, &["ptr: failed: 192.0.2.9 resolves to other.test, but none"])
        .await;
    machine
        .expect(
            &["--helo", "nowhere.test"],
            1,
            &["helo: failed: nowhere.test does not resolve", "ptr: warning: "],
        )
        .await;
    machine
        .expect(&["--helo", "gmail.com"], 1, &["helo: failed: gmail.com is the name of a mail provider"])
        .await;
    machine.expect(&["--helo", "[192.0.2.1]"], 1, &["helo: failed: EHLO names [192.0.2.1], but"]).await;
    machine.expect(&["--helo", "x.broken.test"], 0, &["helo: unknown: "]).await;
}

#[tokio::test]
async fn a_blocklist_answers_yes_or_no_or_fails() {
    let machine = TestMachine::open().await;
    let lists = ["--blocklist", "bl.test", "--blocklist", "public.test", "--blocklist", "gone.test"];
    let listed = "blocklist: failed: 192.0.2.8 is in bl.test (127.0.0.4): sends too much";
    let others =
        ["blocklist: unknown: public.test does not answer", "blocklist: unknown: gone.test is no blocklist"];
    machine.expect(&[&lists[..], &["--ip", "192.0.2.8"]].concat(), 1, &[listed, others[0], others[1]]).await;
    machine.expect(&["--blocklist", "broken.test"], 0, &["blocklist: unknown: broken.test: "]).await;
}

#[tokio::test]
async fn a_closed_port_and_a_server_that_refuses() {
    let machine = TestMachine::open().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().to_string();
    drop(closed);
    machine.expect(&["--server", &port], 1, &["port: failed: no server could be reached"]).await;
    // One server of two is enough.
    let open = machine.server.to_string();
    machine.expect(&["--server", &port, "--server", &open], 0, &["outward: warning: ", "port: ok: "]).await;

    let refusing = support::sandbox("[[host]]\nname = \"mx\"\nblocked = { at = \"connect\" }\n").await;
    let addr = refusing.addr("mx").unwrap().to_string();
    let expected = ["outward: warning: 127.0.0.1", "port: ok: "];
    machine.expect(&["--server", &addr], 0, &expected).await;
}

#[tokio::test]
async fn a_private_address_is_not_checked() {
    let machine = TestMachine::open().await;
    let (_, findings) = machine.run_doctor(&["--ip", "192.0.2.7"]).await;
    assert!(findings.iter().any(|it| it.starts_with("ptr: ok: ")));
    // The connection is from 127.0.0.1, and the sandbox does not report our address.
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    let (server, dns) = (machine.server.to_string(), machine.dns.addr.to_string());
    command.args(["doctor", "--helo", "mail.good.test", "--server", &server, "--nameserver", &dns]);
    command.args(["--ntp", &machine.ntp.to_string(), "--timeout", "1"]);
    let said = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    assert!(
        said.contains("\nunknown  address    ") && said.contains("-> give your public address with --ip"),
        "{said}"
    );
}

#[tokio::test]
async fn a_clock_is_compared() {
    let machine = TestMachine::open().await;
    let slow = time_server(60).await.to_string();
    machine.expect(&["--ntp", &slow], 0, &["clock: warning: "]).await;
    let wrong = time_server(-86_400).await.to_string();
    machine.expect(&["--ntp", &wrong], 1, &["clock: failed: 864"]).await;
    let silent = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    machine.expect(&["--ntp", &silent], 0, &["clock: unknown: "]).await;
}

#[tokio::test]
async fn an_error_of_usage_names_its_option() {
    let machine = TestMachine::open().await;
    for args in [["--server", "mx:x"], ["--blocklist", "a..b"], ["--ntp", ":"], ["--timeout", "-1"]] {
        let (code, findings) = machine.run_doctor(&args).await;
        assert_eq!((code, findings.len()), (Some(2), 0), "{args:?}");
    }
}
