//! A DNS server on loopback that answers from a function. What it says lives for five minutes, or for a second if the name
//! begins with `brief.`. Names with a label `silent` get no answer, and the first query for each type of a name with a label
//! `lost` gets none.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{net::UdpSocket, task::AbortHandle, time::sleep};

/// Returns the records of a name, which is in lower case with a dot at its end. No records make an empty answer.
pub(crate) type Zone = fn(&str, RecordType) -> Result<Vec<RData>, ResponseCode>;

/// Returns whether a name is in a signed zone that the server has validated.
pub(crate) type Signed = fn(&str, RecordType) -> bool;

/// A name server that stops when it is dropped.
pub(crate) struct Nameserver {
    pub(crate) addr: SocketAddr,
    server: AbortHandle,
}

impl Nameserver {
    /// Starts a server that validates nothing.
    pub(crate) async fn start(zone: Zone) -> Self {
        Self::start_signed(zone, |_, _| false).await
    }

    #[cfg(feature = "sandbox")]
    /// Starts a server that delays each answer.
    pub(crate) async fn start_slow(zone: Zone, delay: Duration) -> Self {
        Self::start_with(zone, |_, _| false, delay).await
    }

    pub(crate) async fn start_signed(zone: Zone, signed: Signed) -> Self {
        Self::start_with(zone, signed, Duration::ZERO).await
    }

    async fn start_with(zone: Zone, signed: Signed, delay: Duration) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        Self { addr, server: tokio::spawn(serve(socket.into(), zone, signed, delay)).abort_handle() }
    }

    /// Stops all answers.
    pub(crate) fn stop(&self) {
        self.server.abort();
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(socket: Arc<UdpSocket>, zone: Zone, signed: Signed, delay: Duration) {
    let mut buf = [0; 1500];
    let mut lost = HashSet::new();
    loop {
        let (n, peer) = socket.recv_from(&mut buf).await.unwrap();
        let query = Message::from_vec(&buf[..n]).unwrap();
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let question = query.queries[0].clone();
        let name: Name = question.name().clone();
        let text = name.to_ascii().to_ascii_lowercase();
        if text.split('.').any(|label| label == "silent") {
            continue;
        }
        if text.split('.').any(|label| label == "lost") && lost.insert((text.clone(), question.query_type()))
        {
            continue;
        }
        // RFC 6840 5.8: said to those only who want to know.
        answer.metadata.authentic_data =
            query.metadata.authentic_data && signed(&text, question.query_type());
        match zone(&text, question.query_type()) {
            Ok(records) => {
                let ttl = if text.starts_with("brief.") { 1 } else { 300 };
                answer
                    .add_answers(records.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
            }
            Err(code) => answer.metadata.response_code = code,
        }
        answer.add_query(question);
        let octets = answer.to_vec().unwrap();
        if delay.is_zero() {
            socket.send_to(&octets, peer).await.unwrap();
        } else {
            let socket = Arc::clone(&socket);
            tokio::spawn(async move {
                sleep(delay).await;
                // The client may have given up.
                let _ = socket.send_to(&octets, peer).await;
            });
        }
    }
}
