//! The verifier against the sandbox: every behaviour of a server, and the verdict that follows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    client::Timeouts,
    metrics::Metrics,
    net::TlsPolicy,
    proto::Mailbox,
    sandbox::{Sandbox, Truth, World},
    verify::{Blame, CatchAll, Event, Routes, Status, SubStatus, Task, Verifier, VerifierConfig},
};

use crate::support::{config, sandbox, verify};

#[tokio::test]
async fn the_demo_list_gets_the_verdicts_it_deserves() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let list = include_str!("../../examples/addresses.csv");
    let rows: Vec<Vec<String>> =
        list.lines().skip(1).map(|line| line.rsplitn(3, ',').map(str::to_owned).collect()).collect();
    // Column 3 has the identifier and the address, quoted if it contains quotes.
    let address = |row: &Vec<String>| {
        let (_, address) = row[2].split_once(',').unwrap();
        match address.strip_prefix('"') {
            Some(quoted) => quoted.trim_end_matches('"').replace("\"\"", "\""),
            None => address.to_owned(),
        }
    };
    let addresses: Vec<String> = rows.iter().map(address).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(config(&sandbox), &addresses).await;
    let mut wrong = Vec::new();
    for (row, record) in rows.iter().zip(&records) {
        let json = serde_json::to_value(record).unwrap();
        if json["status"] != row[1].as_str() || json["sub_status"] != row[0].as_str() {
            wrong.push(format!("{row:?}\n{record:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns a verifier for worlds in which any local part may exist.
fn without_catch_all(sandbox: &Sandbox) -> VerifierConfig {
    let mut config = config(sandbox);
    config.catch_all = false;
    config
}

/// Checks hosts with one fault each, and the sub-status and blame of an address there.
///
/// The same fault at another stage must give the same kind of answer.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_ends_in_a_record_that_blames_server_or_network() {
    const STAGES: [&str; 4] = ["connect", "ehlo", "mail", "rcpt"];
    let faults = [
        ("garbage", SubStatus::ProtocolError, Blame::Server),
        ("endless_continuation", SubStatus::ProtocolError, Blame::Server),
        ("long_line", SubStatus::ProtocolError, Blame::Server),
        ("silence", SubStatus::TimeoutExceeded, Blame::Server),
        ("eof", SubStatus::FailedSmtpConnection, Blame::Server),
        ("truncate", SubStatus::FailedSmtpConnection, Blame::Server),
    ];
    let mut world =
        String::from("[[host]]\nname = \"good.test\"\n[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n");
    let mut expected = vec![("ann@good.test".to_owned(), SubStatus::Accepted, None)];
    for stage in STAGES {
        for (fault, sub_status, blame) in faults {
            let name = format!("{}.{stage}.test", fault.replace('_', "-"));
            world += &format!(
                "[[host]]\nname = \"{name}\"\nwithout = [\"STARTTLS\"]\n\
                 faults = [{{ at = \"{stage}\", does = \"{fault}\" }}]\n\
                 [[domain]]\nname = \"{name}\"\nhosts = [\"{name}\"]\nusers = [\"ann\"]\n"
            );
            expected.push((format!("ann@{name}"), sub_status, Some(blame)));
        }
    }
    let sandbox = sandbox(&world).await;
    let addresses: Vec<&str> = expected.iter().map(|(address, ..)| address.as_str()).collect();
    let mut config = config(&sandbox);
    config.client.timeouts = Timeouts::all(Duration::from_millis(500));
    let started = Instant::now();
    let records = verify(config, &addresses).await;
    for ((address, sub_status, blame), record) in expected.iter().zip(&records) {
        assert_eq!((record.sub_status, record.blame), (*sub_status, *blame), "{address}: {record:?}");
    }
    // Four connections with a deadline of half a second each, all lanes at once.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_drip_ends_at_the_deadline_of_the_whole_reply() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\ntarpit = { octet = \"100ms\", from = \"rcpt\" }\n\
         [[domain]]\nname = \"drip.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.client.timeouts = Timeouts::all(Duration::from_millis(300));
    let records = verify(config, &["ann@drip.test"]).await;
    assert_eq!((records[0].sub_status, records[0].blame), (SubStatus::TimeoutExceeded, Some(Blame::Server)));
}

#[tokio::test]
async fn plaintext_injected_behind_starttls_is_never_taken_for_an_answer() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nfaults = [{ at = \"starttls\", does = \"extra_reply\" }]\n\
         [[domain]]\nname = \"injected.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let records = verify(config(&sandbox), &["ann@injected.test"]).await;
    assert_eq!((records[0].sub_status, records[0].blame), (SubStatus::TlsFailed, Some(Blame::Network)));
    assert_eq!(sandbox.stats("mx").unwrap().transactions, 0, "no command was sent behind it");
}

#[tokio::test]
async fn broken_tls_is_skipped_when_opportunistic_and_reported_when_required() {
    let world = "[[host]]\nname = \"mx\"\nfaults = [{ at = \"tls\", does = \"eof\" }]\n\
                 [[domain]]\nname = \"tls.test\"\nusers = [\"ann\"]\n";
    let sandbox = sandbox(world).await;
    let records = verify(config(&sandbox), &["ann@tls.test"]).await;
    assert_eq!((records[0].sub_status, records[0].tls), (SubStatus::Accepted, None));
    let mut required = config(&sandbox);
    required.client.tls = TlsPolicy::Required;
    let records = verify(required, &["ann@tls.test"]).await;
    assert_eq!((records[0].sub_status, records[0].blame), (SubStatus::TlsFailed, Some(Blame::Network)));
}

#[tokio::test]
async fn an_unsolicited_reply_shifts_no_verdict_to_another_address() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nfaults = [{ at = \"rcpt\", nth = 2, does = \"extra_reply\" }]\n\
         [[domain]]\nname = \"extra.test\"\nusers = [\"a1\", \"a2\", \"a3\"]\n",
    )
    .await;
    let addresses = ["a1@extra.test", "b1@extra.test", "a2@extra.test", "b2@extra.test", "a3@extra.test"];
    for (address, record) in addresses.iter().zip(verify(config(&sandbox), &addresses).await) {
        assert!(
            record.status == Status::Unknown
                || (record.status == Status::Deliverable) == address.starts_with('a'),
            "{record:?}"
        );
    }
}

#[tokio::test]
async fn a_reply_of_two_codes_blames_the_server() {
    for (codes, without) in
        [("250-2.1.5 Ok", ""), ("550-5.1.1 User unknown", ""), ("250-Ok", "\"PIPELINING\", ")]
    {
        for (at, meant) in [
            ("at = \"rcpt\", to = \"a2\"", "a2"),
            ("at = \"mail\"", ""),
            ("at = \"rcpt\", to = \"b1\"", "b1"),
        ] {
            let sandbox = sandbox(&format!(
                "[[host]]\nname = \"mx\"\nwithout = [{without}\"STARTTLS\"]\n\
                 faults = [{{ {at}, does = {{ reply = \"{codes}\\r\\n451 4.3.0 no\" }} }}]\n\
                 [[domain]]\nname = \"mixed.test\"\nusers = [\"a1\", \"a2\", \"a3\"]\n"
            ))
            .await;
            let addresses =
                ["a1@mixed.test", "b1@mixed.test", "a2@mixed.test", "b2@mixed.test", "a3@mixed.test"];
            for (address, record) in
                addresses.iter().zip(verify(without_catch_all(&sandbox), &addresses).await)
            {
                let wanted = match address.starts_with(meant) {
                    true => (SubStatus::ProtocolError, Some(Blame::Server)),
                    false if address.starts_with('a') => (SubStatus::Accepted, None),
                    false => (SubStatus::MailboxNotFound, Some(Blame::Recipient)),
                };
                assert_eq!((record.sub_status, record.blame), wanted, "{codes} {at}: {record:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_server_reaches_its_limit_of_errors() {
    let sandbox = sandbox(
        "seed = 7\n[[host]]\nname = \"mx\"\nerrors = { soft = 10, hard = 20, delay = \"10ms\", junk = 100 }\n\
         [[domain]]\nname = \"half.test\"\nknown_share = 0.6\n",
    )
    .await;
    let addresses: Vec<String> = (0..3_000).map(|n| format!("user{n}@half.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(without_catch_all(&sandbox), &addresses).await;
    for record in &records {
        let truth = sandbox.expected(&Mailbox::parse(&record.address).unwrap());
        let expected = if truth == Truth::Known { SubStatus::Accepted } else { SubStatus::MailboxNotFound };
        assert_eq!(record.sub_status, expected, "{record:?}");
    }
    let stats = sandbox.stats("mx").unwrap();
    assert_eq!((stats.hard_limit_hits, stats.junk_limit_hits), (0, 0), "{stats:?}");
    assert!(stats.max_open <= 2, "no more connections than the default rule allows");
    let controls = stats.rcpts - 3_000;
    assert!(controls <= 12, "asked once each, but for {controls} controls");
}

#[tokio::test]
async fn a_connection_is_closed_before_its_last_rejections_cost_a_round_trip_each() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         [[domain]]\nname = \"mixed.test\"\nknown_share = 0.7\n",
    )
    .await;
    let verifier = Verifier::new(without_catch_all(&sandbox), Arc::new(Metrics::new())).unwrap();
    // All come at once, because few waiting addresses make small windows.
    let task = |n| Task::new(n, format!("user{n}@mixed.test"));
    let (tasks, mut events) = verifier.start([]);
    tasks.send((0..600).map(task).collect()).await.unwrap();
    drop(tasks);
    let mut done = 0;
    while let Some(event) = events.next().await {
        done += u32::from(matches!(event, Event::Done { .. }));
    }
    assert_eq!(done, 600);
    let stats = sandbox.stats("mx").unwrap();
    let each = |count: u64| count as f64 / stats.connections as f64;
    assert!(each(stats.transactions) <= 5.0, "used up to the last rejection, {stats:?}");
    assert!(each(stats.errors) >= 6.0, "a connection is used for several windows, {stats:?}");
}

#[tokio::test]
async fn refusals_in_the_same_words_are_counted_one_by_one() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\n\
         faults = [{ at = \"rcpt\", does = { reply = \"550 5.1.1 No such user\" } }]\n\
         [[domain]]\nname = \"gone.test\"\n",
    )
    .await;
    let addresses: Vec<String> = (0..200).map(|n| format!("user{n}@gone.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for record in verify(config(&sandbox), &addresses).await {
        assert_eq!(record.sub_status, SubStatus::MailboxNotFound, "{record:?}");
    }
    let stats = sandbox.stats("mx").unwrap();
    assert!(stats.connections >= 200 / 9, "nine on each, {stats:?}");
}

#[tokio::test]
async fn a_list_sorted_by_domain_reaches_no_limit_of_errors() {
    // One server has a catch-all domain, one has good addresses, and two have only unknown users.
    let users: Vec<String> = (0..500).map(|n| format!("user{n}")).collect();
    let sandbox = sandbox(&format!(
        "[[host]]\nname = \"mx\"\nerrors = {{ soft = 10, hard = 20, delay = \"10ms\", junk = 100 }}\n\
         [[domain]]\nname = \"any.test\"\ncatch_all = true\n[[domain]]\nname = \"good.test\"\nusers = {users:?}\n\
         [[domain]]\nname = \"stale.test\"\n[[domain]]\nname = \"gone.test\"\n",
    ))
    .await;
    let domains = ["any.test", "stale.test", "good.test", "gone.test"];
    let addresses: Vec<String> =
        domains.iter().flat_map(|domain| (0..500).map(move |n| format!("user{n}@{domain}"))).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(config(&sandbox), &addresses).await;
    for (records, expected) in records.chunks(500).zip([
        SubStatus::CatchAll,
        SubStatus::MailboxNotFound,
        SubStatus::Accepted,
        SubStatus::MailboxNotFound,
    ]) {
        let wrong = records.iter().find(|record| record.sub_status != expected);
        assert!(wrong.is_none(), "{wrong:#?}");
    }
    let stats = sandbox.stats("mx").unwrap();
    assert_eq!((stats.hard_limit_hits, stats.junk_limit_hits), (0, 0), "{stats:?}");
}

#[tokio::test]
async fn a_blocklisting_turns_no_address_invalid_and_is_not_asked_for_more() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nblocked = { at = \"rcpt\", after = 3 }\n\
         [[domain]]\nname = \"listed.test\"\nusers = [\"u1\"]\n",
    )
    .await;
    let addresses: Vec<String> = (0..1_000).map(|n| format!("u{n}@listed.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(config(&sandbox), &addresses).await;
    let blocked = records.iter().filter(|record| record.sub_status == SubStatus::Blocked).count();
    assert!(blocked > 900, "{blocked}");
    let stats = sandbox.stats("mx").unwrap();
    assert!(stats.rcpts < 100, "{stats:?}");
}

#[tokio::test]
async fn a_shutdown_in_the_middle_loses_nothing() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"STARTTLS\"]\nshutdown_at = 7\n\
         [[domain]]\nname = \"busy.test\"\nknown_share = 1.0\n",
    )
    .await;
    let addresses: Vec<String> = (0..24).map(|n| format!("user{n}@busy.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for record in verify(without_catch_all(&sandbox), &addresses).await {
        assert_eq!(record.sub_status, SubStatus::Accepted, "{record:?}");
    }
}

#[tokio::test]
async fn a_greylisted_address_comes_back_and_is_answered() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\ngreylist = \"200ms\"\n[[domain]]\nname = \"grey.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.schedule = vec![Duration::from_millis(300); 2];
    let began = Instant::now();
    let records = verify(config, &["ann@grey.test", "bob@grey.test"]).await;
    assert_eq!((records[0].sub_status, records[0].attempts), (SubStatus::Accepted, 2));
    assert_eq!((records[1].sub_status, records[1].attempts), (SubStatus::MailboxNotFound, 2));
    // The time runs from the first question, with the pause. It is no longer than the test.
    for record in records {
        assert!((300..=began.elapsed().as_millis()).contains(&record.duration_ms.into()), "{record:#?}");
    }
}

#[tokio::test]
async fn a_question_takes_one_round_trip() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nlatency = \"150ms\"\n[[domain]]\nname = \"far.test\"\nusers = [\"ann\"]\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.catch_all = false;
    let began = Instant::now();
    // The time excludes connecting and closing: banner, EHLO and QUIT take 150 ms each.
    let records = verify(config, &["ann@far.test"]).await;
    let most = u64::try_from(began.elapsed().as_millis() - 450).unwrap();
    assert!((150..=most).contains(&records[0].duration_ms), "{most}: {records:#?}");
}

#[tokio::test]
async fn a_greylisted_catch_all_domain_is_found_out() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\ngreylist = \"200ms\"\n[[domain]]\nname = \"any.test\"\ncatch_all = true\n",
    )
    .await;
    let mut config = config(&sandbox);
    config.schedule = vec![Duration::from_millis(300)];
    // The question about the domain comes from a new client as well.
    let records = verify(config, &["ann@any.test", "bob@any.test"]).await;
    for record in records {
        assert_eq!((record.status, record.catch_all), (Status::Risky, CatchAll::Accepted), "{record:#?}");
    }
}

#[tokio::test]
async fn the_catch_all_answer_is_in_the_record() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\n[[domain]]\nname = \"any.test\"\ncatch_all = true\n\
         [[domain]]\nname = \"some.test\"\nusers = [\"ann\"]\n[[domain]]\nname = \"none.test\"\n",
    )
    .await;
    let addresses = ["x@any.test", "y@any.test", "ann@some.test", "z@none.test"];
    let records = verify(config(&sandbox), &addresses).await;
    let answers: Vec<_> = records.iter().map(|record| (record.status, record.catch_all)).collect();
    let expected = [
        (Status::Risky, CatchAll::Accepted),
        (Status::Risky, CatchAll::Accepted),
        (Status::Deliverable, CatchAll::Refused),
        (Status::Undeliverable, CatchAll::NotRun),
    ];
    assert_eq!(answers, expected);
    assert_eq!(sandbox.stats("mx").unwrap().rcpts, 6, "one question for each domain that accepted");
}

#[tokio::test]
async fn a_disposable_address_is_risky_without_the_catch_all_question() {
    let sandbox =
        sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"mailinator.com\"\nusers = [\"ann\"]\n").await;
    for config in [config(&sandbox), without_catch_all(&sandbox)] {
        let records = verify(config, &["ann@mailinator.com"]).await;
        assert_eq!((records[0].status, records[0].sub_status), (Status::Risky, SubStatus::Disposable));
    }
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_unless_allowed() {
    let sandbox =
        sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n").await;
    let mut config = config(&sandbox);
    config.port = sandbox.addr("mx").unwrap().port();
    config.routes = Routes::new();
    let address = "ann@[127.0.0.1]";
    let records = verify(config.clone(), &[address]).await;
    assert_eq!((records[0].sub_status, records[0].status), (SubStatus::UnroutableIpAddress, Status::Unknown));
    assert_eq!(sandbox.stats("mx").unwrap().connections, 0);
    config.allow_private = true;
    let records = verify(config, &[address]).await;
    assert_ne!(records[0].sub_status, SubStatus::UnroutableIpAddress);
    assert_eq!(sandbox.stats("mx").unwrap().connections, 1);
}

#[tokio::test]
async fn servers_without_pipelining_are_asked_step_by_step() {
    let sandbox = sandbox(
        "[[host]]\nname = \"mx\"\nwithout = [\"PIPELINING\", \"STARTTLS\"]\n\
         [[domain]]\nname = \"slow.test\"\nusers = [\"ann\", \"bob\"]\n",
    )
    .await;
    let records = verify(config(&sandbox), &["ann@slow.test", "eve@slow.test", "bob@slow.test"]).await;
    let verdicts: Vec<_> = records.iter().map(|record| record.sub_status).collect();
    assert_eq!(verdicts, [SubStatus::Accepted, SubStatus::MailboxNotFound, SubStatus::Accepted]);
    assert_eq!(sandbox.stats("mx").unwrap().improper_pipelining, 0);
}

#[tokio::test]
async fn a_refused_sender_makes_no_recipient_undeliverable() {
    for pipelining in ["", "\"PIPELINING\", "] {
        let sandbox = sandbox(&format!(
            "[[host]]\nname = \"mx\"\nwithout = [{pipelining}\"STARTTLS\"]\n\
             faults = [{{ at = \"mail\", does = {{ reply = \"550 5.1.1 User unknown\" }} }}]\n\
             [[domain]]\nname = \"picky.test\"\nusers = [\"ann\"]\n"
        ))
        .await;
        let addresses: Vec<String> = (0..50).map(|n| format!("u{n}@picky.test")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        for record in verify(config(&sandbox), &addresses).await {
            assert_eq!(record.status, Status::Unknown, "{record:?}");
        }
    }
}

#[tokio::test]
async fn syntax_alone_needs_no_network() {
    let sandbox = sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\n").await;
    let mut config = config(&sandbox);
    config.probe = false;
    let records = verify(config, &["ann@good.test", "ann@@good.test", ""]).await;
    let verdicts: Vec<_> = records.iter().map(|record| record.sub_status).collect();
    assert_eq!(verdicts, [SubStatus::Other, SubStatus::FailedSyntaxCheck, SubStatus::FailedSyntaxCheck]);
    assert_eq!(sandbox.stats("mx").unwrap().connections, 0);
}

#[tokio::test]
async fn a_server_that_accepts_is_asked_in_large_windows() {
    let sandbox =
        sandbox("[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\nknown_share = 1.0\n").await;
    let addresses: Vec<String> = (0..3_000).map(|n| format!("user{n}@good.test")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    verify(without_catch_all(&sandbox), &addresses).await;
    // Each has a hundred recipients, except the first few, which grow from small ones.
    let stats = sandbox.stats("mx").unwrap();
    assert!(stats.transactions <= 45, "{stats:?}");
}
