//! Calls that are dropped before they are done, and what comes after them.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use super::*;

/// Polls `future` `polls` times, then drops it; tells whether it was done.
pub(super) async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) -> bool {
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
                let _ = envelope(session, 1).await.unwrap();
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
                // Every reply owed still comes, each reply to its own command.
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
async fn a_failure_is_counted_by_the_command_that_failed() {
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

/// Checks that the replies to a dropped call are not taken for those of the next one.
#[tokio::test(start_paused = true)]
async fn a_dropped_verification_gives_its_answer_to_no_other_mailbox() {
    let [eve, ann] = ["eve@example.com", "ann@example.com"].map(|address| Mailbox::parse(address).unwrap());
    let answer =
        |line: &str| if line.contains("eve@") { says("550 5.1.1 no such user\r\n") } else { yes(line) };
    let mut answered = 0;
    for polls in 0..300 {
        let mut session = ready(Server::new(answer).slow()).await;
        let done = poll_and_drop(session.verify_email(&ReversePath::Null, &eve), polls).await;
        if let Ok(said) = session.verify_email(&ReversePath::Null, &ann).await {
            assert!(said.is_accepted(), "after {polls} polls: {said:?}");
            answered += usize::from(!done);
        }
    }
    assert!(answered > 1, "{answered} answers after a dropped call");
}
