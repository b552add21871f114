//! Postfix stops in the middle of a run. No address gets a false verdict, and the run ends.

use std::{thread, time::Duration};

use smtp_pool::verify::{Blame, CatchAll, Status};
use smtp_pool_interop::{Kind, Postfix, Service, World};

use crate::support::{Run, config, verify_and};

const SIZE: usize = 2_000;
/// The number of records after which Postfix stops.
const EARLY: usize = 300;

/// Fails unless each verdict is right or `unknown`, and there are some of both.
#[track_caller]
fn assert_no_false_verdict(run: &Run) {
    run.assert_all(|address, record| {
        // The address was accepted before the end, but the catch-all question was not answered. The record says so.
        let half = address.kind == Kind::CatchAll && record.catch_all == CatchAll::Inconclusive;
        half || record.status == Status::Unknown
            || (record.status, record.sub_status) == address.kind.verdict()
    });
    run.assert_all(|_, record| {
        record.status != Status::Undeliverable || record.blame == Some(Blame::Recipient)
    });
    let unknown = run.count(|record| record.status == Status::Unknown);
    assert!((SIZE / 4..SIZE - EARLY / 2).contains(&unknown), "{unknown} of {SIZE} are unknown");
    assert!(run.took < Duration::from_secs(60), "{:?}", run.took);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let world = World::mixed(SIZE);
    let postfix = Postfix::start(&world);
    let mut running = true;
    let run = verify_and(config(postfix.routes(Service::Mx)), &world, |records| {
        if running && records >= EARLY {
            postfix.kill();
            running = false;
        }
    })
    .await;
    assert_no_false_verdict(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped() {
    let world = World::mixed(SIZE);
    let postfix = Postfix::start(&world);
    let mut running = true;
    let run = verify_and(config(postfix.routes(Service::Mx)), &world, |records| {
        if running && records >= EARLY {
            postfix.stop();
            running = false;
        }
    })
    .await;
    assert_no_false_verdict(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn back_again() {
    let world = World::mixed(SIZE);
    let postfix = Postfix::start(&world);
    let mut config = config(postfix.routes(Service::Mx));
    // Postfix needs a second or two to start.
    config.schedule = vec![Duration::from_secs(3); 3];
    let run = thread::scope(|scope| {
        let mut running = true;
        let run = verify_and(config, &world, |records| {
            if running && records >= EARLY {
                postfix.kill();
                running = false;
                scope.spawn(|| postfix.run());
            }
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run))
    });
    run.assert_right();
    assert!(run.count(|record| record.attempts > 1) > 0, "no recipient was asked twice");
}
