//! Who we say we are.
//!
//! The name that a client greets with must be its own: servers look it up, and blocklists list those who borrow
//! another's. So there is no default but what this machine is called.

use std::{process::Command, time::Duration};

use smtp_pool::{
    net::is_public,
    proto::{ClientName, Host},
    verify::DomainFacts,
};
use tokio::{net::lookup_host, time::timeout};

use crate::{
    exit::{ErrorContext, Failure, Result},
    progress::Screen,
};

/// Who will hear the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerScope {
    /// Servers that the user runs, or nobody.
    Own,
    /// Servers that the user has routes to, and perhaps others.
    Routed,
    /// Anybody's servers.
    Public,
}

/// The name given, or that of this machine.
pub(crate) fn client_name(given: Option<&str>, scope: ServerScope) -> Result<ClientName> {
    if let Some(name) = given {
        return ClientName::parse(name)
            .usage_at(format_args!("--helo {name}"))
            .map_err(|failure| failure.hint("a domain name, or an address literal as in [192.0.2.1]"));
    }
    let name = match scope {
        ServerScope::Own => Some("localhost".into()),
        // Where it matters, it is warned of.
        ServerScope::Routed => qualified_name().or_else(|| Some("localhost".into())),
        ServerScope::Public => qualified_name(),
    };
    name.and_then(|name| ClientName::parse(&name).ok()).ok_or_else(|| {
        Failure::usage("this machine has no fully qualified name to greet mail servers with")
            .hint("give one that resolves to its address: --helo mail.example.org")
    })
}

/// What the system says the fully qualified name is, if there is one. The standard library cannot tell.
fn qualified_name() -> Option<String> {
    let output = Command::new("hostname").arg("-f").output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().trim_end_matches('.').to_ascii_lowercase();
    let local = [".localdomain", ".local", ".lan", ".internal", ".home", ".arpa"];
    let qualified = name.contains('.') && !local.iter().any(|suffix| name.ends_with(suffix));
    qualified.then_some(name)
}

/// Tells the user about a name that servers will mind.
pub(crate) async fn warn_about_name(name: &ClientName, screen: &Screen) {
    const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
    let Host::Domain(domain) = name.host() else { return };
    if DomainFacts::of(domain).free {
        screen.print_line(format_args!(
            "warning: --helo {name}: a mail provider's name, not ours; servers block who greets with it"
        ));
        return;
    }
    let found = match timeout(LOOKUP_TIMEOUT, lookup_host((domain, 25))).await {
        Ok(Ok(addresses)) => addresses.into_iter().any(|address| is_public(address.ip())),
        _ => false,
    };
    if !found {
        screen.print_line(format_args!(
            "warning: --helo {name}: does not resolve to a public address; many servers refuse such a name"
        ));
    }
}
