//! Tens of thousands of addresses over Postfix with its default limits. Every verdict is right, and Postfix never slows
//! us down.

use std::sync::Arc;

use smtp_pool::{
    client::Connector,
    metrics::Metrics,
    net::TlsPolicy,
    proto::{MailParams, Mailbox, Reply, ReversePath},
    verify::CatchAll,
};
use smtp_pool_interop::{Greylist, Kind, MAX_ERRORS, Postfix, Service, World};

use crate::{
    greylisting::{DELAY, EVERYBODY, POSTGREY, RETRY_AFTER},
    support::{Run, client, config, verify},
};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_addresses_get_the_right_verdict() {
    let world = World::mixed(10_000);
    let postfix = Postfix::start(&world);
    let run = verify(config(postfix.routes(Service::Mx)), &world).await;
    report("STARTTLS", &run, &postfix);
    run.assert_right();
    run.assert_all(|address, record| record.role == (address.kind == Kind::Role));
    run.assert_all(|address, record| record.tls.is_some() == address.kind.is_asked());
    let asked_for_all =
        |kind| !matches!(kind, Kind::NoDomain | Kind::NullMx | Kind::Malformed | Kind::Foreign);
    let catch_all = |kind| if kind == Kind::CatchAll { CatchAll::Accepted } else { CatchAll::Refused };
    run.assert_all(|address, record| {
        let accepted = record.smtp_code == Some(250) && asked_for_all(address.kind);
        !accepted || record.catch_all == catch_all(address.kind)
    });
    assert_no_complaints(&postfix);
}

/// Verifies at three kinds of domains: one answers at once, one defers known users, and one defers everybody.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_addresses_get_the_right_verdict_with_greylists() {
    let world = World::mixed(20_000);
    let greylist = Greylist::start(DELAY, POSTGREY).await;
    let all = Greylist::start(DELAY, EVERYBODY).await;
    let postfix = Postfix::greylisting(&world, &greylist, &all);
    let mut config = config(postfix.routes_by(|host| match host {
        "mx1.interop.test" => Service::Mx,
        "mx2.interop.test" => Service::Greylist,
        _ => Service::GreyAll,
    }));
    config.schedule = vec![RETRY_AFTER; 2];
    let run = verify(config, &world).await;
    report("with greylists", &run, &postfix);
    run.assert_right();
    assert_no_complaints(&postfix);

    // The lines of the log, the summaries of its sessions and our records must agree.
    let log = postfix.log_at_rest();
    let refusals = log.count(": reject: RCPT from ");
    assert_eq!(refusals, log.refused());
    let asked = || run.records.iter().filter(|(address, _)| address.kind.is_asked());
    let refused = asked().filter(|(_, record)| record.smtp_code != Some(250)).count();
    let again = |wanted: fn(Kind) -> bool| {
        let wanted = asked().filter(|(address, _)| wanted(address.kind));
        wanted.map(|(_, record)| record.attempts as usize - 1).sum::<usize>()
    };
    // The log also has the catch-all questions, and a sample of the refusals before the first acceptance.
    let few = 250;
    let known = refused + again(|_| true);
    assert!((known..known + few).contains(&refusals), "{refusals} refusals in the log, {known} in records");
    // Other deferred recipients are over quota.
    let (put_off, greylisted) = (again(|kind| kind != Kind::Full), log.count("Greylisted"));
    assert!(put_off > 5_000, "only {put_off} were deferred");
    assert!((put_off..known).contains(&greylisted), "{greylisted} in the log, {put_off} in records");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_in_clear() {
    let world = World::mixed(10_000);
    let postfix = Postfix::start(&world);
    let mut config = config(postfix.routes(Service::Plain));
    config.client.tls = TlsPolicy::Off;
    let run = verify(config, &world).await;
    report("in clear", &run, &postfix);
    run.assert_right();
    run.assert_all(|_, record| record.tls.is_none());
    assert_no_complaints(&postfix);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_unknown_users_is_asked_without_delays() {
    let world = World::of(1_000, [Kind::Unknown]);
    let postfix = Postfix::start(&world);
    let run = verify(config(postfix.routes(Service::Mx)), &world).await;
    report("unknown users only", &run, &postfix);
    run.assert_right();
    assert_no_complaints(&postfix);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_recipients_in_a_transaction_cost_no_verdict() {
    let world = World::mixed(600);
    let postfix = Postfix::start(&world);
    let run = verify(config(postfix.routes(Service::Few)), &world).await;
    report("five recipients in a transaction", &run, &postfix);
    run.assert_right();

    // Check that the server has the limit at all.
    let users = world.addresses.iter().filter(|user| user.kind == Kind::Known).take(7);
    let users: Vec<_> = users.map(|user| Mailbox::parse(&user.text).expect("an address")).collect();
    let connector = Connector::new(client(), Arc::new(Metrics::new())).expect("a connector");
    let mut connection = connector.connect(&postfix.endpoint(Service::Few)).await.expect("a connection");
    let envelope = connection.envelope(&ReversePath::Null, &MailParams::default(), &users).await;
    let codes: Vec<_> = envelope.expect("an envelope").rcpts.iter().map(Reply::code).collect();
    assert_eq!(codes, [250, 250, 250, 250, 250, 452, 452]);
    connection.quit().await.expect("an answer to QUIT");
    assert_no_complaints(&postfix);
}

/// Fails if a session was cut, or ended without QUIT, or was delayed although its last window held few refusals.
#[track_caller]
fn assert_no_complaints(postfix: &Postfix) {
    let log = postfix.log_at_rest();
    assert_eq!(log.complaints(), Vec::<&str>::new());
    assert_eq!(log.unfinished(), Vec::<&str>::new());
    let most = log.errors().into_iter().max();
    assert!(most < Some(2 * MAX_ERRORS), "{most:?} errors in a session");
}

#[expect(clippy::print_stdout, reason = "numbers are what these runs are for")]
fn report(name: &str, run: &Run, postfix: &Postfix) {
    let log = postfix.log_at_rest();
    let errors = log.errors();
    let delayed = errors.iter().filter(|&&errors| errors >= MAX_ERRORS).count();
    println!(
        "{name}: {} addresses in {:.1} s, {:.0}/s; {} transactions on {} connections, {delayed} of them \
         delayed, at most {} errors in one",
        run.records.len(),
        run.took.as_secs_f64(),
        run.speed(),
        log.transactions(),
        run.metrics.connections_opened(),
        errors.iter().max().unwrap_or(&0),
    );
}
