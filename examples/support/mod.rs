//! The server that the examples use: one from the command line, or one of the sandbox.

use std::{env, error::Error};

use smtp_pool::sandbox::{Sandbox, World};

/// Returns a server, mailboxes to verify, and the sandbox if the server runs in it. `HOST[:PORT] ADDRESS…` on the
/// command line names another server.
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
