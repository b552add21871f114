//! The verifier against servers that break off, shut down or contradict themselves. No address is lost or gets the
//! answer of another, and no server gets too many attempts.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    sandbox::Sandbox,
    verify::{CatchAll, Event, Providers, Routes, Status, SubStatus, Task, Verifier},
};

use tokio::time::{sleep, timeout};

use crate::support::{config, sandbox, verify};

fn strs(addresses: &[String]) -> Vec<&str> {
    addresses.iter().map(String::as_str).collect()
}

/// Checks a server that answers 421 to one RCPT, and then answers further commands.
#[tokio::test]
async fn a_421_that_is_followed_by_more_replies_shifts_no_verdict() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"rcpt\", nth = 2, does = { reply = \"421 4.7.0 Try again later\" } }]\n\
         [[domain]]\nname = \"shift.test\"\nusers = [\"a1\", \"a2\", \"a3\", \"a4\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    let addresses = [
        "a1@shift.test",
        "a2@shift.test",
        "b1@shift.test",
        "a3@shift.test",
        "b2@shift.test",
        "a4@shift.test",
    ];
    for record in verify(config, &addresses).await {
        let known = record.address.starts_with('a');
        assert!(
            record.status == Status::Unknown || (record.status == Status::Deliverable) == known,
            "{record:#?}"
        );
    }
}

#[tokio::test]
async fn the_limit_of_a_connection_is_continued_on_the_next() {
    // The number of deferrals in a row is larger than a block would need.
    for (limit, list) in [(3, 30), (40, 300)] {
        let faults: String = (limit + 1..=300)
            .map(|n| format!("{{ at = \"rcpt\", nth = {n}, does = {{ reply = \"450 4.7.0 Limit per session reached, open a new session\" }} }},"))
            .collect();
        let sandbox = sandbox(&format!(
            "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nfaults = [{faults}]\n\
             [[domain]]\nname = \"full.test\"\nknown_share = 1.0\n"
        ))
        .await;
        let mut config = config(&sandbox);
        config.catch_all = false;
        // A connection that defers a recipient has accepted as many others as its limit says. An attempt ends after two
        // such connections. So a fifth attempt could fail only with ten times as many other recipients.
        config.schedule = vec![Duration::from_millis(50); 4];
        let addresses: Vec<String> = (0..list).map(|n| format!("user{n}@full.test")).collect();
        let records = verify(config, &strs(&addresses)).await;
        let wrong: Vec<_> = records.iter().filter(|r| r.sub_status != SubStatus::Accepted).collect();
        assert_eq!(wrong.len(), 0, "{limit}: {:#?}", wrong.first());
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_is_asked_as_often_as_configured() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"ehlo\", does = { reply = \"421 4.3.2 Service shutting down\" } }]\n\
         [[domain]]\nname = \"down.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.schedule = vec![Duration::from_millis(100); 2];
    let records = verify(config, &["ann@down.test"]).await;
    assert_eq!(records[0].attempts, 3, "{:#?}", records[0]);
}

#[tokio::test]
async fn too_many_recipients_is_no_answer_behind_a_refusal_either() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"rcpt\", nth = 2, does = { reply = \"452 4.5.3 Too many recipients\" } }]\n\
         [[domain]]\nname = \"one.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let records = verify(config(&sandbox), &["bob@one.test", "ann@one.test"]).await;
    assert_eq!(records[1].sub_status, SubStatus::Accepted, "{:#?}", records[1]);
}

