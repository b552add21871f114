//! Replays dialogues from files against a session.
//!
//! | line | meaning |
//! |---|---|
//! | `C: line` | the client sends it. Lines in a row are one flight. The test parses them as commands, and the session sends them. |
//! | `C(chunk): octets` | behind `C: BDAT`: the chunk, with the escapes `\r \n \t \xHH` |
//! | `S: line`, `S(raw): octets`, `S(close)` | the server sends it, sends it with escapes, closes |
//! | `S(drip): octets` | the server sends it octet by octet, one in 5 s, and nothing after it |
//! | `=> code text` | the next reply of the session, with the same escapes. `=> error: kind` is the end of the session. |
//! | `malformed` | the reply before is flagged as malformed. Without this line it must not be. |
//! | `state: State [idle]` | the state of the session |
//! | `offers: …` | the extensions of the last greeting |
//! | `tls: injected` | the session refuses to start TLS, because octets were injected |

use std::{path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use smtp_pool::{
    client::{ClientConfig, Connector, Endpoint, Session, SessionError, Timeouts},
    metrics::Metrics,
    net::TlsPolicy,
    proto::{ClientName, Command, Extensions, Reply, SaslResponse, State, Verb},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
};

/// A run of lines of one kind.
#[derive(Debug)]
enum Step {
    Client(Vec<(String, Vec<u8>)>),
    Server { octets: Vec<u8>, close: bool },
    Drip(Vec<u8>),
    Check(String),
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (octet, used) = match (first, tail) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'x', hex @ ..]) => {
                (u8::from_str_radix(str::from_utf8(&hex[..2]).unwrap(), 16).unwrap(), 4)
            }
            _ => (*first, 1),
        };
        octets.push(octet);
        rest = &rest[used..];
    }
    octets
}

fn parse(trace: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in trace.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix("C: ").or((line == "C:").then_some("")) {
            match steps.last_mut() {
                Some(Step::Client(flight)) => flight.push((text.to_owned(), vec![])),
                _ => steps.push(Step::Client(vec![(text.to_owned(), vec![])])),
            }
        } else if let Some(chunk) = line.strip_prefix("C(chunk): ") {
            let Some(Step::Client(flight)) = steps.last_mut() else { panic!("no BDAT before {line}") };
            flight.last_mut().unwrap().1 = unescape(chunk);
        } else if let Some(octets) = line.strip_prefix("S(drip): ") {
            steps.push(Step::Drip(unescape(octets)));
        } else if line.starts_with('S') {
            if !matches!(steps.last(), Some(Step::Server { .. })) {
                steps.push(Step::Server { octets: vec![], close: false });
            }
            let Some(Step::Server { octets, close }) = steps.last_mut() else { unreachable!() };
            assert!(!*close, "nothing comes after the end: {line}");
            match line.split_once(": ") {
                Some(("S", text)) => octets.extend([text.as_bytes(), b"\r\n"].concat()),
                Some(("S(raw)", text)) => octets.extend(unescape(text)),
                None if line == "S(close)" => *close = true,
                _ => panic!("what does {line:?} mean?"),
            }
        } else {
            steps.push(Step::Check(line.to_owned()));
        }
    }
    steps
}

/// The session and the server, and the octets that passed between them.
struct Replay {
    session: Option<Session<DuplexStream>>,
    server: Option<DuplexStream>,
    /// Replies that a call returned, which are still to be compared.
    replies: Vec<Reply>,
    last: Option<Reply>,
}

