//! The arguments of `clean`.

use std::path::PathBuf;

use clap::Args;

use crate::{exit::EXIT_CODES, filter::VerdictKind, verify::VerifyArgs};

/// Verify a list, and write it again with the rows to keep: the list as it was, without the others
///
/// Columns, their order, delimiter, quotes, encoding, byte order mark and line ends stay as they are: each row is copied
/// octet by octet. Nothing is added. Lines before the first row are kept, and so are blank lines and comments of a text.
///
/// The verdicts are kept in OUT.job, or in DIR.job with `--split`. The same command continues after an interruption.
/// `smtp-pool job results OUT.job --clean` writes the list again by another rule, and asks no server.
///
/// A list is one file of text, CSV or JSONL, compressed or not. The extension of OUT selects its compression.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    pub(crate) rule: CleanRuleArgs,
    #[command(flatten)]
    pub(crate) verify: VerifyArgs,
}

/// Which rows of a list to keep, and where to write them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CleanRuleArgs {
    /// The rows to keep: statuses, sub-statuses, both as in `risky:catch_all`, or `all` [default: deliverable, with
    /// --split all]
    #[arg(long, value_name = "VERDICTS", value_delimiter = ',', help_heading = "The cleaned list")]
    pub(crate) keep: Vec<VerdictKind>,
    /// Keep only the first row of each mailbox, by its `normal_form`
    #[arg(long, help_heading = "The cleaned list")]
    pub(crate) unique: bool,
    /// Write one file for each status into this folder, as in DIR/deliverable.csv
    #[arg(long, value_name = "DIR", conflicts_with = "output", help_heading = "The cleaned list")]
    pub(crate) split: Option<PathBuf>,
    /// Replace the output if it exists. A list or a job is never replaced
    #[arg(long, help_heading = "The cleaned list")]
    pub(crate) replace: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool clean list.csv -o clean.csv
  smtp-pool clean list.csv -o clean.csv --keep deliverable,risky:catch_all --unique
  smtp-pool clean list.csv --split cleaned                   # cleaned/deliverable.csv, cleaned/risky.csv, …
  smtp-pool job results clean.csv.job --clean --keep risky -o risky.csv";
