//! Runs a plan, as a stream or as a job.

use std::sync::Arc;

use smtp_pool::{metrics::Metrics, verify::Verifier};

use super::{
    context::RunContext,
    job, metrics_server,
    plan::{VerifyPlan, Work},
    sandbox::start_sandbox,
    stream,
};
use crate::{
    exit::{ErrorContext, Exit, Result},
    identity::{self, ServerScope},
};

pub(crate) async fn run(plan: VerifyPlan) -> Result<Exit> {
    let VerifyPlan { mut config, world, scope, work, target, screen, quiet, demo, metrics: address } = plan;
    let _sandbox = match world {
        Some(world) => Some(start_sandbox(world, &mut config).await?),
        None => None,
    };
    if scope != ServerScope::Own {
        identity::warn_about_name(&config.client.name, &screen).await;
    }
    let metrics = Arc::new(Metrics::new());
    let from = config.from.clone();
    let verifier = Verifier::new(config, Arc::clone(&metrics)).usage_at("cannot set up the verifier")?;
    let server = metrics_server::MetricsServer::start(address, Arc::clone(&metrics), &screen).await?;
    let context = RunContext { verifier, metrics, screen, quiet, from };
    let exit = match work {
        Work::Stream { rows, keep_order } => stream::run(context, rows, keep_order, &target, &server).await?,
        Work::Job(plan) => job::run(context, plan, &target, &server).await?,
    };
    // The built-in world has servers that block us on purpose.
    Ok(if demo && exit == Exit::Blocked { Exit::Done } else { exit })
}
