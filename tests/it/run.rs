//! The verifier for a caller that keeps its own books: the caller feeds tasks and receives events.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{RData, RecordType, rdata::MX},
};
use smtp_pool::{
    client::Endpoint,
    metrics::{Metrics, Operation},
    verify::{CatchAll, Event, Providers, Routes, Status, SubStatus, Task, Verifier, VerifierConfig},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, UdpSocket},
    sync::mpsc,
    task::JoinSet,
    time::{advance, pause, resume, sleep},
};

use crate::{
    nameserver::Nameserver,
    support::{config, sandbox},
};

fn verifier(config: VerifierConfig) -> Verifier {
    Verifier::new(config, Arc::new(Metrics::new())).unwrap()
}

fn task(id: u64, address: &str, attempts: u32) -> Task {
    Task::new(id, address.to_owned()).attempts(attempts)
}

/// Returns all events of a run over `tasks`.
async fn run(verifier: &Verifier, known: &[(&str, CatchAll)], tasks: Vec<Task>) -> Vec<Event> {
    let known = known.iter().map(|(domain, answer)| ((*domain).to_owned(), *answer));
    let (sender, mut received) = verifier.start(known);
    sender.send(tasks).await.unwrap();
    drop(sender);
    let mut events = Vec::new();
    while let Some(more) = received.next_many().await {
        events.extend(more);
    }
    events
}

#[tokio::test]
async fn an_address_to_be_asked_again_goes_back_to_the_caller() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\ngreylist = \"100ms\"\n[[domain]]\nname = \"grey.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    config.schedule = [100, 1_000].map(Duration::from_millis).to_vec();
    let verifier = verifier(config);
    let events = run(&verifier, &[], vec![task(7, "ann@grey.test", 0), task(8, "not an address", 0)]).await;
    let [Event::Done { id: 8, record: wrong }, Event::Later { id: 7, record, after }] = &events[..] else {
        panic!("{events:#?}");
    };
    assert_eq!(wrong.sub_status, SubStatus::FailedSyntaxCheck);
    assert_eq!((record.sub_status, record.attempts), (SubStatus::Greylisted, 1));
    assert_eq!(*after, Duration::from_millis(100));
    tokio::time::sleep(*after).await;

    let events = run(&verifier, &[], vec![task(7, "ann@grey.test", record.attempts)]).await;
    let [Event::Done { id: 7, record }] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((record.sub_status, record.attempts), (SubStatus::Accepted, 2));
}

/// Checks 60,000 addresses, each with a reply of 1 KB.
#[tokio::test]
async fn no_address_is_asked_while_the_caller_does_not_read_the_replies() {
    const TASKS: u64 = 60_000;
    let reply = format!("250 2.1.5 {}", "x".repeat(1_000));
    let sandbox = sandbox(&format!(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{{ at = \"rcpt\", does = {{ reply = \"{reply}\" }} }}]\n\
         [[domain]]\nname = \"a.test\"\ncatch_all = true\n"
    ))
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    let (sender, mut received) = verifier(config).start([]);
    let tasks = (0..TASKS).map(|id| task(id, &format!("user{id}@a.test"), 0)).collect();
    sender.send(tasks).await.unwrap();
    drop(sender);
    let asked = || sandbox.stats("mx").unwrap().commands;
    // Wait until no question is asked for a while.
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        match asked() {
            now if now == before && now > 1_000 => break,
            now => before = now,
        }
    }
    // The limit is 32 MiB, and the replies in flight come on top.
    assert!((30_000..36_000).contains(&before), "{before} of {TASKS} were asked about");
    let mut done = 0;
    while let Some(events) = received.next_many().await {
        done += events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
    }
    assert_eq!(done as u64, TASKS);
}

#[tokio::test]
async fn many_tasks_at_once_stay_in_their_order() {
    let sandbox = sandbox("[[host]]\nname = \"mx\"\n").await;
    // This is more than one batch, and not a multiple of it.
    let tasks = (0..10_001).map(|id| task(id, "not an address", 0)).collect();
    let events = run(&verifier(config(&sandbox)), &[], tasks).await;
    let ids = events.into_iter().map(|event| match event {
        Event::Done { id, .. } => id,
        event => panic!("{event:?}"),
    });
    assert!(ids.eq(0..10_001));
}

#[tokio::test]
async fn the_last_attempt_is_final() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\ngreylist = \"1h\"\n[[domain]]\nname = \"grey.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.schedule = [100, 1_000].map(Duration::from_millis).to_vec();
    let verifier = verifier(config);
    for (attempts, expected) in [(0, Some(100)), (1, Some(1_000)), (2, None), (9, None)] {
        let events = run(&verifier, &[], vec![task(1, "ann@grey.test", attempts)]).await;
        let after = match &events[..] {
            [Event::Later { after, .. }] => Some(*after),
            [Event::Done { record, .. }] => {
                assert_eq!((record.status, record.attempts), (Status::Unknown, attempts + 1));
                None
            }
            events => panic!("{events:#?}"),
        };
        assert_eq!(after, expected.map(Duration::from_millis));
    }
}

#[tokio::test]
async fn the_catch_all_question_is_asked_once_for_all_runs() {
    let sandbox =
        sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"any.test\"\ncatch_all = true\n").await;
    let verifier = verifier(config(&sandbox));
    let events = run(&verifier, &[], vec![task(1, "ann@any.test", 0), task(2, "bob@any.test", 0)]).await;
    let answers: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::CatchAll { domain, answer } => Some((&**domain, *answer)),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [("any.test", CatchAll::Accepted)]);
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 3);
    let events = run(&verifier, &answers, vec![task(3, "eve@any.test", 0)]).await;
    let [Event::Done { id: 3, record }] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((record.status, record.catch_all), (Status::Risky, CatchAll::Accepted));
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 4, "no question about the domain");
}

