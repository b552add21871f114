//! The arguments of `explain`.

use std::path::PathBuf;

use clap::Args;

use crate::exit::EXIT_CODES;

/// Explain replies of mail servers: what they mean, who they speak about, and which rule decides
///
/// It reads replies, and log lines of Postfix, Exim and Sendmail. In a log line it finds the reply: `smtp; 550 5.1.1
/// …`, `host mx said: 550 …`, `stat=User unknown`. It also finds the reason for a missing reply: `connect to mx:
/// Connection timed out`.
///
/// `\r\n` and `\n` typed literally are line ends. Lines that are not UTF-8 are decoded.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ExplainArgs {
    /// Replies, or `-` for standard input (the default): one reply a line, or JSON objects with `reply` and `stage`
    #[arg(value_name = "REPLY")]
    pub(crate) replies: Vec<String>,
    /// Print one JSON object for each reply: status, sub_status, blame, retry, rule, subject (who), predicate (what)
    #[arg(long)]
    pub(crate) json: bool,
    /// The command that the replies answer, if the input does not say: banner, ehlo, starttls, auth, mail, rcpt, data
    #[arg(long, value_name = "STAGE", default_value = "unknown")]
    pub(crate) stage: String,
    /// The rules to use instead of the built-in rules
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the built-in rules and end
    #[arg(long, conflicts_with_all = ["replies", "json", "rules"])]
    pub(crate) print_rules: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool explain '550 5.1.1 User unknown'
  smtp-pool explain --stage mail '550 5.7.1 Client host blocked using zen.spamhaus.org'
  grep 'status=bounced' mail.log | smtp-pool explain --json -
  smtp-pool explain --print-rules > rules.toml";
