//! Runs a plan, as a stream or as a job.

use std::sync::Arc;

use smtp_pool::{metrics::Metrics, verify::Verifier};

use super::{
    context::Tools,
    job,
    plan::{VerifyPlan, Work},
    sandbox::enter,
    serve, stream,
};
use crate::{
    exit::{At, Exit, Result},
    identity::{self, Audience},
};

pub(crate) async fn run(plan: VerifyPlan) -> Result<Exit> {
    let VerifyPlan { mut config, world, audience, work, target, screen, quiet, demo, metrics: address } =
        plan;
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
