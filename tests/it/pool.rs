//! The pool against the sandbox: checkout, lifetimes, recovery, health.

mod cancellation;
mod checkout;
mod corners;
mod health;
mod hooks;
mod identity;
mod lifetime;
mod operations;
mod recovery;
mod transport;

use std::time::Duration;

use smtp_pool::{
    net::TlsPolicy,
    pool::{Builder, Pool},
    proto::ClientName,
    sandbox::{HostStats, Sandbox, World},
};

const HOST: &str = "mx.good.test";

/// One server, and its name.
struct Site {
    sandbox: Sandbox,
    server: String,
}

impl Site {
    /// Starts a server that knows ann, with these settings of the host.
    async fn start(host: &str) -> Self {
        let world = format!(
            "[[host]]\nname = \"{HOST}\"\n{host}\n[[domain]]\nname = \"good.test\"\nhosts = [\"{HOST}\"]\nusers = [\"ann\"]"
        );
        let sandbox = Sandbox::start(World::from_toml(&world).unwrap()).await.unwrap();
        let server = sandbox.addr(HOST).unwrap().to_string();
        Self { sandbox, server }
    }

    fn stats(&self) -> HostStats {
        self.sandbox.stats(HOST).unwrap()
    }
}

/// Returns a pool without TLS, so that the test covers only the pool.
fn builder() -> Builder {
    Pool::builder()
        .helo(ClientName::parse("client.example.org").unwrap())
        .tls(TlsPolicy::Off)
        .acquire_timeout(Duration::from_secs(10))
}

fn pool(max_connections: usize) -> Pool {
    builder().max_connections(max_connections).build().unwrap()
}

/// Lets time pass for the maintenance of the pool, while no request runs.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    // The due work is done, with as many polls as it needs.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}

/// Waits until a condition holds. A deadline keeps a failure from hanging.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
