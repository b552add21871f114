//! The arguments of `doctor`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use crate::{exit::EXIT_CODES, options::nameserver};

/// Find out whether this machine is fit to ask mail servers, and what to do where it is not
///
/// Looked at: whether port 25 is open outward; whether our name resolves to our address, and the address to the name;
/// whether the address is on blocklists; how many files and ports there are to work with; the clock. No message is
/// sent: a server is connected to, greeted, and left.
///
/// It ends with 1 if something is wrong that keeps addresses from being verified.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct DoctorArgs {
    /// Our own name, for EHLO; by default the fully qualified name of this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: Option<String>,
    /// The local address to connect from
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Our address as others see it; by default what a server says of it, or that of the connection
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<IpAddr>,
    /// A mail server to reach; the port is 25 unless given
    #[arg(
        long = "server",
        value_name = "HOST[:PORT]",
        default_values = ["gmail-smtp-in.l.google.com", "mx-eu.mail.am0.yahoodns.net"]
    )]
    pub(crate) servers: Vec<String>,
    /// A DNS blocklist to look our address up in
    #[arg(long = "blocklist", value_name = "ZONE", default_values = ["zen.spamhaus.org", "bl.spamcop.net"])]
    pub(crate) blocklists: Vec<String>,
    /// A time server to compare the clock with; the port is 123 unless given
    #[arg(long, value_name = "HOST[:PORT]", default_value = "pool.ntp.org")]
    pub(crate) ntp: String,
    /// A DNS server, instead of those of the system
    #[arg(long = "nameserver", value_name = "IP[:PORT]", value_parser = nameserver)]
    pub(crate) nameservers: Vec<SocketAddr>,
    /// How long to wait for each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// One JSON object for each finding instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool doctor --helo verifier.example.org
  smtp-pool doctor --bind 192.0.2.7 --blocklist zen.spamhaus.org --blocklist b.barracudacentral.org
  smtp-pool doctor --server mx.example.com --nameserver 192.0.2.53 --json";
