mod cancellation;
mod early;
mod ends;
mod mixed;
mod product;
mod server;

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, DuplexStream, duplex},
    time::timeout,
};

use self::server::{Act, Server, one_by_one, says, yes};
use super::*;
use crate::{
    client::{EnvelopeReplies, Verification},
    metrics::{Metrics, Operation},
    proto::{Argument, ClientName, DecodeError, DialogueError, Mechanism, SaslResponse},
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
    for most in [1, 2] {
        let mut session = ready(Server::new(twice)).await;
        let mailboxes = mailboxes(2);
        session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
        session.queue_rcpt(&mailboxes[0], &RcptParams::default()).unwrap();
        session.flush().await.unwrap();
        session.reply().await.unwrap();
        session.queue_rcpt(&mailboxes[1], &RcptParams::default()).unwrap();
        assert_eq!(session.replies_alike(most).await.unwrap().2, 1);
        let error = session.reply().await.unwrap_err();
        assert!(matches!(error, SessionError::Dialogue(DialogueError::Unsolicited(250))), "{error}");
        assert_eq!(session.stream().writes.lock().unwrap().len(), 1, "and nothing more is said");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_alike_are_taken_together_as_far_as_they_answer_the_same_and_are_wanted() {
    let answer = |line: &str| match line {
        "RCPT TO:<user1@example.com>" => says("550 no"),
        "RSET" => says("250 RCPT"),
        _ => yes(line),
    };
    let metrics = Metrics::new();
    let server = metrics.server("mx.example.com");
    let mut session = Session::new(Server::new(answer), Timeouts::all(LIMIT), server);
    session.banner().await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    let order = [0, 0, 0, 1, 1, 0, 0];
    let mailboxes = mailboxes(2);
    for n in order {
        session.queue_rcpt(&mailboxes[n], &RcptParams::default()).unwrap();
    }
    session.queue(&Command::Rset).unwrap();
    let mut taken = Vec::new();
    for most in [9, 2, 9, 0, 9, 9, 9] {
        let (verb, reply, count) = session.replies_alike(most).await.unwrap();
        taken.push((verb, reply.code(), count));
    }
    let rcpt = |code, count| (Verb::Rcpt, code, count);
    let rest = [rcpt(250, 2), rcpt(250, 1), rcpt(550, 1), rcpt(550, 1), rcpt(250, 2), (Verb::Rset, 250, 1)];
    assert_eq!(taken[0], (Verb::Mail, 250, 1));
    assert_eq!(taken[1..], rest);
    assert!(session.is_idle());
    drop(session);
    let counted = metrics.snapshot().latency(Operation::Rcpt).unwrap().count;
    assert_eq!(counted, order.len() as u64, "each of them counts");
}

#[tokio::test(start_paused = true)]
async fn without_pipelining_each_command_waits_for_its_reply() {
    let mut session = ready(Server::new(one_by_one)).await;
    let _ = envelope(&mut session, 2).await.unwrap();
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
    // Postfix postscreen drops a client that speaks between the lines.
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
    let _ = envelope(&mut session, 1).await.unwrap();
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
    let _ = envelope(&mut session, 1).await.unwrap();
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
    let _ = envelope(&mut session, 2).await.unwrap();
    assert_eq!(session.data(b"x").await.unwrap().text(), "first");
    assert!(!session.is_idle());
    assert_eq!(session.reply().await.unwrap().1.text(), "second");
    assert!(session.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_chunk_rides_behind_its_bdat() {
    // RFC 3030 4.2
    let mut session = ready(Server::new(|line| if line.is_empty() { Act::Silence } else { yes(line) })).await;
    let _ = envelope(&mut session, 1).await.unwrap();
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
async fn a_command_gets_its_own_reply_behind_those_owed_before() {
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
