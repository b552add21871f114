//! Functions that several tests use: a verifier in a sandbox.

use std::{sync::Arc, time::Duration};

use smtp_pool::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    proto::ClientName,
    sandbox::{HostRoute, Sandbox, World},
    verify::{Record, Routes, Unreachable, Verifier, VerifierConfig},
};

/// Returns routes to the domains of the sandbox, and no others.
pub(crate) fn routes(sandbox: &Sandbox) -> Routes {
    let mut routes = Routes::new();
    routes.insert("*", Err(Unreachable::NoDnsEntries));
    for (domain, route) in sandbox.routes() {
        let route = match route {
            HostRoute::NullMx => Err(Unreachable::NullMx),
            HostRoute::Hosts(hosts) => {
                Ok(hosts.iter().map(|(host, addr)| Endpoint::new(*host, vec![*addr])).collect())
            }
        };
        routes.insert(domain, route);
    }
    routes
}

/// Returns a verifier with short deadlines for the given world.
pub(crate) fn config(sandbox: &Sandbox) -> VerifierConfig {
    let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
    config.client.timeouts = Timeouts::all(Duration::from_secs(2));
    config.routes = routes(sandbox);
    config.schedule = Vec::new();
    config
}

/// Starts the world written in TOML.
pub(crate) async fn sandbox(toml: &str) -> Sandbox {
    Sandbox::start(World::from_toml(toml).unwrap()).await.unwrap()
}

/// Verifies addresses, and returns the records in the order of the addresses.
pub(crate) async fn verify(config: VerifierConfig, addresses: &[&str]) -> Vec<Record> {
    let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
    let owned: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    let mut stream = verifier.verify_all(owned);
    let mut records = Vec::new();
    while let Some(record) = stream.next().await {
        records.push(record);
    }
    assert_eq!(records.len(), addresses.len(), "as many records as addresses");
    let mut sorted = Vec::new();
    for address in addresses {
        let at = records.iter().position(|record| record.address == *address).unwrap();
        sorted.push(records.swap_remove(at));
    }
    sorted
}
