//! Starts a world, prints its routes, and waits for an interruption.

use std::pin::pin;

use smtp_pool::sandbox::{HostRoute, Sandbox, World};
use tokio::select;

use super::args::SandboxArgs;
use crate::{
    exit::{ErrorContext, Exit, Result},
    options::read_world,
    stop,
    terminal::Terminal,
};

pub(crate) struct SandboxPlan {
    world: World,
}

impl SandboxPlan {
    /// Makes the plan, or prints the built-in world and returns `None`.
    pub(crate) fn new(args: &SandboxArgs) -> Result<Option<Self>> {
        if args.print_world {
            Terminal::out().built_in(World::DEMO).failed_at("standard output")?;
            return Ok(None);
        }
        let world = args.world.as_deref().map_or_else(|| Ok(World::demo()), read_world)?;
        Ok(Some(Self { world }))
    }
}

pub(crate) async fn run(plan: SandboxPlan) -> Result<Exit> {
    let sandbox = Sandbox::start(plan.world).await.failed_at("cannot start the sandbox")?;
    let mut stopped = pin!(stop::requested());
    let describing = async { Terminal::out().lines(describe(&sandbox)) };
    select! {
        // The servers listen before the output says that they run.
        biased;
        () = &mut stopped => return Ok(Exit::Done),
        written = describing => written.failed_at("standard output")?,
    }
    stopped.await;
    Ok(Exit::Done)
}

/// Returns the hosts as comments, and the options `--route` for each domain.
fn describe(sandbox: &Sandbox) -> String {
    let mut text = String::from("# Hosts\n");
    for (host, addr) in sandbox.hosts() {
        text.push_str(&format!("# {addr}  {host}\n"));
    }
    text.push_str("# Routes of the domains: options for `smtp-pool verify`\n");
    let mut lines: Vec<String> = sandbox.routes().map(|(domain, route)| options(domain, route)).collect();
    lines.sort();
    text.push_str(&lines.concat());
    text.push_str("# Ctrl-C ends the sandbox.\n");
    text
}

fn options(domain: &str, route: HostRoute<'_>) -> String {
    match route {
        HostRoute::NullMx => format!("--route {domain}=.\n"),
        HostRoute::Hosts(hosts) => {
            let options: Vec<_> = hosts.iter().map(|(_, addr)| format!("--route {domain}={addr}")).collect();
            options.join(" ") + "\n"
        }
    }
}
