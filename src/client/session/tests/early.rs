//! Replies that come sooner than the network can carry them: surplus ones, each a command too late.

use std::collections::BTreeMap;

use tokio::time::{sleep, sleep_until};

use super::*;

/// How far away the server is.
const AWAY: Duration = Duration::from_millis(20);

/// Replies to a line, each with the time that the server takes for it.
type Answers = Vec<(Duration, String)>;

/// A server at the other end of a long line.
fn distant(mut answer: impl FnMut(&str) -> Answers + Send + 'static) -> DuplexStream {
    let (client, server) = duplex(1 << 20);
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(server);
        let mut lines = BufReader::new(read).lines();
        // By the time of arrival, and then in order.
        let mut replies = BTreeMap::from([((Instant::now(), 0), "220 mx".to_owned())]);
        let mut n = 0;
        loop {
            let due = replies.first_key_value().map(|((due, _), _)| *due);
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let Some((_, reply)) = replies.pop_first() else { return };
                    if write.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    for (after, reply) in answer(&line) {
                        n += 1;
                        replies.insert((Instant::now() + AWAY + after, n), reply);
                    }
                }
            }
        }
    });
    client
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// user0, user2, … exist.
fn reply_to(line: &str, pipelining: bool) -> String {
    match line.split([' ', ':']).next().unwrap() {
        "EHLO" if pipelining => "250-mx\r\n250 PIPELINING".into(),
        "RCPT" if line.contains(['1', '3', '5', '7', '9']) => "550 5.1.1 no such user".into(),
        "DATA" => "354 go on".into(),
        "QUIT" => "221 bye".into(),
        verb => format!("250 {verb}"),
    }
}

/// A server that repeats its `nth` reply to the command `at`, so many milliseconds `late`.
fn repeating(at: &'static str, nth: usize, late: u64, pipelining: bool) -> DuplexStream {
    let mut count = 0;
    distant(move |line| {
        let reply = reply_to(line, pipelining);
        let mut answers = vec![(ms(0), reply.clone())];
        if line.starts_with(at) {
            if count == nth {
                answers.push((ms(late), reply));
            }
            count += 1;
        }
        answers
    })
}

async fn greeted(stream: DuplexStream, connect: Duration) -> Session<DuplexStream> {
    let mut session = open(stream);
    session.set_connect_time(connect);
    session.banner().await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    session
}

#[tokio::test(start_paused = true)]
async fn a_late_surplus_reply_gives_no_mailbox_the_verdict_of_another() {
    for pipelining in [true, false] {
        for (at, nth) in [("MAIL", 0), ("RCPT", 0), ("RSET", 0), ("MAIL", 2), ("RCPT", 2), ("RSET", 2)] {
            for late in [0, 2, 8] {
                let stream = repeating(at, nth, late, pipelining);
                let mut session = greeted(stream, AWAY).await;
                let case = format!("{at} {nth}, {late} ms late, pipelining {pipelining}");
                let mut error = None;
                for (n, mailbox) in mailboxes(8).iter().enumerate() {
                    // The one that the surplus reply falls into may be mistaken: nothing has come too early yet.
                    let is_struck = n == nth;
                    match session.verify_email(&ReversePath::Null, mailbox).await {
                        Ok(Verification { reply, .. }) if !is_struck => {
                            assert_eq!(reply.is_positive(), n % 2 == 0, "{case}: user{n}: {reply}");
                        }
                        Ok(_) => {}
                        Err(found) => {
                            error = Some(found);
                            break;
                        }
                    }
                }
                let error = error.unwrap_or_else(|| panic!("{case}: not found out"));
                assert!(matches!(error, SessionError::Dialogue(_)), "{case}: {error:?}");
                assert!(!session.is_idle(), "{case}");
            }
        }
    }
}

