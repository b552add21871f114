//! The arguments as they are typed. What they mean, and whether they can be, is found out in the plans.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    doctor::DoctorArgs,
    escape::FileName,
    exit::{EXIT_CODES, Exit},
    explain::ExplainArgs,
    job::JobArgs,
    plan::PlanArgs,
    probe::ProbeArgs,
    report::ReportArgs,
    terminal::Terminal,
    verify::VerifyArgs,
};

/// Parses the arguments; if they are wrong, or ask for help, this has told so.
pub(crate) fn parse() -> Result<Cli, Exit> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let error = match Cli::try_parse_from(&arguments) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    // The message repeats arguments, which may be names of files that `*` stands for.
    let escaped: Vec<String> =
        arguments.iter().map(|argument| FileName(Path::new(argument)).to_string()).collect();
    let told = match Cli::try_parse_from(&escaped) {
        Err(same) if same.kind() == error.kind() => same.print(),
        // It repeats no argument.
        _ if error.kind() == ErrorKind::InvalidUtf8 => error.print(),
        _ => Terminal::err().line(error.to_string().trim_end()),
    };
    // Where nobody reads there is nobody to tell.
    drop(told);
    Err(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

/// Verify e-mail addresses in bulk and politely: over pooled, pipelined SMTP connections, and without ever sending a
/// message.
#[derive(Debug, Parser)]
#[command(name = "smtp-pool", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log what happens to standard error; twice for every detail. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(Box<VerifyArgs>),
    Plan(Box<PlanArgs>),
    Job(JobArgs),
    Report(ReportArgs),
    Explain(ExplainArgs),
    Probe(ProbeArgs),
    Sandbox(SandboxArgs),
    Doctor(DoctorArgs),
}

/// Start the sandbox, a small world of mail servers on loopback, and print the routes into it
///
/// It runs until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = SANDBOX_EXAMPLES, after_long_help = format!("{SANDBOX_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct SandboxArgs {
    /// The description of the world; the embedded one by default
    #[arg(value_name = "WORLD.toml")]
    pub(crate) world: Option<PathBuf>,
    /// Print the embedded description, a start for your own, and end
    #[arg(long, conflicts_with = "world")]
    pub(crate) print_world: bool,
}

const SANDBOX_EXAMPLES: &str = "\
Examples:
  smtp-pool sandbox
  smtp-pool sandbox --print-world > world.toml
  smtp-pool verify --sandbox=world.toml list.csv";
