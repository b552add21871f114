//! Looks at one thing after the other, and prints each finding as it comes.

use std::{net::IpAddr, time::Duration};

use smtp_pool::{net::is_public, proto::ClientName};

use super::{
    args::DoctorArgs,
    blocklist, clock,
    dns::Dns,
    finding::{Finding, State},
    limits, name, outward,
};
use crate::{
    exit::{At, Exit, Failure, Result},
    identity::{self, Audience},
    options::seconds,
    route::host_and_port,
    terminal::Terminal,
};

pub(crate) struct Plan {
    pub(super) name: ClientName,
    pub(super) bind: Option<IpAddr>,
    pub(super) ip: Option<IpAddr>,
    pub(super) servers: Vec<(String, u16)>,
    pub(super) blocklists: Vec<String>,
    pub(super) ntp: (String, u16),
    pub(super) dns: Dns,
    pub(super) timeout: Duration,
    pub(super) json: bool,
}

impl Plan {
    pub(crate) fn new(args: &DoctorArgs) -> Result<Self> {
        let name = identity::client_name(args.helo.as_deref(), Audience::World)?;
        let place = |flag: &str, text: &str, port| {
            let (host, port) =
                host_and_port(text, port).map_err(|failure| failure.within(format_args!("{flag} {text}")))?;
            Ok::<_, Failure>((host.to_owned(), port))
        };
        let servers = args.servers.iter().map(|text| place("--server", text, 25)).collect::<Result<_>>()?;
        let blocklists = args.blocklists.iter().map(|zone| blocklist::zone(zone)).collect::<Result<_>>()?;
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

pub(crate) async fn run(plan: Plan) -> Result<Exit> {
    let mut sick = false;
    let mut tell = |findings: Vec<Finding>| {
        for finding in findings {
            sick |= finding.state == State::Failed;
            finding.print(&mut Terminal::out(), plan.json).failed_at("standard output")?;
        }
        Terminal::out().flush().failed_at("standard output")
    };
    let reached = outward::check(&plan).await;
    tell(reached.findings)?;
    match plan.ip.or(reached.ours.filter(|&ip| is_public(ip))) {
        Some(ip) => {
            tell(name::check(&plan, ip).await)?;
            tell(blocklist::check(&plan, ip).await)?;
        }
        None => tell(vec![
            Finding::unknown("address", "what our address is to others could not be found out")
                .advise("give it with --ip, so that its name and the blocklists can be looked up"),
        ])?,
    }
    tell(limits::check())?;
    tell(vec![clock::check(&plan).await])?;
    Ok(if sick { Exit::Failed } else { Exit::Done })
}