/// The round trip is not known, as on a loopback.
#[tokio::test(start_paused = true)]
async fn no_mailbox_is_accepted_or_refused_by_the_reply_to_another_command() {
    for pipelining in [true, false] {
        for (at, nth) in [("MAIL", 0), ("RCPT", 0), ("RSET", 0), ("MAIL", 1), ("RCPT", 1), ("RSET", 1)] {
            for late in [0, 2, 8] {
                let stream = repeating(at, nth, late, pipelining);
                let mut session = open(stream);
                session.banner().await.unwrap();
                session.greet(&ehlo()).await.unwrap();
                for (n, mailbox) in mailboxes(8).iter().enumerate() {
                    let case = format!("{at} {nth}, {late} ms late, pipelining {pipelining}, user{n}");
                    match session.verify_email(&ReversePath::Null, mailbox).await {
                        Ok(Verification { verb: Verb::Rcpt, reply, .. }) => {
                            assert_eq!(reply.is_positive(), n % 2 == 0, "{case}: {reply}");
                        }
                        Ok(Verification { verb, reply, .. }) => {
                            assert!(verb == Verb::Mail && !pipelining, "{case}: {reply}")
                        }
                        Err(error) => {
                            assert!(matches!(error, SessionError::Dialogue(_)), "{case}: {error:?}");
                            assert!(!session.is_idle(), "{case}");
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// 530 to everything but EHLO, NOOP, STARTTLS and QUIT (RFC 3207 4), and a server that does not know RSET.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_rset_that_is_meant_leaves_the_answer_good() {
    for pipelining in [true, false] {
        for (refused, code, verb) in [("MAIL RCPT RSET", "530", Verb::Mail), ("RSET", "502", Verb::Rcpt)] {
            let stream = distant(move |line| {
                let is_refused = refused.split(' ').any(|verb| line.starts_with(verb));
                let reply = if is_refused { format!("{code} no") } else { reply_to(line, pipelining) };
                vec![(ms(0), reply)]
            });
            let mut session = greeted(stream, AWAY).await;
            let answer = session.verify_email(&ReversePath::Null, &mailboxes(1)[0]).await.unwrap();
            assert_eq!((answer.verb, answer.is_accepted()), (verb, verb == Verb::Rcpt), "{refused}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_surplus_reply_delivers_no_message_and_opens_no_session() {
    for (at, late, wanted) in [("RCPT", 2, 250), ("MAIL", 2, 250), ("DATA", 2, 354)] {
        let stream = distant(move |line| {
            let reply = reply_to(line, true);
            let surplus = line.starts_with(at).then(|| (ms(late), reply.clone()));
            [(ms(0), reply)].into_iter().chain(surplus).collect()
        });
        // Nothing is known of the round trip here: the codes tell.
        let mut session = open(stream);
        session.banner().await.unwrap();
        session.greet(&ehlo()).await.unwrap();
        let _ = envelope(&mut session, 1).await.unwrap();
        let error = session.data(b"x").await.unwrap_err();
        let SessionError::Dialogue(DialogueError::Unsolicited(code)) = error else {
            panic!("{at}: {error:?}")
        };
        assert_eq!(code, wanted, "{at}");
        assert!(!session.is_idle());
    }
    let (client, mut server) = duplex(1024);
    let mut session = open(client);
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"220 mx\r\n250 mx\r\n").await.unwrap();
    let error = session.greet(&ehlo()).await.unwrap_err();
    assert!(matches!(error, SessionError::Dialogue(DialogueError::Unsolicited(220))), "{error:?}");
}

/// Returns how long a dialogue takes with an honest server that is slow where `takes` says so.
async fn honest(connect: Option<Duration>, takes: impl Fn(&str) -> Duration + Send + 'static) -> Duration {
    let stream = distant(move |line| vec![(takes(line), reply_to(line, false))]);
    let mut session = open(stream);
    if let Some(connect) = connect {
        session.set_connect_time(connect);
    }
    let started = Instant::now();
    session.banner().await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    for (n, mailbox) in mailboxes(4).iter().enumerate() {
        let answer = session.verify_email(&ReversePath::Null, mailbox).await.unwrap();
        assert_eq!(answer.is_accepted(), n % 2 == 0);
    }
    assert!(session.is_idle());
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_honest_server_is_not_held_up() {
    // EHLO, and four times MAIL, RCPT, RSET.
    let least = AWAY * 13;
    // Slow to greet and quick from then on: the TCP handshake tells how near it is.
    let slow_greeting = |line: &str| if line.starts_with("EHLO") { ms(500) } else { ms(0) };
    assert_eq!(honest(Some(AWAY), slow_greeting).await, least + ms(500));
    assert_eq!(honest(Some(AWAY), |_| ms(0)).await, least);
    // Nothing is known of the network.
    assert_eq!(honest(None, slow_greeting).await, least + ms(500));
    // The SYN was lost once.
    assert_eq!(honest(Some(ms(1000) + AWAY), |_| ms(0)).await, least);
    // On a loopback.
    assert_eq!(honest(Some(Duration::from_micros(900)), |_| ms(0)).await, least);
    // The handshake took much longer than a round trip: that is listened for once.
    assert_eq!(honest(Some(ms(300)), |_| ms(0)).await, least + ms(300));
    assert_eq!(
        honest(Some(ms(300)), |line| if line.starts_with("MAIL") { ms(90) } else { ms(0) }).await,
        least + ms(360) + ms(300)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_command_was_written_does_not_answer_it() {
    // The surplus reply comes with those to the first flight, while the second one is queued behind it.
    let answer = |line: &str| match line {
        "RCPT TO:<user0@example.com>" => says("250 RCPT\r\n250 RCPT"),
        _ => yes(line),
    };
    for more in [0, 1] {
        let mut session = ready(Server::new(answer)).await;
        let mailboxes = mailboxes(3);
        session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
        session.queue_rcpt(&mailboxes[0], &RcptParams::default()).unwrap();
        session.flush().await.unwrap();
        session.reply().await.unwrap();
        sleep(ms(1)).await;
        session.queue_rcpt(&mailboxes[1], &RcptParams::default()).unwrap();
        session.flush().await.unwrap();
        for mailbox in &mailboxes[2..2 + more] {
            session.queue_rcpt(mailbox, &RcptParams::default()).unwrap();
            session.flush().await.unwrap();
        }
        assert_eq!(session.reply().await.unwrap().1.text(), "RCPT");
        let error = session.reply().await.unwrap_err();
        assert!(matches!(error, SessionError::Dialogue(DialogueError::Unsolicited(250))), "{error}");
        assert!(!session.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_421_may_come_at_any_time() {
    // Just as a command is sent, and while something else is listened for.
    for early in ["421 4.4.2 timeout", "250 what\r\n421 4.4.2 timeout"] {
        let stream = distant(move |line| match line {
            // AWAY is behind it: it comes 2 ms after the next command.
            "NOOP" => vec![(ms(0), "250 NOOP".into()), (ms(2), early.into())],
            line => vec![(ms(0), reply_to(line, true))],
        });
        let mut session = greeted(stream, AWAY).await;
        session.command(&Command::Noop).await.unwrap();
        let reply = session.command(&Command::Rset).await;
        match early.starts_with("421") {
            true => assert_eq!(reply.unwrap().code(), 421),
            // One reply too many, and the end: nothing is owed any more that could prove it.
            false => assert_eq!(reply.unwrap().text(), "what"),
        }
        assert!(!session.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_the_session_listens_loses_no_reply() {
    let stream = distant(move |line| vec![(ms(0), reply_to(line, true))]);
    let mut session = greeted(stream, ms(100)).await;
    // EHLO has brought the round trip down already.
    session.set_connect_time(ms(100));
    session.queue(&Command::Noop).unwrap();
    assert!(timeout(ms(60), session.reply()).await.is_err(), "it has come, and the session listens");
    assert!(!session.is_idle() && session.owed() == 1);
    assert_eq!(session.reply().await.unwrap().1.text(), "NOOP");
    assert!(session.is_idle());
    assert_eq!(session.command(&Command::Noop).await.unwrap().text(), "NOOP");
}

#[tokio::test(start_paused = true)]
async fn a_flight_written_in_several_attempts_is_not_timed() {
    // Half of it was sent long before the rest, and answered.
    let (client, mut server) = duplex(32);
    let mut session = open(client);
    session.set_connect_time(AWAY);
    server.write_all(b"220 mx\r\n").await.unwrap();
    session.banner().await.unwrap();
    server.write_all(b"250-m\r\n250 PIPELINING\r\n").await.unwrap();
    session.greet(&ehlo()).await.unwrap();
    let mut line = [0; 64];
    assert!(server.read(&mut line).await.unwrap() > 0);
    session.set_connect_time(AWAY);
    session.queue_mail(&ReversePath::Null, &MailParams::default()).unwrap();
    session.queue_rcpt(&mailboxes(1)[0], &RcptParams::default()).unwrap();
    assert!(timeout(ms(30), session.flush()).await.is_err());
    let got = server.read(&mut line).await.unwrap();
    assert!(got > 14 && got < 43, "{got}");
    server.write_all(b"250 MAIL\r\n").await.unwrap();
    let replies = async {
        let mail = session.reply().await.unwrap().1;
        (mail, session.reply().await.unwrap().1)
    };
    let serve = async {
        while server.read(&mut line).await.unwrap() > 0 && !line.contains(&b'@') {}
        sleep(ms(5)).await;
        server.write_all(b"250 RCPT\r\n").await.unwrap();
    };
    let started = Instant::now();
    let ((mail, rcpt), ()) = tokio::join!(replies, serve);
    assert_eq!((&*mail.text(), &*rcpt.text()), ("MAIL", "RCPT"));
    assert!(started.elapsed() < AWAY, "nothing was listened for: {:?}", started.elapsed());
}
