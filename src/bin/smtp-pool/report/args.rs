//! The arguments of `report`.

use std::path::PathBuf;

use clap::Args;

use crate::exit::EXIT_CODES;

/// Write a page about a job: verdicts, providers, throughput, latencies and blocked lanes of all its runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ReportArgs {
    /// The job: OUTPUT.job, or its output
    pub(crate) job: PathBuf,
    /// The page. An earlier report is replaced, and no other file
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool report out.csv.job -o report.html";
