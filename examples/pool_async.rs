//! Shares the connections of a pool among tasks: `cargo run --example pool_async --features sandbox`, or with `--
//! HOST[:PORT] ADDRESS…` for mailboxes of a server of yours.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod support;

use std::{error::Error, time::Duration};

use smtp_pool::{
    pool::{Envelope, Key, Pool},
    proto::{Command, Mailbox, ReversePath},
};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, addresses, sandbox) = support::target().await?;
    let pool = Pool::builder().max_connections(2).server(Key::parse(&server)?).build()?;

    // Verify. A pool is cheap to clone. If all connections are lent, the next caller waits.
    let mut tasks = JoinSet::new();
    for address in addresses {
        let pool = pool.clone();
        tasks.spawn(async move { (pool.verify_email(&address).await, address) });
    }
    while let Some(done) = tasks.join_next().await {
        match done? {
            (Ok(answer), address) => println!("{address}: {}", answer.reply),
            (Err(error), address) => println!("{address}: {error}"),
        }
    }

    // Send a message, in the sandbox.
    if sandbox.is_some() {
        let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test")?);
        let delivery = pool.send(&envelope, b"Subject: Hello\r\n\r\nHello, Ann.\r\n").await?;
        println!("sent: {}", delivery.is_complete());
    }

    // Send other commands. The connection belongs to the caller until it is dropped.
    let mut connection = pool.get(&server).await?;
    let reply = connection.command(&Command::Noop).await?;
    println!("{}: {reply}", connection.host());
    drop(connection);

    println!("{}", pool.status());
    pool.close(Duration::from_secs(5)).await;
    Ok(())
}
