//! The arguments of `job`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use smtp_pool::verify::Status;

use crate::{exit::EXIT_CODES, output::Vocab};

/// Look at a job, or change what it has to do; also while it runs
///
/// To look needs no more than the right to read the job, also on a read-only file system. A job that was not left in
/// order may need its log as well (OUTPUT.job-wal); the error says so. What is read is held against checksums: damage is
/// an error, and no other verdict.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// How it stands: rows and verdicts
    Status {
        /// The job: OUTPUT.job, or its output
        job: PathBuf,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What is known so far, a record for each row that has one, in the order of the rows
    Results(ReadArgs),
    /// All rows, also those that nothing is known of yet, in the order of the rows
    Export(ReadArgs),
    /// Have addresses asked once more, by the run that is going on or by the next
    Retry {
        /// The job: OUTPUT.job, or its output
        job: PathBuf,
        /// Those with one of these verdicts: a status or a sub-status
        #[arg(long, value_name = "STATUS", value_delimiter = ',', default_value = "unknown")]
        status: Vec<String>,
    },
    /// What differs between two jobs, address by address
    Diff {
        /// The earlier job, or its output
        before: PathBuf,
        /// The later job, or its output
        after: PathBuf,
        /// One line of JSON for each address that differs, instead of counts
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The job: OUTPUT.job, or its output
    pub(crate) job: PathBuf,
    /// Where to write to, as JSONL or CSV by the extension; JSONL on standard output by default. An earlier output is
    /// replaced, and no other file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Field names and values of another service
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) vocab: Option<Vocab>,
    /// Write a `'` in front of formulas in the columns of your list too, as CSV always does for words of servers
    ///
    /// Spreadsheets run cells that begin with `=`, `+`, `-`, `@`, a tab or a line end. To get the text back, take the
    /// `'` away where one of these follows it. JSONL is never changed.
    #[arg(long)]
    pub(crate) escape_formulas: bool,
    /// Only rows with one of these
    #[arg(long, value_enum, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<StatusName>,
}

/// A status.
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
