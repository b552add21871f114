//! Looks at one thing after the other, and prints each finding as it comes.

use smtp_pool::net::is_public;

use super::{
    blocklist, clock,
    finding::{Finding, State},
    limits, name, outward,
    plan::DoctorPlan,
};
use crate::{
    exit::{At, Exit, Result},
    terminal::Terminal,
};

pub(crate) async fn run(plan: DoctorPlan) -> Result<Exit> {
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
