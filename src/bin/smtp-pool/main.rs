//! The command `smtp-pool`: arguments become a plan, and a plan is run.
//!
//! Everything that can be wrong is found while planning, and named with its place and a hint. The only part of the
//! crate that knows a command line, a terminal, or files; it uses nothing of the library that is not public.

mod args;
mod doctor;
mod exit;
mod explain;
mod forecast;
mod identity;
mod jobs;
mod output;
mod plan;
mod probe;
mod progress;
mod report;
mod route;
mod sandbox;
mod stop;
mod summary;
mod verify;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Cli, Command},
    exit::{At, Exit, Result},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let _ = writeln!(io::stderr().lock(), "error: {failure}");
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit> {
    let logging = log(cli.verbose);
    match cli.command {
        Command::Verify(args) => {
            let plan = plan::Plan::new(&args, logging)?;
            on_runtime(verify::run(plan))
        }
        Command::Plan(args) => on_runtime(forecast::run(&args, logging)),
        Command::Job(args) => jobs::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Probe(args) => {
            let plan = probe::Plan::new(&args)?;
            on_runtime(probe::run(plan))
        }
        Command::Doctor(args) => {
            let plan = doctor::Plan::new(&args)?;
            on_runtime(doctor::run(plan))
        }
        Command::Sandbox(args) => match sandbox::Plan::new(&args)? {
            Some(plan) => on_runtime(sandbox::run(plan)),
            None => Ok(Exit::Done),
        },
    }
}

fn on_runtime(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = tokio::runtime::Runtime::new().failed_at("the runtime cannot start")?;
    let exit = runtime.block_on(work);
    // Somebody may still be reading standard input, which nothing can interrupt.
    runtime.shutdown_background();
    exit
}

/// Logs to standard error, if anybody asked for it.
fn log(verbose: u8) -> bool {
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match (&asked, verbose) {
        (Some(filter), _) => filter,
        (None, 0) => return false,
        (None, 1) => "smtp_pool=debug",
        (None, _) => "smtp_pool=trace,hickory_resolver=debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    true
}
