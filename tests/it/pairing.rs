//! Servers whose replies are out of step with the commands. An address may become unknown, but never gets the verdict
//! of another.

use std::{fmt::Write, io, sync::Arc, time::Duration};

use smtp_pool::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    sandbox::Sandbox,
    verify::{Event, Providers, Record, Routes, Status, Task, Verifier, VerifierConfig},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use crate::support::{config, sandbox, verify};

/// The number of mailboxes. Those with an even number are known.
const ADDRESSES: usize = 48;

/// Each reply is a packet of its own, so that the end of a window and a surplus reply do not arrive together.
const PACED: &str = ", { at = \"any\", does = { split = \"1ms\" } }";

/// Returns a host with faults and further properties.
async fn host(faults: &str, like: &str) -> Sandbox {
    let mut users = String::new();
    (0..1_000).step_by(2).for_each(|n| write!(users, "\"u{n}\",").unwrap());
    sandbox(&format!(
        "[[host]]\nname = \"mx\"\nfaults = [{faults}]\n{like}\n[[domain]]\nname = \"pair.test\"\nusers = [{users}]\n"
    ))
    .await
}

fn brief(sandbox: &Sandbox, connections: u32) -> VerifierConfig {
    let mut config = config(sandbox);
    config.catch_all = false;
    config.client.timeouts = Timeouts::all(Duration::from_secs(1));
    let limits = format!("[default]\nconnections = {connections}\n");
    config.providers = Some(Providers::from_toml(&limits).unwrap().into());
    config
}

fn addresses(count: usize) -> Vec<String> {
    // Known and unknown mailboxes do not alternate, so that a shift by any number shows. Few are unknown, so that
    // connections last.
    let number = |n: usize| 2 * n + usize::from((n as u32).wrapping_mul(2_654_435_761) >> 30 == 1);
    (0..count).map(|n| format!("u{}@pair.test", number(n))).collect()
}

/// Verifies this many addresses. Returns how many got a verdict, and the records with a wrong one.
async fn judge(config: VerifierConfig, count: usize) -> (usize, Vec<Record>) {
    let addresses = addresses(count);
    let list: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(config, &list).await;
    let known = records.iter().filter(|record| record.status != Status::Unknown).count();
    let is_wrong = |record: &Record| {
        let number: usize = record.address[1..record.address.find('@').unwrap()].parse().unwrap();
        let right = if number.is_multiple_of(2) { Status::Deliverable } else { Status::Undeliverable };
        record.status != right && record.status != Status::Unknown
    };
    (known, records.into_iter().filter(is_wrong).collect())
}

