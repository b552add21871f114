use std::{
    net::TcpListener,
    sync::mpsc as sync_mpsc,
    task::{Context as TaskContext, Poll, Waker},
};

use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

use super::*;
use crate::{
    client::{Endpoint, Timeouts},
    proto::ClientName,
    verify::{MailRoute, Routes, Status, SubStatus},
};

/// Longer than any step takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn config(route: MailRoute) -> VerifierConfig {
    let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
    config.client.timeouts = Timeouts::all(Duration::from_secs(2));
    config.schedule = Vec::new();
    config.routes.insert("*", route);
    config
}

/// Returns a verifier whose only server is a port where nothing listens.
fn verifier() -> Verifier {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exchanger = Endpoint { host: "mx.test".into(), addrs: vec![addr] };
    Verifier::new(config(Ok(vec![exchanger])), Metrics::new().into()).unwrap()
}

/// Returns a verifier whose only server takes connections and says nothing, with the server's socket.
fn verifier_of_silence() -> (Verifier, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let exchanger = Endpoint { host: "mx.test".into(), addrs: vec![listener.local_addr().unwrap()] };
    (Verifier::new(config(Ok(vec![exchanger])), Metrics::new().into()).unwrap(), listener)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_clone_copies_no_configuration() {
    let mut config = config(Ok(Vec::new()));
    config.routes = Routes::new();
    for n in 0..100_000 {
        config.routes.insert(&format!("d{n}.test"), Ok(Vec::new()));
    }
    let verifier = Verifier::new(config, Metrics::new().into()).unwrap();
    let clone = verifier.clone();
    assert!(Arc::ptr_eq(&verifier.0, &clone.0));
    assert!(Arc::ptr_eq(&clone.context().config, &verifier.0.config), "nor does an engine");
}

#[test]
fn a_call_on_another_runtime_works_after_the_first_has_ended() {
    let verifier = verifier();
    let (first, second) = (runtime(), runtime());
    let verify = |address| verifier.verify(address);
    let record = first.block_on(verify("ann@a.test")).unwrap();
    assert_eq!(record.sub_status, SubStatus::FailedSmtpConnection);
    let mut records = first.block_on(async { verifier.verify_all(std::iter::empty()) });
    drop(first);
    assert_eq!(second.block_on(records.next()), None, "its engine has ended");
    let record = second.block_on(verify("bob@a.test")).unwrap();
    assert_eq!(record.sub_status, SubStatus::FailedSmtpConnection);
}

#[tokio::test(start_paused = true)]
async fn the_engine_ends_with_the_last_clone_and_the_last_run() {
    let verifier = verifier();
    let engine = verifier.start_engine(|_| {});
    let (tasks, events) = verifier.start([]);
    let clone = verifier.clone();
    drop(verifier);
    drop(clone);
    sleep(LONG).await;
    assert!(!engine.is_finished(), "a run goes on");
    drop(tasks);
    sleep(LONG).await;
    assert!(!engine.is_finished(), "its events may be read");
    drop(events);
    timeout(LONG, engine).await.unwrap().unwrap();
}

#[test]
fn dropped_records_do_not_wait_for_an_iterator_that_blocks() {
    let (feed, fed) = sync_mpsc::channel();
    let (ended, has_ended) = sync_mpsc::channel();
    std::thread::spawn(move || {
        let runtime = runtime();
        let verifier = verifier();
        let mut records = runtime.block_on(async { verifier.verify_all(fed) });
        assert!(runtime.block_on(records.next()).is_some());
        drop(records);
        // A blocked thread of its own would hold it up.
        drop(runtime);
        ended.send(()).unwrap();
    });
    feed.send("ann@a.test".to_owned()).unwrap();
    has_ended.recv_timeout(LONG).unwrap();
    // The thread notices the end with the next address, and drops the iterator.
    while feed.send("bob@a.test".to_owned()).is_ok() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn an_iterator_may_use_the_runtime() {
    let runtime = Handle::current();
    let mut left = 3;
    let addresses = std::iter::from_fn(move || {
        left -= 1;
        (left >= 0).then(|| runtime.block_on(async { format!("u{left}@a.test") }))
    });
    let mut records = verifier().verify_all(addresses);
    let mut count = 0;
    while records.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
}

/// A stream of addresses that a channel feeds.
struct Fed(mpsc::UnboundedReceiver<String>);

impl Stream for Fed {
    type Item = String;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<String>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn a_stream_of_addresses_becomes_a_stream_of_records() {
    let (feed, fed) = mpsc::unbounded_channel();
    let verifier = verifier();
    let mut records = Box::pin(verifier.verify_stream(Fed(fed)));
    let poll =
        |records: std::pin::Pin<&mut Records>| records.poll_next(&mut TaskContext::from_waker(Waker::noop()));
    assert!(poll(records.as_mut()).is_pending());
    feed.send("ann@a.test".to_owned()).unwrap();
    // An address has its record before the next one comes.
    let (n, record) = timeout(LONG, records.next_numbered()).await.unwrap().unwrap();
    assert_eq!((n, &*record.address), (0, "ann@a.test"));
    (0..1_000).for_each(|n| feed.send(format!("u{n}@a.test")).unwrap());
    drop(feed);
    let mut rest = Vec::new();
    while let Some(record) = std::future::poll_fn(|cx| records.as_mut().poll_next(cx)).await {
        rest.push(record.address);
    }
    assert_eq!(rest.len(), 1_000);
    assert!(matches!(poll(records.as_mut()), Poll::Ready(None)), "it stays at its end");
}

#[tokio::test]
async fn dropped_records_drop_the_stream() {
    let (feed, fed) = mpsc::unbounded_channel();
    drop(verifier().verify_stream(Fed(fed)));
    timeout(LONG, feed.closed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_withdraws_its_question() {
    let (verifier, _silent) = verifier_of_silence();
    let start = Instant::now();
    let options = VerifyOptions::new().deadline(Duration::from_millis(1_500));
    let record = verifier.verify_with("Sales@gmail.com", options).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(1_500));
    assert_eq!((record.status, record.sub_status), (Status::Unknown, SubStatus::TimeoutExceeded));
    assert_eq!((record.address.as_str(), record.role, record.free), ("Sales@gmail.com", true, true));
    assert_eq!(record.reply.as_deref(), Some("no verdict within the deadline of the call, 1.5s"));
    let wrong = verifier.verify_with("no address", options).await.unwrap();
    assert_eq!(wrong.sub_status, SubStatus::FailedSyntaxCheck);
    // No deadline at all.
    let options = VerifyOptions::new().deadline(Duration::MAX).max_age(Duration::MAX);
    let record = verifier.verify_with("ann@a.test", options).await.unwrap();
    assert_eq!(record.sub_status, SubStatus::TimeoutExceeded);
    assert_eq!(record.attempts, 1, "the server did not answer");
}
