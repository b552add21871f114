//! The arguments as they are typed. What they mean, and whether they can be, is found out in the plans.

mod doctor;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args, Parser, Subcommand, error::ErrorKind};

pub(crate) use self::doctor::DoctorArgs;
use crate::{
    escape::FileName,
    exit::{EXIT_CODES, Exit},
    job::JobArgs,
    options::Tls,
    plan::PlanArgs,
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

/// Tell what replies of mail servers mean, who they speak of, and which rule says so
///
/// For people with bounce logs. Lines of logs of Postfix, Exim and Sendmail are searched for the reply in them: `smtp;
/// 550 5.1.1 …`, `host mx said: 550 …`, `stat=User unknown`; or for why there was none: `connect to mx: Connection timed
/// out`. `\r\n` and `\n` typed literally are line ends. Lines that are not UTF-8 are decoded.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES, after_long_help = format!("{EXPLAIN_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ExplainArgs {
    /// Replies, or `-` for standard input (the default): a reply a line, or JSON objects with `reply` and `stage`
    #[arg(value_name = "REPLY")]
    pub(crate) replies: Vec<String>,
    /// One line of JSON for each reply: status, sub_status, blame, retry, rule, subject (who), predicate (what)
    #[arg(long)]
    pub(crate) json: bool,
    /// The command that the replies answer, where the input does not say: banner, ehlo, starttls, auth, mail, rcpt, data
    #[arg(long, value_name = "STAGE", default_value = "unknown")]
    pub(crate) stage: String,
    /// Rules to go by instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the built-in rules, a start for your own, and end
    #[arg(long, conflicts_with_all = ["replies", "json", "rules"])]
    pub(crate) print_rules: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  smtp-pool explain '550 5.1.1 User unknown'
  smtp-pool explain --stage mail '550 5.7.1 Client host blocked using zen.spamhaus.org'
  grep 'status=bounced' mail.log | smtp-pool explain --json -
  smtp-pool explain --print-rules > rules.toml";

/// Show what a mail server says of itself: banner, capabilities, TLS, certificate, and how long each step took
#[derive(Debug, Args)]
#[command(after_help = PROBE_EXAMPLES, after_long_help = format!("{PROBE_EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ProbeArgs {
    /// The server itself, not a domain whose mail exchanger is to be looked up; the port is 25 unless given
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) host: String,
    /// When to use TLS; opportunistic by default, implicit on port 465
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) tls: Option<Tls>,
    /// Our own name, for EHLO; by default the fully qualified name of this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: Option<String>,
    /// How long to wait for each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const PROBE_EXAMPLES: &str = "\
Examples:
  smtp-pool probe mx.example.com
  smtp-pool probe mail.example.com:465 --json
  smtp-pool probe '[2001:db8::25]:587' --tls required";

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
