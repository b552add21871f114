//! The command line: the commands, and the options that every command has. The arguments of each command are in its own
//! folder.

use std::{ffi::OsString, path::Path};

use clap::{ArgAction, Parser, Subcommand, error::ErrorKind};

use crate::{
    doctor::DoctorArgs,
    escape::FileName,
    exit::{EXIT_CODES, Exit},
    explain::ExplainArgs,
    job::JobArgs,
    plan::PlanArgs,
    probe::ProbeArgs,
    report::ReportArgs,
    sandbox::SandboxArgs,
    terminal::Terminal,
    verify::VerifyArgs,
};

/// Parses the arguments. If they are wrong or ask for help, prints the error or the help, and returns the exit code.
pub(crate) fn parse() -> Result<Cli, Exit> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let error = match Cli::try_parse_from(&arguments) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    // The message quotes arguments. These may be hostile file names that a shell put in place of `*`.
    let escaped: Vec<String> =
        arguments.iter().map(|argument| FileName(Path::new(argument)).to_string()).collect();
    let told = match Cli::try_parse_from(&escaped) {
        Err(same) if same.kind() == error.kind() => same.print(),
        // This message quotes no argument.
        _ if error.kind() == ErrorKind::InvalidUtf8 => error.print(),
        _ => Terminal::err().line(error.to_string().trim_end()),
    };
    // If nothing reads the output, the error cannot be reported anywhere.
    drop(told);
    Err(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

/// Verify e-mail addresses in bulk over pooled, pipelined SMTP connections, without sending a message
#[derive(Debug, Parser)]
#[command(name = "smtp-pool", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
    /// Log to standard error; give it twice for every detail. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Verify(Box<VerifyArgs>),
    Plan(Box<PlanArgs>),
    Job(JobArgs),
    Report(ReportArgs),
    Explain(ExplainArgs),
    Probe(ProbeArgs),
    Sandbox(SandboxArgs),
    Doctor(DoctorArgs),
}
