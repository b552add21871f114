//! The blocking API against the sandbox: on threads without a runtime, and in async code, where each call is an error.

mod pool;

use std::{sync::mpsc, thread};

use smtp_pool::{
    blocking::{Connector, Error, InAsync, Pool, Verifier},
    client::{ClientConfig, Endpoint},
    proto::{ClientName, Command, MailParams, Mailbox, ReversePath},
    verify::{SubStatus, VerifierConfig},
};

use crate::support;

const WORLD: &str = "[[host]]\nname = \"mx\"\n[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n";

/// Runs `test` on a thread without a runtime, beside a sandbox that has one.
fn beside_a_sandbox(test: impl FnOnce(VerifierConfig, Endpoint) + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sandbox = runtime.block_on(support::sandbox(WORLD));
    let config = support::config(&sandbox);
    let endpoint = Endpoint::new("mx", vec![sandbox.addr("mx").unwrap()]);
    thread::spawn(move || {
        test(config, endpoint);
        done.send(()).unwrap();
    });
    wait.recv().expect("the test on the other thread fails");
}

#[test]
fn a_blocking_verifier_gives_the_same_records() {
    beside_a_sandbox(|config, _| {
        let verifier = Verifier::new(config, Default::default()).unwrap();
        let addresses = ["ann@good.test", "eve@good.test"].map(str::to_owned);
        let mut verdicts: Vec<_> =
            verifier.verify_all(addresses).unwrap().map(|record| record.unwrap().sub_status).collect();
        verdicts.sort();
        assert_eq!(verdicts, [SubStatus::Accepted, SubStatus::MailboxNotFound]);
        let record = verifier.verify("ann@good.test").unwrap().unwrap();
        assert_eq!(record.sub_status, SubStatus::Accepted);
    });
}

#[test]
fn a_blocking_connection_sends_a_message() {
    beside_a_sandbox(|config, endpoint| {
        let connector = Connector::new(config.client, Default::default()).unwrap();
        let mut connection = connector.connect(&endpoint).unwrap();
        assert!(connection.extensions().pipelining && connection.tls_info().is_some());
        let rcpts = [Mailbox::parse("ann@good.test").unwrap(), Mailbox::parse("eve@good.test").unwrap()];
        let envelope = connection.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).unwrap();
        let codes: Vec<_> = envelope.rcpts.iter().map(|reply| reply.code()).collect();
        assert_eq!((envelope.mail.code(), codes), (250, vec![250, 550]));
        assert_eq!(connection.data(b"Subject: hi\r\n\r\n.\r\n").unwrap().code(), 250);
        assert_eq!(connection.command(&Command::Noop).unwrap().code(), 250);
        assert_eq!(connection.quit().unwrap().code(), 221);
    });
}

#[tokio::test]
async fn from_async_code_it_is_an_error_that_says_so() {
    let config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    let connector = Connector::new(config, Default::default()).unwrap();
    let error = connector.connect(&Endpoint::new("mx", vec![])).unwrap_err();
    assert!(matches!(error, Error::InAsync(_)), "{error:?}");
    assert!(error.to_string().contains("use the async API"), "{error}");
    // The verifier is dropped here with its runtime, which must not panic.
    drop(connector);
}

/// Runs `test` where tokio lets a thread block, in each kind of runtime.
fn where_a_thread_may_block(test: fn(VerifierConfig, Endpoint, &str)) {
    beside_a_sandbox(move |config, endpoint| {
        let spawn = |name: &'static str| {
            let (config, endpoint) = (config.clone(), endpoint.clone());
            async move {
                tokio::task::spawn_blocking(move || test(config, endpoint, name)).await.unwrap();
            }
        };
        let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        single.block_on(spawn("current thread"));
        let multi = tokio::runtime::Runtime::new().unwrap();
        multi.block_on(spawn("multi thread"));
        multi.block_on(async {
            tokio::task::block_in_place(|| test(config.clone(), endpoint.clone(), "block_in_place"));
        });
        let _entered = single.enter();
        test(config.clone(), endpoint.clone(), "a runtime entered");
    });
}

