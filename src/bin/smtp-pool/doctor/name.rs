//! Checks that our name and our address resolve to each other, which mail servers compare first.

use std::net::IpAddr;

use smtp_pool::{
    proto::{ClientName, Host},
    verify::DomainFacts,
};

use super::{finding::Finding, plan::DoctorPlan};
use crate::identity::{NAME_ADVICE, NO_NAME};

pub(super) async fn check(plan: &DoctorPlan, ip: IpAddr) -> Vec<Finding> {
    match &plan.name {
        Some(name) => vec![helo(plan, name, ip).await, ptr(plan, name.as_str(), ip).await],
        None => vec![ptr(plan, "a name of this machine", ip).await],
    }
}

/// Returns the finding about a machine without a name.
pub(super) fn missing() -> Finding {
    Finding::failed("helo", NO_NAME).advise(NAME_ADVICE)
}

async fn helo(plan: &DoctorPlan, name: &ClientName, ip: IpAddr) -> Finding {
    let domain = match name.host() {
        Host::Domain(domain) => domain,
        Host::Ipv4(literal) if IpAddr::V4(literal) == ip => return literal_warning(),
        Host::Ipv6(literal) if IpAddr::V6(literal) == ip => return literal_warning(),
        _ => {
            return Finding::failed("helo", format_args!("EHLO names {name}, but our address is {ip}"))
                .advise("give a name of this machine: --helo mail.example.org");
        }
    };
    if DomainFacts::of(domain).free {
        return Finding::failed("helo", format_args!("{domain} is the name of a mail provider, not ours"))
            .advise("give a name of this machine with --helo; blocklists list clients that use the name of another");
    }
    match plan.dns.addresses(domain).await {
        Err(error) => Finding::unknown("helo", format_args!("{domain}: {error}")),
        Ok(ips) if ips.contains(&ip) => Finding::ok("helo", format_args!("{domain} resolves to {ip}")),
        Ok(ips) if ips.is_empty() => Finding::failed("helo", format_args!("{domain} does not resolve"))
            .advise(format_args!(
                "add an address record with {ip} to {domain}, or give another name with --helo"
            )),
        Ok(ips) => {
            let list = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Finding::warning("helo", format_args!("{domain} resolves to {list}, not to {ip}")).advise(
                format_args!(
                    "add an address record with {ip} to {domain}, or give a name that has one with --helo"
                ),
            )
        }
    }
}

fn literal_warning() -> Finding {
    Finding::warning("helo", "EHLO names an address instead of a domain; many servers refuse that")
        .advise("give a name that resolves to the address: --helo mail.example.org")
}

async fn ptr(plan: &DoctorPlan, name: &str, ip: IpAddr) -> Finding {
    let names = match plan.dns.names(ip).await {
        Err(error) => return Finding::unknown("ptr", format_args!("{ip}: {error}")),
        Ok(names) => names,
    };
    let advice =
        || format!("ask the owner of the address, mostly the hosting provider, for a PTR record with {name}");
    if names.is_empty() {
        return Finding::failed("ptr", format_args!("{ip} has no PTR record")).advise(advice());
    }
    let list = names.join(", ");
    let mut confirmed = false;
    for name in names.iter().take(4) {
        confirmed |= plan.dns.addresses(name).await.is_ok_and(|ips| ips.contains(&ip));
    }
    match (confirmed, names.iter().any(|found| found == name)) {
        (true, true) => Finding::ok("ptr", format_args!("{ip} resolves to {name}, and {name} to {ip}")),
        (true, false) => {
            Finding::warning("ptr", format_args!("{ip} resolves to {list}, not to {name}")).advise(advice())
        }
        (false, _) => Finding::failed(
            "ptr",
            format_args!("{ip} resolves to {list}, but none of these names resolves to {ip}"),
        )
        .advise(format_args!("{}, and add an address record with {ip} to {name}", advice())),
    }
}
