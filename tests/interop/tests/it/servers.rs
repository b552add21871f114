//! Exim, OpenSMTPD, Sendmail, Haraka and nodemailer's smtp-server with their default limits.
//!
//! Every verdict is right and no server ends a session. The tests also record each reply to a second EHLO.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    metrics::{Metrics, Operation},
    proto::{Mailbox, ReversePath},
    verify::{Blame, Event, Status, Task, Verifier, VerifierConfig},
};
use smtp_pool_interop::{
    Address, Aiosmtpd, AiosmtpdOptions, Bounces, Kind, NullSender, Postfix, Server, Service, World,
};

use crate::support::{Run, config};

const KINDS: [Kind; 11] = [
    Kind::Known,
    Kind::Unknown,
    Kind::Tagged,
    Kind::Shouted,
    Kind::Accented,
    Kind::UnknownAccented,
    Kind::UnknownQuoted,
    Kind::Full,
    Kind::FullForGood,
    Kind::Disabled,
    Kind::CatchAll,
];

/// Verifies the whole world as a caller that keeps its own books does. Fails unless every verdict is right, none was
/// taken back, and every session ended by QUIT.
async fn assert_served(name: &str, server: &Server, config: VerifierConfig, world: &World) -> Run {
    let run = run(config, world).await;
    let sessions = server.sessions_at_rest();
    report(name, &run, sessions.count);
    run.assert_right();
    assert_eq!(sessions.cut, Vec::<String>::new(), "{name}");
    run
}

async fn run(config: VerifierConfig, world: &World) -> Run {
    let metrics = Arc::new(Metrics::new());
    let (tasks, mut events) = Verifier::new(config, Arc::clone(&metrics)).expect("a verifier").start([]);
    let started = Instant::now();
    let all = (0..).zip(world.texts()).map(|(id, address)| Task::new(id, address)).collect();
    let sender = tokio::spawn(async move { tasks.send(all).await });
    let mut records: Vec<_> = world.addresses.iter().map(|_| None).collect();
    while let Some(event) = events.next().await {
        match event {
            Event::Done { id, record } => {
                let again = records[id as usize].replace(record);
                assert!(again.is_none(), "two records of one address: {again:?}");
            }
            Event::CatchAll { .. } | Event::Lane(_) => {}
            event => panic!("{event:?}"),
        }
    }
    sender.await.expect("a task of ours").expect("a run that goes on");
    let took = started.elapsed();
    let records = world.addresses.iter().cloned().zip(records);
    let records = records.map(|(address, record)| (address, record.expect("a record of each")));
    Run { records: records.collect(), metrics: metrics.snapshot(), took }
}

/// Returns the number of replies to a command.
fn answered(run: &Run, operation: Operation) -> u64 {
    run.metrics.latency(operation).map_or(0, |latency| latency.count)
}

#[expect(clippy::print_stdout, reason = "numbers are what these runs are for")]
fn report(name: &str, run: &Run, sessions: usize) {
    let [ehlo, mail, rcpt, rset] = [Operation::Ehlo, Operation::Mail, Operation::Rcpt, Operation::Rset]
        .map(|operation| answered(run, operation));
    println!(
        "{name}: {} addresses in {:.1} s, {:.0}/s; {sessions} sessions, {} connections; {ehlo} EHLO, {mail} MAIL, \
         {rcpt} RCPT, {rset} RSET; closed: {:?}",
        run.records.len(),
        run.took.as_secs_f64(),
        run.speed(),
        run.metrics.connections_opened(),
        run.metrics.total().connections_closed,
    );
}

/// Returns the replies of a server to commands that are sent one by one, each in one line, beginning with that to EHLO.
fn say(addr: SocketAddr, commands: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle of the socket"));
    let mut reply = move || {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) => return reply + "EOF",
                // The server had closed before the command came.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return reply + "EOF",
                read => read.expect("a reply"),
            };
            reply += line.trim_end();
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('|');
        }
    };
    reply();
    commands
        .iter()
        .map(|command| {
            // A server that is gone tells so by its reply.
            let _ = stream.write_all(format!("{command}\r\n").as_bytes());
            reply()
        })
        .collect()
}

/// Nearly all are known, so that a connection lasts for many transactions.
fn good_list() -> World {
    let kinds: Vec<_> = std::iter::repeat_n(Kind::Known, 199).chain([Kind::Unknown]).collect();
    World::of(8_000, kinds)
}

/// Verifies a good list. Fails unless each connection has more transactions than second greetings, which are three.
async fn assert_lasting(name: &str, start: impl Fn(&World) -> Server) {
    let world = good_list();
    let server = start(&world);
    let run = assert_served(name, &server, config(server.routes()), &world).await;
    let (transactions, connections) = (answered(&run, Operation::Mail), run.metrics.connections_opened());
    assert!(transactions > 4 * connections, "{name}: {transactions} transactions, {connections} connections");
}

