use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use super::gate::BounceGate;
use crate::{
    exit::EXIT_CODES,
    options::{ListArgs, TlsMode, nameserver},
    output::RecordArgs,
};

/// Verify addresses: does the mailbox exist?
///
/// Each address gets one record, in the order of the answers. A row without an address is reported with its line
/// number. It gets a record with `failed_syntax_check`.
///
/// A list is text, CSV, JSONL, a JSON array or a workbook (xlsx, xls), also compressed by gzip, Zstandard, bzip2 or xz.
/// Its content tells the format, the encoding, the delimiter, the header and the column, and one line says what was
/// understood. If most cells are no addresses, nothing is asked, and the exit code is 2.
///
/// Spaces around an address are ignored, and so are a name, `mailto:` and quotes. Several addresses in a cell give several
/// records. A row has at most 4 MiB, in JSON 1 MiB. Replies, and values that are no addresses, are cut after 1 KiB. They
/// then end with `…`.
///
/// Lists that are files, with an output that is a file, make a job. `-o out.csv` keeps the verdicts in `out.csv.job`.
/// The same command continues the job after any interruption. It writes the output at the end, in the order of the
/// lists. `smtp-pool job results out.csv.job` shows the verdicts at any time.
///
/// A job asks once about an address that occurs several times. Without a job, each row is asked about. A job recognizes
/// its lists by their content. Only its owner can read it.
///
/// An output gets its name when it is complete. Until then an earlier output stays. A list, a job or any other file
/// that smtp-pool did not write is never replaced.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct VerifyArgs {
    /// Lists, addresses, or `-` for standard input. An argument with an `@` that is no file is an address
    #[arg(value_name = "FILE|-|ADDRESS")]
    pub(crate) inputs: Vec<String>,

    /// Where to write; the extension selects JSONL, CSV or TSV, also with .gz or .zst [default: JSONL on standard output]
    ///
    /// A pipe or a device whose name has no such extension gets JSONL.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) records: RecordArgs,
    /// Write records in the order of the rows, as a job always does
    ///
    /// Records that wait for earlier rows stay in memory. Above 64 MiB, no further row is read until they are written.
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_order: bool,
    /// Start the job again from nothing
    #[arg(long, requires = "output", help_heading = "Output")]
    pub(crate) restart: bool,

    #[command(flatten)]
    pub(crate) lists: ListArgs,

    /// Write only errors to standard error: no progress, no tables
    #[arg(short, long, help_heading = "On the screen")]
    pub(crate) quiet: bool,
    /// Write progress to standard error as one JSON object a second
    #[arg(long, conflicts_with = "quiet", help_heading = "On the screen")]
    pub(crate) json_progress: bool,
    /// End with exit code 4 if more rows would bounce than this limit, as in `bounce=5%`
    ///
    /// The rate is the share of undeliverable rows among the deliverable, risky and undeliverable ones.
    #[arg(long, value_name = "LIMIT", help_heading = "On the screen")]
    pub(crate) gate: Option<BounceGate>,
    /// Serve metrics for Prometheus at /metrics, and /health, during the run; use 127.0.0.1 for this machine alone
    #[arg(long, value_name = "ADDR:PORT", help_heading = "On the screen")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Check the syntax only, without any network
    #[arg(long, conflicts_with_all = ["sandbox", "routes"], help_heading = "What to ask")]
    pub(crate) syntax_only: bool,
    /// How often to ask while the answer is temporary [default: 5 in a job, else 1]
    ///
    /// Without a job, at most 262,144 addresses wait for another attempt. Then no further row is read.
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
    /// Which accepted addresses are risky [default: disposable]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS", help_heading = "What to ask")]
    pub(crate) risky: Option<Vec<RiskKind>>,
    /// A file with more domains of throw-away mailboxes, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) disposable: Vec<PathBuf>,
    /// A file with more domains of free mailboxes, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) free: Vec<PathBuf>,
    /// A file with more local parts of roles, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) role: Vec<PathBuf>,
    /// Rules for the meaning of replies, instead of the built-in rules (`smtp-pool explain --print-rules`)
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) rules: Option<PathBuf>,
    /// Providers and their limits, instead of the built-in providers (`smtp-pool plan --print-providers`)
    #[arg(long, value_name = "FILE", help_heading = "What to ask")]
    pub(crate) providers: Option<PathBuf>,

    /// Our own name, for EHLO [default: the fully qualified name of this machine]
    #[arg(long, value_name = "NAME", help_heading = "Who asks")]
    pub(crate) helo: Option<String>,
    /// The sender in MAIL; `<>` is the null sender
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

    /// Ask the servers of a sandbox: the built-in world, or that of the file
    #[arg(
        long,
        value_name = "WORLD.toml",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with = "routes",
        help_heading = "Which servers"
    )]
    pub(crate) sandbox: Option<Option<PathBuf>>,
    /// Where the mail of a domain goes, instead of asking the DNS; `*` is every other domain
    ///
    /// Several hosts for one domain are tried in order. `.` as the host says that the domain takes no mail.
    #[arg(long = "route", value_name = "DOMAIN=HOST[:PORT]", help_heading = "Which servers")]
    pub(crate) routes: Vec<String>,
    /// A DNS server, instead of the DNS servers of the system
    #[arg(long = "nameserver", value_name = "IP[:PORT]", value_parser = nameserver, help_heading = "Which servers")]
    pub(crate) nameservers: Vec<SocketAddr>,
    /// Ask mail servers with private, loopback and link-local addresses as well
    #[arg(long, help_heading = "Which servers")]
    pub(crate) allow_private: bool,

    /// How long to wait for each reply, in seconds
    ///
    /// Opening a connection takes at most four times this long, over all servers of a domain, and TCP connect at most
    /// 30 s.
    ///
    /// A host is slow if an answer takes more than a fifth of this time on average. It is given up when it lags
    /// behind by four times this long. `smtp-pool plan` shows the limit. Addresses without an answer are `unknown`,
    /// `timeout_exceeded`.
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
    /// Trust the root certificates in this PEM file as well, for `--tls required` and `implicit`
    #[arg(long, value_name = "FILE", help_heading = "Connections")]
    pub(crate) ca: Option<PathBuf>,
    /// The port of mail servers
    #[arg(long, default_value_t = 25, help_heading = "Connections")]
    pub(crate) port: u16,
    /// The maximum number of connections to all servers together; slow hosts get a sixteenth while others wait
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Connections")]
    pub(crate) max_connections: NonZeroUsize,
}

/// A kind of accepted address that counts as risky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RiskKind {
    /// Mailboxes of roles, as in info@
    Role,
    /// Throw-away mailboxes
    Disposable,
    /// No accepted address is risky
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
