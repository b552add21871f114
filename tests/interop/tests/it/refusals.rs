//! A refusal of the client or of the sender proves nothing about a mailbox.

use smtp_pool::{
    proto::{Mailbox, ReversePath},
    verify::{Blame, Status, SubStatus},
};
use smtp_pool_interop::{Kind, Postfix, Service, World};

use crate::support::{config, verify};

const KINDS: [Kind; 6] =
    [Kind::Known, Kind::Unknown, Kind::CatchAll, Kind::Full, Kind::Disabled, Kind::Foreign];

#[tokio::test(flavor = "multi_thread")]
async fn a_blocklisted_client_learns_nothing() {
    let world = World::of(300, KINDS);
    let postfix = Postfix::start(&world);
    for service in [Service::Blocked, Service::Shut] {
        let run = verify(config(postfix.routes(service)), &world).await;
        run.assert_all(|_, record| {
            (record.status, record.sub_status, record.blame)
                == (Status::Unknown, SubStatus::Blocked, Some(Blame::Us))
        });
        // More connections would make the block worse.
        let opened = run.metrics.connections_opened();
        assert!(opened < 10, "{service:?}: {opened} connections for a server that blocks us");
    }
    let log = postfix.log_at_rest();
    // A client that is refused in the banner disconnects, which Postfix logs.
    let complaints =
        log.complaints().into_iter().filter(|line| !line.contains("lost connection after CONNECT"));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_null_sender_is_no_verdict_and_a_real_sender_helps() {
    let world = World::of(300, KINDS);
    let postfix = Postfix::start(&world);
    let mut config = config(postfix.routes(Service::NoNull));
    let run = verify(config.clone(), &world).await;
    run.assert_all(|_, record| record.status == Status::Unknown && record.blame != Some(Blame::Recipient));

    config.from = ReversePath::from(Mailbox::parse("checks@verifier.interop.test").expect("a mailbox"));
    verify(config, &world).await.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_down_blames_the_server() {
    let world = World::of(300, [Kind::Known, Kind::Unknown]);
    let postfix = Postfix::start(&world);
    let run = verify(config(postfix.routes(Service::Down)), &world).await;
    // Only domains with virtual mailboxes are in that directory.
    let down = |text: &str| ["@shop.test", "@club.test", "@firm.test"].iter().any(|end| text.ends_with(end));
    assert!(run.count(|record| down(&record.address)) > 50);
    run.assert_all(|address, record| match down(&address.text) {
        true => {
            (record.sub_status, record.blame) == (SubStatus::MailServerTemporaryError, Some(Blame::Server))
        }
        false => (record.status, record.sub_status) == address.kind.verdict(),
    });
}
