//! The arguments of `doctor`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use crate::{exit::EXIT_CODES, options::nameserver};

/// Check whether this machine is fit to ask mail servers, and say what to do where it is not
///
/// Checks outgoing port 25, our name and our address, blocklists, the limits of files and ports, and the clock. It
/// connects to a mail server, greets it and leaves. It sends no message.
///
/// The exit code is 1 if something prevents verification.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct DoctorArgs {
    /// Our own name, for EHLO [default: the fully qualified name of this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: Option<String>,
    /// The local address to connect from
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Our address as others see it [default: what a server reports, or the address of the connection]
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<IpAddr>,
    /// A mail server to reach; the default port is 25
    #[arg(
        long = "server",
        value_name = "HOST[:PORT]",
        default_values = ["gmail-smtp-in.l.google.com", "mx-eu.mail.am0.yahoodns.net"]
    )]
    pub(crate) servers: Vec<String>,
    /// A DNS blocklist to look up our address in
    #[arg(long = "blocklist", value_name = "ZONE", default_values = ["zen.spamhaus.org", "bl.spamcop.net"])]
    pub(crate) blocklists: Vec<String>,
    /// A time server to compare the clock with; the default port is 123
    #[arg(long, value_name = "HOST[:PORT]", default_value = "pool.ntp.org")]
    pub(crate) ntp: String,
    /// A DNS server, instead of the DNS servers of the system
    #[arg(long = "nameserver", value_name = "IP[:PORT]", value_parser = nameserver)]
    pub(crate) nameservers: Vec<SocketAddr>,
    /// How long to wait for each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// Print one JSON object for each finding instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool doctor --helo verifier.example.org
  smtp-pool doctor --bind 192.0.2.7 --blocklist zen.spamhaus.org --blocklist b.barracudacentral.org
  smtp-pool doctor --server mx.example.com --nameserver 192.0.2.53 --json";
