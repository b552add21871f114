//! The arguments of `probe`.

use std::path::PathBuf;

use clap::Args;

use crate::{exit::EXIT_CODES, options::TlsMode};

/// Show banner, capabilities, TLS, certificate and timings of a mail server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ProbeArgs {
    /// The server itself, not a domain whose MX record is to be looked up; the default port is 25
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) host: String,
    /// When to use TLS [default: opportunistic, on port 465 implicit]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) tls: Option<TlsMode>,
    /// Trust the root certificates in this PEM file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Our own name, for EHLO [default: the fully qualified name of this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: Option<String>,
    /// How long to wait for each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool probe mx.example.com
  smtp-pool probe mail.example.com:465 --json
  smtp-pool probe '[2001:db8::25]:587' --tls required";
