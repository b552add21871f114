//! `smtp-pool verify`: addresses in, records out.

use std::{pin::pin, sync::Arc, time::Duration};

use smtp_pool::{
    client::Endpoint,
    metrics::Metrics,
    net::TlsConfig,
    sandbox::{Route, Sandbox, World},
    verify::{MailRoute, Records, Unreachable, Verifier, VerifierConfig},
};
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    exit::{At, Exit, Failure, Result},
    identity::{self, Audience},
    input::Tracker,
    output::{Output, Written},
    plan::Plan,
    progress::Screen,
    stop,
    summary::{Tally, tables},
};

/// How often what is known is shown and passed on.
const TICK: Duration = Duration::from_millis(250);

pub(crate) async fn run(plan: Plan) -> Result<Exit> {
    let Plan { mut config, world, audience, rows, target, screen, quiet } = plan;
    let _sandbox = match world {
        Some(world) => Some(enter(world, &mut config).await?),
        None => None,
    };
    if audience != Audience::Ours {
        identity::warn_of(&config.client.name, &screen).await;
    }
    let metrics = Arc::new(Metrics::new());
    let verifier = Verifier::new(config, Arc::clone(&metrics)).usage_at("the verifier cannot be set up")?;
    let mut output = target.open()?;
    let tracker = rows.tracker();
    let mut tally = Tally::default();
    let started = Instant::now();
    let mut records = verifier.verify_all(rows);

    let ended = pump(&mut records, &mut output, &mut tally, &screen, &tracker).await;
    screen.clear();
    let ended = match (ended?, output.finish()?) {
        (ended, Written::Yes) => ended,
        (_, Written::Enough) => Ended::Enough,
    };
    if ended == Ended::Enough {
        return Ok(Exit::Done);
    }
    match tracker.unreported() {
        0 => {}
        more => screen.say(format_args!("and {more} more rows that are no addresses")),
    }
    if !quiet && tally.total() > 0 {
        screen.say(tables(&tally, &metrics.snapshot(), started.elapsed()));
    }
    if ended == Ended::Stopped {
        let (rows, done) = (tracker.rows(), tally.total());
        screen.say(format_args!(
            "interrupted: {done} records written, {} rows under way lost",
            rows.saturating_sub(done)
        ));
        return Ok(Exit::Interrupted);
    }
    match tracker.failure() {
        Some(failure) => Err(failure),
        None if tracker.rows() == tally.total() => Ok(Exit::Done),
        None => Err(Failure::failed(format_args!(
            "{} rows went in and {} records came out; this is a bug",
            tracker.rows(),
            tally.total()
        ))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Every address has its record.
    All,
    /// By the user.
    Stopped,
    /// Nobody reads any more.
    Enough,
}

async fn pump(
    records: &mut Records,
    output: &mut Output,
    tally: &mut Tally,
    screen: &Screen,
    tracker: &Tracker,
) -> Result<Ended> {
    let started = Instant::now();
    let mut stopped = pin!(stop::requested());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let written = select! {
            biased;
            () = &mut stopped => return Ok(Ended::Stopped),
            _ = tick.tick() => {
                screen.show(tally, tracker, started.elapsed());
                output.flush()?
            }
            record = records.next() => match record {
                Some(record) => {
                    tally.add(&record);
                    output.write(&record)?
                }
                None => return Ok(Ended::All),
            },
        };
        if written == Written::Enough {
            return Ok(Ended::Enough);
        }
    }
}

/// Starts a world, and has all mail go there.
async fn enter(world: World, config: &mut VerifierConfig) -> Result<Sandbox> {
    let sandbox = Sandbox::start(world).await.failed_at("the sandbox cannot start")?;
    config.routes.insert("*", Err(Unreachable::NoDnsEntries));
    for (domain, route) in sandbox.routes() {
        config.routes.insert(domain, mail_route(route));
    }
    let root = sandbox.certificate_der().to_vec();
    config.client.tls_config = Some(TlsConfig::for_policy(config.client.tls).add_root_der(root));
    Ok(sandbox)
}

fn mail_route(route: Route<'_>) -> MailRoute {
    match route {
        Route::Hosts(hosts) => {
            let endpoint = |(host, addr): (&str, _)| Endpoint { host: host.into(), addrs: vec![addr] };
            Ok(hosts.into_iter().map(endpoint).collect())
        }
        Route::NullMx => Err(Unreachable::NullMx),
    }
}
