//! The arguments of `job`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use smtp_pool::verify::Status;

use crate::{exit::EXIT_CODES, output::Vocab};

/// Show or change a job, also while it runs
///
/// Reading needs only the right to read the job, also on a read-only file system. After a crash it may need the log of
/// the job, too (OUTPUT.job-wal). The error says so. Checksums protect the data: damage is an error, and never another
/// verdict.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Show rows and verdicts
    Status {
        /// The job: OUTPUT.job, or its output
        job: PathBuf,
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Write a record for each row that has one, in the order of the rows
    Results(ReadArgs),
    /// Write all rows, also those without a verdict, in the order of the rows
    Export(ReadArgs),
    /// Have addresses asked again, by the current run or by the next
    Retry {
        /// The job: OUTPUT.job, or its output
        job: PathBuf,
        /// Select addresses with one of these verdicts: a status or a sub-status
        #[arg(long, value_name = "STATUS", value_delimiter = ',', default_value = "unknown")]
        status: Vec<String>,
    },
    /// Show the differences between two jobs, address by address
    Diff {
        /// The earlier job, or its output
        before: PathBuf,
        /// The later job, or its output
        after: PathBuf,
        /// Print one JSON object for each address that differs, instead of counts
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The job: OUTPUT.job, or its output
    pub(crate) job: PathBuf,
    /// Where to write; the extension selects JSONL or CSV [default: JSONL on standard output]. An earlier output is
    /// replaced, and no other file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Use the field names and values of another service
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) vocab: Option<Vocab>,
    /// Write `'` in front of formulas also in the columns of your list
    ///
    /// CSV always does so for text from servers. Spreadsheets run cells that begin with `=`, `+`, `-`, `@`, a tab or a
    /// line end. To restore the text, remove a `'` in front of one of these. JSONL is never changed.
    #[arg(long)]
    pub(crate) escape_formulas: bool,
    /// Write only rows with one of these
    #[arg(long, value_enum, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<StatusName>,
}

/// A status of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusName {
    Deliverable,
    Undeliverable,
    Risky,
    Unknown,
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Deliverable => Self::Deliverable,
            StatusName::Undeliverable => Self::Undeliverable,
            StatusName::Risky => Self::Risky,
            StatusName::Unknown => Self::Unknown,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool job status out.csv.job
  smtp-pool job results out.csv.job --status deliverable > good.jsonl
  smtp-pool job retry out.csv.job --status unknown && smtp-pool verify list.csv -o out.csv
  smtp-pool job diff january.csv.job june.csv.job
  smtp-pool job export out.csv.job --vocab kickbox -o kickbox.csv";
