//! The arguments of `explain`.

use std::path::PathBuf;

use clap::Args;

use crate::exit::EXIT_CODES;

/// Tell what replies of mail servers mean, who they speak of, and which rule says so
///
/// For people with bounce logs. Lines of logs of Postfix, Exim and Sendmail are searched for the reply in them: `smtp;
/// 550 5.1.1 …`, `host mx said: 550 …`, `stat=User unknown`; or for why there was none: `connect to mx: Connection timed
/// out`. `\r\n` and `\n` typed literally are line ends. Lines that are not UTF-8 are decoded.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ExplainArgs {
    /// Replies, or `-` for standard input (the default): a reply a line, or JSON objects with `reply` and `stage`
    #[arg(value_name = "REPLY")]
    pub(crate) replies: Vec<String>,
    /// One line of JSON for each reply: status, sub_status, blame, retry, rule, subject (who), predicate (what)
    #[arg(long)]
    pub(crate) json: bool,
    /// The command that the replies answer, where the input does not say: banner, ehlo, starttls, auth, mail, rcpt, data
    #[arg(long, value_name = "STAGE", default_value = "unknown")]
    pub(crate) stage: String,
    /// Rules to go by instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the built-in rules, a start for your own, and end
    #[arg(long, conflicts_with_all = ["replies", "json", "rules"])]
    pub(crate) print_rules: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool explain '550 5.1.1 User unknown'
  smtp-pool explain --stage mail '550 5.7.1 Client host blocked using zen.spamhaus.org'
  grep 'status=bounced' mail.log | smtp-pool explain --json -
  smtp-pool explain --print-rules > rules.toml";
