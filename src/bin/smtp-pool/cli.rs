//! The command line: the commands, and the options that every command has. The arguments of each command are in its own
//! folder.

use std::{ffi::OsString, path::Path};

use clap::{ArgAction, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use crate::{
    clean::CleanArgs,
    config::{self, ConfigArgs, Setting},
    doctor::DoctorArgs,
    escape::FileName,
    exit::{EXIT_CODES, Exit},
    explain::ExplainArgs,
    job::JobArgs,
    plan::PlanArgs,
    probe::ProbeArgs,
    report::ReportArgs,
    sandbox::SandboxArgs,
    shell::{CompletionsArgs, ManualArgs},
    terminal::Terminal,
    verify::VerifyArgs,
};

/// Returns the command line without the defaults of the user.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments. If they are wrong or ask for help, prints the error or the help, and returns the exit code. The
/// settings are the defaults of the user.
pub(crate) fn parse(settings: &[Setting]) -> Result<Cli, Exit> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let error = match parsed(&arguments, settings) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    // The message quotes arguments. These may be hostile file names that a shell put in place of `*`.
    let escaped: Vec<String> =
        arguments.iter().map(|argument| FileName(Path::new(argument)).to_string()).collect();
    let told = match parsed(&escaped, settings) {
        Err(same) if same.kind() == error.kind() => same.print(),
        // This message quotes no argument.
        _ if error.kind() == ErrorKind::InvalidUtf8 => error.print(),
        _ => Terminal::err().line(error.to_string().trim_end()),
    };
    // If nothing reads the output, the error cannot be reported anywhere.
    drop(told);
    Err(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

fn parsed<T: Into<OsString> + Clone>(arguments: &[T], settings: &[Setting]) -> Result<Cli, clap::Error> {
    let mut command = config::apply(command(), settings);
    let matches = command.try_get_matches_from_mut(arguments.iter().cloned())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Verify e-mail addresses in bulk over pooled, pipelined SMTP connections, without sending a message
#[derive(Debug, Parser)]
#[command(name = "smtp-pool", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
    /// When to use colours: `auto` uses them on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// Log to standard error; give it twice for every detail. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Verify(Box<VerifyArgs>),
    Clean(Box<CleanArgs>),
    Plan(Box<PlanArgs>),
    Job(JobArgs),
    Report(ReportArgs),
    Explain(ExplainArgs),
    Probe(ProbeArgs),
    Sandbox(SandboxArgs),
    Doctor(DoctorArgs),
    Config(ConfigArgs),
    Completions(CompletionsArgs),
    Manual(ManualArgs),
}
