//! The arguments of `sandbox`.

use std::path::PathBuf;

use clap::Args;

use crate::exit::EXIT_CODES;

/// Start the sandbox, a small world of mail servers on loopback, and print the routes to it
///
/// It runs until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct SandboxArgs {
    /// The description of the world [default: the built-in world]
    #[arg(value_name = "WORLD.toml")]
    pub(crate) world: Option<PathBuf>,
    /// Print the description of the built-in world and end
    #[arg(long, conflicts_with = "world")]
    pub(crate) print_world: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool sandbox
  smtp-pool sandbox --print-world > world.toml
  smtp-pool verify --sandbox=world.toml list.csv";