/// Checks a server that skips a recipient, so that the reply to RSET stands in the place of its reply.
#[tokio::test]
async fn a_server_that_skips_a_recipient_accepts_no_address() {
    for skipped in ["", "nth = 1, ", "nth = 2, "] {
        let sandbox = sandbox(&format!(
            "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
             faults = [{{ at = \"rcpt\", {skipped}does = \"skip\" }}]\n\
             [[domain]]\nname = \"skip.test\"\nusers = [\"ann\"]\n"
        ))
        .await;
        let mut config = config(&sandbox);
        config.catch_all = false;
        config.client.timeouts = Timeouts::all(Duration::from_millis(300));
        for record in verify(config, &["ann@skip.test", "bob@skip.test"]).await {
            let right = match &*record.address {
                "ann@skip.test" => SubStatus::Accepted,
                _ => SubStatus::MailboxNotFound,
            };
            // The server is out of step, or silent where a reply is due.
            let unknown = [SubStatus::TimeoutExceeded, SubStatus::ProtocolError].contains(&record.sub_status);
            assert!(unknown || record.sub_status == right, "{skipped}{record:#?}");
            assert!(!skipped.is_empty() || unknown, "no recipient gets an answer: {record:#?}");
        }
    }
}

/// Checks an unsolicited 421, which is legal at any time (RFC 5321 3.8).
#[tokio::test]
async fn a_421_behind_the_last_reply_keeps_the_answers() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"rset\", does = { reply = \"250 2.0.0 Ok\\r\\n421 4.4.2 Bye\" } }]\n\
         [[domain]]\nname = \"bye.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    for list in [&["ann@bye.test"][..], &["bob@bye.test", "ann@bye.test"], &["ann@bye.test", "bob@bye.test"]]
    {
        for record in verify(config.clone(), list).await {
            let right = match &*record.address {
                "ann@bye.test" => SubStatus::Accepted,
                _ => SubStatus::MailboxNotFound,
            };
            assert_eq!(record.sub_status, right, "{list:?}: {record:#?}");
        }
    }
}

#[tokio::test]
async fn opportunistic_tls_continues_without_a_broken_starttls() {
    for does in ["eof", "garbage"] {
        let sandbox = sandbox(&format!(
            "[[host]]\nname = \"mx\"\nfaults = [{{ at = \"starttls\", does = \"{does}\" }}]\n\
             [[domain]]\nname = \"tls.test\"\nusers = [\"ann\"]\n"
        ))
        .await;
        let records = verify(config(&sandbox), &["ann@tls.test"]).await;
        assert_eq!(records[0].sub_status, SubStatus::Accepted, "{does}: {:#?}", records[0]);
    }
}

#[tokio::test]
async fn a_server_that_keeps_answering_421_gets_pauses() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nshutdown_at = 4\n\
         [[domain]]\nname = \"busy.test\"\nknown_share = 1.0\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    let addresses: Vec<String> = (0..40).map(|n| format!("user{n}@busy.test")).collect();
    let started = Instant::now();
    verify(config, &strs(&addresses)).await;
    let rate = sandbox.stats("mx").unwrap().connections as f64 / started.elapsed().as_secs_f64();
    assert!(rate < 20.0, "{rate} connections a second");
}

#[tokio::test]
async fn the_catch_all_answer_belongs_to_the_exchanger_that_gave_it() {
    // The first server knows its users, and closes after two questions. The backup accepts any address.
    let first = sandbox(
        "[[host]]\nname = \"mx1\"\nwithout = [\"STARTTLS\"]\nblocked = { at = \"connect\", after = 2 }\n\
         [[domain]]\nname = \"two.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let backup = sandbox(
        "[[host]]\nname = \"mx2\"\nwithout = [\"STARTTLS\"]\n[[domain]]\nname = \"two.test\"\ncatch_all = true\n",
    )
    .await;
    let mut config = config(&first);
    let end = |name: &str, addr| Endpoint::new(name, vec![addr]);
    config.routes = Routes::new();
    let route = vec![end("mx1", first.addr("mx1").unwrap()), end("mx2", backup.addr("mx2").unwrap())];
    config.routes.insert("two.test", Ok(route));
    let mut addresses = vec!["ann@two.test".to_owned()];
    // More unknown users than one connection can take.
    addresses.extend((0..40).map(|n| format!("nobody{n}@two.test")));
    let records = verify(config, &strs(&addresses)).await;
    assert_eq!((records[0].status, records[0].catch_all), (Status::Deliverable, CatchAll::Refused));
    let by_backup = records.iter().filter(|record| record.mx_host.as_deref() == Some("mx2")).count();
    assert!(by_backup > 0, "the backup was asked");
    for record in &records[1..] {
        assert_ne!(record.status, Status::Deliverable, "{record:#?}");
    }
}

/// Returns a route to a server that is down, and to one of a sandbox behind it.
fn route_with_a_backup(backup: &Sandbox) -> Vec<Endpoint> {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let end = |name: &str, addr| Endpoint::new(name, vec![addr]);
    vec![end("mx1", closed), end("mx2", backup.addr("mx2").unwrap())]
}

#[tokio::test]
async fn an_address_that_waits_for_a_catch_all_answer_gets_its_record_if_the_backup_blocks_us() {
    // It blocks us in the middle of a large window, behind a recipient at a new domain.
    let backup = sandbox(
        "[[host]]\nname = \"mx2\"\nwithout = [\"STARTTLS\"]\nlatency = \"30ms\"\n\
         blocked = { at = \"rcpt\", after = 306 }\n\
         [[domain]]\nname = \"one.test\"\nknown_share = 1.0\n\
         [[domain]]\nname = \"two.test\"\nknown_share = 1.0\n\
         [[domain]]\nname = \"new.test\"\nusers = [\"ann\", \"bob\", \"eve\"]\n",
    )
    .await;
    let mut config = config(&backup);
    config.routes = Routes::new();
    config.routes.insert("*", Ok(route_with_a_backup(&backup)));
    let (tasks, mut events) = Verifier::new(config, Arc::new(Metrics::new())).unwrap().start([]);
    let mut ask = async |addresses: Vec<String>| {
        let count = addresses.len();
        let task = |(id, address)| Task::new(id, address);
        tasks.send((0..).zip(addresses).map(task).collect()).await.unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let event = timeout(Duration::from_secs(5), events.next()).await.expect("a record for each");
            if let Some(Event::Done { record, .. }) = event {
                records.push(record);
            }
        }
        records
    };
    // All domains are known, and the windows are large.
    let many = |n: u32| format!("u{n}@{}.test", if n.is_multiple_of(2) { "one" } else { "two" });
    ask((0..300).map(many).chain(["nobody@new.test".to_owned()]).collect()).await;
    let new = ["ann@new.test", "bob@new.test", "eve@new.test"].map(str::to_owned);
    let records = ask(new.into_iter().chain((300..400).map(many)).collect()).await;
    let accepted: Vec<_> = records.iter().filter(|record| record.status == Status::Deliverable).collect();
    assert_eq!(accepted.len(), 3);
    for record in accepted {
        assert_eq!(record.catch_all, CatchAll::Inconclusive, "{record:#?}");
    }
}

