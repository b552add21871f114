//! Makes one check after the other, and prints each finding at once.

use smtp_pool::net::is_public;

use super::{
    blocklist, clock,
    finding::{CheckState, Finding},
    limits, name, outward,
    plan::DoctorPlan,
};
use crate::{
    exit::{ErrorContext, Exit, Result},
    terminal::Terminal,
};

pub(crate) async fn run(plan: DoctorPlan) -> Result<Exit> {
    let mut failed = false;
    let mut print = |findings: Vec<Finding>| {
        for finding in findings {
            failed |= finding.state == CheckState::Failed;
            finding.print(&mut Terminal::out(), plan.json).failed_at("standard output")?;
        }
        Terminal::out().flush().failed_at("standard output")
    };
    if plan.name.is_none() {
        print(vec![name::missing()])?;
    }
    let reached = outward::check(&plan).await;
    print(reached.findings)?;
    match plan.ip.or(reached.ours.filter(|&ip| is_public(ip))) {
        Some(ip) => {
            print(name::check(&plan, ip).await)?;
            print(blocklist::check(&plan, ip).await)?;
        }
        None => print(vec![Finding::unknown("address", "no server reported our address").advise(
            "give your public address with --ip, so that its name and the blocklists can be checked",
        )])?,
    }
    print(limits::check())?;
    print(vec![clock::check(&plan).await])?;
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
