//! Is the server well? `cargo run --example health --features sandbox [-- HOST[:PORT]]`.

#![expect(clippy::print_stdout, reason = "an example shows something")]

mod support;

use std::{error::Error, time::Duration};

use smtp_pool::pool::{HealthManager, Pool};

/// What a readiness endpoint answers: nobody is asked for it, so it may be called as often as one likes.
fn ready(pool: &Pool) -> u16 {
    if pool.health().ready { 200 } else { 503 }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, _, sandbox) = support::target().await?;
    let pool = Pool::builder().connection_timeout(Duration::from_secs(5)).build()?;
    // A pool knows the servers that it has been asked for.
    drop(pool.get(&server).await?);

    // From now on, each is checked once a minute …
    let health = HealthManager::new(&pool, Duration::from_secs(60)).start();
    // … and here at once, so that there is something to see.
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
