//! Connects to the server, and prints its answers.

use std::net::IpAddr;

use smtp_pool::{client::Endpoint, net::is_public};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{connect::reach, plan::ProbePlan, report};
use crate::{
    exit::{ErrorContext, Exit, Failure, Result},
    identity::{self, ServerScope},
};

pub(crate) async fn run(plan: ProbePlan) -> Result<Exit> {
    let started = Instant::now();
    let resolved = timeout(plan.timeout, lookup_host((&*plan.host, plan.port))).await;
    let lookup = started.elapsed();
    let addrs: Vec<_> = match resolved {
        Ok(addrs) => addrs.failed_at(format_args!("cannot resolve {}", plan.host))?.collect(),
        Err(_) => {
            return Err(Failure::failed(format_args!("cannot resolve {}: no answer in time", plan.host)));
        }
    };
    let ours = plan.helo.is_none() && addrs.iter().all(|addr| !is_public(addr.ip()));
    let scope = if ours { ServerScope::Own } else { ServerScope::Public };
    let name = identity::client_name(plan.helo.as_deref(), scope)?;
    // An address literal needs no lookup.
    let lookup = plan.host.parse::<IpAddr>().is_err().then_some(lookup);
    let endpoint = Endpoint::new(plan.host.as_str(), addrs);
    let mut probed = reach(&plan, name, &endpoint).await?;
    let report = report::ProbeReport::new(&probed, lookup);
    report.print(plan.json).failed_at("standard output")?;
    // QUIT is polite. Its reply does not matter.
    let _ = probed.connection.quit().await;
    Ok(Exit::Done)
}