/// Returns the replies to a transaction with one user of `world`, a second EHLO in it, and another RCPT and RSET behind that.
fn greet_in_a_transaction(addr: SocketAddr, world: &World) -> Vec<String> {
    let known = world.addresses.iter().find(|address| address.kind == Kind::Known).expect("a user");
    let rcpt = format!("RCPT TO:<{}>", known.text);
    say(addr, &["EHLO client.test", "MAIL FROM:<>", &rcpt, "EHLO client.test", &rcpt, "RSET", "QUIT"])
}

/// Returns whether the reply to RSET differs from all others in [`greet_in_a_transaction`].
fn has_words_for_rset(replies: &[String]) -> bool {
    replies.iter().filter(|reply| **reply == replies[5]).count() == 1
}

/// Returns the replies to so many EHLO on one connection.
fn greet(addr: SocketAddr, times: usize) -> Vec<String> {
    say(addr, &vec!["EHLO client.test"; times])
}

/// Fails unless the server answers every EHLO with its capabilities, and each EHLO ends the transaction.
/// Returns the replies of [`greet_in_a_transaction`].
fn assert_greeting_resets(addr: SocketAddr, world: &World) -> Vec<String> {
    let in_a_transaction = greet_in_a_transaction(addr, world);
    assert_eq!(in_a_transaction[3], in_a_transaction[0], "the capabilities once more");
    assert!(in_a_transaction[2].starts_with("250 "), "{in_a_transaction:?}");
    assert!(in_a_transaction[4].starts_with("503 "), "{in_a_transaction:?}");
    let replies = greet(addr, 30);
    let repeats = |reply: &String| *reply == replies[0] && reply.starts_with("250-");
    assert!(replies.iter().all(repeats), "{replies:?}");
    in_a_transaction
}

