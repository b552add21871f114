mod product;
mod server;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, DuplexStream, duplex},
    time::timeout,
};

use self::server::{Act, Server, one_by_one, says, yes};
use super::*;
use crate::{
    client::EnvelopeReplies,
    metrics::{Metrics, Operation},
    proto::{Argument, ClientName, Mechanism, SaslResponse},
};

const LIMIT: Duration = Duration::from_secs(30);

fn metrics() -> Arc<ServerMetrics> {
    Metrics::new().server("mx.example.com")
}

fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Session<S> {
    Session::new(stream, Timeouts::all(LIMIT), metrics())
}

fn ehlo() -> Command {
    Command::Ehlo(ClientName::parse("client.example.org").unwrap())
}

async fn ready(server: Server) -> Session<Server> {
    let mut session = open(server);
    session.banner().await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    assert!(session.is_idle());
    session.stream().writes.lock().unwrap().clear();
    session
}

fn mailboxes(n: usize) -> Vec<Mailbox> {
    (0..n).map(|n| Mailbox::parse(&format!("user{n}@example.com")).unwrap()).collect()
}

async fn envelope<S>(session: &mut Session<S>, rcpts: usize) -> Result<EnvelopeReplies, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    session.envelope(&ReversePath::Null, &MailParams::default(), &mailboxes(rcpts)).await
}

fn codes(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(Reply::code).collect()
}

// What goes over the wire.

