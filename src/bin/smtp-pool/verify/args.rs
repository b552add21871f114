use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use crate::{
    exit::EXIT_CODES,
    options::{ListArgs, TlsMode, nameserver},
    output::Vocab,
};

/// Verify addresses: does the mailbox exist?
///
/// One record comes out for each address that goes in, in the order of the answers; a row that is no address is
/// reported with its line number and gets a record with `failed_syntax_check`. Lists are text (an address a line; blank
/// lines and lines that begin with `# ` are no rows), CSV (comma, semicolon or tab, with or without a header) or JSONL
/// (objects, or bare strings), also compressed by gzip or Zstandard. Spaces around an address do not count. A row has at
/// most 4 MiB, or 1 MiB in JSONL; what is no address, and a reply, is cut to 1 KiB and ends with `…`.
///
/// Lists that are files, with an output that is one, make a job: `-o out.csv` keeps what is known in `out.csv.job`, and
/// the same command goes on where it was, however it ended. The output is written at the end, in the order of the
/// lists; `smtp-pool job results out.csv.job` has it at any time. A job asks about an address once, however often it
/// is there; without one, rows are forgotten once they are answered, and each is asked about. A job knows its lists by
/// their content, wherever they are, and is made for its owner to read alone.
///
/// An output gets its name when it is whole; what was there stays until then. An earlier output is replaced. A list, a
/// job and any other file that smtp-pool did not write are not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct VerifyArgs {
    /// Lists, addresses, or `-` for standard input: whatever has an `@` and is no file is an address
    #[arg(value_name = "FILE|-|ADDRESS")]
    pub(crate) inputs: Vec<String>,

    /// Where to write to, as JSONL or CSV by the extension, also with .gz or .zst; JSONL on standard output by default,
    /// and to pipes and devices whose names tell no format
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Field names and values of another service, for what was written for it
    #[arg(long, value_enum, value_name = "SERVICE", help_heading = "Output")]
    pub(crate) vocab: Option<Vocab>,
    /// Write a `'` in front of formulas in the columns of your list too, as CSV always does for words of servers
    ///
    /// Spreadsheets run cells that begin with `=`, `+`, `-`, `@`, a tab or a line end. To get the text back, take the
    /// `'` away where one of these follows it. JSONL is never changed.
    #[arg(long, help_heading = "Output")]
    pub(crate) escape_formulas: bool,
    /// Records in the order of the rows, as a job has them anyway; those that wait for others are kept in memory, and no
    /// further row is read while they take 64 MiB
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_order: bool,
    /// Begin the job anew, whatever is there of it
    #[arg(long, requires = "output", help_heading = "Output")]
    pub(crate) restart: bool,

    #[command(flatten)]
    pub(crate) lists: ListArgs,

    /// Nothing on standard error but errors: no progress, no closing table
    #[arg(short, long, help_heading = "On the screen")]
    pub(crate) quiet: bool,
    /// Progress as lines of JSON on standard error, one a second
    #[arg(long, conflicts_with = "quiet", help_heading = "On the screen")]
    pub(crate) json_progress: bool,
    /// Serve metrics for Prometheus at /metrics, and /health, while it runs; on 127.0.0.1 for this machine alone
    #[arg(long, value_name = "ADDR:PORT", help_heading = "On the screen")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Check the syntax only, without any network
    #[arg(long, conflicts_with_all = ["sandbox", "routes"], help_heading = "What to ask")]
    pub(crate) syntax_only: bool,
    /// How often to ask while the answer is a temporary one: 5 times in a job, and else once; without a job, at most
    /// 262,144 addresses wait for another attempt before the reading waits for them
    #[arg(long, value_name = "N", help_heading = "What to ask")]
    pub(crate) attempts: Option<NonZeroU32>,
    /// The pauses between attempts, in seconds; the last holds for all that follow
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "300,900,1800,3600",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "What to ask"
    )]
    pub(crate) retry_after: Vec<f64>,
    /// Do not find out which domains accept any address
    #[arg(long, help_heading = "What to ask")]
    pub(crate) no_catch_all: bool,
    /// Which accepted addresses are risky; disposable by default
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS", help_heading = "What to ask")]
    pub(crate) risky: Option<Vec<RiskKind>>,
    /// More domains that hand out throw-away mailboxes, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) disposable: Vec<PathBuf>,
    /// More domains where anybody has a mailbox for nothing, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) free: Vec<PathBuf>,
    /// More local parts that belong to roles, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) role: Vec<PathBuf>,
    /// Rules for what replies mean, instead of the built-in ones (`smtp-pool explain --print-rules`)
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) rules: Option<PathBuf>,
    /// Providers and their limits, instead of the built-in ones (`smtp-pool plan --print-providers`)
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) providers: Option<PathBuf>,

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
    ///
    /// To open a connection takes four times as long at most, over all exchangers of a domain, and TCP connect no more than
    /// 30 s. A host that takes more than a fifth of it for an answer on average is given up once it lags behind by four
    /// times as long. Addresses without an answer are `unknown`, `timeout_exceeded`; `smtp-pool plan` tells the bound.
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
    pub(crate) tls: TlsMode,
    /// The port of mail exchangers
    #[arg(long, default_value_t = 25, help_heading = "Connections")]
    pub(crate) port: u16,
    /// Connections that may be open at once, to all servers together; slow hosts get a sixteenth while others wait
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Connections")]
    pub(crate) max_connections: NonZeroUsize,
}

/// What may make an accepted address risky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RiskKind {
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
  smtp-pool verify list.csv -o verdicts.csv                 # again, to go on after an interruption
  smtp-pool verify list.csv -o verdicts.csv --vocab zerobounce --metrics 127.0.0.1:9464
  smtp-pool verify contacts.jsonl.gz --column work_email --attempts 3 -o verdicts.jsonl.zst
  cut -f2 users.tsv | smtp-pool verify --syntax-only - > checked.jsonl
  smtp-pool verify --sandbox examples/addresses.csv
  smtp-pool verify list.txt --route 'example.com=127.0.0.1:2525' --route '*=relay.example.net'";
