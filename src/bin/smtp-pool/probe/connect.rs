//! Connects to a server with verified TLS, or with less if the policy allows it.

use std::sync::Arc;

use smtp_pool::{
    client::{ClientConfig, ConnectError, Connection, Connector, Endpoint, Timeouts},
    metrics::{Metrics, Snapshot},
    net::{TlsError, TlsPolicy},
    proto::{ClientName, Verb},
    verify::{Classifier, Stage},
};

use super::plan::ProbePlan;
use crate::{
    exit::{Failure, Result},
    summary::variant_name,
};

/// A server that answered.
pub(super) struct ProbedServer {
    pub(super) connection: Connection,
    pub(super) starttls: bool,
    /// Why the certificate is not trusted. `None` if it is trusted, or if there is none.
    pub(super) distrust: Option<String>,
    /// Why there is no TLS although the server offers it.
    pub(super) broken_tls: Option<String>,
    pub(super) timings: Snapshot,
}

/// Connects with verified TLS, and with less only where the policy allows it. A fault of a certificate can only be
/// shown over a connection that accepts the certificate.
pub(super) async fn reach(plan: &ProbePlan, name: ClientName, endpoint: &Endpoint) -> Result<ProbedServer> {
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
        Ok((connection, timings)) => Ok(ProbedServer {
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
    plan: &ProbePlan,
    name: &ClientName,
    endpoint: &Endpoint,
    policy: TlsPolicy,
    verify: bool,
) -> std::result::Result<(Connection, Snapshot), ConnectError> {
    let metrics = Arc::new(Metrics::new());
    let mut config = ClientConfig::new(name.clone());
    config.tls = policy;
    config.tls_config = Some(plan.tls_config.clone().verify(verify));
    config.timeouts = Timeouts::all(plan.timeout);
    let connector = match Connector::new(config, Arc::clone(&metrics)) {
        Ok(connector) => connector,
        // The plan has tried these roots, so nothing is missing.
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
            Some(format!("this means {} (rule {})", variant_name(&said.verdict.sub_status), said.rule))
        }
        ConnectError::NoStartTls => Some("--tls opportunistic continues without TLS".into()),
        _ => None,
    };
    let failure = Failure::from(anyhow::Error::new(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Returns the error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
