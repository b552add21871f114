//! Runs a plan, as a stream or as a job.

use std::sync::Arc;

use smtp_pool::{
    job::{Job, input::Source},
    metrics::Metrics,
    verify::Verifier,
};

use super::{
    context::RunContext,
    job, metrics_server,
    plan::{JobPlan, Product, VerifyPlan, Work},
    sandbox::start_sandbox,
    stream,
};
use crate::{
    clean::write_clean,
    exit::{ErrorContext, Exit, Failure, Result},
    identity::{self, ServerScope},
    job::write_rows,
    output::Written,
};

pub(crate) async fn run(plan: VerifyPlan) -> Result<Exit> {
    let screen = plan.screen.clone();
    screen.end(carry_out(plan).await)
}

async fn carry_out(plan: VerifyPlan) -> Result<Exit> {
    let VerifyPlan { mut config, world, scope, work, product, screen, quiet, demo, metrics: address, gate } =
        plan;
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
    let context = RunContext { verifier, metrics, screen, quiet, from, gate };
    let exit = match work {
        Work::Stream { rows, keep_order } => match &product {
            Product::Records(target) => stream::run(context, rows, keep_order, target, &server).await?,
            Product::List(_) => return Err(Failure::failed("a list is cleaned by a job")),
        },
        Work::Job(plan) => {
            let write = writer(product, &plan);
            job::run(context, plan, write, &server).await?
        }
    };
    // The built-in world has servers that block us on purpose.
    Ok(if demo && exit == Exit::Blocked { Exit::Done } else { exit })
}

/// Returns what a job does when all of its rows have a verdict.
fn writer(product: Product, plan: &JobPlan) -> impl FnOnce(&Job) -> Result<Written> + use<> {
    let (hints, list) = (plan.hints.clone(), plan.sources.first().cloned());
    move |job| match (product, list) {
        (Product::List(target), Some(Source::File(list))) => write_clean(job, &list, &hints, &target),
        // The records of a job are on the disk, and a pipe gets none.
        (Product::Records(target), _) if target.destination.file().is_some() => {
            write_rows(job, &target, |_| true)
        }
        _ => Ok(Written::Yes),
    }
}