/// Checks a row of the table in `README.md`.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_and_aiosmtpd_answer_any_number_of_greetings() {
    let world = World::of(10, [Kind::Known]);
    let postfix = Postfix::start(&world);
    let replies = assert_greeting_resets(postfix.addr(Service::Plain), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    let aiosmtpd = Aiosmtpd::start(&world, AiosmtpdOptions::default());
    let replies = assert_greeting_resets(aiosmtpd.endpoint().addrs[0], &world);
    assert_eq!(replies[5], replies[1], "none for RSET");
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_gives_every_verdict_within_its_limits() {
    let world = World::of(1_200, [&KINDS[..], &[Kind::Foreign]].concat());
    let server = Server::exim(&world, Bounces::Accepted);
    let run = assert_served("Exim", &server, config(server.routes()), &world).await;
    run.assert_all(|_, record| record.tls.is_some());
    assert_lasting("Exim, a good list", |world| Server::exim(world, Bounces::Accepted)).await;
}

/// Exim counts EHLO as a command that is not mail, and takes ten of these.
#[tokio::test(flavor = "multi_thread")]
async fn exim_takes_ten_greetings_more() {
    let world = World::of(10, [Kind::Known]);
    let server = Server::exim(&world, Bounces::Accepted);
    let replies = greet_in_a_transaction(server.addr(), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    assert_eq!(replies[3], replies[0], "the capabilities once more");
    assert_eq!((&*replies[4], &*replies[5]), ("503 sender not yet given", "250 Reset OK"));
    let replies = greet(server.addr(), 13);
    assert!(replies[..11].iter().all(|reply| *reply == replies[0]), "{replies:?}");
    assert_eq!(replies[11..], ["554 Too many nonmail commands", "EOF"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_takes_one_recipient_for_a_bounce() {
    for world in [World::of(1_100, KINDS), good_list()] {
        let server = Server::exim(&world, Bounces::OneRecipient);
        let name = "Exim, one recipient for a bounce";
        assert_served(name, &server, config(server.routes()), &world).await;
        let refused = server.log().matches("Legitimate bounces are never sent to more than one").count();
        // The first windows teach it, of two connections to each of three exchangers.
        assert!((1..200).contains(&refused), "{refused} refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_gives_every_verdict_within_its_limits() {
    // It has no SMTPUTF8, and takes no quoted local part.
    let kinds = [Kind::Known, Kind::Unknown, Kind::Tagged, Kind::Shouted, Kind::CatchAll];
    let world = World::of(1_000, kinds);
    let server = Server::opensmtpd(&world);
    let run = assert_served("OpenSMTPD", &server, config(server.routes()), &world).await;
    let refused = |code, words| {
        let said = move |reply: &str| reply.starts_with(words);
        run.count(|record| record.smtp_code == Some(code) && record.reply.as_deref().is_some_and(said))
    };
    assert!(refused(524, "Mailing list expansion problem") > 0, "virtual users");
    assert!(refused(550, "Invalid recipient") > 0, "users of the system");
    assert_lasting("OpenSMTPD, a good list", Server::opensmtpd).await;
}

/// OpenSMTPD refuses every second EHLO, and the transaction goes on.
#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_refuses_a_second_greeting() {
    let world = World::of(10, [Kind::Known]);
    let server = Server::opensmtpd(&world);
    let refusal = "503 5.5.1 Invalid command: Already identified";
    let replies = greet_in_a_transaction(server.addr(), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    assert_eq!(replies[3], refusal);
    assert_eq!(replies[4], replies[2]);
    assert!(replies[4].starts_with("250 "), "{replies:?}");
    assert!(greet(server.addr(), 30)[1..].iter().all(|reply| reply == refusal));
}

#[tokio::test(flavor = "multi_thread")]
async fn haraka_gives_every_verdict_within_its_limits() {
    let world = World::of(1_100, KINDS);
    let server = Server::haraka(&world, NullSender::Accepted);
    assert_served("Haraka", &server, config(server.routes()), &world).await;
    let replies = assert_greeting_resets(server.addr(), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    assert_lasting("Haraka, a good list", |world| Server::haraka(world, NullSender::Accepted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haraka_refuses_the_null_sender() {
    let world = World::of(1_100, KINDS);
    let sender = ReversePath::from(Mailbox::parse("checks@verifier.interop.test").expect("a mailbox"));
    for null_sender in [NullSender::Refused, NullSender::RefusedForSome] {
        let server = Server::haraka(&world, null_sender);
        let mut config = config(server.routes());
        let run = run(config.clone(), &world).await;
        let is_refused = |address: &Address| {
            let is_user = matches!(address.kind, Kind::Known | Kind::Shouted | Kind::Accented);
            null_sender == NullSender::Refused
                || (is_user && address.text.to_lowercase().ends_with("@office.test"))
        };
        run.assert_all(|address, record| match is_refused(address) {
            true => (record.status, record.blame) == (Status::Unknown, Some(Blame::Us)),
            false => (record.status, record.sub_status) == address.kind.verdict(),
        });
        assert!(run.records.iter().any(|(address, _)| is_refused(address)));
        config.from = sender.clone();
        assert_served("Haraka, with a sender", &server, config, &world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_server_gives_every_verdict_within_its_limits() {
    // It takes no quoted local part.
    let kinds: Vec<_> = KINDS.into_iter().filter(|kind| *kind != Kind::UnknownQuoted).collect();
    let world = World::of(1_000, kinds);
    let server = Server::smtp_server(&world);
    let run = assert_served("smtp-server", &server, config(server.routes()), &world).await;
    run.assert_all(|_, record| record.tls.is_some());
    let replies = assert_greeting_resets(server.addr(), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    assert_lasting("smtp-server, a good list", Server::smtp_server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sendmail_gives_every_verdict_within_its_limits() {
    // It has no SMTPUTF8.
    let is_ascii = |kind: &Kind| !matches!(kind, Kind::Accented | Kind::UnknownAccented);
    let world = World::of(900, KINDS.into_iter().filter(is_ascii).collect::<Vec<_>>());
    let server = Server::sendmail(&world);
    let run = assert_served("Sendmail", &server, config(server.routes()), &world).await;
    // It delays its reply to the third EHLO by a second.
    let slowest = run.metrics.latency(Operation::Ehlo).expect("answers to EHLO").max;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_lasting("Sendmail, a good list", Server::sendmail).await;
}

/// Sendmail delays its replies from the third EHLO on, by twice as much each time.
#[tokio::test(flavor = "multi_thread")]
async fn sendmail_delays_the_third_greeting() {
    let world = World::of(10, [Kind::Known]);
    let server = Server::sendmail(&world);
    let replies = greet_in_a_transaction(server.addr(), &world);
    assert!(has_words_for_rset(&replies), "{replies:?}");
    assert_eq!(replies[3], replies[0], "the capabilities once more");
    assert!(replies[4].starts_with("503 "), "{replies:?}");
    let took = |greetings| {
        let started = Instant::now();
        let replies = greet(server.addr(), greetings);
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
        started.elapsed().as_secs()
    };
    let delays = [took(2), took(3), took(4)];
    assert!(delays[0] < 1 && delays[1] >= 1 && delays[2] >= 3, "{delays:?}");
}
