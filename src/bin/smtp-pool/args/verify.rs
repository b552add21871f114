use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use super::Tls;
use crate::{exit::EXIT_CODES, input::Format};

/// Verify addresses: does the mailbox exist?
///
/// One record comes out for each address that goes in, in the order of the answers; a row that is no address is
/// reported with its line number and gets a record with `failed_syntax_check`. Lists are text (an address a line; blank
/// lines and lines that begin with `# ` are no rows), CSV (comma, semicolon or tab, with or without a header) or JSONL
/// (objects, or bare strings), also compressed by gzip or Zstandard. Spaces around an address do not count.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct VerifyArgs {
    /// Lists, addresses, or `-` for standard input: whatever has an `@` and is no file is an address
    #[arg(value_name = "FILE|-|ADDRESS")]
    pub(crate) inputs: Vec<String>,

    /// Where to write to, as JSONL or CSV by the extension, also with .gz or .zst; JSONL on standard output by default
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The format of the lists, by default told by their extension or first line
    #[arg(long, value_enum, help_heading = "Input")]
    pub(crate) format: Option<Format>,
    /// The column, or JSON field, with the addresses: its name, or its number from 1; guessed by default
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(crate) column: Option<String>,
    /// No progress and no closing table
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Check the syntax only, without any network
    #[arg(long, conflicts_with_all = ["sandbox", "routes"], help_heading = "What to ask")]
    pub(crate) syntax_only: bool,
    /// How often to ask while the answer is a temporary one
    #[arg(long, value_name = "N", default_value = "1", help_heading = "What to ask")]
    pub(crate) attempts: NonZeroU32,
    /// The pause between attempts, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300.0,
        allow_negative_numbers = true,
        help_heading = "What to ask"
    )]
    pub(crate) retry_after: f64,
    /// Do not find out which domains accept any address
    #[arg(long, help_heading = "What to ask")]
    pub(crate) no_catch_all: bool,
    /// Which accepted addresses are risky; disposable by default
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS", help_heading = "What to ask")]
    pub(crate) risky: Option<Vec<Risk>>,
    /// Rules for what replies mean, instead of the built-in ones (`smtp-pool explain --print-rules`)
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) rules: Option<PathBuf>,

    /// Our own name, for EHLO; by default the fully qualified name of this machine
    #[arg(long, value_name = "NAME", help_heading = "Who asks")]
    pub(crate) helo: Option<String>,
    /// The sender that MAIL names; nobody (`<>`) by default
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true,
        help_heading = "Who asks"
    )]
    pub(crate) from: String,
    /// The local address to connect from
    #[arg(long, value_name = "IP", help_heading = "Who asks")]
    pub(crate) bind: Option<IpAddr>,

    /// Ask the servers of a sandbox: the embedded world, or that of the file
    #[arg(
        long,
        value_name = "WORLD.toml",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with = "routes",
        help_heading = "Whom to ask"
    )]
    pub(crate) sandbox: Option<Option<PathBuf>>,
    /// Where the mail of a domain goes, instead of the DNS; `*` is every other domain, several for one domain are tried
    /// in order, `.` for a host says that the domain takes no mail
    #[arg(long = "route", value_name = "DOMAIN=HOST[:PORT]", help_heading = "Whom to ask")]
    pub(crate) routes: Vec<String>,
    /// A DNS server, instead of those of the system
    #[arg(long = "nameserver", value_name = "IP[:PORT]", value_parser = nameserver, help_heading = "Whom to ask")]
    pub(crate) nameservers: Vec<SocketAddr>,
    /// Ask mail exchangers with private, loopback and link-local addresses as well
    #[arg(long, help_heading = "Whom to ask")]
    pub(crate) allow_private: bool,

    /// How long to wait for each reply, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30.0,
        allow_negative_numbers = true,
        help_heading = "Connections"
    )]
    pub(crate) timeout: f64,
    /// When to use TLS
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "opportunistic",
        help_heading = "Connections"
    )]
    pub(crate) tls: Tls,
    /// The port of mail exchangers
    #[arg(long, default_value_t = 25, help_heading = "Connections")]
    pub(crate) port: u16,
    /// Connections that may be open at once, to all servers together
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Connections")]
    pub(crate) max_connections: NonZeroUsize,
}

/// What may make an accepted address risky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Risk {
    /// Roles, as in info@
    Role,
    /// Throw-away mailboxes
    Disposable,
    /// Neither
    None,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool verify ann@example.com
  smtp-pool verify list.csv -o verdicts.csv
  smtp-pool verify contacts.jsonl.gz --column work_email --attempts 3 -o verdicts.jsonl.zst
  cut -f2 users.tsv | smtp-pool verify --syntax-only - > checked.jsonl
  smtp-pool verify --sandbox examples/addresses.csv
  smtp-pool verify list.txt --route 'example.com=127.0.0.1:2525' --route '*=relay.example.net'";

pub(super) fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let bare = || Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, 53));
    with_port.or_else(bare).ok_or_else(|| "not an IP address, as in 192.0.2.53 or [2001:db8::53]:5353".into())
}
