//! Replies whose lines carry different codes: neither yes nor no.

use super::*;

const MIXED: &str = "250-yes\r\n550 no";

/// A server that gives a mixed reply to the lines that begin so.
fn mixed_at(start: &'static str, pipelining: bool) -> Server {
    Server::new(move |line| match line {
        line if line.starts_with(start) => says(MIXED),
        "STARTTLS" => says("220 STARTTLS"),
        line if pipelining => yes(line),
        line => one_by_one(line),
    })
}

fn is_ambiguous<T>(result: &Result<T, SessionError>, wanted: Verb) -> bool {
    matches!(result, Err(SessionError::Ambiguous { verb, .. }) if *verb == wanted)
}

#[tokio::test(start_paused = true)]
async fn no_banner_and_no_greeting() {
    let mut session = open(mixed_at("BANNER", true));
    assert!(is_ambiguous(&session.banner().await, Verb::Connect));
    assert!(session.queue(&ehlo()).is_err());

    let mut session = open(Server::new(|line| match line {
        "EHLO client.example.org" => says("250-EHLO\r\n250-PIPELINING\r\n550 no"),
        line => yes(line),
    }));
    session.banner().await.unwrap();
    assert!(is_ambiguous(&session.greet(&ehlo()).await, Verb::Ehlo));
    assert_eq!((session.extensions(), session.state()), (&Extensions::default(), State::Connected));
}

#[tokio::test(start_paused = true)]
async fn no_verdict_on_a_mailbox() {
    let from = ReversePath::Null;
    for pipelining in [true, false] {
        for (start, verb) in [("MAIL", Verb::Mail), ("RCPT", Verb::Rcpt)] {
            let mut session = ready(mixed_at(start, pipelining)).await;
            let verified = session.verify_email(&from, &mailboxes(1)[0]).await;
            assert!(is_ambiguous(&verified, verb), "{start}, pipelining {pipelining}: {verified:?}");
            assert!(session.is_idle(), "{start}, pipelining {pipelining}: the transaction was reset");
        }
        // The answer is there; the connection is of no further use.
        let mut session = ready(mixed_at("RSET", pipelining)).await;
        let Verification { verb, reply, .. } = session.verify_email(&from, &mailboxes(1)[0]).await.unwrap();
        assert_eq!((verb, reply.code(), session.is_idle()), (Verb::Rcpt, 250, false));
    }
}

#[tokio::test(start_paused = true)]
async fn no_rcpt_behind_mail_without_pipelining_and_no_data_on_its_strength() {
    for pipelining in [true, false] {
        let mut session = ready(mixed_at("MAIL", pipelining)).await;
        let replies = envelope(&mut session, 2).await.unwrap();
        assert!(replies.mail.has_mixed_codes() && !replies.mail.is_positive());
        assert_eq!(replies.rcpts.len(), if pipelining { 2 } else { 0 });

        let mut session = ready(mixed_at("RCPT", pipelining)).await;
        let replies = envelope(&mut session, 2).await.unwrap();
        assert!(replies.rcpts.iter().all(Reply::has_mixed_codes));
        let data = session.data(b"x").await;
        assert!(matches!(data, Err(SessionError::Dialogue(DialogueError::Sequence { .. }))), "{data:?}");
        session.command(&Command::Rset).await.unwrap();
        assert!(session.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn no_message_is_taken_or_refused() {
    let mut session = ready(mixed_at("DATA", true)).await;
    let _ = envelope(&mut session, 1).await.unwrap();
    assert!(is_ambiguous(&session.data(b"x").await, Verb::Data));
    assert_eq!(session.state(), State::Closed, "whether the message is waited for is not known");

    let mut session = ready(mixed_at("MESSAGE", true)).await;
    let _ = envelope(&mut session, 1).await.unwrap();
    assert!(is_ambiguous(&session.data(b"x").await, Verb::Message));
    assert!(session.is_idle(), "the transaction is over either way");
}

#[tokio::test(start_paused = true)]
async fn a_refused_rset_is_an_answer_and_the_transaction_stays() {
    for refusal in ["500 5.5.1 no", "502 5.5.1 no", "503 5.5.1 no", "504 5.5.1 no", "250-no\r\n502 no"] {
        for pipelining in [true, false] {
            let mut session = ready(Server::new(move |line| match line {
                "RSET" => says(refusal),
                line if pipelining => yes(line),
                line => one_by_one(line),
            }))
            .await;
            let Verification { verb, reply, .. } =
                session.verify_email(&ReversePath::Null, &mailboxes(1)[0]).await.unwrap();
            assert_eq!((verb, reply.code()), (Verb::Rcpt, 250), "{refusal}");
            assert_eq!((session.state(), session.is_idle()), (State::Rcpt, false), "{refusal}");
        }
    }
}