/// Runs all cases concurrently, and returns those that went wrong.
async fn judge_all(cases: Vec<(String, String)>) -> Vec<String> {
    let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(32)));
    for (fault, like) in cases {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire().await;
            let sandbox = host(&fault, &like).await;
            let (_, wrong) = judge(brief(&sandbox, 2), ADDRESSES).await;
            wrong.first().map(|record| format!("{fault} {like}: {} wrong, {record:?}", wrong.len()))
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// Returns the kinds of server: with replies that identify the command or without, with PIPELINING or without.
fn kinds() -> [String; 4] {
    ["", "terse = true"]
        .map(|terse| {
            ["", ", \"PIPELINING\""].map(|without| format!("without = [\"STARTTLS\"{without}]\n{terse}"))
        })
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

const PLACES: [&str; 10] = [
    "at = \"connect\"",
    "at = \"ehlo\", nth = 1",
    "at = \"ehlo\", nth = 2",
    "at = \"mail\"",
    "at = \"mail\", nth = 2",
    "at = \"rcpt\", nth = 1",
    "at = \"rcpt\", nth = 5",
    "at = \"rcpt\", nth = 9",
    "at = \"rset\"",
    "at = \"quit\"",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surplus_or_missing_reply_gives_no_address_the_verdict_of_another() {
    let late = ["0ms", "2ms", "20ms"];
    let surplus = late.map(|after| format!("{{ surplus = {{ after = \"{after}\" }} }}"));
    let other = late.map(|after| format!("{{ surplus = {{ text = \"250 Ok\", after = \"{after}\" }} }}"));
    let no = late
        .map(|after| format!("{{ surplus = {{ text = \"550 5.1.1 User unknown\", after = \"{after}\" }} }}"));
    let split = ["2ms", "20ms"].map(|after| format!("{{ split = \"{after}\" }}"));
    let mixed = ["{ reply = \"250-2.1.5 Ok\\r\\n550 5.1.1 User unknown\" }".to_owned()];
    let faults: Vec<String> = [&["\"skip\"".to_owned()][..], &surplus, &other, &no, &split, &mixed].concat();
    let mut cases = Vec::new();
    for like in kinds() {
        for place in PLACES {
            for does in &faults {
                for paced in ["", PACED] {
                    cases.push((format!("{{ {place}, does = {does} }}{paced}"), like.clone()));
                }
            }
        }
        for every in [2, 3, 5, 7] {
            for does in ["\"skip\"", &surplus[0], &surplus[1], &surplus[2]] {
                for paced in ["", PACED] {
                    let fault = format!("{{ at = \"any\", every = {every}, does = {does} }}{paced}");
                    cases.push((fault, like.clone()));
                }
            }
        }
    }
    let wrong = judge_all(cases).await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Swaps two replies, which only their text can reveal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_replies_give_no_address_the_verdict_of_another_where_refusals_name_their_recipient() {
    let mut cases = Vec::new();
    for like in &kinds()[..2] {
        for place in PLACES {
            cases.push((format!("{{ {place}, does = \"swap\" }}"), like.clone()));
        }
        cases.push(("{ at = \"any\", every = 7, does = \"swap\" }".to_owned(), like.clone()));
    }
    let wrong = judge_all(cases).await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Serves with `250 ok` to everything that it accepts. Each reply is a packet of its own, and one reply comes twice.
async fn twice(listener: TcpListener, at: &'static str) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            let (mut lines, mut count) = (BufReader::new(reader).lines(), 0);
            let mut say = async |replies: &[&str]| {
                for reply in replies {
                    writer.write_all(reply.as_bytes()).await?;
                    sleep(Duration::from_millis(2)).await;
                }
                Ok::<(), io::Error>(())
            };
            say(&["220 mx\r\n"]).await?;
            while let Some(line) = lines.next_line().await? {
                let verb = &line[..4];
                let reply = match verb {
                    "EHLO" => "250-mx\r\n250 PIPELINING\r\n",
                    "RCPT" if line.contains("bad") => "550 5.1.1 no such user\r\n",
                    "QUIT" => "221 bye\r\n",
                    _ => "250 ok\r\n",
                };
                count += u32::from(verb == at);
                let again = match at {
                    "each" => verb == "RSET",
                    "any" => {
                        count += 1;
                        count % 7 == 0
                    }
                    _ => verb == at && count == 1,
                };
                say(&[reply; 2][..1 + usize::from(again)]).await?;
            }
            Ok::<(), io::Error>(())
        });
    }
}

/// Checks servers of a field test, which answer twice, 2 ms apart: the first RCPT, the first MAIL, each RSET and each
/// seventh reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_twice_gives_no_address_the_verdict_of_another() {
    for at in ["RCPT", "MAIL", "RSET", "each", "any"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(twice(listener, at));
        let sandbox = host("", "").await;
        let mut config = brief(&sandbox, 2);
        config.routes = Routes::new();
        config.routes.insert("*", Ok(vec![Endpoint::new("mx", vec![addr])]));
        let is_good = |n: u32| n.wrapping_mul(2_654_435_761) >> 30 != 1;
        let list: Vec<String> =
            (0..300).map(|n| format!("{}{n}@twice.test", if is_good(n) { "good" } else { "bad" })).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        for record in verify(config, &list).await {
            let good = record.address.starts_with("good");
            let right = if good { Status::Deliverable } else { Status::Undeliverable };
            assert!([right, Status::Unknown].contains(&record.status), "{at}: {record:?}");
        }
    }
}

/// Checks that one recipient whose answer breaks the connection harms no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_breaks_connections_is_isolated() {
    let does = [
        "\"garbage\"",
        "\"long_line\"",
        "\"reset\"",
        "\"eof\"",
        "\"truncate\"",
        "\"silence\"",
        "{ reply = \"000 no code at all\" }",
        "{ reply = \"250-2.1.5 Ok\\r\\n550 5.1.1 User unknown\" }",
    ];
    let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(16)));
    for like in kinds() {
        for does in does {
            // The first of all, one in the middle, and the last, also in large windows.
            for (bad, count) in [(0, 12), (5, 12), (11, 12), (150, 300)] {
                let (like, places) = (like.clone(), Arc::clone(&places));
                running.spawn(async move {
                    let _place = places.acquire().await;
                    let list = addresses(count);
                    let list: Vec<&str> = list.iter().map(String::as_str).collect();
                    let to = list[bad].split('@').next().unwrap();
                    let fault = format!("{{ at = \"rcpt\", to = \"{to}\", does = {does} }}");
                    let what = format!("{does} at {bad} of {count}, {like}");
                    let mut connections = [0, 0];
                    for (fault, connections) in ["", &fault].into_iter().zip(&mut connections) {
                        let sandbox = host(fault, &like).await;
                        let mut config = brief(&sandbox, 1);
                        let limits = "[default]\nconnections = 1\nrejections = 1000\n";
                        config.providers = Some(Providers::from_toml(limits).unwrap().into());
                        let records = verify(config, &list).await;
                        for (n, record) in records.iter().enumerate() {
                            let unknown = record.status == Status::Unknown;
                            assert_eq!(unknown, n == bad && !fault.is_empty(), "{what}: {record:?}");
                        }
                        *connections = sandbox.stats("mx").unwrap().connections;
                    }
                    // log2 of a window of a hundred, and two more.
                    assert!(connections[1] <= connections[0] + 7 + 2, "{what}: {connections:?}");
                });
            }
        }
    }
    running.join_all().await;
}