#[test]
fn it_works_in_spawn_blocking() {
    where_a_thread_may_block(|config, endpoint, place| {
        let connector = Connector::new(config.client.clone(), Default::default()).unwrap();
        let mut connection = connector.connect(&endpoint).unwrap();
        assert_eq!(connection.command(&Command::Noop).unwrap().code(), 250, "{place}");
        let pool = Pool::builder().config(pool_config()).build().unwrap();
        drop(pool.get(endpoint.addrs[0].to_string()).unwrap());
        let verifier = Verifier::new(config, Default::default()).unwrap();
        let addresses = ["ann@good.test", "eve@good.test"].map(str::to_owned);
        let records: Vec<_> = verifier.verify_all(addresses).unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 2, "{place}");
    });
}

fn pool_config() -> smtp_pool::pool::Config {
    let mut config = smtp_pool::pool::Config::default();
    config.helo = ClientName::parse("client.example.org").unwrap();
    config
}

#[test]
fn records_asked_for_in_async_code_are_an_error_and_not_the_end() {
    beside_a_sandbox(|config, _| {
        let verifier = Verifier::new(config, Default::default()).unwrap();
        let addresses = ["ann@good.test", "eve@good.test"].map(str::to_owned);
        let mut records = verifier.verify_all(addresses).unwrap();
        for runtime in [
            tokio::runtime::Builder::new_current_thread().build().unwrap(),
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        ] {
            let asked = runtime.block_on(async { (records.next(), records.next()) });
            assert_eq!(asked, (Some(Err(InAsync)), None));
            let asked;
            (records, asked) = runtime.block_on(async {
                tokio::spawn(async move {
                    let asked = records.next();
                    (records, asked)
                })
                .await
                .unwrap()
            });
            assert_eq!(asked, None, "it has been said");
            // The thread may block again.
            if let Some(record) = records.next() {
                record.unwrap();
            }
        }
        assert_eq!(records.count(), 0, "both have come");
    });
}

/// Asking whether a thread may block costs a task nothing of what it may do before it has to yield.
#[tokio::test]
async fn a_call_from_async_code_leaves_its_task_as_it_was() {
    let config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
    let connector = Connector::new(config, Default::default()).unwrap();
    tokio::task::yield_now().await;
    for _ in 0..100 {
        connector.connect(&Endpoint::new("mx", vec![])).unwrap_err();
    }
    assert!(tokio::task::coop::has_budget_remaining());
}

/// Returns the names of the public methods of a source that change what they are called on.
fn methods(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for declared in source.split("\n    pub ").skip(1) {
        let Some((head, _)) = declared.split_once('{') else { continue };
        let head = head.strip_prefix("async ").unwrap_or(head);
        if let Some(rest) = head.strip_prefix("fn ")
            && rest.contains("&mut self")
        {
            names.push(rest.split(['(', '<']).next().unwrap());
        }
    }
    names
}

#[test]
fn a_blocking_connection_has_each_method_of_the_async_one() {
    let blocking = methods(include_str!("../../src/blocking/client.rs"));
    let mut found = 0;
    for source in [
        include_str!("../../src/client/connection.rs"),
        include_str!("../../src/client/session.rs"),
        include_str!("../../src/client/session/idle_check.rs"),
        include_str!("../../src/client/session/message.rs"),
        include_str!("../../src/client/session/stop_and_wait.rs"),
        include_str!("../../src/client/session/transaction.rs"),
    ] {
        // A connection has read its banner, and `Connection::banner` gives it.
        for name in methods(source).into_iter().filter(|name| *name != "banner") {
            assert!(blocking.contains(&name), "{name} is missing");
            found += 1;
        }
    }
    assert!(found >= 19, "{found} methods are found");
}
