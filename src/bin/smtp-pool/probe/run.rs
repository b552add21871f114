//! Connects to the server, and prints what it said.

use std::{net::IpAddr, sync::Arc, time::Duration};

use smtp_pool::{
    client::{ClientConfig, ConnectError, Connection, Connector, Endpoint, Timeouts},
    metrics::{Metrics, Snapshot},
    net::{TlsConfig, TlsError, TlsPolicy, is_public},
    proto::{ClientName, Verb},
    verify::{Classifier, Stage},
};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{args::ProbeArgs, report};
use crate::{
    exit::{At, Exit, Failure, Result},
    identity::{self, Audience},
    options::seconds,
    route::host_and_port,
    summary::word,
};

pub(crate) struct Plan {
    host: String,
    port: u16,
    tls: TlsPolicy,
    helo: Option<String>,
    timeout: Duration,
    json: bool,
}

impl Plan {
    pub(crate) fn new(args: &ProbeArgs) -> Result<Self> {
        let (host, port) = host_and_port(&args.host, 25).map_err(|failure| failure.within(&args.host))?;
        let tls = match args.tls {
            Some(tls) => tls.into(),
            None if port == 465 => TlsPolicy::Implicit,
            None => TlsPolicy::Opportunistic,
        };
        let timeout = seconds("--timeout", args.timeout, 0.001)?;
        Ok(Self { host: host.into(), port, tls, helo: args.helo.clone(), timeout, json: args.json })
    }
}

/// A server that was reached.
pub(super) struct Probed {
    pub(super) connection: Connection,
    pub(super) starttls: bool,
    /// Why the certificate is not to be trusted; `None` also where there is none.
    pub(super) distrust: Option<String>,
    /// Why there is no TLS although it is offered.
    pub(super) broken_tls: Option<String>,
    pub(super) timings: Snapshot,
}

pub(crate) async fn run(plan: Plan) -> Result<Exit> {
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
    let audience = if ours { Audience::Ours } else { Audience::World };
    let name = identity::client_name(plan.helo.as_deref(), audience)?;
    // A literal address has taken no time to look up.
    let lookup = plan.host.parse::<IpAddr>().is_err().then_some(lookup);
    let endpoint = Endpoint { host: plan.host.as_str().into(), addrs };
    let mut probed = reach(&plan, name, &endpoint).await?;
    let report = report::Report::new(&probed, lookup);
    report.print(plan.json).failed_at("standard output")?;
    // Good manners; whether they are returned does not matter.
    let _ = probed.connection.quit().await;
    Ok(Exit::Done)
}

/// Connects with as much trust as there is to be had, and with less where the policy allows it: what the matter is
/// with a certificate can only be shown over a connection that took it.
async fn reach(plan: &Plan, name: ClientName, endpoint: &Endpoint) -> Result<Probed> {
    let strict = match plan.tls {
        TlsPolicy::Opportunistic => TlsPolicy::Required,
        tls => tls,
    };
    let (mut distrust, mut broken_tls) = (None, None);
    let mut outcome = connect(plan, &name, endpoint, strict, true).await;
    if let Err(ConnectError::Tls(error @ TlsError::Certificate(_))) = &outcome {
        distrust = Some(chain(error));
        outcome = connect(plan, &name, endpoint, strict, false).await;
    }
    if plan.tls == TlsPolicy::Opportunistic {
        broken_tls = match &outcome {
            Err(ConnectError::Tls(error)) => Some(chain(error)),
            Err(ConnectError::Refused { verb: Verb::StartTls, reply }) => Some(reply.to_string()),
            _ => None,
        };
        if broken_tls.is_some() || matches!(outcome, Err(ConnectError::NoStartTls)) {
            outcome = connect(plan, &name, endpoint, TlsPolicy::Off, false).await;
        }
    }
    match outcome {
        Ok((connection, timings)) => Ok(Probed {
            connection,
            starttls: plan.tls != TlsPolicy::Implicit,
            distrust,
            broken_tls,
            timings,
        }),
        Err(error) => Err(failure(error).within(format_args!("{}:{}", endpoint.host, plan.port))),
    }
}

async fn connect(
    plan: &Plan,
    name: &ClientName,
    endpoint: &Endpoint,
    policy: TlsPolicy,
    verify: bool,
) -> std::result::Result<(Connection, Snapshot), ConnectError> {
    let metrics = Arc::new(Metrics::new());
    let mut config = ClientConfig::new(name.clone());
    config.tls = policy;
    config.tls_config = Some(TlsConfig::for_policy(policy).verify(verify));
    config.timeouts = Timeouts::all(plan.timeout);
    let connector = match Connector::new(config, Arc::clone(&metrics)) {
        Ok(connector) => connector,
        // Mozilla's roots are compiled in, so that there is nothing left to go wrong.
        Err(_) => return Err(ConnectError::NoStartTls),
    };
    let connection = connector.connect(endpoint).await?;
    Ok((connection, metrics.snapshot()))
}

fn failure(error: ConnectError) -> Failure {
    let hint = match &error {
        ConnectError::Refused { verb, reply } => {
            let stage = match verb {
                Verb::Connect => Stage::Banner,
                Verb::StartTls => Stage::StartTls,
                _ => Stage::Ehlo,
            };
            let said = Classifier::builtin().classify(stage, reply.code(), reply.enhanced(), &reply.text());
            Some(format!("this means {} (rule {})", word(&said.verdict.sub_status), said.rule))
        }
        ConnectError::NoStartTls => Some("--tls opportunistic goes on without".into()),
        _ => None,
    };
    let failure = Failure::from(anyhow::Error::new(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
