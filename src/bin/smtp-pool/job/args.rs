//! The arguments of `job`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    clean::CleanRuleArgs, exit::EXIT_CODES, filter::FilterArgs, options::ListArgs, output::RecordArgs,
};

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
        /// Which addresses [default: --status unknown]
        #[command(flatten)]
        filter: FilterArgs,
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
    /// Where to write; the extension selects JSONL, CSV or TSV [default: JSONL on standard output]. An earlier output is
    /// replaced, and no other file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) records: RecordArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Write the list itself with the rows to keep, as `smtp-pool clean` does, instead of records
    #[arg(long, conflicts_with_all = ["vocab", "escape_formulas", "append", "csv_delimiter", "bom"], help_heading = "The cleaned list")]
    pub(crate) clean: bool,
    #[command(flatten)]
    pub(crate) rule: CleanRuleArgs,
    #[command(flatten)]
    pub(crate) lists: ListArgs,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool job status out.csv.job
  smtp-pool job results out.csv.job --status deliverable > good.jsonl
  smtp-pool job results out.csv.job --clean --keep deliverable,risky:catch_all -o clean.csv
  smtp-pool job retry out.csv.job --status unknown --provider google && smtp-pool verify list.csv -o out.csv
  smtp-pool job diff january.csv.job june.csv.job
  smtp-pool job export out.csv.job --vocab kickbox -o kickbox.csv";
