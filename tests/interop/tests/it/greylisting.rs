//! Servers with greylisting: their deferrals are distinguished from refusals, and asked again.

use std::time::Duration;

use smtp_pool::verify::{CatchAll, Status, SubStatus, VerifierConfig};
use smtp_pool_interop::{Greylist, Kind, Postfix, Service, World};

use crate::support::{Run, config, verify};

/// The delay of the greylist, and the pause of the verifier.
pub(crate) const DELAY: Duration = Duration::from_secs(2);
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(2_700);
/// The reply of postgrey.
pub(crate) const POSTGREY: &str = "DEFER_IF_PERMIT Greylisted, see http://postgrey.interop.test/";
/// The reply of an access table that defers every recipient.
pub(crate) const EVERYBODY: &str = "450 4.7.1 Greylisted, please try again later";

const KINDS: [Kind; 6] =
    [Kind::Known, Kind::Tagged, Kind::Unknown, Kind::Full, Kind::FullForGood, Kind::Disabled];

async fn verify_at(service: Service, world: &World, set: impl FnOnce(&mut VerifierConfig)) -> Run {
    let greylist = Greylist::start(DELAY, POSTGREY).await;
    let all = Greylist::start(DELAY, EVERYBODY).await;
    let postfix = Postfix::greylisting(world, &greylist, &all);
    let mut config = config(postfix.routes(service));
    set(&mut config);
    let run = verify(config, world).await;
    assert_eq!(postfix.log_at_rest().complaints(), Vec::<&str>::new());
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_gives_no_verdict() {
    let world = World::of(120, KINDS);
    let run = verify_at(Service::GreyAll, &world, |_| {}).await;
    run.assert_all(|_, record| {
        (record.status, record.sub_status, record.attempts) == (Status::Unknown, SubStatus::Greylisted, 1)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_may_be_refused_at_once() {
    let world = World::of(120, KINDS);
    let run = verify_at(Service::Greylist, &world, |_| {}).await;
    run.assert_all(|address, record| match address.kind {
        Kind::Known | Kind::Tagged => record.sub_status == SubStatus::Greylisted,
        kind => (record.status, record.sub_status) == kind.verdict(),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_answer_gives_the_verdict() {
    let world = World::of(120, KINDS);
    for service in [Service::Greylist, Service::GreyAll] {
        let run = verify_at(service, &world, |config| config.schedule = vec![RETRY_AFTER]).await;
        run.assert_right();
        assert!(run.took > DELAY, "no recipient was deferred");
        assert!(run.took < 3 * RETRY_AFTER, "{:?}", run.took);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_all_domain_is_detected_behind_a_greylist() {
    let world = World::of(40, [Kind::Known, Kind::CatchAll]);
    let run = verify_at(Service::GreyAll, &world, |config| config.schedule = vec![RETRY_AFTER]).await;
    run.assert_right();
    run.assert_all(|address, record| match address.kind {
        Kind::CatchAll => record.catch_all == CatchAll::Accepted,
        _ => record.catch_all == CatchAll::Refused,
    });
}
