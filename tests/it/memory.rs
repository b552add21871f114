//! The memory of the command, if a server, a list or the DNS decides how much data there is.
//!
//! The limit is 200 MiB. Each test has just enough rows to exceed it if all of them were kept. So the tests take
//! seconds in a debug build. The asserted values are smaller than 200 MiB by the memory that the process itself needs.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The longest line of a reply, and the number of lines that make 63 KB.
const LINE: usize = 1_990;
const LINES: usize = 32;

/// A server that accepts or refuses every recipient with the longest reply that is read. No two replies are equal.
struct Server {
    /// The route of all domains to the server.
    route: String,
    port: u16,
    /// Recipients so far.
    asked: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Replies {
    /// A reply of 63 KB to each recipient, in which `{}` stands for the text.
    Long(&'static str),
    /// The shortest reply, after this pause.
    Late(Duration),
}

impl Server {
    fn start(says: Replies) -> Self {
        // All addresses of the loopback lead to it.
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = Arc::clone(&counted);
                thread::spawn(move || drop(converse(&stream, says, &asked)));
            }
        });
        Self { route: format!("*=127.0.0.1:{port}"), port, asked }
    }
}

fn converse(stream: &TcpStream, says: Replies, asked: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    let mut out = BufWriter::with_capacity(256 * 1024, stream);
    let filler = "x".repeat(LINE - 10);
    out.write_all(b"220 mx.test ESMTP\r\n")?;
    loop {
        if input.buffer().is_empty() {
            out.flush()?;
        }
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match (line.get(..4).unwrap_or_default(), says) {
            ("EHLO", _) => out.write_all(b"250-mx.test\r\n250 PIPELINING\r\n")?,
            ("RCPT", Replies::Long(text)) => {
                asked.fetch_add(1, Relaxed);
                let text = text.replace("{}", line[8..].trim_end());
                let (code, text) = text.split_at(3);
                for _ in 1..LINES {
                    write!(out, "{code}-{} {filler}\r\n", &text[1..])?;
                }
                write!(out, "{code}{text}\r\n")?;
            }
            ("RCPT", Replies::Late(time)) => {
                if asked.fetch_add(1, Relaxed) == 0 {
                    thread::sleep(time);
                }
                out.write_all(b"250 2.1.5 Ok\r\n")?;
            }
            ("QUIT", _) => {
                out.write_all(b"221 Bye\r\n")?;
                return out.flush();
            }
            _ => out.write_all(b"250 Ok\r\n")?,
        }
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-pool"));
    command.args(args).env_remove("RUST_LOG").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The arguments of a run that asks this server and no other.
const VERIFY: [&str; 7] =
    ["verify", "-q", "--no-catch-all", "--helo", "client.example.org", "--attempts", "1"];

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Returns the maximum resident memory of a process so far.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
}

/// Waits for the end of a process, and returns its maximum resident memory.
#[track_caller]
fn finish(mut child: Child) -> (ExitStatus, u64) {
    let mut most = 0;
    let status = loop {
        most = most.max(peak(&child).unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(most > MIB, "what was measured: {most}");
    assert!(status.success(), "{status}: {err}");
    (status, most)
}

fn list(dir: &TempDir, name: &str, rows: impl Iterator<Item = String>) -> String {
    let path = dir.path().join(name);
    let mut file = BufWriter::new(File::create(&path).unwrap());
    rows.for_each(|row| writeln!(file, "{row}").unwrap());
    file.flush().unwrap();
    str_of(&path).to_owned()
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails unless each row has a record, with its own reply cut to 1 KiB.
#[track_caller]
fn are_cut(records: &[Value], rows: usize) {
    assert_eq!(records.len(), rows);
    for record in records {
        let (address, reply) = (record["address"].as_str().unwrap(), record["reply"].as_str().unwrap());
        assert!(reply.contains(address) && reply.ends_with("x…") && reply.len() == 1_024, "{record}");
    }
}

/// Checks refusals, which are kept until an acceptance confirms them: 2,000 of 63 KB are 130 MB.
#[test]
fn long_refusals_that_are_in_doubt() {
    const ROWS: usize = 2_000;
    let server = Server::start(Replies::Long("550 5.1.1 {} User unknown"));
    let dir = TempDir::new().unwrap();
    let list = list(&dir, "list.txt", (0..ROWS).map(|n| format!("nobody{n}@x.test")));
    let out = dir.path().join("out.jsonl");
    let args = [&VERIFY[..], &["--route", &server.route, &list]].concat();
    let child = command(&args).stdout(File::create(&out).unwrap()).spawn().unwrap();
    let (_, most) = finish(child);
    are_cut(&records(&out), ROWS);
    assert!(most < 100 * MIB, "{} MiB", most / MIB);
}

/// Checks a job, which keeps all replies: 4,000 of 63 KB are 250 MB if a segment is read as a whole.
#[test]
fn long_replies_in_a_job() {
    const ROWS: usize = 4_000;
    let server = Server::start(Replies::Long("250 2.1.5 {} is welcome"));
    let dir = TempDir::new().unwrap();
    let list = list(&dir, "list.txt", (0..ROWS).map(|n| format!("user{n}@x.test")));
    let out = dir.path().join("out.jsonl");
    let args = [&VERIFY[..], &["--route", &server.route, &list, "-o", str_of(&out)]].concat();
    let (_, most) = finish(command(&args).spawn().unwrap());
    are_cut(&records(&out), ROWS);
    assert!(most < 100 * MIB, "{} MiB", most / MIB);
    for args in [["job", "export", str_of(&out)], ["job", "status", str_of(&out)]] {
        let (_, most) = finish(command(&args).spawn().unwrap());
        assert!(most < 100 * MIB, "{args:?}: {} MiB", most / MIB);
    }
}

/// Checks a job whose store is locked by another process, so that all answers gather. 6,000 of 63 KB are 370 MB, and
/// more than one batch can be read back.
#[test]
fn long_replies_while_the_store_is_stalled() {
    const ROWS: usize = 6_000;
    let server = Server::start(Replies::Long("250 2.1.5 {} is welcome"));
    let dir = TempDir::new().unwrap();
    let list = list(&dir, "list.txt", (0..ROWS).map(|n| format!("user{n}@x.test")));
    let (out, job) = (dir.path().join("out.jsonl"), dir.path().join("out.jsonl.job"));
    let args = [&VERIFY[..], &["--route", &server.route, &list, "-o", str_of(&out)]].concat();
    let child = command(&args).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let log = dir.path().join("out.jsonl.job-wal");
    let other = loop {
        assert!(Instant::now() < until, "there is no job to write to");
        // Before this point the run itself could not open the store.
        if !log.exists() {
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        let opened = rusqlite::Connection::open_with_flags(&job, flags);
        match opened.and_then(|store| store.execute_batch("BEGIN IMMEDIATE").map(|()| store)) {
            Ok(store) => break store,
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    };
    // The run fails after 10 s.
    let until = Instant::now() + Duration::from_secs(8);
    while (server.asked.load(Relaxed) as usize) < ROWS && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    drop(other);
    let (_, most) = finish(child);
    are_cut(&records(&out), ROWS);
    assert!(most < 100 * MIB, "{} MiB", most / MIB);
}

/// Checks a list of a few KB that decompresses to 200 MB, with a slow server.
#[test]
fn long_rows_of_a_stream() {
    const ROWS: usize = 200;
    let server = Server::start(Replies::Late(Duration::from_secs(2)));
    let dir = TempDir::new().unwrap();
    let note = "n".repeat(1_000_000);
    let rows = (0..ROWS).map(|n| format!("user{n}@x.test,{note}\n"));
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(b"email,note\n").unwrap();
    rows.for_each(|row| encoder.write_all(row.as_bytes()).unwrap());
    let octets = encoder.finish().unwrap();
    assert!(octets.len() < 100_000, "{}", octets.len());
    let path = dir.path().join("list.csv.zst");
    fs::write(&path, octets).unwrap();
    let out = dir.path().join("out.csv.zst");
    let args = [&VERIFY[..], &["--route", &server.route, "-", "-o", str_of(&out)]].concat();
    let child = command(&args).stdin(File::open(&path).unwrap()).spawn().unwrap();
    let (_, most) = finish(child);
    let text = BufReader::new(zstd::Decoder::new(File::open(&out).unwrap()).unwrap());
    let (mut rows, mut octets) = (0, 0);
    for line in text.lines().map(Result::unwrap) {
        rows += 1;
        octets += line.len();
    }
    assert_eq!((rows, octets > ROWS * note.len()), (ROWS + 1, true));
    assert!(most < 150 * MIB, "{} MiB", most / MIB);
}

/// Checks rows without an address: 200 of 1 MB, and 40,000 of 5 KB. They get their record at once, and wait for a slow
/// reader.
#[test]
fn long_rows_that_are_no_address() {
    let dir = TempDir::new().unwrap();
    let many = (0..40_000).map(|n| format!("{n} {}", "n".repeat(5_000)));
    let long = (0..200).map(|n| format!("{n} {}", "n".repeat(1_000_000)));
    let list = list(&dir, "list.txt", long.chain(many));
    let mut child = command(&["verify", "-q", "--syntax-only", "--format", "text", &list])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The output is not read for a while.
    thread::sleep(Duration::from_secs(4));
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader =
        thread::spawn(move || out.lines().map(Result::unwrap).map(|line| line.len()).collect::<Vec<_>>());
    let (_, most) = finish(child);
    let lines = reader.join().unwrap();
    assert_eq!(lines.len(), 40_200);
    assert!(lines.iter().all(|len| (1_024..1_600).contains(len)));
    assert!(most < 150 * MIB, "{} MiB", most / MIB);
}

/// Starts a name server that gives each domain 1,500 mail servers. Over UDP it says that the answer is truncated.
fn nameserver() -> SocketAddr {
    let (datagrams, listener) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(datagrams) = UdpSocket::bind(listener.local_addr().unwrap()) {
            break (datagrams, listener);
        }
    };
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 1_500];
        while let Ok((len, peer)) = datagrams.recv_from(&mut query) {
            let reply = answer(&query[..len], 10);
            let _ = datagrams.send_to(&reply, peer);
        }
    });
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut len = [0; 2];
                while stream.read_exact(&mut len).is_ok() {
                    let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
                    stream.read_exact(&mut query).unwrap();
                    let reply = answer(&query, 1_500);
                    let len = u16::try_from(reply.len()).unwrap().to_be_bytes();
                    if stream.write_all(&[&len[..], &reply].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

/// Returns `most` MX records for the domain, or an address (RFC 1035 4.1).
fn answer(query: &[u8], most: u16) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
    let (mut records, mut count) = (Vec::new(), 0_u16);
    let mut add = |kind: u8, data: &[u8]| {
        // The name of the record is that of the question.
        records.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 1, 0, 0, data.len() as u8]);
        records.extend_from_slice(data);
        count += 1;
    };
    match query[end - 3] {
        15 => (0..most).for_each(|n| {
            let host = format!("mx{n}");
            add(15, &[&[0, 10, host.len() as u8], host.as_bytes(), &[0xc0, 12]].concat());
        }),
        1 => add(1, &[127, 0, 0, 1]),
        _ => {}
    }
    // The TC flag says that the answer is cut.
    let flags = if query[end - 3] == 15 && most < 1_500 { 0x83 } else { 0x81 };
    let [high, low] = count.to_be_bytes();
    let head = [query[0], query[1], flags, 0x80, 0, 1, high, low, 0, 0, 0, 0];
    [&head[..], &query[12..end], &records].concat()
}

/// Checks the cache of the DNS, which counts answers: 400 of 1,500 records are 180 MB.
#[test]
fn long_answers_of_the_dns() {
    let dir = TempDir::new().unwrap();
    let list = list(&dir, "list.txt", (0..400).map(|n| format!("user@domain{n}.test")));
    let nameserver = nameserver().to_string();
    let args =
        ["plan", "--json", "--helo", "x.example.org", "--allow-private", "--nameserver", &nameserver, &list];
    let out = dir.path().join("out.json");
    let child = command(&args).stdout(File::create(&out).unwrap()).spawn().unwrap();
    let (_, most) = finish(child);
    let plan: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&plan["domains"], plan["lanes"].as_array().unwrap().len()), (&400.into(), 400), "{plan}");
    assert!(most < 120 * MIB, "{} MiB", most / MIB);
}

/// 16,000 domains with a server each took 165 MiB before. All lanes were open at once then, and the metrics kept the memory
/// of every server.
#[test]
fn many_domains_with_a_server_each() {
    const ROWS: usize = 16_000;
    let server = Server::start(Replies::Late(Duration::ZERO));
    let dir = TempDir::new().unwrap();
    let list = list(&dir, "list.txt", (0..ROWS).map(|n| format!("user@d{n}.test")));
    let out = dir.path().join("out.jsonl");
    let mut command = command(&VERIFY);
    // No more than the backlog of the listener has room for.
    command.args(["--max-connections", "64"]);
    for n in 0..ROWS {
        let route = format!("d{n}.test=127.1.{}.{}:{}", n / 256, n % 256, server.port);
        command.args(["--route", &route]);
    }
    let (_, most) = finish(command.arg(&list).stdout(File::create(&out).unwrap()).spawn().unwrap());
    let records = records(&out);
    assert_eq!(records.len(), ROWS);
    assert!(records.iter().all(|record| record["status"] == "deliverable"), "{}", records[0]);
    assert!(most < 140 * MIB, "{} MiB", most / MIB);
}