impl Replay {
    async fn run(trace: &str) {
        let (client, server) = duplex(1 << 20);
        let session = Session::new(
            client,
            Timeouts::all(Duration::from_secs(30)),
            Metrics::new().server("mx.example.com"),
        );
        let mut replay = Self { session: Some(session), server: Some(server), replies: vec![], last: None };
        let mut steps = parse(trace).into_iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Client(flight) => {
                    // A call that waits for its reply needs it in advance. Otherwise the server sends at its line.
                    if let (true, Some(Step::Server { octets, close })) =
                        (replay.waits(&flight), steps.peek())
                    {
                        replay.say(octets, *close).await;
                        steps.next();
                    }
                    replay.send(flight).await;
                }
                Step::Server { octets, close } => replay.say(&octets, close).await,
                Step::Drip(octets) => replay.drip(octets),
                Step::Check(line) => {
                    let malformed =
                        steps.next_if(|next| matches!(next, Step::Check(next) if next == "malformed"));
                    replay.check(&line, malformed.is_some()).await;
                }
            }
        }
        assert!(replay.replies.is_empty(), "unread: {:?}", replay.replies);
        drop(replay.session);
        let mut rest = Vec::new();
        if let Some(mut server) = replay.server {
            server.read_to_end(&mut rest).await.unwrap();
        }
        assert!(rest.is_empty(), "sent beyond the trace: {}", rest.escape_ascii());
    }

    fn session(&mut self) -> &mut Session<DuplexStream> {
        self.session.as_mut().unwrap()
    }

    fn waits(&mut self, flight: &[(String, Vec<u8>)]) -> bool {
        let greeting = |line: &str| ["EHLO ", "HELO ", "LHLO "].iter().any(|verb| line.starts_with(verb));
        matches!(self.session().state(), State::Message | State::Auth) || greeting(&flight[0].0)
    }

    async fn say(&mut self, octets: &[u8], close: bool) {
        self.server.as_mut().unwrap().write_all(octets).await.unwrap();
        if close {
            // Only this half matters: what the client sends can still be compared.
            self.server.as_mut().unwrap().shutdown().await.unwrap();
        }
    }

    fn drip(&mut self, octets: Vec<u8>) {
        let mut server = self.server.take().unwrap();
        tokio::spawn(async move {
            for octet in octets {
                tokio::time::sleep(Duration::from_secs(5)).await;
                // The session may have ended.
                let _ = server.write_all(&[octet]).await;
            }
            std::future::pending::<()>().await;
        });
    }

    /// Sends a flight, and compares what the server receives.
    async fn send(&mut self, flight: Vec<(String, Vec<u8>)>) {
        let mut expected = Vec::new();
        for (line, chunk) in &flight {
            expected.extend([line.as_bytes(), b"\r\n", chunk].concat());
        }
        let session = self.session();
        let reply = match session.state() {
            State::Message => {
                let (end, lines) = flight.split_last().unwrap();
                assert_eq!(end.0, ".", "the end of the message");
                let lines = lines.iter().map(|(line, _)| line.strip_prefix('.').unwrap_or(line));
                let message: String = lines.flat_map(|line| [line, "\r\n"]).collect();
                Some(session.message(message.as_bytes()).await.unwrap())
            }
            State::Auth => {
                let octets = BASE64_STANDARD.decode(&flight[0].0).unwrap();
                Some(session.auth_response(&SaslResponse::new(&octets).unwrap()).await.unwrap())
            }
            _ => {
                let mut reply = None;
                for (line, chunk) in &flight {
                    match Command::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}")) {
                        greeting @ (Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_)) => {
                            match session.greet(&greeting).await {
                                Ok(greeted) => reply = Some(greeted),
                                // The next `=>` compares it.
                                Err(SessionError::Closed { verb: Verb::Ehlo }) => {}
                                Err(error) => panic!("{line}: {error:?}"),
                            }
                        }
                        Command::Bdat { size, last } => {
                            assert_eq!(size, chunk.len() as u64, "{line}");
                            session.queue_chunk(chunk, last).unwrap();
                        }
                        command => session.queue(&command).unwrap(),
                    }
                }
                session.flush().await.unwrap();
                reply
            }
        };
        self.replies.extend(reply);
        let mut sent = vec![0; expected.len()];
        let read = self.server.as_mut().unwrap().read_exact(&mut sent);
        let read = tokio::time::timeout(Duration::from_secs(1), read).await;
        assert!(read.is_ok(), "less was sent than {}", expected.escape_ascii());
        assert_eq!(sent.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    async fn check(&mut self, line: &str, malformed: bool) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("=>", shown) => {
                let reply = match self.replies.pop() {
                    Some(reply) => Ok(reply),
                    None => self.session().reply().await.map(|(_, reply)| reply),
                };
                let seen = match &reply {
                    Ok(reply) => reply.to_string(),
                    Err(error) => format!("error: {}", error.kind()),
                };
                assert_eq!(seen, String::from_utf8(unescape(shown)).unwrap());
                self.last = reply.ok();
                assert_eq!(
                    self.last.as_ref().is_some_and(Reply::is_malformed),
                    malformed,
                    "malformed: {line}"
                );
            }
            ("state:", state) => {
                let session = self.session();
                let idle = if session.is_idle() { " idle" } else { "" };
                // Unread octets show only when the session reads, as the checks before did.
                assert_eq!(format!("{:?}{idle}", session.state()), state);
            }
            ("offers:", offered) => assert_eq!(offers(self.session().extensions()), offered),
            ("tls:", "injected") => {
                let session = self.session.take().unwrap();
                assert!(matches!(session.into_stream(), Err(SessionError::Injected)));
            }
            _ => panic!("what does {line:?} mean?"),
        }
    }
}

/// Returns the extensions of a server on one line.
fn offers(offered: &Extensions) -> String {
    let flags = [
        (offered.pipelining, "pipelining"),
        (offered.eight_bit_mime, "8bitmime"),
        (offered.smtputf8, "smtputf8"),
        (offered.starttls, "starttls"),
        (offered.enhanced_status_codes, "enhancedstatuscodes"),
        (offered.dsn, "dsn"),
        (offered.chunking, "chunking"),
        (offered.binary_mime, "binarymime"),
        (offered.require_tls, "requiretls"),
    ];
    let numbers = [
        ("size", offered.size),
        ("mailmax", offered.limits.mail_max.map(u64::from)),
        ("rcptmax", offered.limits.rcpt_max.map(u64::from)),
        ("rcptdomainmax", offered.limits.rcpt_domain_max.map(u64::from)),
    ];
    let flags = flags.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned());
    let numbers = numbers.iter().filter_map(|(name, n)| n.map(|n| format!("{name}={n}")));
    let auth = offered.auth.iter().map(|name| format!("auth={name}"));
    let others = offered.others.iter().map(|(keyword, _)| keyword.to_string());
    flags.chain(numbers).chain(auth).chain(others).collect::<Vec<_>>().join(" ")
}