/// Serves as a name server that answers SERVFAIL.
async fn failing(socket: UdpSocket) {
    let mut message = [0; 512];
    loop {
        let (octets, peer) = socket.recv_from(&mut message).await.unwrap();
        message[2] |= 0x80;
        message[3] = 2;
        socket.send_to(&message[..octets], peer).await.unwrap();
    }
}

#[tokio::test]
async fn a_domain_whose_dns_fails_comes_back_later() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sandbox = sandbox("[[host]]\nname = \"mx\"\n").await;
    let mut config = config(&sandbox);
    config.routes = Routes::new();
    config.nameservers = vec![socket.local_addr().unwrap()];
    let _server = JoinSet::from_iter([failing(socket)]);
    config.schedule = vec![Duration::from_secs(300)];
    let events = run(&verifier(config), &[], vec![task(1, "ann@dns.test", 0)]).await;
    let [Event::Later { id: 1, record, .. }] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((record.status, record.attempts), (Status::Unknown, 1));
}

/// Whether the domains of the test below no longer exist.
static GONE: AtomicBool = AtomicBool::new(false);

fn a_null_mx_that_may_be_gone(_: &str, record: RecordType) -> Result<Vec<RData>, ResponseCode> {
    match record {
        _ if GONE.load(Relaxed) => Err(ResponseCode::NXDomain),
        RecordType::MX => Ok(vec![RData::MX(MX::new(0, ".".parse().unwrap()))]),
        _ => Ok(vec![]),
    }
}

#[tokio::test]
async fn a_run_caches_the_dns_for_its_time_to_live() {
    let nameserver = Nameserver::start(a_null_mx_that_may_be_gone).await;
    let sandbox = sandbox("[[host]]\nname = \"mx\"\n").await;
    let mut config = config(&sandbox);
    config.routes = Routes::new();
    config.nameservers = vec![nameserver.addr];
    let metrics = Arc::new(Metrics::new());
    let (tasks, mut events) = Verifier::new(config, Arc::clone(&metrics)).unwrap().start([]);
    let mut of = async |address: &str| {
        // Many tasks wait for one lookup.
        tasks.send(vec![task(1, address, 0); 10]).await.unwrap();
        let mut last = None;
        for _ in 0..10 {
            let Some(Event::Done { record, .. }) = events.next().await else { panic!("no record") };
            last = Some(record.sub_status);
        }
        last.unwrap()
    };
    for domain in ["ann@brief.test", "ann@long.test"] {
        assert_eq!(of(domain).await, SubStatus::DoesNotAcceptMail);
    }
    GONE.store(true, Relaxed);
    assert_eq!(of("bob@brief.test").await, SubStatus::DoesNotAcceptMail, "it was just looked up");
    // The cache uses the clock of the machine, and the run uses that of the runtime.
    sleep(Duration::from_millis(1_100)).await;
    pause();
    advance(Duration::from_secs(61)).await;
    resume();
    assert_eq!(of("eve@brief.test").await, SubStatus::NoDnsEntries);
    assert_eq!(of("eve@long.test").await, SubStatus::DoesNotAcceptMail, "it lives for five minutes");
    assert_eq!(metrics.snapshot().latency(Operation::Dns).unwrap().count, 4, "two for each domain");
}

#[tokio::test]
async fn a_run_ends_if_its_events_are_dropped() {
    let sandbox =
        sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n").await;
    let (tasks, events) = verifier(config(&sandbox)).start([]);
    drop(events);
    assert!(tasks.send(vec![task(1, "ann@good.test", 0)]).await.is_err());
}

/// Serves with SMTPUTF8, and sends on the parameters of MAIL.
async fn told_in_mail(listener: TcpListener, told: mpsc::UnboundedSender<String>) {
    while let Ok((stream, _)) = listener.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.write_all(b"220 mx\r\n").await?;
            while stream.read_line(&mut line).await? > 0 {
                let ehlo = line.starts_with("EHLO");
                if line.starts_with("MAIL") {
                    let _ = told.send(line.trim_end().to_owned());
                }
                stream.write_all(if ehlo { b"250-mx\r\n250 SMTPUTF8\r\n" } else { b"250 ok\r\n" }).await?;
                line.clear();
            }
            io::Result::Ok(())
        });
    }
}

#[tokio::test]
async fn smtputf8_is_requested_where_an_address_needs_it() {
    let mut config = config(&sandbox("[[host]]\nname = \"mx\"\n").await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addrs = vec![listener.local_addr().unwrap()];
    let (told, mut mails) = mpsc::unbounded_channel();
    tokio::spawn(told_in_mail(listener, told));
    config.catch_all = false;
    config.routes = Routes::new();
    config.routes.insert("*", Ok(vec![Endpoint::new("mx", addrs)]));
    // Each address has a transaction of its own.
    config.providers =
        Some(Providers::from_toml("[default]\nrecipients = 1\nconnections = 1\n").unwrap().into());
    let tasks = ["ann", "j\u{fc}rgen", "bob"].map(|user| task(1, &format!("{user}@good.test"), 0));
    let events = run(&verifier(config), &[], tasks.to_vec()).await;
    assert_eq!(events.len(), 3);
    let mut asked = Vec::new();
    while let Ok(mail) = mails.try_recv() {
        asked.push(mail.contains("SMTPUTF8"));
    }
    assert_eq!(asked, [false, true, false]);
}
