//! Sends the connections of a run to a sandbox.

use smtp_pool::{
    net::TlsConfig,
    sandbox::{Sandbox, World},
    verify::{Routes, VerifierConfig},
};

use crate::exit::{ErrorContext, Result};

/// Starts a world, and routes all mail to it.
pub(crate) async fn start_sandbox(world: World, config: &mut VerifierConfig) -> Result<Sandbox> {
    let sandbox = Sandbox::start(world).await.failed_at("cannot start the sandbox")?;
    config.routes = Routes::only(sandbox.mx_records());
    let root = sandbox.certificate_der().to_vec();
    let tls = config.client.tls_config.take().unwrap_or_else(|| TlsConfig::for_policy(config.client.tls));
    config.client.tls_config = Some(tls.add_root_der(root));
    Ok(sandbox)
}
