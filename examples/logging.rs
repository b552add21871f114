//! Shows the `tracing` events of a pool: `cargo run --example logging --features sandbox`, or with `-- HOST[:PORT]
//! ADDRESS…` for a server of yours.
//!
//! No secret is ever logged. Addresses are logged only with `SMTP_LOG_ADDRESSES=true`.

mod support;

use std::{error::Error, time::Duration};

use smtp_pool::pool::{Config, Key, Pool};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // `info` logs the status of the pool and its changes, `debug` each connection, `trace` each reply.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("smtp_pool=trace"));
    tracing_subscriber::fmt().with_env_filter(filter).init();

    let (server, addresses, _sandbox) = support::target().await?;
    let mut config = Config::from_env()?;
    config.server = Some(Key::parse(&server)?);
    config.cleanup_interval = Duration::from_secs(1); // the status is logged as often
    let pool = Pool::builder().config(config).build()?;

    for address in &addresses {
        let answer = pool.verify_email(address).await?;
        tracing::info!(is_accepted = answer.is_accepted(), "answered");
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    pool.close(Duration::from_secs(5)).await;
    Ok(())
}
