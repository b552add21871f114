//! The blocking API against the sandbox: on threads without a runtime, and in async code, where each call is an error.

mod pool;

use std::{sync::mpsc, thread};

use smtp_pool::{
    blocking::{Connector, Error, Verifier},
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
    let endpoint = Endpoint { host: "mx".into(), addrs: vec![sandbox.addr("mx").unwrap()] };
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
            verifier.verify_all(addresses).unwrap().map(|record| record.sub_status).collect();
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
    let error = connector.connect(&Endpoint { host: "mx".into(), addrs: vec![] }).unwrap_err();
    assert!(matches!(error, Error::InAsync(_)), "{error:?}");
    assert!(error.to_string().contains("use the async API"), "{error}");
    // The verifier is dropped here with its runtime, which must not panic.
    drop(connector);
}
