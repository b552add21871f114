//! Checks whether mail servers can be reached, and finds out our address as they see it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smtp_pool::{
    client::{Session, Timeouts},
    metrics::Metrics,
    net::{Dialer, is_public},
    proto::{ClientName, Command, Reply},
};

use super::{finding::Finding, plan::DoctorPlan};

pub(super) struct ReachResult {
    pub(super) findings: Vec<Finding>,
    /// Our address, as a server reported it or as the connection has it.
    pub(super) ours: Option<IpAddr>,
}

/// A server that answered.
struct GreetedServer {
    banner: Reply,
    local: Option<IpAddr>,
    /// Our address, if the answer to EHLO names it.
    seen: Option<IpAddr>,
}

pub(super) async fn check(plan: &DoctorPlan) -> ReachResult {
    let mut reached = ReachResult { findings: vec![], ours: None };
    let mut open = false;
    for (host, port) in &plan.servers {
        let finding = match greet(plan, host, *port).await {
            Ok(greeted) => {
                open = true;
                let ours = greeted.seen.or(greeted.local);
                reached.ours = reached.ours.filter(|&ip| is_public(ip)).or(ours);
                if greeted.banner.is_positive() {
                    Finding::ok("outward", format_args!("{host}:{port} answered: {}", greeted.banner))
                } else {
                    Finding::warning(
                        "outward",
                        format_args!("{host}:{port} refused us: {}", greeted.banner),
                    )
                    .advise(
                        "see the findings below about our address and its name, or ask the postmaster of the server",
                    )
                }
            }
            Err(error) => Finding::warning("outward", format_args!("{host}:{port}: {error}")),
        };
        reached.findings.push(finding);
    }
    let ports = if plan.servers.iter().all(|(_, port)| *port == 25) { "port 25" } else { "that port" };
    reached.findings.push(match open {
        true => Finding::ok("port", "outgoing connections work"),
        false => Finding::failed("port", "no server could be reached").advise(format_args!(
            "home connections and most clouds block {ports}: ask your provider to open it, or \
             use another machine; first make sure that this machine is online"
        )),
    });
    reached
}

/// Connects, greets the server, and quits.
async fn greet(plan: &DoctorPlan, host: &str, port: u16) -> Result<GreetedServer, String> {
    let ips = plan.dns.addresses(host).await?;
    if ips.is_empty() {
        return Err("no such host".into());
    }
    let addrs: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let mut dialer = Dialer::default();
    (dialer.bind, dialer.timeout) = (plan.bind, plan.timeout);
    let stream = dialer.dial(&addrs).await.map_err(|error| chain(&error))?;
    let local = stream.local_addr().ok().map(|addr| addr.ip());
    let mut session = Session::new(stream, Timeouts::all(plan.timeout), Metrics::new().server(host));
    let (_, banner) = session.reply().await.map_err(|error| chain(&error))?;
    let mut seen = None;
    if banner.is_positive() {
        // A server that refuses EHLO has been reached. A client without a name gives its address (RFC 5321 4.1.4).
        let name = plan
            .name
            .clone()
            .or_else(|| ClientName::parse(&literal(local.unwrap_or(Ipv4Addr::LOCALHOST.into()))).ok());
        if let Some(name) = name {
            seen = session.greet(&Command::Ehlo(name)).await.ok().and_then(|reply| own_address(&reply));
        }
        let _ = session.quit().await;
    }
    Ok(GreetedServer { banner, local, seen })
}

/// Returns an address as a literal (RFC 5321 4.1.3).
fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// Returns our address from an answer to EHLO: `mx.example.com at your service, [192.0.2.7]`.
fn own_address(reply: &Reply) -> Option<IpAddr> {
    let first = String::from_utf8_lossy(reply.lines().next()?).into_owned();
    let words = first.split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | '(' | ')' | ',' | ';'));
    words.filter_map(|word| word.trim_start_matches("IPv6:").parse().ok()).find(|&ip| is_public(ip))
}

/// Returns the error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_report_our_address() {
        let seen = |line: &str| {
            own_address(&Reply::parse(format!("250-{line}\r\n250 SIZE\r\n").as_bytes()).unwrap())
        };
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(seen("mx.example.com at your service, [9.9.9.9]"), ip("9.9.9.9"));
        assert_eq!(seen("mx Hello a.test (IPv6:2620:fe::fe), pleased to meet you"), ip("2620:fe::fe"));
        assert_eq!(seen("mx.example.com Hello [10.0.0.1]"), None);
        assert_eq!(seen("mx.example.com"), None);
    }
}
