//! Every future of a session, dropped after every number of polls, under every fault, at every stage of the dialogue.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{cancellation::poll_and_drop, *};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Banner,
    Greet,
    Auth,
    AuthResponse,
    Envelope,
    Data,
    Flush,
    Reply,
    Command,
    StartTls,
    Quit,
}

/// The calls of a dialogue, each with a line that it makes the server answer. Only the last one may be STARTTLS or QUIT.
const DIALOGUE: [(Step, &str); 13] = [
    (Step::Banner, "BANNER"),
    (Step::Greet, "EHLO client.example.org"),
    (Step::Auth, "AUTH PLAIN"),
    (Step::AuthResponse, "c2VjcmV0"),
    (Step::Envelope, "MAIL FROM:<>"),
    (Step::Envelope, "RCPT TO:<user1@example.com>"),
    (Step::Data, "DATA"),
    (Step::Data, "MESSAGE"),
    (Step::Flush, "NOOP"),
    (Step::Reply, "NOOP"),
    (Step::Command, "RSET"),
    (Step::StartTls, "STARTTLS"),
    (Step::Quit, "QUIT"),
];

/// A name, what the server does in place of the proper answer, and how a call ends that is not dropped.
type Fault = (&'static str, fn(Act) -> Act, fn(&Result<(), SessionError>) -> bool);

const FAULTS: [Fault; 9] = [
    (
        "garbage",
        |_| says("SSH-2.0-OpenSSH"),
        |end| matches!(end, Err(SessionError::Decode(DecodeError::NotAReply(_)))),
    ),
    (
        "endless continuation",
        |_| Act::Endless(b"250-x\r\n"),
        |end| matches!(end, Err(SessionError::Decode(DecodeError::TooManyLines))),
    ),
    (
        "endless line",
        |_| Act::Endless(b"2"),
        |end| matches!(end, Err(SessionError::Decode(DecodeError::LineTooLong))),
    ),
    ("drip", |_| Act::Drip, |end| matches!(end, Err(SessionError::Timeout { .. }))),
    ("silence", |_| Act::Silence, |end| matches!(end, Err(SessionError::Timeout { .. }))),
    ("end", |_| Act::Close(""), |end| matches!(end, Err(SessionError::Closed { .. }))),
    (
        "end within a reply",
        |_| Act::Close("250-half\r\n25"),
        |end| matches!(end, Err(SessionError::Closed { .. })),
    ),
    ("reset", |_| Act::Reset, |end| matches!(end, Err(SessionError::Io { .. }))),
    // Within a call the next command finds it, behind the last one the next look.
    ("injection", inject, |end| {
        matches!(end, Ok(()) | Err(SessionError::Decode(DecodeError::Trailing) | SessionError::Dialogue(_)))
    }),
];

fn inject(proper: Act) -> Act {
    match proper {
        Act::Say(text) => Act::Say(text + "250 injected\r\n"),
        other => other,
    }
}

async fn perform(session: &mut Session<Server>, step: Step) -> Result<(), SessionError> {
    match step {
        Step::Banner => drop(session.banner().await?),
        Step::Greet => drop(session.greet(&ehlo()).await?),
        Step::Auth => {
            let auth = Command::Auth { mechanism: Mechanism::new("PLAIN").unwrap(), initial: None };
            drop(session.command(&auth).await?);
        }
        Step::AuthResponse => {
            drop(session.auth_response(&SaslResponse::new(b"secret").unwrap()).await?);
        }
        Step::Envelope => drop(envelope(session, 2).await?),
        Step::Data => drop(session.data(b"x").await?),
        Step::Flush => {
            session.queue(&Command::Noop)?;
            session.flush().await?;
        }
        Step::Reply => drop(session.reply().await?),
        Step::Command => drop(session.command(&Command::Rset).await?),
        Step::StartTls => drop(session.command(&Command::StartTls).await?),
        Step::Quit => drop(session.quit().await?),
    }
    Ok(())
}

/// A session with all calls before `step` behind it, whose server will be at fault at `line`; and whether it was.
async fn before(
    (step, line): (Step, &'static str),
    (name, fault, _): Fault,
    pipelining: bool,
) -> (Session<Server>, Arc<AtomicBool>) {
    let hit = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&hit);
    let server = Server::new(move |said| {
        let proper = match said {
            "AUTH PLAIN" => says("334 AUTH"),
            "c2VjcmV0" => says("235 AUTHRESPONSE"),
            "STARTTLS" => says("220 STARTTLS"),
            _ if pipelining => yes(said),
            _ => one_by_one(said),
        };
        match (seen.load(Ordering::Relaxed), said == line) {
            (false, true) => {
                seen.store(true, Ordering::Relaxed);
                fault(proper)
            }
            // Nothing comes behind a fault, but an injection lets the rest pass.
            (true, _) if name != "injection" => Act::Silence,
            _ => proper,
        }
    });
    let mut session = open(server.slow());
    let mut calls: Vec<Step> = DIALOGUE.map(|(step, _)| step).to_vec();
    calls.dedup();
    for call in calls.into_iter().take_while(|call| *call != step && *call != Step::StartTls) {
        perform(&mut session, call).await.unwrap();
    }
    session.stream().writes.lock().unwrap().clear();
    (session, hit)
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_under_any_fault_leaves_no_session_that_passes_for_idle() {
    let mut dropped = 0;
    for fault in FAULTS {
        let (name, _, expected) = fault;
        for (step, line) in DIALOGUE {
            for pipelining in [false, true] {
                let mut polls = 0;
                loop {
                    let (mut session, hit) = before((step, line), fault, pipelining).await;
                    let done = poll_and_drop(perform(&mut session, step), polls).await;
                    let case = format!("{name} at {line}, pipelining {pipelining}, {polls} polls");
                    dropped_in_step(session, &hit, name, &case).await;
                    // A call that waits for the clock is polled in vain from some point on.
                    if done || polls == MOST_POLLS {
                        assert!(done || matches!(name, "silence" | "drip"), "{case}: not done");
                        break;
                    }
                    polls += 1;
                    dropped += 1;
                }
                let (mut session, _) = before((step, line), fault, pipelining).await;
                let end = perform(&mut session, step).await;
                // Flushing is done before the answer; and an answer to MAIL too many is one to RCPT too few.
                assert!(step == Step::Flush || expected(&end), "{name} at {line}: {end:?}");
            }
        }
    }
    assert!(dropped > 1000, "{dropped}");
}

/// More than any call needs whose server answers.
const MOST_POLLS: usize = 120;

async fn dropped_in_step(mut session: Session<Server>, hit: &AtomicBool, fault: &str, case: &str) {
    let begun = !session.stream().writes.lock().unwrap().is_empty();
    let (started, owed) = (Instant::now(), session.owed());
    while session.owed() > 0 {
        match session.reply().await {
            // Behind something injected nobody can tell, until there is more than was asked for.
            Ok(_) if fault == "injection" => {}
            Ok((verb, reply)) => {
                let text = match verb {
                    Verb::Connect => "BANNER".to_owned(),
                    _ => format!("{verb:?}").to_uppercase(),
                };
                assert!(reply.text().starts_with(&text), "{case}: {verb} answered by {reply}");
            }
            Err(_) => break,
        }
    }
    assert!(started.elapsed() <= LIMIT * u32::try_from(owed).unwrap(), "{case}: {:?}", started.elapsed());
    // Twice, since the server pauses before it gives something.
    let passes = session.is_idle() && session.check_quiet().is_ok() && session.check_quiet().is_ok();
    assert!(!passes || !hit.load(Ordering::Relaxed) || !begun, "{case}: idle after all of that");
}