#[tokio::test]
async fn an_address_that_waits_for_a_catch_all_answer_gets_its_record_if_the_backup_stops() {
    let backup = sandbox(
        "[[host]]\nname = \"mx2\"\nwithout = [\"STARTTLS\"]\nlatency = \"300ms\"\n\
         [[domain]]\nname = \"two.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&backup);
    config.routes = Routes::new();
    config.routes.insert("two.test", Ok(route_with_a_backup(&backup)));
    let records = tokio::spawn(verify(config, &["ann@two.test"]));
    // The address is accepted, and the question about its domain is in flight.
    while backup.stats("mx2").unwrap().rcpts < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    drop(backup);
    let record = &records.await.unwrap()[0];
    assert_eq!((record.status, record.catch_all), (Status::Deliverable, CatchAll::Inconclusive));
}

/// Returns a host that may refuse two recipients on each connection, so that every window is the last.
fn two_a_connection(without: &str, host: &str) -> String {
    format!(
        "[[host]]\nname = \"mx\"\nwithout = [{without}\"STARTTLS\"]\n{host}\n\
         [[domain]]\nname = \"two.test\"\nusers = [\"a0\", \"a2\", \"a4\", \"a6\"]\n"
    )
}

const TWO: &str = "[default]\nrejections = 2\nconnections = 1\n";
const TO_TWO: [&str; 8] = [
    "a0@two.test",
    "b1@two.test",
    "a2@two.test",
    "b3@two.test",
    "a4@two.test",
    "b5@two.test",
    "a6@two.test",
    "b7@two.test",
];

#[tokio::test]
async fn any_fault_around_quit_pairs_no_answer_with_another_question() {
    let rcpt = ["\"skip\"", "\"extra_reply\"", "\"eof\""].map(|does| ("rcpt", does));
    let rset = ["\"skip\"", "\"extra_reply\"", "\"eof\"", "{ reply = \"221 2.0.0 Bye\" }"];
    let quit = [
        "\"skip\"",
        "\"extra_reply\"",
        "\"eof\"",
        "\"truncate\"",
        "\"garbage\"",
        "{ reply = \"250 2.0.0 Ok\" }",
        "{ reply = \"421 4.7.0 Too many errors\" }",
    ];
    let faults =
        rcpt.into_iter().chain(rset.map(|does| ("rset", does))).chain(quit.map(|does| ("quit", does)));
    for (at, does) in faults {
        for nth in if at == "rcpt" { ["", "nth = 1, ", "nth = 2, "].as_slice() } else { &[""] } {
            let fault = format!("faults = [{{ at = \"{at}\", {nth}does = {does} }}]");
            let sandbox = sandbox(&two_a_connection("", &fault)).await;
            let mut config = config(&sandbox);
            config.catch_all = false;
            config.client.timeouts = Timeouts::all(Duration::from_millis(200));
            config.providers = Some(Providers::from_toml(TWO).unwrap().into());
            for record in verify(config, &TO_TWO).await {
                let right = match record.address.starts_with('a') {
                    true => SubStatus::Accepted,
                    false => SubStatus::MailboxNotFound,
                };
                let wrong = matches!(record.sub_status, SubStatus::Accepted | SubStatus::MailboxNotFound)
                    && record.sub_status != right;
                assert!(!wrong, "{fault}: {record:#?}");
                // The answer to QUIT does not change what is known.
                assert!(at != "quit" || record.sub_status == right, "{fault}: {record:#?}");
            }
        }
    }
}

#[tokio::test]
async fn quit_is_pipelined_behind_the_last_window() {
    let sandbox = sandbox(&two_a_connection("", "latency = \"200ms\"")).await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    config.providers = Some(Providers::from_toml(TWO).unwrap().into());
    let started = Instant::now();
    let records = verify(config, &TO_TWO).await;
    let (stats, took) = (sandbox.stats("mx").unwrap(), started.elapsed());
    assert!(records.iter().all(|record| record.smtp_code.is_some()), "{records:#?}");
    // Banner, EHLO and a window for each connection. The last one sends QUIT alone, in the background.
    let trips = u32::try_from(stats.connections).unwrap() * 3;
    assert!(took < Duration::from_millis(200) * (trips + 2), "{took:?} for {trips} round trips");
}

#[tokio::test]
async fn without_pipelining_quit_is_sent_alone_and_no_address_is_asked_twice() {
    let sandbox = sandbox(&two_a_connection("\"PIPELINING\", ", "")).await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    config.providers = Some(Providers::from_toml(TWO).unwrap().into());
    for record in verify(config, &TO_TWO).await {
        let known = record.address.starts_with('a');
        let right = if known { SubStatus::Accepted } else { SubStatus::MailboxNotFound };
        assert_eq!(record.sub_status, right, "{record:#?}");
    }
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, TO_TWO.len() as u64);
}

#[tokio::test]
async fn an_unreachable_host_is_tried_twice_at_first_and_then_once() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\ntarpit = { octet = \"1s\", from = \"connect\" }\n\
         [[domain]]\nname = \"slow.test\"\nknown_share = 1.0\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.client.timeouts = Timeouts::all(Duration::from_millis(200));
    config.schedule = vec![Duration::from_millis(50); 2];
    let records = verify(config, &["ann@slow.test"]).await;
    assert_eq!((records[0].status, records[0].attempts), (Status::Unknown, 3));
    assert_eq!(sandbox.stats("mx").unwrap().connections, 4);
}
