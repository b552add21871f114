//! The usual way: a connection for each address, with MAIL, RCPT and QUIT, each after the previous reply.

use std::{collections::HashMap, sync::Arc};

use smtp_pool::{
    client::{ClientConfig, Connector, Endpoint},
    metrics::Metrics,
    proto::{ClientName, Command, MailParams, Mailbox, RcptParams, ReversePath},
    sandbox::{HostRoute, Sandbox},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Asks about every address, two at a time at each host, which is the limit of each.
pub(crate) async fn verify(sandbox: &Sandbox, addresses: &[String]) {
    let config = ClientConfig::new(ClientName::parse("verifier.example.org").unwrap());
    let connector = Arc::new(Connector::new(config, Arc::new(Metrics::new())).unwrap());
    let mut places: HashMap<String, Arc<Semaphore>> = HashMap::new();
    let mut asked = JoinSet::new();
    for address in addresses {
        let mailbox = Mailbox::parse(address).unwrap();
        let Some(HostRoute::Hosts(hosts)) = sandbox.route(mailbox.domain()) else { continue };
        let (host, addr) = hosts[0];
        let place = places.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(2)));
        let (place, connector) = (Arc::clone(place), Arc::clone(&connector));
        let endpoint = Endpoint::new(host, vec![addr]);
        asked.spawn(async move {
            let _place = place.acquire().await.unwrap();
            let mut connection = connector.connect(&endpoint).await.unwrap();
            let (from, params) = (ReversePath::Null, MailParams::default());
            connection.command(&Command::Mail { from, params }).await.unwrap();
            connection.command(&Command::Rcpt { to: mailbox, params: RcptParams::default() }).await.unwrap();
            connection.quit().await.unwrap();
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
}