fn traces() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/traces");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut traces: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), text)
        })
        .collect();
    traces.sort();
    traces
}

#[tokio::test(start_paused = true)]
async fn every_trace_replays() {
    let traces = traces();
    assert!(traces.len() > 20, "{} traces found", traces.len());
    for (name, text) in traces {
        assert!(text.starts_with("# "), "{name} does not say where it is from");
        println!("{name}");
        Replay::run(&text).await;
    }
}

#[tokio::test(start_paused = true)]
#[should_panic = "RCPT TO:<a@example.com>"]
async fn a_trace_that_is_not_what_happened_fails() {
    let trace = "S: 220 mx\n=> 220 mx\nC: EHLO me\nS: 250 mx\n=> 250 mx\nC: MAIL FROM:<>\nS: 250 ok\n=> 250 ok\nC: rcpt to:<a@example.com>\n";
    Replay::run(trace).await;
}

#[tokio::test(start_paused = true)]
#[should_panic = "550 no"]
async fn a_trace_with_another_reply_fails() {
    Replay::run("S: 220 mx\n=> 550 no\n").await;
}

/// Starts a server on loopback that answers each line with `answer`.
async fn serve(answer: fn(&str) -> &'static str) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(answer("BANNER").as_bytes()).await.unwrap();
                // It answers each read and not each line, because a TLS hello has no line end. Here a flight arrives in
                // one piece.
                let mut read = [0; 2048];
                while let Ok(n @ 1..) = stream.read(&mut read).await {
                    let said = String::from_utf8_lossy(&read[..n]).into_owned();
                    stream.write_all(answer(said.trim_end()).as_bytes()).await.unwrap();
                }
            });
        }
    });
    Endpoint::new("mx.example.com", vec![addr])
}

fn connector(tls: TlsPolicy) -> Connector {
    let mut config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    (config.tls, config.timeouts) = (tls, Timeouts::all(Duration::from_secs(10)));
    Connector::new(config, Metrics::new().into()).unwrap()
}

#[tokio::test]
async fn the_connector_falls_back_to_helo() {
    // Cisco PIX answers EHLO with any code, other servers with 500 or 502 (RFC 5321 3.2).
    let pix: fn(&str) -> &'static str = |line| match line {
        "BANNER" => "220 ****2***0***\r\n",
        "HELO client.example.org" => "250 mx.example.com\r\n",
        _ => "550 Command unrecognized\r\n",
    };
    let old: fn(&str) -> &'static str = |line| match line {
        "BANNER" => "220 mx.example.com\r\n",
        "HELO client.example.org" => "250 mx.example.com\r\n",
        _ => "502 5.5.2 Command not implemented\r\n",
    };
    for server in [pix, old] {
        let endpoint = serve(server).await;
        let connection = connector(TlsPolicy::Opportunistic).connect(&endpoint).await.unwrap();
        assert!(connection.is_idle());
        assert_eq!(*connection.extensions(), Extensions::default());
    }
}

#[tokio::test]
async fn a_refusal_of_ehlo_by_a_server_that_knows_it_is_no_reason_for_helo() {
    let endpoint = serve(|line| if line == "BANNER" { "220 mx\r\n" } else { "550 5.7.1 go away\r\n" }).await;
    let error = connector(TlsPolicy::Off).connect(&endpoint).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("5.7.1 go away")), ("refused_by_server", true));
}

#[tokio::test]
async fn starttls_that_is_refused_or_broken_ends_in_the_clear_only_where_that_is_allowed() {
    let refused: fn(&str) -> &'static str = |line| match line {
        "BANNER" => "220 mx\r\n",
        "STARTTLS" => "454 4.7.0 TLS not available\r\n",
        _ => "250-mx\r\n250 STARTTLS\r\n",
    };
    let broken: fn(&str) -> &'static str = |line| match line {
        "BANNER" => "220 mx\r\n",
        "STARTTLS" => "220 go ahead\r\n",
        _ if line.starts_with("EHLO") => "250-mx\r\n250 STARTTLS\r\n",
        // The TLS hello of the client gets an SMTP reply: "offered but broken".
        _ => "500 what?\r\n",
    };
    for (server, kind) in [(refused, "refused_by_server"), (broken, "not_tls")] {
        let endpoint = serve(server).await;
        let connection = connector(TlsPolicy::Opportunistic).connect(&endpoint).await.unwrap();
        assert!(connection.is_idle() && connection.tls_info().is_none());
        let error = connector(TlsPolicy::Required).connect(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
}

#[tokio::test]
async fn a_refusing_banner_is_reported_with_its_text() {
    let endpoint = serve(|_| "554 5.7.1 blocked, see example.com/why\r\n").await;
    let error = connector(TlsPolicy::Off).connect(&endpoint).await.unwrap_err();
    assert!(error.to_string().contains("blocked, see example.com/why"), "{error}");
}