#[tokio::test(start_paused = true)]
async fn with_pipelining_an_envelope_is_one_write() {
    let mut session = ready(Server::new(yes)).await;
    let envelope = envelope(&mut session, 3).await.unwrap();
    assert_eq!((envelope.mail.code(), codes(&envelope.rcpts)), (250, vec![250; 3]));
    let expected = "MAIL FROM:<>\r\nRCPT TO:<user0@example.com>\r\nRCPT TO:<user1@example.com>\r\nRCPT TO:<user2@example.com>\r\n";
    assert_eq!(*session.stream().writes.lock().unwrap(), [expected]);
    assert_eq!((session.state(), session.owed(), session.is_idle()), (State::Rcpt, 0, false));
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_while_replies_are_at_hand_goes_out_in_one_write() {
    let mut session = ready(Server::new(yes)).await;
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    let mailboxes = mailboxes(4);
    session.queue_rcpt(&mailboxes[0], &RcptParams::default()).unwrap();
    session.flush().await.unwrap();
    session.reply().await.unwrap();
    for mailbox in &mailboxes[1..3] {
        session.queue_rcpt(mailbox, &RcptParams::default()).unwrap();
    }
    session.reply().await.unwrap();
    assert_eq!(session.stream().writes.lock().unwrap().len(), 1, "nothing is waited for yet");
    session.queue_rcpt(&mailboxes[3], &RcptParams::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(session.reply().await.unwrap().1.text(), "RCPT");
    }
    let lines: Vec<usize> =
        session.stream().writes.lock().unwrap().iter().map(|w| w.lines().count()).collect();
    assert_eq!((lines, session.owed()), (vec![2, 3], 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_at_hand_until_it_is_taken() {
    let mut session = ready(Server::new(yes)).await;
    assert!(!session.is_at_hand());
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    for mailbox in mailboxes(2) {
        session.queue_rcpt(&mailbox, &RcptParams::default()).unwrap();
    }
    assert!(!session.is_at_hand(), "nothing is asked yet");
    for at_hand in [true, true, false] {
        session.reply().await.unwrap();
        assert_eq!(session.is_at_hand(), at_hand);
    }
}

#[tokio::test(start_paused = true)]
async fn one_reply_too_many_is_no_answer_to_what_is_queued_behind() {
    let twice = |line: &str| match line {
        "RCPT TO:<user0@example.com>" => says("250 RCPT\r\n250 RCPT"),
        _ => yes(line),
    };
    let mut session = ready(Server::new(twice)).await;
    let mailboxes = mailboxes(2);
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    session.queue_rcpt(&mailboxes[0], &RcptParams::default()).unwrap();
    session.flush().await.unwrap();
    session.reply().await.unwrap();
    session.queue_rcpt(&mailboxes[1], &RcptParams::default()).unwrap();
    session.reply().await.unwrap();
    let error = session.reply().await.unwrap_err();
    assert!(matches!(error, SessionError::Dialogue(DialogueError::Unsolicited(250))), "{error}");
    assert_eq!(session.stream().writes.lock().unwrap().len(), 1, "and nothing more is said");
}

#[tokio::test(start_paused = true)]
async fn without_pipelining_each_command_waits_for_its_reply() {
    let mut session = ready(Server::new(one_by_one)).await;
    envelope(&mut session, 2).await.unwrap();
    let expected = ["MAIL FROM:<>\r\n", "RCPT TO:<user0@example.com>\r\n", "RCPT TO:<user1@example.com>\r\n"];
    assert_eq!(*session.stream().writes.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn refusals_do_not_end_the_reading_of_replies() {
    for pipelining in [true, false] {
        let mut session = ready(Server::new(move |line| match line {
            "RCPT TO:<user0@example.com>" => says("550 5.1.1 no"),
            "RCPT TO:<user2@example.com>" => says("452-4.2.2 full\r\n452 4.2.2 really"),
            _ if pipelining => yes(line),
            _ => one_by_one(line),
        }))
        .await;
        let envelope = envelope(&mut session, 4).await.unwrap();
        assert_eq!(codes(&envelope.rcpts), [550, 250, 452, 250]);
        assert_eq!((session.state(), session.owed()), (State::Rcpt, 0));
        session.command(&Command::Rset).await.unwrap();
        assert!(session.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn where_mail_is_refused_rcpt_is_sent_only_if_it_was_on_its_way() {
    for (pipelining, rcpts) in [(true, vec![503; 2]), (false, vec![])] {
        let mut session = ready(Server::new(move |line| match &line[..4] {
            "MAIL" => says("550 5.7.1 no"),
            "RCPT" => says("503 5.5.1 MAIL first"),
            _ if pipelining => yes(line),
            _ => one_by_one(line),
        }))
        .await;
        let envelope = envelope(&mut session, 2).await.unwrap();
        assert_eq!((envelope.mail.code(), codes(&envelope.rcpts)), (550, rcpts));
        assert!(session.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_last_line_of_the_banner() {
    // Postfix postscreen drops whoever speaks between the lines.
    let (client, mut server) = duplex(1024);
    let mut session = open(client);
    assert!(matches!(
        session.queue(&ehlo()),
        Err(SessionError::Dialogue(DialogueError::Group { after: Verb::Connect, .. }))
    ));
    server.write_all(b"220-mx.example.com\r\n").await.unwrap();
    assert!(timeout(Duration::from_secs(6), session.banner()).await.is_err());
    assert!(session.queue(&ehlo()).is_err());
    server.write_all(b"220 ready\r\n").await.unwrap();
    assert_eq!(session.banner().await.unwrap().text(), "mx.example.com ready");
    session.queue(&ehlo()).unwrap();
    let mut octet = [0];
    let nothing = timeout(Duration::from_secs(60), server.read_exact(&mut octet)).await;
    assert!(nothing.is_err(), "queued is not sent");
    session.flush().await.unwrap();
    server.read_exact(&mut octet).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_is_dot_stuffed_and_ends_in_one_piece() {
    let mut session = ready(Server::new(yes)).await;
    envelope(&mut session, 1).await.unwrap();
    session.stream().writes.lock().unwrap().clear();
    let reply = session.data(b"Subject: dots\n\n.\n..two\r\nend").await.unwrap();
    assert_eq!(reply.text(), "MESSAGE");
    let sent = session.stream().writes.lock().unwrap().clone();
    assert_eq!(sent, ["DATA\r\n", "Subject: dots\r\n\r\n..\r\n...two\r\nend\r\n.\r\n"]);
    assert!(session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn data_refused_is_the_answer_and_sends_nothing() {
    let mut session =
        ready(Server::new(|line| if line == "DATA" { says("451 4.3.2 later") } else { yes(line) })).await;
    envelope(&mut session, 1).await.unwrap();
    assert_eq!(session.data(b"x").await.unwrap().code(), 451);
    assert_eq!(session.state(), State::Rcpt);
    let out_of_sequence = ready(Server::new(yes)).await.data(b"x").await;
    assert!(matches!(out_of_sequence, Err(SessionError::Dialogue(DialogueError::Sequence { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_354_to_nobody_is_answered_by_a_lone_dot() {
    // RFC 2920 3.1; real servers do it.
    let mut session = ready(Server::new(|line| match line {
        "RCPT TO:<user0@example.com>" => says("550 5.1.1 no"),
        "MESSAGE" => says("554 5.5.1 no valid recipients"),
        _ => yes(line),
    }))
    .await;
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    session.queue_rcpt(&mailboxes(1)[0], &RcptParams::default()).unwrap();
    assert_eq!(session.command(&Command::Data).await.unwrap().code(), 354);
    session.stream().writes.lock().unwrap().clear();
    assert_eq!(session.message(b"").await.unwrap().code(), 554);
    assert_eq!(*session.stream().writes.lock().unwrap(), [".\r\n"]);
    assert!(session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn over_lmtp_the_other_replies_to_a_message_stay_owed() {
    // RFC 2033 4.2
    let mut session = open(Server::new(|line| match line {
        "MESSAGE" => says("250 first\r\n452 second"),
        _ => yes(line),
    }));
    session.banner().await.unwrap();
    session.greet(&Command::Lhlo(ClientName::parse("client.example.org").unwrap())).await.unwrap();
    envelope(&mut session, 2).await.unwrap();
    assert_eq!(session.data(b"x").await.unwrap().text(), "first");
    assert!(!session.is_idle());
    assert_eq!(session.reply().await.unwrap().1.text(), "second");
    assert!(session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_chunk_rides_behind_its_bdat() {
    // RFC 3030 4.2
    let mut session = ready(Server::new(|line| if line.is_empty() { Act::Silence } else { yes(line) })).await;
    envelope(&mut session, 1).await.unwrap();
    session.stream().writes.lock().unwrap().clear();
    session.queue_chunk(b"\r\n", false).unwrap();
    session.queue_chunk(b"", true).unwrap();
    assert_eq!(session.reply().await.unwrap().0, Verb::Bdat);
    assert_eq!(session.reply().await.unwrap().0, Verb::BdatLast);
    assert_eq!(*session.stream().writes.lock().unwrap(), ["BDAT 2\r\n\r\nBDAT 0 LAST\r\n"]);
    assert!(session.is_idle());
}

// Replies and what they answer.

#[tokio::test(start_paused = true)]
async fn a_command_gets_its_own_reply_whatever_was_owed_before() {
    let mut session = ready(Server::new(yes)).await;
    session.queue(&Command::Rset).unwrap();
    let envelope = envelope(&mut session, 2).await.unwrap();
    assert_eq!(envelope.mail.text(), "MAIL");
    assert_eq!(envelope.rcpts.len(), 2);
    session.queue(&Command::Rset).unwrap();
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    assert_eq!(session.quit().await.unwrap().text(), "QUIT");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_owed_is_not_waited_for() {
    let mut session = ready(Server::new(yes)).await;
    assert!(matches!(session.reply().await, Err(SessionError::NothingOwed)));
    assert!(session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_idle_with_nothing_owed_unread_or_unsent() {
    let mut session = ready(Server::new(|line| match line {
        "VRFY twice" => says("252 once\r\n252 twice"),
        _ => yes(line),
    }))
    .await;
    session.queue(&Command::Noop).unwrap();
    assert!(!session.is_idle(), "unsent");
    session.flush().await.unwrap();
    assert!(!session.is_idle(), "owed");
    session.reply().await.unwrap();
    assert!(session.is_idle());
    session.command(&Command::Vrfy(Argument::new("twice").unwrap())).await.unwrap();
    assert!(!session.is_idle(), "unread");

    let mut session = ready(Server::new(yes)).await;
    session.quit().await.unwrap();
    assert!(!session.is_idle(), "closed");
}

#[tokio::test(start_paused = true)]
async fn octets_behind_the_reply_to_starttls_are_an_injection() {
    // RFC 3207 6, CVE-2011-0411
    for (reply, clean) in [("220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n", false), ("220 go\r\n", true)] {
        let mut session = ready(Server::new(move |line| match line {
            "STARTTLS" => Act::Say(reply.into()),
            _ => yes(line),
        }))
        .await;
        session.command(&Command::StartTls).await.unwrap();
        assert_eq!(session.state(), State::Tls);
        match session.into_stream() {
            Ok(_) => assert!(clean),
            Err(error) => assert!(!clean && matches!(error, SessionError::Injected)),
        }
    }
    let session = Session::secured(Server::new(|_| Act::Silence), Timeouts::all(LIMIT), metrics());
    assert_eq!((session.state(), session.owed()), (State::Connected, 0));
    assert_eq!(*session.extensions(), Extensions::default());
}

#[tokio::test(start_paused = true)]
async fn debug_shows_nothing_of_what_is_sent() {
    let mut session = ready(Server::new(yes)).await;
    let initial = Some(SaslResponse::new(b"\0tim\0tanstaaf").unwrap());
    session.queue(&Command::Auth { mechanism: Mechanism::new("PLAIN").unwrap(), initial }).unwrap();
    let shown = format!("{session:?}");
    assert!(!shown.contains("AHRpbQB0YW5zdGFhZg"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_look_at_an_idle_session_finds_what_nobody_asked_for() {
    let after = |said: &'static [u8], close: bool| async move {
        let (client, mut server) = duplex(1024);
        let mut session = open(client);
        server.write_all(b"220 mx\r\n").await.unwrap();
        session.banner().await.unwrap();
        server.write_all(b"250 mx\r\n").await.unwrap();
        session.greet(&ehlo()).await.unwrap();
        server.write_all(said).await.unwrap();
        if close {
            server.shutdown().await.unwrap();
        }
        let seen = session.check_quiet();
        assert_eq!(session.is_idle(), seen.is_ok());
        drop(server);
        seen
    };
    assert!(after(b"", false).await.is_ok());
    assert!(matches!(after(b"", true).await, Err(SessionError::Closed { .. })));
    // A server that gives up on us says 421, and closes or not (RFC 5321 3.8).
    for close in [true, false] {
        let seen = after(b"421 4.4.2 timeout\r\n", close).await;
        assert!(matches!(seen, Err(SessionError::Closed { .. })));
    }
    let seen = after(b"250 ok\r\n", false).await;
    assert!(matches!(seen, Err(SessionError::Dialogue(DialogueError::Unsolicited(250)))));
    assert!(matches!(after(b"42", false).await, Err(SessionError::Decode(DecodeError::Trailing))));
    assert!(matches!(after(b"x\r\n", false).await, Err(SessionError::Decode(DecodeError::NotAReply(_)))));
}

// Ends and deadlines.

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
    envelope(session, 2).await?;
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
    // The server gives up on us in its own time: whatever is asked next is told so.
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

// Cancellation.

/// Polls `future` `polls` times, then drops it; tells whether it was done.
async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    // Polled in a row, without going back to the runtime, which would take this for greed and hold it up.
    let mut future = Box::pin(tokio::task::unconstrained(future));
    let mut cx = Context::from_waker(Waker::noop());
    (0..polls).any(|_| future.as_mut().poll(&mut cx).is_ready())
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_leaves_the_session_in_step_or_not_idle() {
    type Call = for<'a> fn(&'a mut Session<Server>) -> Pin<Box<dyn Future<Output = ()> + 'a>>;
    let calls: [(&str, Call); 5] = [
        ("envelope", |session| Box::pin(async { drop(envelope(session, 3).await) })),
        ("noop", |session| Box::pin(async { drop(session.command(&Command::Noop).await) })),
        ("rset", |session| Box::pin(async { drop(session.command(&Command::Rset).await) })),
        ("ehlo", |session| Box::pin(async { drop(session.greet(&ehlo()).await) })),
        ("envelope and data", |session| {
            Box::pin(async {
                envelope(session, 1).await.unwrap();
                drop(session.data(b"some text\r\n.\r\n").await);
            })
        }),
    ];
    for (name, call) in calls {
        for answer in [yes, one_by_one] {
            let mut cancelled = 0;
            for polls in 0..2000 {
                let mut session = ready(Server::new(answer).slow()).await;
                let done = poll_and_drop(call(&mut session), polls).await;
                let case = format!("{name} after {polls} polls: {session:?}");
                if session.is_idle() && !done {
                    assert!(
                        session.stream().writes.lock().unwrap().is_empty(),
                        "idle with half a command: {case}"
                    );
                }
                // Whatever is owed still comes, each reply to its own command.
                while session.owed() > 0 {
                    let (verb, reply) = session.reply().await.unwrap();
                    let text = if verb == Verb::Ehlo { "EHLO" } else { &*reply.text().to_uppercase() };
                    assert_eq!(format!("{verb:?}").to_uppercase(), text, "{case}");
                }
                if session.state() != State::Message {
                    assert_eq!(session.command(&Command::Rset).await.unwrap().text(), "RSET", "{case}");
                    assert!(session.is_idle(), "{case}");
                }
                if done {
                    break;
                }
                cancelled += 1;
            }
            assert!(cancelled >= 3, "{name} was cancelled at {cancelled} points only");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_after_a_dropped_one_gets_its_own_reply() {
    for polls in 0..40 {
        let mut session = ready(Server::new(yes).slow()).await;
        if poll_and_drop(session.command(&Command::Rset), polls).await {
            return;
        }
        assert_eq!(session.quit().await.unwrap().text(), "QUIT", "after {polls} polls");
    }
    panic!("never done");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_is_counted_by_what_it_was() {
    let metrics = Metrics::new();
    let server = Server::new(|line| if line == "BANNER" { says("220 ready") } else { Act::Silence });
    let mut session = Session::new(server, Timeouts::all(LIMIT), metrics.server("mx.example.com"));
    session.banner().await.unwrap();
    assert!(matches!(session.greet(&ehlo()).await, Err(SessionError::Timeout { .. })));
    let snapshot = metrics.snapshot();
    let errors: Vec<_> = snapshot.total().operation_errors.iter().collect();
    assert_eq!(errors, [(&(Operation::Ehlo, "timed_out".into()), &1)]);
    assert_eq!(snapshot.latency(Operation::Ehlo), None);
    assert_eq!(snapshot.latency(Operation::Greeting).unwrap().count, 1);
}
