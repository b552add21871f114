//! Runs a plan: what a stream and a job have in common.

use std::{sync::Arc, time::Duration};

use indicatif::HumanCount;
use smtp_pool::{
    client::Endpoint,
    metrics::Metrics,
    net::TlsConfig,
    proto::ReversePath,
    sandbox::{Route, Sandbox, World},
    verify::{LaneState, LaneStatus, MailRoute, SubStatus, Unreachable, Verifier, VerifierConfig},
};

use super::{
    job,
    plan::{Plan, Work},
    serve, stream,
};
use crate::{
    exit::{At, Exit, Result},
    identity::{self, Audience},
    progress::Screen,
    summary::{Refusals, Tally, notes},
};

/// How often what is known is shown and passed on.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// What both ways of running have in hand.
pub(super) struct Tools {
    pub(super) verifier: Verifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) screen: Screen,
    pub(super) quiet: bool,
    from: ReversePath,
}

pub(crate) async fn run(plan: Plan) -> Result<Exit> {
    let Plan { mut config, world, audience, work, target, screen, quiet, demo, metrics: address } = plan;
    let _sandbox = match world {
        Some(world) => Some(enter(world, &mut config).await?),
        None => None,
    };
    if audience != Audience::Ours {
        identity::warn_of(&config.client.name, &screen).await;
    }
    let metrics = Arc::new(Metrics::new());
    let from = config.from.clone();
    let verifier = Verifier::new(config, Arc::clone(&metrics)).usage_at("the verifier cannot be set up")?;
    let server = serve::Server::start(address, Arc::clone(&metrics), &screen).await?;
    let tools = Tools { verifier, metrics, screen, quiet, from };
    let exit = match work {
        Work::Stream { rows, keep_order } => stream::run(tools, rows, keep_order, &target, &server).await?,
        Work::Job(plan) => job::run(tools, plan, &target, &server).await?,
    };
    // The world that is built in has servers that block us on purpose.
    Ok(if demo && exit == Exit::Blocked { Exit::Done } else { exit })
}

impl Tools {
    /// Tells what servers did that the verdicts do not tell.
    pub(super) fn say_notes<'a>(&self, lanes: impl Iterator<Item = Refusals<'a>>) {
        let notes = notes(&lanes.collect::<Vec<_>>(), &self.from);
        if !self.quiet && !notes.is_empty() {
            self.screen.say_lines(notes.trim_end());
        }
    }
}

/// Tells which lanes stayed blocked, and what that means for how the command ends.
pub(super) fn blocked(lanes: &[LaneStatus], screen: &Screen) -> Exit {
    let blocked = lanes.iter().filter_map(|lane| match &lane.state {
        LaneState::Blocked(block) => Some((&*lane.name, format!("{} ({})", block.cause, block.reply))),
        _ => None,
    });
    refused(blocked, screen)
}

/// Tells which providers refused us, and why.
pub(super) fn refused<'a>(providers: impl Iterator<Item = (&'a str, String)>, screen: &Screen) -> Exit {
    let mut exit = Exit::Done;
    for (name, why) in providers {
        if exit == Exit::Done {
            screen.say("");
            screen.say("providers that did not want us to the end:");
        }
        exit = Exit::Blocked;
        screen.say(format_args!("  {name}: {why}"));
    }
    exit
}

/// Says how many addresses got no answer in time: nothing is known of them, and asking again may tell.
pub(super) fn tell_of_silence(tally: &Tally, screen: &Screen) {
    let count = tally.verdicts().get(&SubStatus::TimeoutExceeded).copied().unwrap_or(0);
    if count > 0 {
        screen.say("");
        screen.say(format_args!(
            "{} addresses got no answer in time: their servers, or the DNS, are silent or too slow",
            HumanCount(count)
        ));
    }
}

/// Starts a world, and has all mail go there.
pub(crate) async fn enter(world: World, config: &mut VerifierConfig) -> Result<Sandbox> {
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
