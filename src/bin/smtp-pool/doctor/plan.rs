//! The plan of a run of `doctor`. Making it finds every error of usage before the run starts.

use std::{net::IpAddr, time::Duration};

use smtp_pool::proto::{ClientName, Domain};

use super::{args::DoctorArgs, dns::Dns};
use crate::{
    exit::{ErrorContext, Failure, Result},
    identity,
    options::seconds,
    route::host_and_port,
};

pub(crate) struct DoctorPlan {
    /// Our own name. `None` if this machine has none, which is a finding.
    pub(super) name: Option<ClientName>,
    pub(super) bind: Option<IpAddr>,
    pub(super) ip: Option<IpAddr>,
    pub(super) servers: Vec<(String, u16)>,
    pub(super) blocklists: Vec<String>,
    pub(super) ntp: (String, u16),
    pub(super) dns: Dns,
    pub(super) timeout: Duration,
    pub(super) json: bool,
}

impl DoctorPlan {
    pub(crate) fn new(args: &DoctorArgs) -> Result<Self> {
        let name = identity::client_name_if_any(args.helo.as_deref())?;
        let place = |flag: &str, text: &str, port| {
            let (host, port) =
                host_and_port(text, port).map_err(|failure| failure.within(format_args!("{flag} {text}")))?;
            Ok::<_, Failure>((host.to_owned(), port))
        };
        let servers = args.servers.iter().map(|text| place("--server", text, 25)).collect::<Result<_>>()?;
        let blocklists = args.blocklists.iter().map(|zone| zone_name(zone)).collect::<Result<_>>()?;
        let timeout = seconds("--timeout", args.timeout, 0.001)?;
        Ok(Self {
            name,
            bind: args.bind,
            ip: args.ip,
            servers,
            blocklists,
            ntp: place("--ntp", &args.ntp, 123)?,
            dns: Dns::new(&args.nameservers, timeout)?,
            timeout,
            json: args.json,
        })
    }
}

/// Returns the zone of a blocklist without the dot at its end.
fn zone_name(name: &str) -> Result<String> {
    let domain = Domain::parse(name.trim_end_matches('.')).usage_at(format_args!("--blocklist {name}"))?;
    Ok(domain.as_str().to_owned())
}
