//! The name in EHLO.
//!
//! A client must greet with its own name. Servers look it up, and blocklists list clients that use the name of another.
//! So the only default is the name of this machine.

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

/// The servers that get the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerScope {
    /// Only servers that the user runs, or none.
    Own,
    /// Servers that the user has routes to, and perhaps public ones.
    Routed,
    /// Public servers.
    Public,
}

/// Returns the given name, or the name of this machine.
pub(crate) fn client_name(given: Option<&str>, scope: ServerScope) -> Result<ClientName> {
    if let Some(name) = given {
        return ClientName::parse(name)
            .usage_at(format_args!("--helo {name}"))
            .map_err(|failure| failure.hint("give a domain name, or an address literal as in [192.0.2.1]"));
    }
    let name = match scope {
        ServerScope::Own => Some("localhost".into()),
        // If servers get this name, `warn_about_name` warns of it.
        ServerScope::Routed => qualified_name().or_else(|| Some("localhost".into())),
        ServerScope::Public => qualified_name(),
    };
    name.and_then(|name| ClientName::parse(&name).ok())
        .ok_or_else(|| Failure::usage(NO_NAME).hint(NAME_ADVICE))
}

/// What is wrong if a machine has no name.
pub(crate) const NO_NAME: &str = "this machine has no fully qualified name for EHLO";
/// What to do about it.
pub(crate) const NAME_ADVICE: &str = "give a name that resolves to its address: --helo mail.example.org";

/// Returns the given name, or the name of this machine if it has one.
pub(crate) fn client_name_if_any(given: Option<&str>) -> Result<Option<ClientName>> {
    match given {
        Some(_) => client_name(given, ServerScope::Public).map(Some),
        None => Ok(client_name(None, ServerScope::Public).ok()),
    }
}

/// Returns the fully qualified name of this machine, if it has one. The standard library has no function for that.
fn qualified_name() -> Option<String> {
    let output = Command::new("hostname").arg("-f").output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().trim_end_matches('.').to_ascii_lowercase();
    let local = [".localdomain", ".local", ".lan", ".internal", ".home", ".arpa"];
    let qualified = name.contains('.') && !local.iter().any(|suffix| name.ends_with(suffix));
    qualified.then_some(name)
}

/// Warns the user about a name that servers may refuse.
pub(crate) async fn warn_about_name(name: &ClientName, screen: &Screen) {
    const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
    let Host::Domain(domain) = name.host() else { return };
    if DomainFacts::of(domain).free {
        screen.print_line(format_args!(
            "warning: --helo {name}: this is the name of a mail provider, not ours; servers block clients that use it"
        ));
        return;
    }
    let found = match timeout(LOOKUP_TIMEOUT, lookup_host((domain, 25))).await {
        Ok(Ok(addresses)) => addresses.into_iter().any(|address| is_public(address.ip())),
        _ => false,
    };
    if !found {
        screen.print_line(format_args!(
            "warning: --helo {name}: the name does not resolve to a public address; many servers refuse it"
        ));
    }
}
