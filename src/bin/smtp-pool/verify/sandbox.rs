//! Sends the connections of a run to a sandbox.

use smtp_pool::{
    client::Endpoint,
    net::TlsConfig,
    sandbox::{HostRoute, Sandbox, World},
    verify::{MailRoute, Unreachable, VerifierConfig},
};

use crate::exit::{ErrorContext, Result};

/// Starts a world, and routes all mail to it.
pub(crate) async fn start_sandbox(world: World, config: &mut VerifierConfig) -> Result<Sandbox> {
    let sandbox = Sandbox::start(world).await.failed_at("cannot start the sandbox")?;
    config.routes.insert("*", Err(Unreachable::NoDnsEntries));
    for (domain, route) in sandbox.routes() {
        config.routes.insert(domain, mail_route(route));
    }
    let root = sandbox.certificate_der().to_vec();
    config.client.tls_config = Some(TlsConfig::for_policy(config.client.tls).add_root_der(root));
    Ok(sandbox)
}

fn mail_route(route: HostRoute<'_>) -> MailRoute {
    match route {
        HostRoute::Hosts(hosts) => {
            let endpoint = |(host, addr): (&str, _)| Endpoint { host: host.into(), addrs: vec![addr] };
            Ok(hosts.into_iter().map(endpoint).collect())
        }
        HostRoute::NullMx => Err(Unreachable::NullMx),
    }
}
