//! Ends, deadlines, and peers that do not read.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_the_server_said_comes_before_the_failure_to_write() {
    // 421 in the middle of a pipeline, then close: the next write fails, and the reason is there to be read.
    let (client, mut server) = duplex(1024);
    let metrics = Metrics::new();
    let mut session = Session::new(client, Timeouts::all(LIMIT), metrics.server("mx.example.com"));
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"250-mx\r\n250 PIPELINING\r\n").await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    server.write_all(b"250 2.1.0 Ok\r\n421 4.3.2 shutting down\r\n").await.unwrap();
    drop(server);
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    for to in &mailboxes(2) {
        session.queue_rcpt(to, &RcptParams::default()).unwrap();
    }
    session.flush().await.unwrap();
    assert_eq!(session.reply().await.unwrap().1.code(), 250);
    let (verb, reply) = session.reply().await.unwrap();
    assert_eq!((verb, reply.code()), (Verb::Rcpt, 421));
    assert_eq!(session.state(), State::Closed);
    let Err(SessionError::Io { verb: Verb::Rcpt, source }) = session.reply().await else { panic!() };
    assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
    assert!(!session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_followed_by_the_end_is_a_refusal() {
    // gmx and ukr.net close right after a 550.
    let mut session = ready(Server::new(|line| match &line[..4] {
        "RCPT" => Act::Close("550 5.1.1 no such user\r\n"),
        _ => one_by_one(line),
    }))
    .await;
    let rcpt = Command::Rcpt { to: mailboxes(1).remove(0), params: RcptParams::default() };
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    session.reply().await.unwrap();
    assert_eq!(session.command(&rcpt).await.unwrap().code(), 550);
    assert!(matches!(session.command(&Command::Rset).await, Err(SessionError::Closed { verb: Verb::Rset })));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_outlives_a_cancelled_wait() {
    let mut session = ready(Server::new(|line| if line == "NOOP" { Act::Silence } else { yes(line) })).await;
    session.queue(&Command::Noop).unwrap();
    let started = Instant::now();
    assert!(timeout(LIMIT / 2, session.reply()).await.is_err());
    assert!(matches!(session.reply().await, Err(SessionError::Timeout { verb: Verb::Noop })));
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_while_it_writes_cannot_stall_us() {
    let (client, server) = duplex(64);
    stalls_nobody(client, server).await;
    // Which takes all that is written, and waits when it is flushed, as TLS does.
    let (client, server) = duplex(64);
    stalls_nobody(BufWriter::with_capacity(1 << 20, client), server).await;
}

async fn stalls_nobody(client: impl AsyncRead + AsyncWrite + Unpin, server: DuplexStream) {
    let served = tokio::spawn(async move {
        let mut server = BufReader::with_capacity(16, server);
        server.write_all(b"220 mx\r\n").await.unwrap();
        let (mut line, mut served) = (String::new(), 0);
        while server.read_line(&mut line).await.unwrap() > 0 {
            let reply: &[u8] = if line.starts_with("EHLO") {
                b"250-mx\r\n250 PIPELINING\r\n"
            } else {
                b"250 2.1.5 a reply that is longer than the command that it answers, as replies may be\r\n"
            };
            server.write_all(reply).await.unwrap();
            (served, line) = (served + 1, String::new());
        }
        served
    });
    let mut session = open(client);
    session.banner().await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    let envelope = envelope(&mut session, 10_000).await.unwrap();
    assert_eq!(envelope.rcpts.len(), 10_000);
    drop(session);
    assert_eq!(served.await.unwrap(), 10_002);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_window_is_unanswered() {
    let (client, mut server) = duplex(1 << 20);
    let mut session = open(client);
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"250-mx\r\n250 PIPELINING\r\n").await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    assert!(matches!(envelope(&mut session, 10_000).await, Err(SessionError::Timeout { verb: Verb::Mail })));
    drop(session);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    assert!((MAX_IN_FLIGHT..MAX_IN_FLIGHT + 512).contains(&sent.len()), "{}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_ends_in_a_timeout() {
    let (client, mut server): (_, DuplexStream) = duplex(64);
    let metrics = Metrics::new();
    let mut session = Session::new(client, Timeouts::all(LIMIT), metrics.server("mx.example.com"));
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"250-mx\r\n250 PIPELINING\r\n").await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    let started = Instant::now();
    assert!(matches!(envelope(&mut session, 100).await, Err(SessionError::Timeout { verb: Verb::Mail })));
    assert_eq!(started.elapsed(), LIMIT);
    assert!(!session.is_idle());
    assert_eq!(metrics.snapshot().total().operation_errors[&(Operation::Mail, "timed_out".into())], 1);
}

/// A dialogue from banner to QUIT, to its first error.
async fn whole_dialogue(session: &mut Session<Server>) -> Result<(), SessionError> {
    session.banner().await?;
    session.greet(&ehlo()).await?;
    let _ = envelope(session, 2).await?;
    session.data(b"x").await?;
    session.command(&Command::Rset).await?;
    session.quit().await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_fault_at_each_stage_ends_in_its_error_within_the_deadline() {
    type Expected = fn(&SessionError, Verb) -> bool;
    let timeout: Expected = |error, at| matches!(error, SessionError::Timeout { verb } if *verb == at);
    let closed: Expected = |error, at| matches!(error, SessionError::Closed { verb } if *verb == at);
    let broken: Expected = |error, at| {
        matches!(error, SessionError::Io { verb, source }
        if *verb == at && source.kind() == io::ErrorKind::ConnectionReset)
    };
    let faults: [(Act, Expected); 11] = [
        (Act::Silence, timeout),
        (Act::Drip, timeout),
        (Act::Say("250-half".into()), timeout),
        (Act::Close(""), closed),
        (Act::Close("250-half\r\n2"), closed),
        (Act::Reset, broken),
        (says("SSH-2.0-OpenSSH"), |e, _| matches!(e, SessionError::Decode(DecodeError::NotAReply(_)))),
        (Act::Endless(b"\r\n"), |e, _| matches!(e, SessionError::Decode(DecodeError::TooManyLines))),
        (Act::Endless(b"250-x\r\n"), |e, _| matches!(e, SessionError::Decode(DecodeError::TooManyLines))),
        (Act::Endless(b"250-x\r\nno code\r\n"), |e, _| {
            matches!(e, SessionError::Decode(DecodeError::TooManyLines))
        }),
        (Act::Endless(&[b'2'; 1024]), |e, _| matches!(e, SessionError::Decode(DecodeError::LineTooLong))),
    ];
    let stages = [
        ("BANNER", Verb::Connect),
        ("EHLO client.example.org", Verb::Ehlo),
        ("MAIL FROM:<>", Verb::Mail),
        ("RCPT TO:<user0@example.com>", Verb::Rcpt),
        ("RCPT TO:<user1@example.com>", Verb::Rcpt),
        ("DATA", Verb::Data),
        ("MESSAGE", Verb::Message),
        ("RSET", Verb::Rset),
        ("QUIT", Verb::Quit),
    ];
    for (fault, expected) in faults {
        for (stage, verb) in stages {
            for (pipelining, slow) in [(false, false), (true, false), (true, true)] {
                let act = fault.clone();
                let mut hit = false;
                let server = Server::new(move |line| match line {
                    // With the stage behind, there is nothing but the fault.
                    _ if hit => Act::Silence,
                    _ if line == stage => {
                        hit = true;
                        act.clone()
                    }
                    _ if pipelining => yes(line),
                    _ => one_by_one(line),
                });
                let mut session = open(if slow { server.slow() } else { server });
                let case = format!("{fault:?} at {stage}, pipelining {pipelining}, slow {slow}");
                let started = Instant::now();
                let error = whole_dialogue(&mut session).await.expect_err(&case);
                assert!(expected(&error, verb), "{case}: {error:?}");
                assert!(
                    started.elapsed() <= Timeouts::all(LIMIT).of(verb),
                    "{case}: {:?}",
                    started.elapsed()
                );
                assert!(!session.is_idle(), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_a_command_is_no_answer_to_it() {
    // From then on, every reply would be taken for the answer to the command behind its own.
    for (said, expected) in
        [("220 mx\r\n250 mx\r\n", false), ("220 mx\r\n25", false), ("220 mx\r\n\r\n", true)]
    {
        let (client, mut server) = duplex(1024);
        let mut session = open(client);
        server.write_all(said.as_bytes()).await.unwrap();
        session.banner().await.unwrap();
        let queued = session.queue(&ehlo());
        assert_eq!(queued.is_ok(), expected, "{said:?}: {queued:?}");
        assert_eq!(session.owed(), usize::from(expected));
    }
    // The server gives up on us in its own time. The reply to the next command says so.
    let mut session = ready(Server::new(|line| match line {
        "NOOP" => says("250 NOOP\r\n421 4.4.2 timeout"),
        _ => yes(line),
    }))
    .await;
    session.command(&Command::Noop).await.unwrap();
    assert_eq!(session.command(&Command::Noop).await.unwrap().code(), 421);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_failed_is_never_idle_again() {
    // Found by the fuzz target `session_ops`: what came behind the failure was taken for the answer.
    let (client, mut server) = duplex(1024);
    let mut session = open(client);
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"250 mx\r\n").await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    assert!(matches!(session.command(&Command::Noop).await, Err(SessionError::Timeout { .. })));
    server.write_all(b"250 late\r\n").await.unwrap();
    drop(session.reply().await);
    assert!(!session.is_idle(), "{session:?}");

    let mut session = ready(Server::new(|line| match line {
        "NOOP" => says("garbage\r\n250 NOOP"),
        _ => yes(line),
    }))
    .await;
    assert!(matches!(session.command(&Command::Noop).await, Err(SessionError::Decode(_))));
    drop(session.reply().await);
    assert!(!session.is_idle(), "{session:?}");
}
