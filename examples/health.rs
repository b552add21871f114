//! Shows the health checks of a pool: `cargo run --example health --features sandbox [-- HOST[:PORT]]`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod support;

use std::{error::Error, time::Duration};

use smtp_pool::pool::{HealthManager, Pool};

/// Returns the HTTP status for a readiness endpoint. It asks no server, so it may be called as often as you like.
fn ready(pool: &Pool) -> u16 {
    if pool.health().ready { 200 } else { 503 }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, _, sandbox) = support::target().await?;
    let pool = Pool::builder().connection_timeout(Duration::from_secs(5)).build()?;
    // A pool checks the servers that it was asked for.
    drop(pool.get(&server).await?);

    // Each of them is now checked once a minute …
    let health = HealthManager::new(&pool, Duration::from_secs(60)).start();
    // … and here at once, so that the example shows a result.
    pool.check_health().await;
    for report in health.results() {
        println!("{report}");
    }
    println!("ready: {}", ready(&pool));

    if let Some(sandbox) = sandbox {
        println!("the server goes away");
        drop(sandbox);
        for report in pool.check_health().await {
            println!("{report}");
        }
        println!("ready: {}", ready(&pool));
    }

    health.stop().await;
    Ok(())
}
