//! A message arrives exactly as it was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    client::Connector,
    metrics::Metrics,
    proto::{MailParams, Mailbox, ReversePath},
};
use smtp_pool_interop::{Kind, Postfix, Service, World};
use tokio::time::sleep;

use crate::support::client;

/// Returns one of the users of the world at a domain with mailboxes.
fn user(world: &World) -> Mailbox {
    let user =
        world.addresses.iter().find(|user| user.text.ends_with("@shop.test")).expect("somebody at shop.test");
    Mailbox::parse(&user.text).expect("an address")
}

async fn delivered(postfix: &Postfix, user: &Mailbox, messages: usize) -> Vec<Vec<u8>> {
    let started = Instant::now();
    loop {
        let mailbox = postfix.mailbox(user.as_ref());
        if mailbox.len() >= messages {
            return mailbox;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "not delivered:\n{}", postfix.log().tail());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Returns messages with every combination of dots and line ends.
fn bodies() -> Vec<Vec<u8>> {
    let mut large = Vec::new();
    for n in 0..20_000 {
        large.extend_from_slice(format!("{}line {n}\r\n", ".".repeat(n % 4)).as_bytes());
    }
    vec![
        b".\r\n..\r\n...\r\n.hidden\r\nin.the.middle\r\nat the end.\r\n\r\n.\r\n".to_vec(),
        b"QUIT\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@shop.test>\r\nDATA\r\n".to_vec(),
        "ümläut and 8 bits\r\n.ü\r\n".as_bytes().to_vec(),
        large,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_octet_arrives() {
    let world = World::of(40, [Kind::Known, Kind::Unknown]);
    let postfix = Postfix::start(&world);
    let known = World {
        addresses: world.addresses.iter().filter(|user| user.kind == Kind::Known).cloned().collect(),
    };
    let user = user(&known);
    let nobody = Mailbox::parse("nobody.at.all@shop.test").expect("an address");
    let connector = Connector::new(client(), Arc::new(Metrics::new())).expect("a connector");
    let mut connection = connector.connect(&postfix.endpoint(Service::Mx)).await.expect("a connection");

    let bodies = bodies();
    for (n, body) in bodies.iter().enumerate() {
        // A refused recipient beside an accepted one changes nothing.
        let recipients = [nobody.clone(), user.clone()];
        let envelope = connection.envelope(&ReversePath::Null, &MailParams::default(), &recipients).await;
        let envelope = envelope.expect("an envelope");
        assert!(envelope.mail.is_positive());
        assert_eq!(envelope.rcpts.iter().map(|reply| reply.code()).collect::<Vec<_>>(), [550, 250]);
        let mut message = format!("Subject: number {n}\r\n\r\n").into_bytes();
        message.extend_from_slice(body);
        let reply = connection.data(&message).await.expect("a reply to the message");
        assert_eq!(reply.code(), 250, "{reply}");
    }
    assert!(connection.is_idle());
    connection.quit().await.expect("an answer to QUIT");

    let mut messages = delivered(&postfix, &user, bodies.len()).await;
    assert_eq!(messages.len(), bodies.len(), "more messages than were sent");
    for (n, body) in bodies.iter().enumerate() {
        let subject = format!("\nSubject: number {n}\n");
        let at = messages.iter().position(|message| find(message, subject.as_bytes()).is_some());
        let message = messages.swap_remove(at.expect("the message has arrived"));
        let start = find(&message, b"\n\n").expect("an empty line") + 2;
        // A maildir has the line ends of files.
        let sent = String::from_utf8(body.clone()).expect("UTF-8").replace("\r\n", "\n");
        assert!(message[start..] == *sent.as_bytes(), "message {n} was changed on its way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_recipient_no_message_is_sent() {
    let world = World::of(4, [Kind::Known]);
    let postfix = Postfix::start(&world);
    let nobody = Mailbox::parse("nobody.at.all@shop.test").expect("an address");
    let connector = Connector::new(client(), Arc::new(Metrics::new())).expect("a connector");
    let mut connection = connector.connect(&postfix.endpoint(Service::Mx)).await.expect("a connection");
    let envelope = connection.envelope(&ReversePath::Null, &MailParams::default(), &[nobody]).await;
    assert_eq!(envelope.expect("an envelope").rcpts[0].code(), 550);
    let sent = connection.data(b"Subject: lost\r\n\r\n").await;
    assert!(sent.is_err() || sent.is_ok_and(|reply| !reply.is_positive()), "a message to nobody was taken");
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
