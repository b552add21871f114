//! Greylisting, as a policy service for Postfix (SMTPD_POLICY_README).

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A policy service that defers each (client address, sender, recipient) until `delay` after its first attempt.
///
/// It runs until it is dropped.
#[derive(Debug)]
pub struct Greylist {
    port: u16,
    _server: JoinSet<()>,
}

type Triplet = (String, String, String);

#[derive(Debug)]
struct Seen {
    delay: Duration,
    action: &'static str,
    first: Mutex<HashMap<Triplet, Instant>>,
}

impl Greylist {
    /// Starts the service. `action` is the access(5) action for an attempt that is too early.
    pub async fn start(delay: Duration, action: &'static str) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port for the policy service");
        let port = listener.local_addr().expect("a bound address").port();
        let seen = Arc::new(Seen { delay, action, first: Mutex::default() });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                // Postfix connects again if a connection breaks.
                connections.spawn(async move { drop(serve(stream, &seen).await) });
            }
        });
        Self { port, _server: server }
    }

    /// Returns its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Answers each request with one action. A request has `name=value` lines, and ends with an empty line.
async fn serve(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut request, mut line) = (HashMap::new(), String::new());
    while stream.read_line(&mut line).await? > 0 {
        match line.trim_end().split_once('=') {
            Some((name, value)) => {
                request.insert(name.to_owned(), value.to_owned());
            }
            None => {
                let action = seen.action(&mut request);
                stream.write_all(format!("action={action}\n\n").as_bytes()).await?;
                request.clear();
            }
        }
        line.clear();
    }
    Ok(())
}

impl Seen {
    fn action(&self, request: &mut HashMap<String, String>) -> &'static str {
        let mut attribute = |name| request.remove(name).unwrap_or_default();
        let triplet = (attribute("client_address"), attribute("sender"), attribute("recipient"));
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let first = first.entry(triplet).or_insert_with(Instant::now);
        if first.elapsed() < self.delay { self.action } else { "DUNNO" }
    }
}
