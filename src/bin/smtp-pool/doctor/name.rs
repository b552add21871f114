//! Whether our name and our address know each other: what servers compare before anything else.

use std::net::IpAddr;

use smtp_pool::{proto::Host, verify::DomainFacts};

use super::{finding::Finding, plan::DoctorPlan};

pub(super) async fn check(plan: &DoctorPlan, ip: IpAddr) -> Vec<Finding> {
    vec![helo(plan, ip).await, ptr(plan, ip).await]
}

async fn helo(plan: &DoctorPlan, ip: IpAddr) -> Finding {
    let name = &plan.name;
    let domain = match name.host() {
        Host::Domain(domain) => domain,
        Host::Ipv4(literal) if IpAddr::V4(literal) == ip => return literal_warning(),
        Host::Ipv6(literal) if IpAddr::V6(literal) == ip => return literal_warning(),
        _ => {
            return Finding::failed("helo", format_args!("{name} is not our address, {ip}"))
                .advise("greet with a name of this machine: --helo mail.example.org");
        }
    };
    if DomainFacts::of(domain).free {
        return Finding::failed("helo", format_args!("{domain} is the name of a mail provider, not ours"))
            .advise("greet with a name of this machine; blocklists list whoever borrows another's");
    }
    match plan.dns.addresses(domain).await {
        Err(error) => Finding::unknown("helo", format_args!("{domain}: {error}")),
        Ok(ips) if ips.contains(&ip) => Finding::ok("helo", format_args!("{domain} resolves to {ip}")),
        Ok(ips) if ips.is_empty() => Finding::failed("helo", format_args!("{domain} does not resolve"))
            .advise(format_args!(
                "give {domain} an address record with {ip}, or greet with another name: --helo"
            )),
        Ok(ips) => {
            let list = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Finding::warning("helo", format_args!("{domain} resolves to {list}, not to {ip}")).advise(
                format_args!(
                    "add an address record with {ip} to {domain}, or greet with a name that has it: --helo"
                ),
            )
        }
    }
}

fn literal_warning() -> Finding {
    Finding::warning("helo", "an address instead of a name; many servers refuse that")
        .advise("greet with a name that resolves to the address: --helo mail.example.org")
}

async fn ptr(plan: &DoctorPlan, ip: IpAddr) -> Finding {
    let name = plan.name.as_str();
    let names = match plan.dns.names(ip).await {
        Err(error) => return Finding::unknown("ptr", format_args!("{ip}: {error}")),
        Ok(names) => names,
    };
    let advice = || {
        format!("whoever the address belongs to, mostly the hosting provider, sets its PTR record: {name}")
    };
    if names.is_empty() {
        return Finding::failed("ptr", format_args!("{ip} has no name")).advise(advice());
    }
    let list = names.join(", ");
    let mut confirmed = false;
    for name in names.iter().take(4) {
        confirmed |= plan.dns.addresses(name).await.is_ok_and(|ips| ips.contains(&ip));
    }
    match (confirmed, names.iter().any(|found| found == name)) {
        (true, true) => Finding::ok("ptr", format_args!("{ip} is {name}, and back")),
        (true, false) => {
            Finding::warning("ptr", format_args!("{ip} is {list}, and not {name}")).advise(advice())
        }
        (false, _) => Finding::failed("ptr", format_args!("{ip} is {list}, which does not lead back to it"))
            .advise(format_args!("{}, and {name} an address record with {ip}", advice())),
    }
}
