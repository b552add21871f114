//! Checks whether our address is on DNS blocklists (RFC 5782).

use std::net::IpAddr;

use super::{finding::Finding, plan::DoctorPlan};

pub(super) async fn check(plan: &DoctorPlan, ip: IpAddr) -> Vec<Finding> {
    let mut findings = Vec::new();
    for zone in &plan.blocklists {
        findings.push(ask(plan, ip, zone).await);
    }
    findings
}

async fn ask(plan: &DoctorPlan, ip: IpAddr, zone: &str) -> Finding {
    let codes = match plan.dns.listing(ip, zone).await {
        Err(error) => return Finding::unknown("blocklist", format_args!("{zone}: {error}")),
        Ok(codes) => codes,
    };
    // 127.0.0.0/8 means listed (2.1). Spamhaus and others answer with 127.255.255.0/24 if the query is wrong.
    let octets = |code: &IpAddr| match code {
        IpAddr::V4(code) => code.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    if codes.is_empty() {
        Finding::ok("blocklist", format_args!("{ip} is not in {zone}"))
    } else if codes.iter().any(|code| matches!(octets(code), [127, 255, 255, _])) {
        Finding::unknown("blocklist", format_args!("{zone} does not answer queries from our DNS server"))
            .advise("blocklists refuse public resolvers; name a resolver of your own with --nameserver")
    } else if codes.iter().any(|code| octets(code)[0] == 127) {
        let codes = codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let reason = plan.dns.reason(ip, zone).await.map(|text| format!(": {text}")).unwrap_or_default();
        Finding::failed("blocklist", format_args!("{ip} is in {zone} ({codes}){reason}"))
            .advise("end the cause of the listing, then ask the blocklist to remove the address")
    } else {
        Finding::unknown(
            "blocklist",
            format_args!("{zone} is no blocklist: its answer is outside of 127.0.0.0/8"),
        )
        .advise("the blocklist may have closed; name another one with --blocklist")
    }
}
