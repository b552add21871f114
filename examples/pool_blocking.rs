//! Shares the connections of a pool among threads, without async: `cargo run --example pool_blocking --features
//! blocking,sandbox`, or with `-- HOST[:PORT] ADDRESS…` for mailboxes of a server of yours. It reads the settings of
//! the pool from the environment, such as `SMTP_HELO=…`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod support;

use std::{error::Error, thread, time::Duration};

use smtp_pool::{
    blocking::Pool,
    pool::{Config, Key},
    proto::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    // The sandbox needs a runtime. The pool does not.
    let runtime = tokio::runtime::Runtime::new()?;
    let (server, addresses, _sandbox) = runtime.block_on(support::target())?;

    let mut config = Config::from_env()?;
    config.max_connections = 2;
    config.server = Some(Key::parse(&server)?);
    let pool = Pool::builder().config(config).build()?;

    thread::scope(|scope| {
        for address in &addresses {
            let pool = &pool;
            scope.spawn(move || match pool.verify_email(address) {
                Ok(answer) => println!("{address}: {}", answer.reply),
                Err(error) => println!("{address}: {error}"),
            });
        }
    });

    let mut connection = pool.get(&server)?;
    let reply = connection.command(&Command::Noop)?;
    println!("{}: {reply}", connection.host());
    drop(connection); // back in the pool

    println!("{}", pool.status());
    pool.close(Duration::from_secs(5))?;
    Ok(())
}
