//! Who the examples talk to: a server that was named, or else one of the sandbox, inside of the example.

use std::{env, error::Error};

use smtp_pool::sandbox::{Sandbox, World};

/// A server, mailboxes to ask it about, and what keeps it alive: `HOST[:PORT] ADDRESS…` from the command line, or the
/// sandbox.
pub(crate) async fn target() -> Result<(String, Vec<String>, Option<Sandbox>), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    if let Some(server) = args.next() {
        return Ok((server, args.collect(), None));
    }
    let sandbox = Sandbox::start(World::demo()).await?;
    let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
    let addresses = ["ann@good.test", "bob@good.test", "nobody@good.test"].map(str::to_owned);
    Ok((server, addresses.into(), Some(sandbox)))
}