/// Checks a server that does not know RSET, which can still be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_rset_is_an_answer() {
    for like in kinds() {
        for code in ["500 5.5.1 What?", "502 5.5.1 Not implemented"] {
            let fault = format!("{{ at = \"rset\", does = {{ reply = \"{code}\" }} }}");
            let sandbox = host(&fault, &like).await;
            let (known, wrong) = judge(brief(&sandbox, 1), 40).await;
            assert!(wrong.is_empty(), "{code} {like}: {wrong:?}");
            assert_eq!(known, 40, "{code} {like}");
            let stats = sandbox.stats("mx").unwrap();
            assert!(stats.connections <= 25, "{code} {like}: {stats:?}");
        }
    }
}

/// Checks servers with different answers to a second EHLO. Each address still gets its verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_answer_to_a_second_greeting_leaves_every_address_its_verdict() {
    let greeted = |does: &str| format!("{{ at = \"ehlo\", nth = 2, every = 1, does = {does} }}");
    let servers = [
        // qpsmtpd and OpenSMTPD continue the transaction.
        (greeted("{ reply = \"503 5.5.1 Duplicate HELO/EHLO\" }"), ""),
        (greeted("{ reply = \"250 Ok\" }"), ""),
        (greeted("{ reply = \"250-mx.example.com\\r\\n250 HELP\" }"), ""),
        (greeted("{ reply = \"550 5.7.1 No\" }"), ""),
        (greeted("\"eof\""), ""),
        (greeted("\"silence\""), ""),
        (greeted("\"garbage\""), ""),
        // Sendmail delays its replies after the third.
        ("{ at = \"ehlo\", nth = 4, every = 1, does = \"silence\" }".to_owned(), ""),
        (String::new(), "max_nonmail = 10"),
        (String::new(), "helo_only = true"),
        (String::new(), "close_after_refusal = true"),
        (String::new(), "mails_per_connection = 3"),
    ];
    let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(16)));
    for (fault, server) in servers {
        for like in kinds() {
            let (fault, like) = (fault.clone(), format!("{like}\n{server}"));
            let places = Arc::clone(&places);
            running.spawn(async move {
                let _place = places.acquire().await;
                let sandbox = host(&fault, &like).await;
                let (known, wrong) = judge(brief(&sandbox, 1), 40).await;
                assert!(wrong.is_empty(), "{fault} {like}: {wrong:?}");
                assert_eq!(known, 40, "{fault} {like}");
                let stats = sandbox.stats("mx").unwrap();
                assert!(stats.connections <= 40, "{fault} {like}: {stats:?}");
            });
        }
    }
    running.join_all().await;
}

/// Exim: the limit of commands that are not mail is met once. From then on a connection ends by QUIT before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_commands_that_are_not_mail_is_met_once() {
    for like in kinds() {
        let like = format!("{like}\nmax_nonmail = 10\none_bounce_recipient = true");
        let sandbox = host("", &like).await;
        let (known, wrong) = judge(brief(&sandbox, 1), 200).await;
        assert!(wrong.is_empty(), "{like}: {wrong:?}");
        assert_eq!(known, 200, "{like}");
        let stats = sandbox.stats("mx").unwrap();
        assert!(stats.nonmail_limit_hits <= 1, "{like}: {stats:?}");
    }
}

/// A caller that keeps its own books is never told a verdict that is not proved either.
#[tokio::test]
async fn events_are_reported_only_behind_a_fence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(twice(listener, "each"));
    let sandbox = host("", "").await;
    let mut config = brief(&sandbox, 2);
    config.routes = Routes::new();
    config.routes.insert("*", Ok(vec![Endpoint::new("mx", vec![addr])]));
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let (tasks, mut events) = verifier.start([]);
    let name = |id: u64| if id % 7 % 3 == 1 { "bad" } else { "good" };
    let task = |id| Task::new(id, format!("{}{id}@twice.test", name(id)));
    tasks.send((0..400).map(task).collect()).await.unwrap();
    drop(tasks);
    let mut told = 0;
    while let Some(event) = events.next().await {
        if let Event::Done { id, record } = event {
            told += 1;
            let right = if name(id) == "good" { Status::Deliverable } else { Status::Undeliverable };
            assert!([right, Status::Unknown].contains(&record.status), "{id} {record:?}");
        }
    }
    assert_eq!(told, 400);
}
