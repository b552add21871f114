//! The arguments of `plan`.

use clap::Args;

use crate::{exit::EXIT_CODES, verify::VerifyArgs};

/// Show what it takes to verify lists, without asking any mail server
///
/// Reads the lists, looks up the mail servers of their domains, and counts the addresses of each provider.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct PlanArgs {
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// How many providers have a line of their own
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,
    /// Print the built-in providers with their limits, and end
    #[arg(long)]
    pub(crate) print_providers: bool,
    #[command(flatten)]
    pub(crate) verify: VerifyArgs,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool plan list.csv
  smtp-pool plan --print-providers > providers.toml
  smtp-pool plan --sandbox examples/addresses.csv --json";
