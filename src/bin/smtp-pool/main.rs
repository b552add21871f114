//! The command `smtp-pool`. Each command makes a plan from its arguments, and then runs the plan.
//!
//! Making the plan finds every error of usage, and names its place and a hint. Only this part of the crate knows a
//! command line, a terminal or files of the user. It uses only public items of the library.

mod clean;
mod cli;
mod config;
mod doctor;
mod escape;
mod exit;
mod explain;
mod filter;
mod identity;
mod job;
mod json;
mod log;
mod options;
mod output;
mod plan;
mod probe;
mod progress;
mod report;
mod route;
mod sandbox;
mod shell;
mod stop;
mod summary;
mod terminal;
mod understood;
mod verify;

use std::process::ExitCode;

use crate::{
    cli::{Cli, CliCommand},
    exit::{ErrorContext, Exit, Failure, Result},
    terminal::Terminal,
};

fn main() -> ExitCode {
    let settings = match config::load(cli::command) {
        Ok(settings) => settings,
        Err(failure) => return report(&failure),
    };
    let cli = match cli::parse(&settings) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    match run(cli, &settings) {
        Ok(exit) => exit.into(),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    // If standard error is closed, the error cannot be reported anywhere.
    let _ = Terminal::err().lines(format_args!("error: {failure}"));
    failure.exit.into()
}

fn run(cli: Cli, settings: &[config::Setting]) -> Result<Exit> {
    let logging = log::start(cli.verbose, cli.color);
    raise_open_files();
    match cli.command {
        CliCommand::Verify(args) => {
            let plan = verify::VerifyPlan::new(&args, logging);
            verify_by(plan, args.json_progress)
        }
        CliCommand::Clean(args) => {
            let plan = clean::plan(&args, logging);
            verify_by(plan, args.verify.json_progress)
        }
        CliCommand::Plan(args) => on_runtime(plan::run(&args, logging)),
        CliCommand::Job(args) => job::run(&args),
        CliCommand::Report(args) => report::run(&args),
        CliCommand::Explain(args) => explain::run(&args),
        CliCommand::Probe(args) => {
            let plan = probe::ProbePlan::new(&args)?;
            on_runtime(probe::run(plan))
        }
        CliCommand::Doctor(args) => {
            let plan = doctor::DoctorPlan::new(&args)?;
            on_runtime(doctor::run(plan))
        }
        CliCommand::Config(args) => config::run(&args, settings, &cli::command()),
        CliCommand::Completions(args) => shell::completions(&args, cli::command()),
        CliCommand::Manual(args) => shell::manual(&args, cli::command()),
        CliCommand::Sandbox(args) => match sandbox::SandboxPlan::new(&args)? {
            Some(plan) => on_runtime(sandbox::run(plan)),
            None => Ok(Exit::Done),
        },
    }
}

/// Runs a plan. If standard error gets JSON only, so does an error of the plan.
fn verify_by(plan: Result<verify::VerifyPlan>, is_json: bool) -> Result<Exit> {
    match plan {
        Ok(plan) => on_runtime(verify::run(plan)),
        Err(failure) if is_json => {
            progress::print_failure(&failure);
            Ok(failure.exit)
        }
        Err(failure) => Err(failure),
    }
}

fn on_runtime(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = tokio::runtime::Runtime::new().failed_at("cannot start the runtime")?;
    let exit = runtime.block_on(work);
    // A thread may still read standard input, which nothing can interrupt.
    runtime.shutdown_background();
    exit
}

/// Raises the limit of open files as far as the system allows. A connection needs one file, a DNS query two.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        const WANTED: u64 = 16_384;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // `None` means that there is no limit.
        let wanted = maximum.map_or(WANTED, |most| most.min(WANTED));
        if current.is_some_and(|now| now < wanted) {
            // A lower limit allows fewer connections, so an error does not matter.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
        }
    }
}
